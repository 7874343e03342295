"""Every code that a command or a worker process ends with, what it means, and what the supervisor
makes of it.

docs/exit-codes.md is this table.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class Then(Enum):
    """What `reelvec worker` does when one of its processes has ended."""

    STAYS_DOWN = "stays down"
    AT_ONCE = "is started again at once"
    LATER = "is started again after a while"
    NO_WORKER = "no worker ends with it"


class ExitCode(IntEnum):
    """A code with its `meaning` and what comes `then`."""

    meaning: str
    then: Then

    def __new__(cls, code: int, meaning: str, then: Then) -> ExitCode:
        made = int.__new__(cls, code)
        made._value_, made.meaning, made.then = code, meaning, then
        return made

    OK = (
        0,
        "done; or a worker was told to end, and has handed back the videos that it could not "
        "finish",
        Then.STAYS_DOWN,
    )
    FAILED = (
        1,
        "something is wrong (`status`, `doctor`), or an error without a code of its own",
        Then.LATER,
    )
    USAGE = 2, "the command line, a setting or an input file is wrong", Then.STAYS_DOWN
    FINISHED_WITH_FAILURES = 3, "finished, and some videos failed", Then.NO_WORKER
    NO_STACK = 4, "no addresses are set, and `reelvec up` was never run", Then.STAYS_DOWN
    UNAVAILABLE = (
        69,
        "Postgres, the broker or the storage does not answer, or the GPU is in use",
        Then.LATER,
    )
    STUCK = 70, "no progress: a video or the broker held the process for too long", Then.LATER
    DEVICE_LOST = 71, "the GPU does not answer after an error", Then.LATER
    DEVICE_STALLED = 72, "a batch took longer than `REELVEC_ENGINE_SECONDS`", Then.LATER
    ENGINE_DIED = 73, "the thread that owns the device died", Then.LATER
    DRAIN_TOO_LONG = (
        75,
        "it was told to end and had not finished after `REELVEC_DRAIN_SECONDS`",
        Then.LATER,
    )
    RECYCLED = 76, "it reached `REELVEC_RECYCLE_VIDEOS` or `REELVEC_RECYCLE_BYTES`", Then.AT_ONCE
    REFUSED = (
        78,
        "going on would give wrong results: other weights or another schema; or keys or rights "
        "were refused",
        Then.STAYS_DOWN,
    )
    NOT_STARTED = 126, "the process could not be started", Then.LATER
    INTERRUPTED = 130, "interrupted with Ctrl-C", Then.NO_WORKER


def then(code: int) -> Then:
    """What comes after a process that ended with `code`, negative if a signal ended it, known or
    not.
    """
    return next((known.then for known in ExitCode if known == code), Then.LATER)
