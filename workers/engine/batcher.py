"""Windows of many videos, gathered into batches: one lane per kind of work, one thread that runs them all.

Every submitted item ends in exactly one outcome: its result, its error, or `engine_timeout` at its deadline, whatever
happens to the thread, to the batch it was in or to the batcher. A batch begins with the first item that waits and
runs when the lane is full or that item has waited `max_delay_seconds`. A batch that fails is run again in halves,
down to the item that fails alone. What an item is and what running means is not known here.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from db.errors import ReelvecError, VideoError

log = logging.getLogger(__name__)

STAGE = "encode"

#: Runs the payloads of one lane together; one result or exception per payload, in order.
Run = Callable[[str, Sequence[Any]], Sequence[Any]]


class Load(NamedTuple):
    """Windows waiting, windows being computed, and how many may wait."""

    queued: int
    running: int
    limit: int


@dataclass(eq=False)
class _Item:
    payload: Any
    windows: int
    arrived: float
    deadline: float
    future: Future[Any] = field(default_factory=Future)
    running: bool = False


@dataclass
class _Lane:
    name: str
    max_windows: int
    max_delay_seconds: float
    waiting: list[_Item] = field(default_factory=list)


class Batcher:
    """`run` is called from one thread only. Times are those of `clock`; waiting itself uses real time."""

    def __init__(self, run: Run, *, clock: Callable[[], float] = time.monotonic, max_queued_windows: int) -> None:
        self._run_payloads = run
        self._clock = clock
        self._limit = max_queued_windows
        self._lanes: dict[str, _Lane] = {}
        self._live: set[_Item] = set()  # items without an outcome
        self._ended: str | None = None  # why nothing is taken any more
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._guarded, args=(loop,), name=f"engine{loop.__name__}", daemon=True)
            for loop in (self._serve, self._expire)
        ]
        for thread in self._threads:
            thread.start()

    def lane(self, name: str, max_windows: int, max_delay_seconds: float) -> None:
        """Open a lane, once. One item may be larger than `max_windows`: it runs alone."""
        with self._changed:
            self._lanes.setdefault(name, _Lane(name, max_windows, max_delay_seconds))

    def submit(self, lane: str, payload: Any, *, windows: int, timeout_seconds: float = math.inf) -> Future[Any]:
        """Queue an item; blocks while the queue is full. What goes wrong is the outcome of the future.

        The outcome is a result of `run` or a `ReelvecError`: its own, or `VideoError` `engine_timeout` or
        `device_error`.
        """
        waiting_lane = self._lanes[lane]
        now = self._clock()
        item = _Item(payload, windows, now, now + timeout_seconds)
        item.future.set_running_or_notify_cancel()  # it ends by its outcome or its deadline, not by cancelling
        with self._changed:
            entered = self._changed.wait_for(lambda: self._ended or self._room(windows), _finite(timeout_seconds))
            self._live.add(item)
            if entered and not self._ended:
                waiting_lane.waiting.append(item)
            self._changed.notify_all()
        if self._ended:
            self._settle(item, VideoError("device_error", self._ended, stage=STAGE))
        elif not entered:
            self._settle(item, self._late(item))
        return item.future

    def load(self) -> Load:
        """How busy it is."""
        with self._changed:
            running = sum(item.windows for item in self._live if item.running)
            return Load(sum(item.windows for item in self._live) - running, running, self._limit)

    def close(self, wait_seconds: float = 10.0) -> None:
        """Let the running batch finish (at most `wait_seconds`); items without an outcome end in `device_error`."""
        self._end("the engine is closed", lambda item: not item.running)
        self._threads[0].join(wait_seconds)
        self._end("the engine is closed", lambda _: True)

    def _room(self, windows: int) -> bool:
        queued = sum(item.windows for item in self._live if not item.running)
        return queued + windows <= max(self._limit, windows)

    # ---- the two threads

    def _guarded(self, loop: Callable[[], None]) -> None:
        """A thread that dies takes every waiting item with it, so that nobody waits for ever."""
        try:
            loop()
        except BaseException as error:
            log.exception("the engine's %s thread died", loop.__name__)
            self._end(f"the engine's thread died: {type(error).__name__}: {error}", lambda _: True)

    def _serve(self) -> None:
        while True:
            with self._changed:
                batch = self._take()
            if batch is None:
                return
            self._run(*batch)
            del batch  # a video's frames are not kept until the next one comes

    def _expire(self) -> None:
        """Ends items at their deadlines, those too that a stalled device is working on."""
        while True:
            with self._changed:
                now = self._clock()
                late = [item for item in self._live if item.deadline <= now]
                if self._ended and not self._live:
                    return
                if not late:
                    self._changed.wait(_finite(min((item.deadline for item in self._live), default=math.inf) - now))
            for item in late:
                self._settle(item, self._late(item))

    # ---- batches

    def _take(self) -> tuple[str, list[_Item]] | None:
        """The next batch, waiting for it; None at the end. Of ready lanes the one whose first item is oldest."""
        while not self._ended:
            now = self._clock()
            waits = [math.inf]
            for lane in self._lanes.values():
                lane.waiting = [item for item in lane.waiting if item in self._live and item.deadline > now]
            busy = [lane for lane in self._lanes.values() if lane.waiting]
            for lane in sorted(busy, key=lambda lane: lane.waiting[0].arrived):
                wait = lane.waiting[0].arrived + lane.max_delay_seconds - now
                if wait <= 0 or sum(item.windows for item in lane.waiting) >= lane.max_windows:
                    return lane.name, _fill(lane)
                waits.append(wait)
            self._changed.wait(_finite(min(waits)))
        return None

    def _run(self, lane: str, items: list[_Item]) -> None:
        try:
            outcomes = self._run_payloads(lane, [item.payload for item in items])
            if len(outcomes) != len(items):
                raise RuntimeError(f"{len(outcomes)} outcomes for {len(items)} items")
        except Exception as error:  # noqa: BLE001 - it is the outcome of the items
            if len(items) == 1:
                self._settle(items[0], error)
                return
            log.warning("a batch of %d in lane %s failed and runs again in halves: %s", len(items), lane, error)
            half = len(items) // 2
            self._run(lane, items[:half])
            self._run(lane, items[half:])
            return
        for item, outcome in zip(items, outcomes, strict=True):
            self._settle(item, outcome)

    # ---- outcomes

    def _settle(self, item: _Item, outcome: Any) -> None:
        """Give an item its one outcome; a second one is dropped."""
        with self._changed:
            if item not in self._live:
                return
            self._live.remove(item)
            self._changed.notify_all()
        if not isinstance(outcome, Exception):
            item.future.set_result(outcome)
        elif isinstance(outcome, ReelvecError):
            item.future.set_exception(outcome)
        else:
            wrapped = VideoError("device_error", f"{type(outcome).__name__}: {outcome}", stage=STAGE)
            wrapped.__cause__ = outcome
            item.future.set_exception(wrapped)

    def _late(self, item: _Item) -> VideoError:
        waited = item.deadline - item.arrived
        return VideoError("engine_timeout", f"the engine gave no result in {waited:.0f} seconds", stage=STAGE)

    def _end(self, reason: str, which: Callable[[_Item], bool]) -> None:
        with self._changed:
            self._ended = self._ended or reason
            ended = [item for item in self._live if which(item)]
            self._changed.notify_all()
        for item in ended:
            self._settle(item, VideoError("device_error", self._ended, stage=STAGE))


def _fill(lane: _Lane) -> list[_Item]:
    """Items from the front of the lane, as many as fit; the first in any case."""
    batch: list[_Item] = []
    windows = 0
    while lane.waiting and (not batch or windows + lane.waiting[0].windows <= lane.max_windows):
        item = lane.waiting.pop(0)
        item.running = True
        windows += item.windows
        batch.append(item)
    return batch


def _finite(seconds: float) -> float | None:
    """`seconds` as a lock's timeout, which has no infinity."""
    return None if seconds == math.inf else max(0.0, seconds)
