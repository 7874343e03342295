"""From a full-size picture to the 224 x 224 that every backbone sees: the geometry.

The reference is "what a player shows, its short edge resized to 224, the centre cut out". Here all
of it happens in one resize of the part that the cut keeps, which leaves out the work on the margins
and differs by one grey level at most. Pixels that are not square are stretched by that resize. A
phone's picture is stored lying down: it is turned after the resize, on 224 x 224, and the part to
keep is chosen in the picture as it is shown, so that the odd pixel of an uneven margin falls on the
same side either way.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from workers.sampling.plan import SIDE_PX

#: left, top, right, bottom in pixels of a picture; not whole numbers.
Box = tuple[float, float, float, float]

#: Pixels up to this many times as wide as high, or as high as wide, are stretched; beyond it a
#: header is wrong.
MOST_STRETCH = 4


class View(NamedTuple):
    """How a stored picture becomes the shown one: stretch its rows, then swap rows and columns,
    then flip.
    """

    swap: bool = False
    flip_x: bool = False
    flip_y: bool = False
    #: width of a stored pixel in its heights
    pixel_aspect: float = 1.0

    def shown_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in a player, in square pixels, from those that are stored."""
        stretched = max(1, round(width * self.pixel_aspect))
        return (height, stretched) if self.swap else (stretched, height)


AS_STORED = View()


def view_of(matrix: bytes | None, pixel_aspect: Fraction | None) -> View:
    """The view of a stream with this display matrix and sample aspect ratio; None: the stream has
    none.

    The turn is the one nearest to the matrix, 9 int32 `a b u c d v x y w`, `x' = a x + c y`, `y' =
    b x + d y`: only quarter turns and mirrors are followed, a matrix of zeros changes nothing.
    Source: FFmpeg, libavutil/display.h. An aspect that is not positive, or beyond `MOST_STRETCH`
    either way, counts as 1.
    """
    aspect = float(pixel_aspect or 1)
    if not 1 / MOST_STRETCH <= aspect <= MOST_STRETCH:
        aspect = 1.0
    if matrix is None:
        return View(pixel_aspect=aspect)
    a, b, _, c, d = (int(number) for number in np.frombuffer(matrix, dtype=np.int32, count=5))
    if abs(b) > abs(a):
        return View(swap=True, flip_x=c < 0, flip_y=b < 0, pixel_aspect=aspect)
    return View(flip_x=a < 0, flip_y=d < 0, pixel_aspect=aspect)


def kept_box(width: int, height: int) -> Box:
    """The part of a shown picture that the centre cut keeps, in its own pixels."""
    # long edge truncated, as PIL and the Hugging Face processors do
    if width <= height:
        new_width, new_height = SIDE_PX, int(SIDE_PX * height / width)
    else:
        new_width, new_height = int(SIDE_PX * width / height), SIDE_PX
    left, top = (new_width - SIDE_PX) // 2, (new_height - SIDE_PX) // 2
    return (
        left * width / new_width,
        top * height / new_height,
        (left + SIDE_PX) * width / new_width,
        (top + SIDE_PX) * height / new_height,
    )


def stored_box(width: int, height: int, view: View) -> Box:
    """The kept part in the pixels of the stored picture; `width` and `height` are the stored
    ones.
    """
    shown_width, shown_height = view.shown_size(width, height)
    left, top, right, bottom = kept_box(shown_width, shown_height)
    if view.flip_x:
        left, right = shown_width - right, shown_width - left
    if view.flip_y:
        top, bottom = shown_height - bottom, shown_height - top
    if view.swap:
        left, top, right, bottom = top, left, bottom, right
    stretch = width / (shown_height if view.swap else shown_width)
    return left * stretch, top, min(right * stretch, width), bottom


def turned(square: np.ndarray, view: View) -> np.ndarray:
    """The kept part, uint8 `[224, 224, 3]`, resized as it was stored -> as it is shown. No copy."""
    if view.swap:
        square = square.transpose(1, 0, 2)
    return square[:: -1 if view.flip_y else 1, :: -1 if view.flip_x else 1]
