"""How a decoded frame becomes the 224 x 224 that every backbone sees."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter

from workers.sampling.inside.geometry import View
from workers.sampling.inside.resample import Resampler

#: Full-range level of each limited-range one, uint8 `[256]`: 16 is black, 235 white. Source: ITU-R
#: BT.709-6, 4.6.
_FULL: np.ndarray = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


class Conversion:
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
        return _in_full_range(self._resample(rows), frame)


def _rows(rgb: VideoFrame) -> np.ndarray:
    """uint8 `[height, at least 3 x width]`: the picture's own memory."""
    plane: Any = rgb.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: rgb.height]


def _in_full_range(rgb: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """`rgb`, uint8, made of `frame` by FFmpeg -> the same, stretched where the frame is gray and
    does not say full range.

    swscale takes every gray format for full range, whatever its stream says, so black would come
    out as 16 and white as 235. HEVC and AV1 have such pictures; H.264's and JPEG's gray arrives in
    forms that it converts rightly.
    """
    if frame.format.name.startswith("gray") and frame.color_range != ColorRange.JPEG:
        return np.take(_FULL, rgb)
    return rgb
