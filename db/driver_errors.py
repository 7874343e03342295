"""What Postgres and its driver raise when the server cannot serve, in plain words. By SQLSTATE, not
by the driver's classes: a read-only database is an "internal" error there, and a query that its
author must mend an "operational" one."""

from __future__ import annotations

import re

import psycopg2  # type: ignore[import-untyped]
from sqlalchemy.exc import DBAPIError

from db.errors import BusyError, ReelvecError, UnavailableError, UsageError

#: Our sessions' name in `pg_stat_activity`.
APPLICATION = "reelvec"

_AWAY = "does not answer"
_VARIABLES = "REELVEC_DATABASE_URL (or DATABASE_URL)"
#: By code, or by the two characters that say its class.
_CANNOT_SERVE = {
    "08": _AWAY,
    "25006": "is read-only",
    "25P03": "ended our session because it was idle in a transaction",
    "25P04": "ended our transaction because it took too long",
    "53": "is short of resources",
    "53100": "has no space left on its disk",
    "53200": "is out of memory",
    "53300": "has no free connection",
    "57014": "ended a statement that took too long (REELVEC_STATEMENT_SECONDS is the limit)",
    "57P": _AWAY,
    "58": "cannot use its files",
}
_BUSY = {
    "26000": "does not know a statement that it was told before",
    "40001": "ended a transaction that conflicted with another",
    "40P01": "ended a transaction because of a deadlock with another",
    "42P05": "knows a statement already that it is told now",
    "55P03": "gave up waiting for a lock that another session holds",
}
_NO_RIGHT = "42501"
#: libpq's words for a value in the address that no server was asked about: waiting mends none of
#: them.
_BAD_ADDRESS = re.compile(
    r"invalid \w+ value: |invalid integer value |invalid port number|definition of service |could "
    r"not match \d+ |"
    r".*root certificate file \S+ does not exist|.*(certificate|private key) file \S+ (does not "
    r"exist|has )",
)

_WHO_HOLDS = "who holds them (SELECT * FROM pg_stat_activity), and run fewer workers, or have"
#: What a server (or a pooler before it) says to who is not let in, what that is, and what to check.
#: libpq passes on no code while it connects, only these words.
_NOT_LET_IN = (
    (
        re.compile(r"no pg_hba\.conf entry|pg_hba\.conf rejects connection"),
        "refuses the login",
        f"user and database in {_VARIABLES}, and that pg_hba.conf on the server lets this machine "
        "in as that user",
    ),
    (
        re.compile(r'database "[^"]*" does not exist|no such database'),
        "has no such database",
        f"the name of the database in {_VARIABLES}, or have it created",
    ),
    (
        re.compile(r'role "[^"]*" does not exist|no such user'),
        "refuses the login, for it has no such role",
        f"the user in {_VARIABLES}, or have that role created",
    ),
    (
        re.compile(r'role "[^"]*" is not permitted to log in'),
        "refuses the login",
        f"the user in {_VARIABLES}, or have that role given LOGIN",
    ),
    (
        re.compile(r'permission denied for database "'),
        "refuses the login",
        f"user and database in {_VARIABLES}, or have that role given CONNECT on the database",
    ),
    (
        re.compile(r"authentication failed|no password supplied"),
        "refuses the login",
        f"user and password in {_VARIABLES}",
    ),
    (
        re.compile(r'too many connections for role "'),
        "has no free connection for this role",
        f"{_WHO_HOLDS} its limit raised: ALTER ROLE ... CONNECTION LIMIT",
    ),
    (
        re.compile(r'too many connections for database "'),
        "has no free connection for this database",
        f"{_WHO_HOLDS} its limit raised: ALTER DATABASE ... CONNECTION LIMIT",
    ),
    (
        re.compile(
            r"too many clients already|remaining connection slots are reserved|no more connections "
            r"allowed|max clients reached",
            re.IGNORECASE,
        ),
        "has no free connection",
        f"{_WHO_HOLDS} max_connections raised (of a pooler: max_client_conn)",
    ),
)


def translated(address: str, error: DBAPIError) -> ReelvecError | None:
    """None: the server is well, and what is wrong is not known here."""
    code = getattr(error.orig, "pgcode", None) or ""
    said = reason(error)
    if code in _BUSY:
        return BusyError(f"Postgres at {address} {_BUSY[code]}: {said}")
    if code == _NO_RIGHT:
        from db.administration import (
            rights,
        )  # it takes numpy along, and every command would pay for that

        return rights.refusal(address, said, error.statement)
    for known in (code, code[:3], code[:2]):
        if known in _CANNOT_SERVE:
            return _unavailable(address, _CANNOT_SERVE[known], said)
    if not code and _BAD_ADDRESS.match(said):
        return UsageError(
            f"the database address {address} cannot be used: {said}. Correct it, or leave that "
            "part out"
        )
    if not code and _is_of_the_connection(error.orig):
        return _not_let_in(address, said) or _unavailable(address, _AWAY, said)
    return None


def reason(error: DBAPIError) -> str:
    """The server's or the driver's own words in one line."""
    return " ".join(str(error.orig).split()).rstrip("?.")


def _is_of_the_connection(error: object) -> bool:
    """Without a code it was not the server that refused; a plain `DatabaseError` is an answer cut
    off in the middle.
    """
    return (
        isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
        or type(error) is psycopg2.DatabaseError
    )


def _not_let_in(address: str, said: str) -> UnavailableError | None:
    """None: it did not get as far as a login."""
    for words, what, advice in _NOT_LET_IN:
        if words.search(said):
            return UnavailableError(f"Postgres at {address} {what}: {said}. Check {advice}")
    return None


def _unavailable(address: str, what: str, said: str) -> UnavailableError:
    advice = f". Check {_VARIABLES} and that the server runs" if what == _AWAY else ""
    return UnavailableError(f"Postgres at {address} {what}: {said}{advice}")
