"""How long a fetch may take."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """`fetch_seconds`: deadline of a fetch, retries included, unless `bytes_per_second` allows its bytes more.

    `spool_bytes`: the largest object that is taken whole.
    """

    fetch_seconds: float
    bytes_per_second: float
    spool_bytes: int

    @property
    def wait_seconds(self) -> float:
        """Longest silence of a connection: short enough for a second and a third try."""
        return self.fetch_seconds / 3

    def deadline(self, length: int) -> float:
        """When a fetch of `length` bytes that begins now must be over (`time.monotonic`)."""
        return time.monotonic() + max(self.fetch_seconds, length / self.bytes_per_second)
