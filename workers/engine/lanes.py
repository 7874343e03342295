"""What waits for the device and how it is grouped: items, the pieces of them in a batch, lanes. No
threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

#: Batches that must go well before a lane that ran out of memory tries larger ones again.
GOOD_BATCHES = 200


class Load(NamedTuple):
    """Windows that wait, and windows that are being computed."""

    queued: int
    running: int


@dataclass(eq=False)
class Item:
    """`windows` of one video for one model. It stands in one lane, and is cut only where it is
    larger than a batch.
    """

    payload: Any
    windows: int
    arrived: float
    deadline: float
    alone: bool
    future: Future[Any] = field(default_factory=Future)
    running: bool = False
    taken: int = 0  # windows that have been put into a batch
    # by first window: the one behind the last, and their outcome
    _parts: dict[int, tuple[int, Any]] = field(default_factory=dict)

    @property
    def windows_left(self) -> int:
        return self.windows - self.taken

    def keep(self, piece: Piece, outcome: Any) -> list[Any] | None:
        """Remember a piece's outcome; all outcomes in order once every window has one."""
        self._parts[piece.start] = (piece.stop, outcome)
        if sum(stop - start for start, (stop, _) in self._parts.items()) < self.windows:
            return None
        return [self._parts[start][1] for start in sorted(self._parts)]


class Piece(NamedTuple):
    """Windows `start` to `stop` of an item."""

    item: Item
    start: int
    stop: int

    @property
    def windows(self) -> int:
        return self.stop - self.start


class Work(Protocol):
    """What is done with batches. Called from one thread only."""

    def start(self, lane: str, pieces: Sequence[Piece], *, precise: bool) -> Any:
        """Begin a batch; what comes back is given to `finish`. Raises what fails the batch as a
        whole, and `DeviceLostError` if nothing will work any more."""
        ...

    def is_done(self, started: Any) -> bool:
        """Whether `finish` would return at once."""
        ...

    def finish(self, started: Any) -> Sequence[Any]:
        """One result or exception per piece, in order. Raises as `start`."""
        ...

    def join(self, parts: Sequence[Any]) -> Any:
        """The result of an item from those of its pieces, in order."""
        ...


@dataclass(eq=False)
class Batch:
    """What runs together."""

    lane: Lane
    pieces: list[Piece]

    @property
    def windows(self) -> int:
        return sum(piece.windows for piece in self.pieces)


@dataclass(eq=False)
class Lane:
    """Items of one kind, in the order they came."""

    name: str
    sizes: tuple[int, ...]
    max_delay_seconds: float
    may_stall: bool
    waiting: list[Item] = field(default_factory=list)
    _cap: int = 0  # most windows of a batch for now; 0: the largest size
    _good: int = 0

    @property
    def cap(self) -> int:
        return self._cap or self.sizes[-1]

    def is_full(self) -> bool:
        """Whether waiting longer would make the next batch no larger."""
        return self.waiting[0].alone or sum(item.windows_left for item in self.waiting) >= self.cap

    def take(self) -> Batch:
        """The next batch from the front of the lane: whole items, as many as make up the largest
        size they can.

        The first one in any case, and a part of it where the memory holds no more. Marks what it
        takes as running.
        """
        pieces: list[Piece] = []
        room = self._room()
        while self.waiting and room > 0:
            item = self.waiting[0]
            count = item.windows_left if self._cap == 0 else min(item.windows_left, self.cap)
            if pieces and (count > room or item.alone):
                break
            if item.running or item.future.set_running_or_notify_cancel():
                item.running = True
                pieces.append(Piece(item, item.taken, item.taken + count))
                item.taken += count
                room -= count
            else:
                item.taken = item.windows  # cancelled
            if not item.windows_left:
                self.waiting.pop(0)
            if item.alone:
                break
        return Batch(self, pieces)

    def _room(self) -> int:
        """Windows of the next batch: the largest size within the cap that the waiting items fill,
        else the smallest.
        """
        waiting = sum(item.windows_left for item in self.waiting)
        fitting = [size for size in self.sizes if size <= min(waiting, self.cap)]
        return fitting[-1] if fitting else min(self.sizes[0], self.cap)

    def was_too_large(self, windows: int) -> None:
        """The device had no memory for so many windows: half of them from now on."""
        self._cap, self._good = max(1, min(self.cap, windows) // 2), 0

    def went_well(self) -> None:
        if self._cap:
            self._good += 1
            if self._good == GOOD_BATCHES:
                self._cap, self._good = self._cap * 2, 0
                if self._cap >= self.sizes[-1]:
                    self._cap = 0


def halves(pieces: Sequence[Piece], *, split: bool) -> list[list[Piece]]:
    """The pieces in two lists; `split`: a single piece is cut in two. One list where nothing can be
    halved.
    """
    if len(pieces) > 1:
        return [list(pieces[: len(pieces) // 2]), list(pieces[len(pieces) // 2 :])]
    (piece,) = pieces
    if not split or piece.windows == 1:
        return [[piece]]
    middle = (piece.start + piece.stop) // 2
    return [[piece._replace(stop=middle)], [piece._replace(start=middle)]]
