"""Time that passes between two pictures where a file is broken: what was between them is lost."""

from __future__ import annotations

from av.packet import Packet
from av.stream import Stream

from workers.sampling.inside.holes import Holes

#: A longer gap is another clock: there recordings were joined.
LONGEST_SECONDS = 60.0
#: FFmpeg's parsers mark a packet as corrupt up to so many before the gap.
MARKED_BEFORE = 2


class Gaps:
    """Between the packets of the pictures, in file order, also when they are read once more. Times
    alone tell nothing: slides have gaps, too.
    """

    def __init__(self, holes: Holes) -> None:
        self._holes = holes
        #: seconds of the first picture, and of the latest one
        self._first = 0.0
        self._latest = 0.0
        self._wholes = 0
        self._longest_whole = 0.0
        self._broken: dict[int, float] = {}  # by the place in the file behind them
        self.rewind()

    def rewind(self) -> None:
        """The next packet is the first one again."""
        #: the latest picture so far, where the packet before lies, and for how many more packets
        #: one that was corrupt counts
        self._reached: float | None = None
        self._place = 0
        self._marked = 0

    def see(self, packet: Packet[Stream], unit_seconds: float) -> None:
        """`unit_seconds`: of its times."""
        time = packet.pts if packet.dts is None else packet.dts
        place = self._place if packet.pos is None else packet.pos
        self._marked = MARKED_BEFORE + 1 if packet.is_corrupt else self._marked - 1
        if time is None:
            return
        seconds = time * unit_seconds
        if self._reached is None:
            self._first = self._reached = seconds
        self._note(seconds - self._reached, packet, place)
        self._reached, self._place = max(self._reached, seconds), place
        self._latest = max(self._latest, self._reached)

    def _note(self, gap_seconds: float, packet: Packet[Stream], place: int) -> None:
        if not 0 < gap_seconds <= LONGEST_SECONDS:
            return
        # before a key frame a counter of an mpegts jumps where recordings were joined
        if self._holes.between(self._place, place) or (self._marked > 0 and not packet.is_keyframe):
            self._broken[place] = max(gap_seconds, self._broken.get(place, 0.0))
        else:
            self._wholes += 1
            self._longest_whole = max(gap_seconds, self._longest_whole)

    @property
    def lost_share(self) -> float:
        """Of the time that has passed: by how much broken gaps are longer than the longest whole
        one, or, if most are broken, than most.
        """
        gaps = sorted(self._broken.values())
        usual = self._longest_whole
        if len(gaps) > self._wholes:
            usual = max(usual, gaps[len(gaps) // 2])
        lost_seconds = sum(max(0.0, gap - usual) for gap in gaps)
        return min(1.0, lost_seconds / max(1e-9, self._latest - self._first))
