"""Which frames of a video are looked at: pure arithmetic on what its header says, before anything
is decoded.
"""

from __future__ import annotations

import math

import numpy as np

from db.errors import UsageError

#: Frames taken from every video, short or long.
FRAMES = 96
#: Height and width of each, in pixels.
SIDE_PX = 224
#: The array that sampling makes of a video, uint8: frames, height, width, RGB.
SHAPE = (FRAMES, SIDE_PX, SIDE_PX, 3)
#: Only the beginning of a video is looked at.
MAX_SECONDS = 60
#: `notebook`: every r-th frame, as the embeddings that exist were made. `uniform`: spread over the
#: whole beginning. `fast`: the notebook's frames, scaled by FFmpeg on the way
#: (`workers.sampling.inside.conversion`).
POLICIES = ("notebook", "uniform", "fast")


def plan(policy: str, *, fps: float, duration_seconds: float, frame_count: int) -> np.ndarray:
    """Positions in presentation order, int64 `[96]`, never decreasing, each below `frame_count`.

    `notebook` and `fast` step by `floor(fps * seconds / 96)`, so they may stop well before the end
    of the beginning (a clip just under twice 96 frames is looked at to its middle); a video with
    fewer than 96 frames repeats its last one. Raises `UsageError` for an unknown policy,
    `ValueError` for facts that no video has.
    """
    if frame_count < 1 or not (0 < fps < math.inf) or not (0 <= duration_seconds < math.inf):
        raise ValueError(
            f"no frames to plan: {frame_count} frames, {fps} frames/s, {duration_seconds} s"
        )
    slots = np.arange(FRAMES, dtype=np.int64)
    seconds = min(MAX_SECONDS, duration_seconds)
    if policy in ("notebook", "fast"):
        return np.minimum(slots * max(1, math.floor(fps * seconds / FRAMES)), frame_count - 1)
    if policy == "uniform":
        return slots * max(1, min(frame_count, round(fps * seconds))) // FRAMES
    raise UsageError(f"unknown sampling policy {policy!r}; known: {', '.join(POLICIES)}")
