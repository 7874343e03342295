"""The canary's 96 frames: pictures made from a seed, the same bytes on every machine.

Six scenes of 16 frames: a gradient of four colours, a texture that drifts, discs and bars that
move. Not noise, to which trained models answer with next to nothing, and not a file, which would
have to be shipped and decoded. Whole numbers only, from raw generator bits: no rounding differs
from machine to machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt

from workers.sampling.plan import FRAMES as FRAMES_PER_VIDEO
from workers.sampling.plan import SHAPE, SIDE_PX

SEED = 2026
SCENE_FRAMES = 16
DISCS, BARS = 5, 3
#: The texture's blocks, and how far they are from the gradient: levels, up and down.
BLOCK_PX, TEXTURE_LEVELS = 8, 24
#: Shapes cross the picture in a scene at most this fast.
MOST_PX_PER_FRAME = 7
#: Side lengths of the whole-number triangles by which bars stand askew: a*a + b*b = c*c.
SLOPES = ((3, 4, 5), (5, 12, 13), (8, 15, 17), (0, 1, 1), (1, 0, 1), (-3, 4, 5), (-15, 8, 17))

Ints = npt.NDArray[np.int32]


def fill(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Write the frames into `frames`, uint8 [96, 224, 224, 3], and return it."""
    if frames.shape != SHAPE or frames.dtype != np.uint8:
        raise ValueError(f"frames are {frames.dtype} {frames.shape}, not uint8 {SHAPE}")
    numbers = _numbers()
    for first in range(0, FRAMES_PER_VIDEO, SCENE_FRAMES):
        scene = _scene(numbers)
        for index, picture in enumerate(islice(scene, SCENE_FRAMES)):
            frames[first + index] = picture
    return frames


def _numbers() -> Iterator[int]:
    """Raw bits of PCG64, 32 at a time, which numpy keeps as they are from version to version."""
    generator = np.random.PCG64(SEED)
    while True:
        yield int(generator.random_raw()) >> 32


def _between(numbers: Iterator[int], low: int, high: int) -> int:
    """A number from `low` to `high`, both included."""
    return low + next(numbers) % (high - low + 1)


def _colour(numbers: Iterator[int]) -> Ints:
    return np.array([_between(numbers, 0, 255) for _ in range(3)], np.int32)


def _scene(numbers: Iterator[int]) -> Iterator[npt.NDArray[np.uint8]]:
    """One picture after the other, each uint8 [224, 224, 3]."""
    y, x = np.arange(SIDE_PX, dtype=np.int32)[:, None], np.arange(SIDE_PX, dtype=np.int32)
    ground = _gradient(x, y, [_colour(numbers) for _ in range(4)])
    texture = _texture(numbers)
    drift = _between(numbers, 1, MOST_PX_PER_FRAME)
    discs = [_Disc(numbers) for _ in range(DISCS)]
    bars = [_Bar(numbers) for _ in range(BARS)]
    shapes: list[_Bar | _Disc] = [*bars, *discs]
    colours = np.array([shape.colour for shape in shapes], np.uint8)
    frame = 0
    while True:
        moved = np.roll(texture, frame * drift, axis=1)[:, :, None]
        picture = np.clip(ground + moved, 0, 255).astype(np.uint8)
        above = np.zeros((SIDE_PX, SIDE_PX), np.uint8)  # which shape, counted from 1
        for number, shape in enumerate(shapes, start=1):
            above[shape.covers(x, y, frame)] = number
        painted = above > 0
        picture[painted] = colours[above[painted] - 1]
        yield picture
        frame += 1


def _gradient(x: Ints, y: Ints, corners: list[Ints]) -> npt.NDArray[np.int16]:
    """Between four colours, one in each corner, int16 [224, 224, 3]."""
    most = SIDE_PX - 1
    shares = ((most - x) * (most - y), x * (most - y), (most - x) * y, x * y)
    mixed: Ints = sum(
        (share[:, :, None] * corner for share, corner in zip(shares, corners, strict=True)),
        start=np.zeros((SIDE_PX, SIDE_PX, 3), np.int32),
    )
    return (mixed // most**2).astype(np.int16)


def _texture(numbers: Iterator[int]) -> npt.NDArray[np.int16]:
    """Blocks of one level each, int16 [224, 224]."""
    side = SIDE_PX // BLOCK_PX
    levels = [_between(numbers, -TEXTURE_LEVELS, TEXTURE_LEVELS) for _ in range(side * side)]
    blocks: npt.NDArray[np.int16] = np.array(levels, np.int16).reshape(side, side)
    return blocks.repeat(BLOCK_PX, axis=0).repeat(BLOCK_PX, axis=1)


class _Disc:
    """A round spot on its way through the picture."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self.colour = _colour(numbers)
        self._radius = _between(numbers, 10, 48)
        self._start = [_between(numbers, 0, SIDE_PX) for _ in range(2)]
        self._step = [_between(numbers, -MOST_PX_PER_FRAME, MOST_PX_PER_FRAME) for _ in range(2)]

    def covers(self, x: Ints, y: Ints, frame: int) -> npt.NDArray[np.bool_]:
        across, down = (
            start + frame * step for start, step in zip(self._start, self._step, strict=True)
        )
        return (x - across) ** 2 + (y - down) ** 2 < self._radius**2


class _Bar:
    """A stripe from edge to edge that moves sideways."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self.colour = _colour(numbers)
        self._across, self._down, self._unit = SLOPES[_between(numbers, 0, len(SLOPES) - 1)]
        self._half_px = _between(numbers, 2, 12)
        self._start = _between(numbers, 0, SIDE_PX)
        self._step = _between(numbers, -MOST_PX_PER_FRAME, MOST_PX_PER_FRAME)

    def covers(self, x: Ints, y: Ints, frame: int) -> npt.NDArray[np.bool_]:
        from_origin = self._across * x + self._down * y
        centre_px = self._start + frame * self._step
        return abs(from_origin - self._unit * centre_px) < self._unit * self._half_px
