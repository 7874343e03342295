"""The one resize against the reference: short edge to 224, then cut out the centre."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from workers.sampling.resize import UPRIGHT, Turn, kept_box, to_square, turn_of

SIZES = [
    (320, 180),
    (321, 181),
    (180, 320),
    (1920, 1080),
    (1080, 1920),
    (3840, 2160),
    (640, 480),
    (853, 480),
    (224, 224),
    (225, 224),
    (223, 500),
    (100, 100),
    (64, 48),
    (17, 400),
    (1013, 227),
    (3, 5),
    (1, 1),
]
TURNS = [Turn(swap, flip_x, flip_y) for swap in (False, True) for flip_x in (False, True) for flip_y in (False, True)]


def resize_then_crop(picture: np.ndarray) -> np.ndarray:
    """The reference, as the notebook's processors do it."""
    height, width = picture.shape[:2]
    if height <= width:
        new_height, new_width = 224, int(224 * width / height)
    else:
        new_height, new_width = int(224 * height / width), 224
    resized = np.asarray(Image.fromarray(picture).resize((new_width, new_height), Image.Resampling.BILINEAR))
    top, left = (new_height - 224) // 2, (new_width - 224) // 2
    return resized[top : top + 224, left : left + 224]


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width * 10007 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(noise(5, 5)).resize((width, height), Image.Resampling.BICUBIC))


def levels_apart(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize("draw", [noise, smooth])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_at_most_one_level_from_resize_then_crop(width: int, height: int, draw: object) -> None:
    picture = draw(width, height)  # type: ignore[operator]
    square = to_square(Image.fromarray(picture))
    assert square.shape == (224, 224, 3)
    assert square.dtype == np.uint8
    assert levels_apart(square, resize_then_crop(picture)) <= 1


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize(("width", "height"), [(320, 180), (321, 181), (101, 300), (225, 224)])
def test_turning_after_the_resize_is_turning_before_it(width: int, height: int, turn: Turn) -> None:
    stored = noise(width, height)
    shown = stored.transpose(1, 0, 2) if turn.swap else stored
    shown = np.ascontiguousarray(shown[:: -1 if turn.flip_y else 1, :: -1 if turn.flip_x else 1])
    assert levels_apart(to_square(Image.fromarray(stored), turn), resize_then_crop(shown)) <= 1
    assert turn.shown_size(width, height) == (shown.shape[1], shown.shape[0])


def matrix(a: int, b: int, c: int, d: int) -> bytes:
    return np.array([a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30], np.int32).tobytes()


@pytest.mark.parametrize(
    ("numbers", "corner"),
    [  # where the stored top left corner is shown: row, column
        ((1, 0, 0, 1), (0, 0)),
        ((0, 1, -1, 0), (0, -1)),  # a quarter clockwise
        ((-1, 0, 0, -1), (-1, -1)),
        ((0, -1, 1, 0), (-1, 0)),
        ((-1, 0, 0, 1), (0, -1)),  # mirrored
        ((1, 0, 0, -1), (-1, 0)),
    ],
)
def test_display_matrix_moves_the_corner_where_it_says(
    numbers: tuple[int, int, int, int], corner: tuple[int, int]
) -> None:
    picture = np.zeros((224, 224, 3), np.uint8)
    picture[0, 0] = 255
    square = to_square(Image.fromarray(picture), turn_of(matrix(*numbers)))
    assert square[corner].tolist() == [255, 255, 255]


def test_a_matrix_of_zeros_changes_nothing() -> None:
    assert turn_of(bytes(36)) == UPRIGHT


@pytest.mark.parametrize(("width", "height"), [(1, 4000), (4000, 1), (17, 4000)])
def test_needles_are_cut_not_blown_up(width: int, height: int) -> None:
    left, top, right, bottom = kept_box(width, height)
    assert 0 <= left < right <= width + 1e-9
    assert 0 <= top < bottom <= height + 1e-9
    assert to_square(Image.fromarray(noise(width, height))).shape == (224, 224, 3)
