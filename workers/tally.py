"""What one worker has done so far, as it says with every beat. Safe to use from all its threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypedDict

#: The rate is that of this long, or of the worker's life while it is younger.
WINDOW_SECONDS = 600.0
ERROR_CHARACTERS = 200


class Said(TypedDict):
    """Fields of `db.jobs.liveness.Worker`. `..._seconds`: how long ago; None: never."""

    claimed_seconds: float | None
    videos_done: int
    videos_failed: int
    videos_per_second: float
    last_error: str | None
    last_error_seconds: float | None


class Tally:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        self._claimed_at: float | None = None
        self._done = self._failed = 0
        self._ends: deque[float] = deque()
        self._error: tuple[str, float] | None = None

    def claimed(self) -> None:
        """A video is ours."""
        with self._lock:
            self._claimed_at = self._clock()

    def done(self) -> None:
        """A video's rows are committed."""
        with self._lock:
            self._done += 1
            self._ends.append(self._clock())
            self._forget()

    def failed(self, code: str, message: str) -> None:
        """An attempt met an error, whether or not the video is tried again."""
        with self._lock:
            self._failed += 1
        self.trouble(code, message)

    def trouble(self, what: str, message: str) -> None:
        """An error that is no video's."""
        text = f"{what}: {message.strip().partition(chr(10))[0]}"[:ERROR_CHARACTERS]
        with self._lock:
            self._error = (text.replace("\0", ""), self._clock())

    def said(self) -> Said:
        with self._lock:
            now = self._clock()
            self._forget()
            span = max(1.0, min(WINDOW_SECONDS, now - self._began))
            error, error_at = self._error or (None, None)
            return Said(
                claimed_seconds=None if self._claimed_at is None else now - self._claimed_at,
                videos_done=self._done,
                videos_failed=self._failed,
                videos_per_second=len(self._ends) / span,
                last_error=error,
                last_error_seconds=None if error_at is None else now - error_at,
            )

    def _forget(self) -> None:
        """Ends that are older than the window; called with the lock held."""
        while self._ends and self._ends[0] < self._clock() - WINDOW_SECONDS:
            self._ends.popleft()
