"""Bytes of a file in a row, and which of them are in the form of its container."""

from __future__ import annotations

from abc import ABC, abstractmethod

#: Shorter gaps do not count: recorders fill sectors up, and joined files end anywhere.
LEAST_BYTES = 4096
#: So many places are kept where the form is broken: more are not needed to call a file damaged.
MOST_BREAKS = 100_000


class Stretch(ABC):
    """Seen piece by piece. `start`: where its first packet begins, in bytes from the file's start;
    None: anywhere.

    `breaks`: the places where packets are missing or something is in their way, rising. `kept_to`:
    where the last packet ends, or None.
    """

    def __init__(self, start: int | None) -> None:
        self.breaks: list[int] = []
        self.kept_to: int | None = None
        self._next = start
        #: where the next packet was to be, while none is found
        self._lost_from: int | None = None
        self._lost_bytes = 0
        #: what is looked at again together with what follows
        self._rest = b""
        self._seen_to = 0

    def see(self, position: int, data: bytes) -> None:
        """`data` lies at `position`, right behind what was seen before."""
        position, data = position - len(self._rest), self._rest + data
        if self._next is None:
            self._next = self._lost_from = position
        at = self._walk(data, position, self._next - position)
        self._next = position + at
        self._rest = data[at:]
        self._seen_to = position + len(data)

    @abstractmethod
    def _walk(self, data: bytes, position: int, at: int) -> int:
        """Go through `data`, which lies at `position`, from its byte `at` on, where a packet is to
        begin. Returns up to where, at most a packet before its end, or behind it.
        """

    @property
    def is_lost(self) -> bool:
        """What was seen last is no packet."""
        return self._lost_from is not None

    @property
    def lost_bytes(self) -> int:
        """In gaps of at least `LEAST_BYTES` between packets, and behind the last one."""
        open_from = self._seen_to if self._lost_from is None else self._lost_from
        return self._lost_bytes + counted(self._seen_to - open_from)

    @property
    def missing_bytes(self) -> int:
        """Of packets that are not in the file at all, where the container tells how many."""
        return 0

    def _lose(self, place: int) -> None:
        """A packet was to begin here, and does not."""
        if self._lost_from is None:
            self._lost_from = place
            self._break(place)

    def _break(self, place: int) -> None:
        if len(self.breaks) < MOST_BREAKS:
            self.breaks.append(place)

    def _keep(self, start: int, stop: int) -> None:
        """Here is a packet, or several."""
        if self._lost_from is not None:
            self._lost_bytes += counted(start - self._lost_from)
            self._lost_from = None
        self.kept_to = stop


def counted(gap_bytes: int) -> int:
    return gap_bytes if gap_bytes >= LEAST_BYTES else 0
