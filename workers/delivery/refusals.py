"""Which places this process does not take, because only it may be unable to read them. Pure but for
a clock.

A wrong key on one node must not cost the others' videos: a worker that fails at a place again and
again leaves the place's messages to others, and tries one of its videos now and then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

#: Failures in a row, with no video of the place read in between, after which a worker stops taking
#: it.
FAILURES = 3
#: 401 and 403 may be about single objects, so that they need more to be about the place.
FAILURES_IF_DENIED = 10
DENIED = "access_denied"
#: A refused place is tried again after so many beats: longer than the fleet's own probes, which
#: others can read.
RETRY_BEATS = 3.0


class Refusals:
    """Any number of threads may ask and tell. Places are ids of `reelvec.places`."""

    def __init__(self, *, beat_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._retry_seconds = RETRY_BEATS * beat_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: dict[int, int] = {}
        self._retry_at: dict[int, float] = {}
        self._read_at: dict[int, float] = {}

    def __bool__(self) -> bool:
        """Whether any place is refused: while none is, nobody needs to know a video's place before
        its claim.
        """
        return bool(self._retry_at)

    def refuses(self, place_id: int | None) -> bool:
        """Whether the place is refused now."""
        return place_id in self._retry_at

    def takes(self, place_id: int | None) -> bool:
        """Whether a video of this place may be claimed. One that is refused is let through when it
        is time to try it.
        """
        with self._lock:
            now = self._clock()
            if place_id is None or now >= self._retry_at.get(place_id, now):
                if place_id in self._retry_at:
                    self._retry_at[place_id] = now + self._retry_seconds
                return True
            return False

    def read(self, place_id: int | None) -> bool:
        """A video of the place was opened. True: the place was refused until now."""
        if place_id is None:
            return False
        with self._lock:
            self._read_at[place_id] = self._clock()
            self._failures.pop(place_id, None)
            return self._retry_at.pop(place_id, None) is not None

    def failed(self, place_id: int | None, code: str) -> bool:
        """The place gave an error that is no video's fault. True: it is refused, from now on or
        still.
        """
        if place_id is None:
            return False
        with self._lock:
            count = self._failures[place_id] = self._failures.get(place_id, 0) + 1
            if count < (FAILURES_IF_DENIED if code == DENIED else FAILURES):
                return False
            self._read_at.pop(place_id, None)
            self._retry_at.setdefault(place_id, self._clock() + self._retry_seconds)
            return True

    def read_within(self, seconds: float) -> set[int]:
        """Places of which a video was read within the last `seconds`; forgets the others."""
        with self._lock:
            since = self._clock() - seconds
            self._read_at = {place_id: at for place_id, at in self._read_at.items() if at >= since}
            return set(self._read_at)
