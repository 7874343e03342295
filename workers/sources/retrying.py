"""How long a fetch may take, what else ends it, and trying it again as long as that allows."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from db.errors import VideoError

#: Tries of one fetch, all within its deadline.
TRIES = 4
FIRST_PAUSE_SECONDS = 0.1
#: Codes that another try may cure.
PASSING = frozenset({"fetch_cut", "fetch_timeout", "server_error"})

T = TypeVar("T")


class Cancelled(Exception):  # noqa: N818 - not an error: somebody wanted it
    """The work is not wanted any more: a stop event was set, or its pool closed."""


@dataclass(frozen=True)
class Limits:
    """`fetch_seconds`: deadline of a fetch, retries included, unless `bytes_per_second` allows its
    bytes more.

    `spool_bytes`: the largest object that is taken whole. Once `stop` is set, nothing is tried
    again.
    """

    fetch_seconds: float
    bytes_per_second: float
    spool_bytes: int
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def wait_seconds(self) -> float:
        """Longest silence of a connection: short enough for a second and a third try."""
        return self.fetch_seconds / 3

    def deadline(self, length: int) -> float:
        """When a fetch of `length` bytes that begins now must be over (`time.monotonic`)."""
        return time.monotonic() + max(self.fetch_seconds, length / self.bytes_per_second)


def retried(uri: str, deadline: float, attempt: Callable[[], T], stop: threading.Event) -> T:
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
            # with them comes urllib3, which whoever only reads settings does not need
            from workers.sources.failures import BusyError, from_network

            failed = error if isinstance(error, VideoError) else from_network(error, uri)
            pause_seconds *= 1.5 + random.random()  # noqa: S311 - spreads load
            asked_seconds = failed.pause_seconds if isinstance(failed, BusyError) else 0.0
            over = time.monotonic() + pause_seconds + asked_seconds > deadline
            if failed.code not in PASSING or number == TRIES or over:
                raise failed from error
            if stop.wait(pause_seconds + asked_seconds):
                raise Cancelled from error
    raise AssertionError("the last try returns or raises")
