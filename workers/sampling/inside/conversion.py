"""How a decoded frame becomes the 224 x 224 that every backbone sees: exactly, or fast."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from workers.sampling.inside.colour import in_full_range
from workers.sampling.inside.geometry import View, stored_box, turned
from workers.sampling.inside.resample import Resampler
from workers.sampling.plan import SIDE


class ExactConversion:
    """At most one grey level from Pillow's resize of the picture at full size. For frames of one
    stored size.
    """

    def __init__(self, width: int, height: int, view: View) -> None:
        self._convert = VideoReformatter()  # one for all frames: its tables are made once
        self._resample = Resampler(width, height, view)

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """uint8 `[224, 224, 3]` as a player shows it."""
        # the same conversion, bit by bit, as frame.to_ndarray(format="rgb24"), without its copy
        rows = _rows(self._convert.reformat(frame, format="rgb24", threads=1))
        return in_full_range(self._resample(rows), frame)


class FastConversion:
    """FFmpeg scales and converts in one step, which is 6 to 13 levels off at edges. For frames of
    one stored size.
    """

    def __init__(self, width: int, height: int, view: View) -> None:
        self._convert = VideoReformatter()
        self._view = view
        left, top, right, bottom = stored_box(width, height, view)
        across, down = SIDE / (right - left), SIDE / (bottom - top)
        self._width, self._height = (
            max(SIDE, round(width * across)),
            max(SIDE, round(height * down)),
        )
        self._left = min(round(left * across), self._width - SIDE)
        self._top = min(round(top * down), self._height - SIDE)

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """uint8 `[224, 224, 3]` as a player shows it."""
        scaled = self._convert.reformat(
            frame,
            width=self._width,
            height=self._height,
            format="rgb24",
            interpolation=Interpolation.BILINEAR,
            threads=1,
        )
        rows = _rows(scaled)[self._top : self._top + SIDE, 3 * self._left : 3 * (self._left + SIDE)]
        return in_full_range(turned(rows.reshape(SIDE, SIDE, 3), self._view), frame)


def _rows(rgb: VideoFrame) -> np.ndarray:
    """uint8 `[height, at least 3 x width]`: the picture's own memory."""
    plane: Any = rgb.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: rgb.height]
