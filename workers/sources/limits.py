"""How long a fetch may take, and what else ends it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field


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
