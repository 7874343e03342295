"""Resizing a part of a picture to 224 x 224 as Pillow's BILINEAR does, in half its time.

The filter is Pillow's: a triangle as wide as the step, so that every pixel counts when a picture
shrinks. Both of its passes are matrices with a narrow band, so each is done in blocks of a few
rows, by BLAS in float32, and rounded once at the end; Pillow rounds after each pass, so the two
differ by one grey level at most. Measured per picture with the conversion to RGB: 1080p 3.9 ms
against 7.8, 720p 1.8 against 3.8.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from workers.sampling.inside.geometry import AS_STORED, View, stored_box, turned
from workers.sampling.plan import SIDE_PX

#: Rows of the result per matrix: fewer make more calls, more make wider bands of zeros.
BLOCK = 8

Floats = npt.NDArray[np.float32]


class Band(NamedTuple):
    """`weights` float32 `[stop - start, last - first]`: how results `start:stop` come from inputs
    `first:last`.
    """

    start: int
    stop: int
    first: int
    last: int
    weights: Floats


class Resampler:
    """Makes RGB pictures of one stored size and view into what every backbone sees."""

    def __init__(self, width: int, height: int, view: View = AS_STORED) -> None:
        left, top, right, bottom = stored_box(width, height, view)
        self._view = view
        self._rows = _bands(height, top, bottom)
        columns = _bands(width, left, right)
        #: the columns that are needed
        self._first, last = columns[0].first, columns[-1].last
        rgb = np.eye(3, dtype=np.float32)  # red, green and blue lie side by side and do not mix
        self._columns = [
            Band(
                3 * start,
                3 * stop,
                3 * (a - self._first),
                3 * (b - self._first),
                np.kron(weights.T, rgb),
            )
            for start, stop, a, b, weights in columns
        ]
        # reused from picture to picture: the strip that is worked on stays in the processor's cache
        width = 3 * (last - self._first)
        self._strip = np.empty(
            (max(band.last - band.first for band in self._rows), width), np.float32
        )
        self._flat = np.empty((SIDE_PX, width), np.float32)
        self._square = np.empty((SIDE_PX, 3 * SIDE_PX), np.float32)

    def __call__(self, rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """`rows` uint8 `[height, at least 3 x width]`, red, green and blue side by side -> uint8
        `[224, 224, 3]`.
        """
        needed = rows[:, 3 * self._first :][:, : self._strip.shape[1]]
        for start, stop, first, last, weights in self._rows:
            strip = self._strip[: last - first]
            strip[:] = needed[first:last]
            np.matmul(weights, strip, out=self._flat[start:stop])
        for start, stop, first, last, weights in self._columns:
            np.matmul(self._flat[:, first:last], weights, out=self._square[:, start:stop])
        square = np.rint(self._square, out=self._square).astype(np.uint8)
        return turned(square.reshape(SIDE_PX, SIDE_PX, 3), self._view)


def _bands(size: int, low: float, high: float) -> list[Band]:
    """How `SIDE_PX` results come from the part between `low` and `high` of `size` inputs.

    Source: Pillow, src/libImaging/Resample.c, precompute_coeffs.
    """
    step = (high - low) / SIDE_PX
    reach = max(step, 1.0)
    matrix = np.zeros((SIDE_PX, size))
    for row in range(SIDE_PX):
        centre = low + (row + 0.5) * step
        first, last = max(0, int(centre - reach + 0.5)), min(size, int(centre + reach + 0.5))
        weights = np.maximum(0, 1 - np.abs(np.arange(first, last) + 0.5 - centre) / reach)
        matrix[row, first:last] = weights / weights.sum()
    bands = []
    for start in range(0, SIDE_PX, BLOCK):
        block = matrix[start : start + BLOCK]
        used = np.flatnonzero(block.any(axis=0))
        first, last = int(used[0]), int(used[-1]) + 1
        bands.append(
            Band(start, start + BLOCK, first, last, block[:, first:last].astype(np.float32))
        )
    return bands
