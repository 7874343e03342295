"""What Celery's consumer says of itself: whether it is connected, and when its hub last turned."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pulse:
    """Written by the consumer's thread, read by any."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turned: float | None = None

    def turn(self) -> None:
        """The hub turns: called by its own timer, every second while the consumer is connected."""
        self._turned = self._clock()

    def disconnect(self) -> None:
        """The consumer has left the hub: the broker is away, or the worker ends."""
        self._turned = None

    def seconds(self) -> float | None:
        """Since the last turn; None while it is not connected."""
        turned = self._turned
        return None if turned is None else self._clock() - turned


#: That of this process: Celery has one consumer in it.
PULSE = Pulse()
