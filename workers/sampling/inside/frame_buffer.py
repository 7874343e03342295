"""The 96 slots that decoded frames are put into, already at 224 x 224."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame

from workers.sampling.inside.conversion import Conversion
from workers.sampling.inside.geometry import View, view_of
from workers.sampling.inside.side_data import display_matrix


class FrameBuffer:
    """Takes frames by position. A position may be asked for by many slots: a short video repeats
    its last frame.
    """

    def __init__(
        self,
        indices: np.ndarray,
        out: np.ndarray,
        pixel_aspect: Fraction | None,
    ) -> None:
        """`indices` int64 `[96]`, never decreasing; `out` uint8 `[96, 224, 224, 3]` is written in
        place.
        """
        self.positions: list[int] = indices.tolist()
        self.last = self.positions[-1]
        self.missing = set(self.positions)
        #: How many of these are different is what decoding is judged by.
        self.wanted = set(self.positions)
        self.shown_size = (0, 0)
        #: Positions before the file's first key frame: it was cut there, and no player shows them.
        self.before_start = 0
        # positions whose frame the decoder calls corrupt or concealed
        self._corrupt: set[int] = set()
        self._out = out
        self._times: dict[int, int | None] = {}  # by position
        self._pixel_aspect = pixel_aspect
        self._view: View | None = None
        # for frames of the stored size
        self._square: Conversion | None = None
        self._stored_size = (0, 0)

    @property
    def taken(self) -> int:
        """How many different frames are here."""
        return len(self._times)

    @property
    def corrupt(self) -> int:
        """How many different frames here the decoder calls corrupt, or has patched up from others
        (concealed).
        """
        return len(self._corrupt)

    @property
    def damaged_slots(self) -> int:
        """Slots whose frame is lost, so that another stands in for it, or corrupt. What no player
        shows is neither.
        """
        damaged = self.missing | self._corrupt
        return sum(
            position in damaged and position >= self.before_start for position in self.positions
        )

    def take(self, position: int, frame: VideoFrame) -> None:
        """Convert a frame and put it into its slots. Frames that nobody wants and second copies are
        passed over.
        """
        if position not in self.missing:
            return
        first = self.positions.index(position)
        self._out[first] = self._conversion_for(frame)(frame)
        self._out[first + 1 : first + self.positions.count(position)] = self._out[first]
        self._times[position] = frame.pts
        self.missing.discard(position)
        if frame.is_corrupt:
            self._corrupt.add(position)

    def forget(self) -> list[int]:
        """Want no position until `move` says which. Returns those that were planned."""
        self.missing.clear()
        self.wanted.clear()
        return self.positions.copy()

    def move(self, slots: range, position: int) -> None:
        """Let these slots show the frame at `position`."""
        self.positions[slots.start : slots.stop] = [position] * len(slots)
        self.missing.add(position)
        self.wanted.add(position)

    def _conversion_for(self, frame: VideoFrame) -> Conversion:
        """The conversion of frames of this one's size, which may change midway."""
        if self._view is None:
            # once a video: a frame whose side data was looked at lives on until the garbage
            # collector comes
            self._view = view_of(display_matrix(frame), self._pixel_aspect)
        size = frame.width, frame.height
        if self._square is None or size != self._stored_size:
            self._square, self._stored_size = Conversion(*size, self._view), size
            self.shown_size = self._view.shown_size(*size)
        return self._square

    def clip(self, count: int) -> None:
        """The video turned out to have only `count` frames (at least one): positions beyond are its
        last one.
        """
        if self.last < count:
            return
        self.positions = [min(position, count - 1) for position in self.positions]
        self.last = count - 1
        self.missing = set(self.positions) - self._times.keys()

    def fill(self) -> list[tuple[int, int | None]]:
        """Give slots whose frame was lost the frame before, the first ones the frame after. Needs
        at least one frame.

        Returns position and presentation time, in the stream's own unit, of the frame in each slot.
        """
        source = next(
            slot for slot, position in enumerate(self.positions) if position in self._times
        )
        sources = []
        for slot, position in enumerate(self.positions):
            if position in self._times:
                source = slot
            else:
                self._out[slot] = self._out[source]
            sources.append((self.positions[source], self._times[self.positions[source]]))
        return sources
