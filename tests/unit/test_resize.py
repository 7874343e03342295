"""The one resize against the reference: short edge to 224, then cut out the centre."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from workers.sampling.inside.geometry import AS_STORED, View, kept_box, stored_box, view_of
from workers.sampling.inside.resample import Resampler

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
VIEWS = [
    View(swap, flip_x, flip_y)
    for swap in (False, True)
    for flip_x in (False, True)
    for flip_y in (False, True)
]


def resize_then_crop(picture: np.ndarray) -> np.ndarray:
    """The reference, as the notebook's processors do it."""
    height, width = picture.shape[:2]
    if height <= width:
        new_height, new_width = 224, int(224 * width / height)
    else:
        new_height, new_width = int(224 * height / width), 224
    resized = np.asarray(
        Image.fromarray(picture).resize((new_width, new_height), Image.Resampling.BILINEAR)
    )
    top, left = (new_height - 224) // 2, (new_width - 224) // 2
    return resized[top : top + 224, left : left + 224]


def to_square(picture: np.ndarray, view: View = AS_STORED) -> np.ndarray:
    height, width = picture.shape[:2]
    return Resampler(width, height, view)(picture.reshape(height, -1))


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width * 10007 + height).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )


def smooth(width: int, height: int) -> np.ndarray:
    return np.asarray(
        Image.fromarray(noise(5, 5)).resize((width, height), Image.Resampling.BICUBIC)
    )


def levels_apart(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize("draw", [noise, smooth])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_at_most_one_level_from_resize_then_crop(width: int, height: int, draw: object) -> None:
    picture = draw(width, height)  # type: ignore[operator]
    square = to_square(picture)
    assert square.shape == (224, 224, 3)
    assert square.dtype == np.uint8
    reference = resize_then_crop(picture)
    assert levels_apart(square, reference) <= 1
    assert abs(square.mean() - reference.mean()) < 0.1, "rounded to one side"


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("width", "height"), [(320, 180), (321, 181), (101, 300), (225, 224)])
def test_turning_after_the_resize_is_turning_before_it(width: int, height: int, view: View) -> None:
    stored = noise(width, height)
    shown = stored.transpose(1, 0, 2) if view.swap else stored
    shown = np.ascontiguousarray(shown[:: -1 if view.flip_y else 1, :: -1 if view.flip_x else 1])
    assert levels_apart(to_square(stored, view), resize_then_crop(shown)) <= 1
    assert view.shown_size(width, height) == (shown.shape[1], shown.shape[0])


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
    square = to_square(picture, view_of(matrix(*numbers), None))
    assert square[corner].tolist() == [255, 255, 255]


def test_a_matrix_of_zeros_changes_nothing() -> None:
    assert view_of(bytes(36), None) == view_of(None, None) == AS_STORED


@pytest.mark.parametrize(("width", "height"), [(1, 4000), (4000, 1), (17, 4000)])
def test_needles_are_cut_not_blown_up(width: int, height: int) -> None:
    left, top, right, bottom = kept_box(width, height)
    assert 0 <= left < right <= width + 1e-9
    assert 0 <= top < bottom <= height + 1e-9
    assert to_square(noise(width, height)).shape == (224, 224, 3)


ASPECTS = [
    Fraction(16, 11),
    Fraction(8, 9),
    Fraction(2),
    Fraction(1, 2),
    Fraction(4),
    Fraction(1, 4),
    Fraction(4095, 4096),
]


@pytest.mark.parametrize("turn", VIEWS)
@pytest.mark.parametrize("aspect", ASPECTS, ids=str)
@pytest.mark.parametrize(("width", "height"), [(320, 240), (241, 320)])
def test_row_53_pixels_that_are_not_square_are_shown_as_wide_as_they_are(
    width: int, height: int, aspect: Fraction, turn: View
) -> None:
    """Against a picture stretched first, then turned, then resized and cut: twice resampled, so
    smooth ones are compared.
    """
    view = turn._replace(pixel_aspect=float(aspect))
    stored = smooth(width, height)
    shown = np.asarray(
        Image.fromarray(stored).resize((round(width * aspect), height), Image.Resampling.BICUBIC)
    )
    shown = shown.transpose(1, 0, 2) if view.swap else shown
    shown = np.ascontiguousarray(shown[:: -1 if view.flip_y else 1, :: -1 if view.flip_x else 1])
    assert view.shown_size(width, height) == (shown.shape[1], shown.shape[0])
    assert levels_apart(to_square(stored, view), resize_then_crop(shown)) <= 3


@pytest.mark.parametrize(
    ("aspect", "followed"),
    [
        (None, 1),
        (Fraction(0), 1),
        (Fraction(-2), 1),
        (Fraction(1), 1),
        (Fraction(4), 4),
        (Fraction(401, 100), 1),
        (Fraction(1, 4), 0.25),
        (Fraction(1, 5), 1),
        (Fraction(2**31 - 1, 1), 1),
        (Fraction(1, 2**31 - 1), 1),
    ],
    ids=str,
)
def test_absurd_pixels_count_as_square(aspect: Fraction | None, followed: float) -> None:
    assert view_of(None, aspect).pixel_aspect == view_of(bytes(36), aspect).pixel_aspect == followed


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("aspect", [1.0, 4.0, 0.25, 1 / 3, 40 / 33])
@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (3, 5), (1, 4000), (4000, 1), (17, 4000), (4000, 17), (8191, 3)]
)
def test_row_55_the_kept_box_lies_in_the_picture(
    width: int, height: int, aspect: float, view: View
) -> None:
    left, top, right, bottom = stored_box(width, height, view._replace(pixel_aspect=aspect))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
