"""Windows of many videos, gathered into batches: one lane per kind of work, one thread that runs
them all.

Every submitted item ends in exactly one outcome: its result, its error, `engine_timeout` at its
deadline, or its own cancellation, whatever happens to the thread, to the batch it was in or to the
batcher. A batch begins with the first item that waits and runs when the lane is full or that item
has waited `max_delay_seconds`. The next batch is started before the last one's results are waited
for, so that a device never waits for this thread.

A batch that fails is run again in halves, down to the item that fails alone. One that does not fit
into memory is run again in halves as well, and the lane's batches stay that small until
`GOOD_BATCHES` of them have gone well. A result that is not finite is asked for once more, alone and
in full precision. When the device is lost, when a batch takes longer than `stall_seconds` and when
a thread dies, `ended` is called, once, before anybody hears of it.

What an item is and what running means is not known here: that is `Work`.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from db.errors import ReelvecError, VideoError
from workers.engine.encoding import STAGE, DeviceLostError, Ended
from workers.engine.lanes import Batch, Item, Lane, Load, Piece, Work, halves

log = logging.getLogger(__name__)


class Batcher:
    """Times are those of `clock`; waiting itself uses real time. `ended` need not return."""

    def __init__(
        self,
        work: Work,
        *,
        max_queued_windows: int,
        stall_seconds: float = math.inf,
        ended: Callable[[Ended, str], None] = lambda _cause, _reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work = work
        self._limit = max_queued_windows
        self._stall_seconds = stall_seconds
        self._call_ended = ended
        self._clock = clock
        self._lanes: dict[str, Lane] = {}
        self._live: set[Item] = set()  # items without an outcome
        self._running: dict[Batch, float] = {}  # batches on the device, and when each was started
        self._ended: str | None = None  # why nothing is taken any more
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(
                target=self._guarded, args=(loop,), name=f"engine{loop.__name__}", daemon=True
            )
            for loop in (self._serve, self._watch)
        ]
        for thread in self._threads:
            thread.start()

    def lane(
        self, name: str, sizes: Sequence[int], max_delay_seconds: float, *, may_stall: bool = True
    ) -> None:
        """Open a lane, once. A batch has one of the `sizes` (windows, ascending) where the items
        allow it: the largest that those waiting fill. An item larger than all of them runs alone.
        `may_stall`: `stall_seconds` holds here."""
        with self._changed:
            self._lanes.setdefault(name, Lane(name, tuple(sizes), max_delay_seconds, may_stall))

    def submit(
        self,
        lane: str,
        payload: Any,
        *,
        windows: int,
        timeout_seconds: float = math.inf,
        alone: bool = False,
    ) -> Future[Any]:
        """Queue an item; blocks while the queue is full. What goes wrong is the outcome of the
        future.

        The outcome is a result of `Work` or a `ReelvecError`: its own, or `VideoError`
        `engine_timeout` or `device_error`. Cancelling the future works until its batch is started.
        `alone`: no other item shares its batch.
        """
        waiting_lane = self._lanes[lane]
        now = self._clock()
        item = Item(payload, windows, now, now + timeout_seconds, alone)
        with self._changed:
            entered = self._changed.wait_for(
                lambda: self._ended or self._room(windows),
                None if timeout_seconds == math.inf else timeout_seconds,
            )
            self._live.add(item)
            if entered and not self._ended:
                waiting_lane.waiting.append(item)
            self._changed.notify_all()
        if self._ended:
            self._settle(item, VideoError("device_error", self._ended, stage=STAGE))
        elif not entered:
            self._settle(item, self._late(item))
        # cancelled, it makes room at once; weakly, as a circle would keep a video's frames until
        # the collector comes
        known = weakref.ref(item)
        item.future.add_done_callback(lambda _: self._forget(known()))
        return item.future

    def load(self) -> Load:
        """How busy it is."""
        with self._changed:
            running = sum(batch.windows for batch in self._running)
            return Load(self._queued(), running)

    def batch_seconds(self) -> float:
        """How long the oldest batch that may stall has been running; 0 while none is."""
        with self._changed:
            started = [at for batch, at in self._running.items() if batch.lane.may_stall]
            return self._clock() - min(started) if started else 0.0

    def close(self, wait_seconds: float = 10.0) -> None:
        """Let the running batch finish (at most `wait_seconds`); items without an outcome end in
        `device_error`.
        """
        self._end("the engine is closed", lambda item: not item.running)
        serving, watching = self._threads
        serving.join(wait_seconds)
        self._end("the engine is closed", lambda _: True)
        # Whoever lets go of the models last takes them apart. A thread that does so while Python
        # ends is cut off in the middle of torch, and the process aborts.
        watching.join(wait_seconds)

    def _room(self, windows: int) -> bool:
        return self._queued() + windows <= max(self._limit, windows)

    def _queued(self) -> int:
        return sum(item.windows_left for item in self._live)

    # ---- the two threads

    def _guarded(self, loop: Callable[[], None]) -> None:
        """A thread that dies takes every waiting item with it, so that nobody waits for ever."""
        try:
            loop()
        except DeviceLostError as error:
            self._die(Ended.DEVICE_LOST, f"the device is lost: {error}")
        except BaseException as error:
            log.exception("the engine's thread %s died", threading.current_thread().name)
            self._die(
                Ended.THREAD_DIED, f"the engine's thread died: {type(error).__name__}: {error}"
            )

    def _serve(self) -> None:
        ahead: tuple[Batch, Any] | None = None  # started, not finished
        while True:
            with self._changed:
                batch = self._take(wait=ahead is None)
            if batch is None and ahead is None:
                return
            started = self._start(batch) if batch is not None else None
            if ahead is not None:
                self._finish(*ahead)
            if started is not None and self._work.is_done(started[1]):
                self._finish(*started)
                started = None
            ahead, batch = started, None  # a video's frames are not kept until the next one comes

    def _watch(self) -> None:
        """Ends items at their deadlines, those too that a stalled device is working on, and then
        the device.
        """
        while True:
            with self._changed:
                now = self._clock()
                late = [item for item in self._live if item.deadline <= now]
                started = [
                    at
                    for batch, at in self._running.items()
                    if batch.lane.may_stall and not self._ended
                ]
                stalls_at = min(started, default=math.inf) + self._stall_seconds
                if self._ended and not self._live:
                    return
                if not late and stalls_at > now:
                    due = min([stalls_at, *(item.deadline for item in self._live)])
                    self._changed.wait(None if due == math.inf else due - now)
                    continue
            for item in late:
                self._settle(item, self._late(item))
            if stalls_at <= now:
                self._die(
                    Ended.STALLED, f"the device gave no result in {self._stall_seconds:.0f} seconds"
                )

    # ---- batches

    def _take(self, *, wait: bool) -> Batch | None:
        """The next batch; None at the end, or where none is due and `wait` is False. Of lanes that
        are due the one whose first item is oldest."""
        while not self._ended:
            now = self._clock()
            waits = [math.inf]
            for lane in self._lanes.values():
                lane.waiting = [
                    item for item in lane.waiting if item in self._live and item.deadline > now
                ]
            busy = [lane for lane in self._lanes.values() if lane.waiting]
            for lane in sorted(busy, key=lambda lane: lane.waiting[0].arrived):
                seconds = lane.waiting[0].arrived + lane.max_delay_seconds - now
                if seconds <= 0 or lane.is_full():
                    batch = lane.take()
                    if batch.pieces:  # else all were cancelled this moment
                        return batch
                else:
                    waits.append(seconds)
            if not wait:
                return None
            self._changed.wait(None if min(waits) == math.inf else min(waits))
        return None

    def _start(self, batch: Batch, *, precise: bool = False) -> tuple[Batch, Any] | None:
        """A started batch, or None where it failed and everything has been done about that."""
        with self._changed:
            self._running[batch] = self._clock()
            self._changed.notify_all()  # the watch has a new deadline, and the queue more room
        try:
            return batch, self._work.start(batch.lane.name, batch.pieces, precise=precise)
        except DeviceLostError:
            raise
        except Exception as error:  # noqa: BLE001 - it is the outcome of the items
            self._stopped(batch)
            self._failed(batch, error)
            return None

    def _finish(self, batch: Batch, started: Any, *, precise: bool = False) -> None:
        try:
            outcomes = self._work.finish(started)
            if len(outcomes) != len(batch.pieces):
                raise RuntimeError(f"{len(outcomes)} outcomes for {len(batch.pieces)} pieces")
        except DeviceLostError:
            raise
        except Exception as error:  # noqa: BLE001 - it is the outcome of the items
            self._stopped(batch)
            self._failed(batch, error)
            return
        self._stopped(batch)
        batch.lane.went_well()
        for piece, outcome in zip(batch.pieces, outcomes, strict=True):
            if not precise and isinstance(outcome, VideoError) and outcome.code == "nonfinite":
                log.warning(
                    "a result in lane %s contains NaN or infinity; computing it again, alone and "
                    "in float32",
                    batch.lane.name,
                )
                self._run(Batch(batch.lane, [piece]), precise=True)
            else:
                self._part(piece, outcome)

    def _run(self, batch: Batch, *, precise: bool = False) -> None:
        started = self._start(batch, precise=precise)
        if started is not None:
            self._finish(*started, precise=precise)

    def _stopped(self, batch: Batch) -> None:
        with self._changed:
            del self._running[batch]

    def _failed(self, batch: Batch, error: Exception) -> None:
        """Run a failed batch again in halves; what cannot be halved has its outcome."""
        out_of_memory = isinstance(error, VideoError) and error.code == "device_out_of_memory"
        if out_of_memory:
            batch.lane.was_too_large(batch.windows)
        parts = halves(batch.pieces, split=out_of_memory)
        if len(parts) == 1:
            self._part(batch.pieces[0], error)
            return
        log.warning(
            "a batch of %d windows in lane %s failed and runs again in halves: %s",
            batch.windows, batch.lane.name, error,
        )  # fmt: skip
        for part in parts:
            if wanted := [piece for piece in part if piece.item in self._live]:
                self._run(Batch(batch.lane, wanted))

    # ---- outcomes

    def _part(self, piece: Piece, outcome: Any) -> None:
        """One piece's outcome; the item has its own when all of its windows have one, or one has
        failed.
        """
        if isinstance(outcome, Exception):
            self._settle(piece.item, outcome)
            return
        parts = piece.item.keep(piece, outcome)
        if parts is not None:
            self._settle(piece.item, parts[0] if len(parts) == 1 else self._work.join(parts))

    def _settle(self, item: Item, outcome: Any) -> None:
        """Give an item its one outcome; a second one is dropped."""
        if not self._forget(item) or not (
            item.running or item.future.set_running_or_notify_cancel()
        ):
            return
        if not isinstance(outcome, Exception):
            item.future.set_result(outcome)
        elif isinstance(outcome, ReelvecError):
            item.future.set_exception(outcome)
        else:
            wrapped = VideoError(
                "device_error", f"{type(outcome).__name__}: {outcome}", stage=STAGE
            )
            wrapped.__cause__ = outcome
            item.future.set_exception(wrapped)

    def _forget(self, item: Item | None) -> bool:
        """Whether the item was without an outcome until now."""
        with self._changed:
            if item is None or item not in self._live:
                return False
            self._live.remove(item)
            self._changed.notify_all()
            return True

    def _late(self, item: Item) -> VideoError:
        waited = item.deadline - item.arrived
        return VideoError(
            "engine_timeout", f"the engine gave no result in {waited:.0f} seconds", stage=STAGE
        )

    def _die(self, cause: Ended, reason: str) -> None:
        with self._changed:
            first, self._ended = self._ended is None, self._ended or reason
        if first:
            self._call_ended(cause, reason)
        self._end(reason, lambda _: True)

    def _end(self, reason: str, which: Callable[[Item], bool]) -> None:
        with self._changed:
            self._ended = self._ended or reason
            ended = [item for item in self._live if which(item)]
            self._changed.notify_all()
        for item in ended:
            self._settle(item, VideoError("device_error", self._ended, stage=STAGE))
