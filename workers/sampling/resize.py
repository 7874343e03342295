"""From a full-size picture to the 224 x 224 that every backbone sees: the geometry, and Pillow's one call.

The reference is "resize the short edge to 224, then cut out the centre". Here both happen in one resize of the part
that the cut keeps, which leaves out the work on the margins and differs by one grey level at most.
A phone's picture is stored lying down: it is turned after the resize, on 224 x 224, and the part to keep is chosen in
the picture as it is shown, so that the odd pixel of an uneven margin falls on the same side either way.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from workers.sampling.plan import SIDE

#: left, top, right, bottom in pixels of a picture; not whole numbers.
Box = tuple[float, float, float, float]


class Turn(NamedTuple):
    """How a stored picture becomes the shown one: first swap rows and columns, then flip."""

    swap: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def shown_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height as shown, from those that are stored."""
        return (height, width) if self.swap else (width, height)


UPRIGHT = Turn()


def turn_of(matrix: bytes) -> Turn:
    """The turn nearest to a display matrix: 9 int32 `a b u c d v x y w`, `x' = a x + c y`, `y' = b x + d y`.

    Source: FFmpeg, libavutil/display.h. Only quarter turns and mirrors are followed; a matrix of zeros changes nothing.
    """
    a, b, _, c, d = (int(number) for number in np.frombuffer(matrix, dtype=np.int32, count=5))
    if abs(b) > abs(a):
        return Turn(swap=True, flip_x=c < 0, flip_y=b < 0)
    return Turn(flip_x=a < 0, flip_y=d < 0)


def kept_box(width: int, height: int) -> Box:
    """The part of an upright picture that the centre cut keeps, in its own pixels."""
    # long edge truncated, as PIL and the Hugging Face processors do
    if width <= height:
        new_width, new_height = SIDE, int(SIDE * height / width)
    else:
        new_width, new_height = int(SIDE * width / height), SIDE
    left, top = (new_width - SIDE) // 2, (new_height - SIDE) // 2
    return (
        left * width / new_width,
        top * height / new_height,
        (left + SIDE) * width / new_width,
        (top + SIDE) * height / new_height,
    )


def stored_box(width: int, height: int, turn: Turn) -> Box:
    """The kept part in the pixels of the stored picture; `width` and `height` are the stored ones."""
    shown_width, shown_height = turn.shown_size(width, height)
    left, top, right, bottom = kept_box(shown_width, shown_height)
    if turn.flip_x:
        left, right = shown_width - right, shown_width - left
    if turn.flip_y:
        top, bottom = shown_height - bottom, shown_height - top
    return (top, left, bottom, right) if turn.swap else (left, top, right, bottom)


def to_square(picture: Image.Image, turn: Turn = UPRIGHT) -> np.ndarray:
    """An RGB picture as stored -> uint8 `[224, 224, 3]` as shown."""
    box = stored_box(picture.width, picture.height, turn)
    square = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box))
    if turn.swap:
        square = square.transpose(1, 0, 2)
    return square[:: -1 if turn.flip_y else 1, :: -1 if turn.flip_x else 1]
