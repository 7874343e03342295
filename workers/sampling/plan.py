"""Which frames of a video are looked at: pure arithmetic on what its header says, before anything
is decoded.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from workers.sampling import policies

T = TypeVar("T")

#: Frames taken from every video, short or long.
FRAMES = 96
#: Height and width of each, in pixels.
SIDE_PX = 224
#: The array that sampling makes of a video, uint8: frames, height, width, RGB.
SHAPE = (FRAMES, SIDE_PX, SIDE_PX, 3)
#: Only the beginning of a video is looked at.
MAX_SECONDS = 60


def plan(policy: str, *, fps: float, duration_seconds: float, frame_count: int) -> np.ndarray:
    """Positions in presentation order, int64 `[96]`, never decreasing, each below `frame_count`.

    A video with fewer than 96 frames repeats some of them. Raises `UsageError` for an unknown
    policy, `ValueError` for facts that no video has.
    """
    if frame_count < 1 or not (0 < fps < math.inf) or not (0 <= duration_seconds < math.inf):
        raise ValueError(
            f"no frames to plan: {frame_count} frames, {fps} frames/s, {duration_seconds} s"
        )
    seconds = min(MAX_SECONDS, duration_seconds)
    return RULES[policies.get(policy).rule](fps * seconds, frame_count)


def _stepped(beginning: float, frame_count: int) -> np.ndarray:
    """Every r-th frame of `beginning` frames, as the notebook chose them: they may stop well before
    its end (a clip just under twice 96 frames is looked at to its middle).
    """
    step = max(1, math.floor(beginning / FRAMES))
    return np.minimum(np.arange(FRAMES, dtype=np.int64) * step, frame_count - 1)


def _spread(beginning: float, frame_count: int) -> np.ndarray:
    """Evenly over `beginning` frames."""
    return np.arange(FRAMES, dtype=np.int64) * max(1, min(frame_count, round(beginning))) // FRAMES


#: By `Policy.rule`.
RULES = {"stepped": _stepped, "spread": _spread}


def nearest(wanted: Sequence[int], keys: Iterable[tuple[int, T]]) -> Iterator[tuple[int, T, range]]:
    """Of key frames, given as (position, thing) in rising order, those that are the nearest of some
    `wanted` position (never decreasing), each with the slots of these. Of two as near, the earlier.

    Takes only as many keys as it needs.
    """
    slot, before = 0, None
    for key in keys:
        if before:
            stop = bisect_right(wanted, (before[0] + key[0]) // 2)
            if stop > slot:
                yield *before, range(slot, stop)
            slot = max(slot, stop)
            if slot == len(wanted):
                return
        before = key
    if before:
        yield *before, range(slot, len(wanted))
