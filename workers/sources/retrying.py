"""Trying a fetch again, as long as its deadline allows."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from db.errors import VideoError
from workers.sources.failures import BusyError, from_network
from workers.sources.limits import Cancelled

#: Tries of one fetch, all within its deadline.
TRIES = 4
FIRST_PAUSE_SECONDS = 0.1
#: Codes that another try may cure.
PASSING = frozenset({"fetch_cut", "fetch_timeout", "server_error"})

T = TypeVar("T")


def patiently(uri: str, deadline: float, attempt: Callable[[], T], stop: threading.Event) -> T:
    """What `attempt` returns, tried again with growing pauses while failures pass and the deadline
    is not over.

    A pause that the server asks for is added; if the deadline does not allow it, there is no
    further try. Raises `VideoError`; exceptions of urllib3 become one. After `stop` there is no
    further try, but `Cancelled`.
    """
    pause_seconds = FIRST_PAUSE_SECONDS
    for number in range(1, TRIES + 1):
        try:
            return attempt()
        except Exception as error:
            failed = error if isinstance(error, VideoError) else from_network(error, uri)
            pause_seconds *= 1.5 + random.random()  # noqa: S311 - spreads load
            asked_seconds = failed.pause_seconds if isinstance(failed, BusyError) else 0.0
            over = time.monotonic() + pause_seconds + asked_seconds > deadline
            if failed.code not in PASSING or number == TRIES or over:
                raise failed from error
            if stop.wait(pause_seconds + asked_seconds):
                raise Cancelled from error
    raise AssertionError("the last try returns or raises")
