"""What a broker does that is of no use to us, in plain words: one judgement for who feeds it
(`workers/feeder.py`), who asks it (`reelvec status`) and who examines it (`reelvec doctor`).
"""

from __future__ import annotations

from dataclasses import dataclass

from workers import contract

AWAY = "does not answer"
VARIABLES = "REELVEC_BROKER_URL (or CELERY_BROKER_URL)"
#: What it answers to somebody who sends no password; the second is about its newer protocol.
_WANTS_PASSWORD = ("Authentication required", "HELLO must be called with the client already")
#: Words of its refusals, and what helps.
_HELP = {
    "WRONGTYPE": "Another program keeps something else under this name: delete that key, or give "
    f"reelvec a database of its own, the number at the end of {VARIABLES}",
    "maxmemory": "It is full: give it more memory (CONFIG SET maxmemory), or a server of its own",
    "MISCONF": "It cannot write to its disk: make room there",
    "read only replica": f"It is a replica: give the primary's address in {VARIABLES}",
    "DB index": f"It has fewer databases: give a smaller number at the end of {VARIABLES}",
}


@dataclass(frozen=True)
class Trouble:
    """`does` goes behind the broker's name; `said`: its own words or the client's; `advice`: a
    sentence without its full stop.
    """

    does: str
    said: str
    advice: str


def judge(error: BaseException) -> Trouble:
    """What lies behind an error of the client (redis-py) or of the system."""
    # Who only looks at the ledger need not wait for it.
    from redis import exceptions

    said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if isinstance(error, exceptions.NoPermissionError):
        return Trouble(
            "refuses",
            said,
            f"Its user lacks a right: ACL SETUSER that_user {contract.BROKER_RIGHTS} gives what is "
            "needed",
        )
    if isinstance(
        error,
        exceptions.AuthenticationError
        | exceptions.AuthenticationWrongNumberOfArgsError
        | exceptions.AuthorizationError,
    ):
        if said.startswith(_WANTS_PASSWORD):
            said = "it asks for a password"
        return Trouble("refuses the login", said, f"Check user and password in {VARIABLES}")
    if isinstance(error, exceptions.ResponseError):
        found = (advice for words, advice in _HELP.items() if words in said)
        return Trouble("refuses", said, next(found, "Its own log may say more"))
    if "SSL" in said.upper():
        return Trouble(
            AWAY,
            said,
            "rediss:// and every ssl_ option ask for TLS: leave them out if this server has none, "
            "else name its CA",
        )
    return Trouble(AWAY, said, f"Check {VARIABLES} and that it runs")
