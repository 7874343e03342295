"""The one thing about colour that FFmpeg's conversion to RGB leaves out: a gray picture's limited
range.

swscale takes every gray format for full range, whatever its stream says, so black would come out as
16 and white as 235. HEVC and AV1 have such pictures; H.264's and JPEG's gray arrives in forms that
it converts rightly.
"""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

#: Full-range level of each limited-range one, uint8 `[256]`: 16 is black, 235 white. Source: ITU-R
#: BT.709-6, 4.6.
_FULL: np.ndarray = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


def in_full_range(rgb: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """`rgb`, uint8, made of `frame` by FFmpeg -> the same, stretched where the frame is gray and
    does not say full range.
    """
    if frame.format.name.startswith("gray") and frame.color_range != ColorRange.JPEG:
        return np.take(_FULL, rgb)
    return rgb
