"""Numbers that are made once every few seconds for everybody who looks, and not at all while nobody
does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from anyio import to_thread

T = TypeVar("T")

#: Between two makings; and making takes a tenth of the time at most, however large the ledger is.
PAUSE_SECONDS, PAUSES_PER_MAKING = 3.0, 10.0
#: A page that does not follow keeps the numbers fresh for so long.
WANTED_SECONDS = 10.0


class Live(Generic[T]):
    """`make` runs in a thread, one at a time. Everything else is of one event loop."""

    def __init__(
        self,
        make: Callable[[], T],
        *,
        pause_seconds: float = PAUSE_SECONDS,
        is_whole: Callable[[T], bool] = lambda _: True,
    ) -> None:
        """What is not whole is made again as soon as if it were made every few seconds."""
        self._make = make
        self._pause_seconds = pause_seconds
        self._is_whole = is_whole
        self._latest: T | None = None
        self._made = 0
        self._followers = 0
        self._wanted_until = 0.0
        self._wanted = asyncio.Event()
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        """Make numbers for as long as somebody wants them, until cancelled."""
        while True:
            await self._wanted.wait()
            started = time.monotonic()
            latest = await to_thread.run_sync(self._make)
            async with self._changed:
                self._latest, self._made = latest, self._made + 1
                self._changed.notify_all()
            took_seconds = time.monotonic() - started
            pause_seconds = self._pause_seconds if self._is_whole(latest) else PAUSE_SECONDS
            await asyncio.sleep(max(pause_seconds, PAUSES_PER_MAKING * took_seconds))
            if not self._followers and time.monotonic() > self._wanted_until:
                self._wanted.clear()
                self._latest = None  # whoever comes next gets no old numbers

    async def latest(self, *, patience_seconds: float) -> T | None:
        """The numbers, or None where none are made within the time that a page is waited for."""
        self._wanted_until = time.monotonic() + WANTED_SECONDS
        self._wanted.set()
        try:
            async with asyncio.timeout(patience_seconds), self._changed:
                await self._changed.wait_for(lambda: self._latest is not None)
        except TimeoutError:
            return None
        return self._latest

    async def follow(self) -> AsyncIterator[T]:
        """The latest numbers and then all that follow; whoever is slow misses some."""
        self._followers += 1
        self._wanted.set()
        try:
            seen = self._made if self._latest is None else self._made - 1
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._made > seen)  # noqa: B023
                seen = self._made
                assert self._latest is not None
                yield self._latest
        finally:
            self._followers -= 1
