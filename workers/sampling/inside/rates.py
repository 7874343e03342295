"""Frames per second: what a file names, and what the times of its packets say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise

#: More frames a second than this are damage, and not believed: an avi may claim 2^31 - 1.
MOST_FPS = 1e6
#: More than this may be the clock's rate and not the pictures': they are counted.
MOST_CAMERA_FPS = 240
#: Frames per second of a raw stream that names none; FFmpeg's own guess, too.
RAW_FPS = 25.0
#: A named rate this near to the measured one, in parts of it, is the same; and where times are
#: missing or made up.
SAME_FPS, ROUGHLY_SAME_FPS = 0.01, 0.2
#: B-frames are stored this far from their place at most.
MOST_REORDER_SECONDS = 1.0


def fps_of(rate: Fraction | None) -> float | None:
    """None for what no video has."""
    fps = float(rate or 0)
    return fps if 0 < fps <= MOST_FPS else None


def measured_fps(
    seconds: Sequence[float], count: int, named: Iterable[float | None], *, is_rough: bool
) -> float:
    """Of `count` packets with these times; a rate that the file names wins if it is that one: times
    may be rounded.

    `is_rough`: the times are made up by FFmpeg, or some packets have none.
    """
    rates = [fps for fps in named if fps]
    if rates and any(
        later < earlier - MOST_REORDER_SECONDS for earlier, later in pairwise(seconds)
    ):
        return rates[0]  # two recordings joined: the clock starts anew
    span = max(seconds) - min(seconds)
    measured = min(MOST_FPS, (count - 1) / span) if span else 1.0
    same = ROUGHLY_SAME_FPS if is_rough else SAME_FPS
    return next((fps for fps in rates if abs(fps - measured) < same * measured), measured)
