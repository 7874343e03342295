"""The canary's frames are the same bytes everywhere, and what is near or far is said by numbers."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from db.canary import limits
from workers.canary import pictures
from workers.sampling.plan import SHAPE

DIGEST = "1681f361371f27d5898d8c91b07301ecb38f97171a7bccd25ec93aee53c64ff4"


def test_the_frames_never_change() -> None:
    """Every reference in every database was made of these."""
    frames = pictures.fill(np.empty(SHAPE, np.uint8))
    assert hashlib.sha256(frames.tobytes()).hexdigest() == DIGEST
    neighbours = np.abs(np.diff(frames.astype(np.int16), axis=2)).mean()
    assert neighbours < 16, "they are pictures: neighbouring pixels of noise are 85 levels apart"
    assert len({frame.tobytes() for frame in frames}) == len(frames), "and all of them move"


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="not uint8"):
        pictures.fill(np.empty(SHAPE, np.float32))


def test_distance_is_that_of_the_worst_window_and_sees_scale() -> None:
    expected = np.array([[3.0, 4.0], [0.0, 2.0]], np.float32)
    assert limits.distance(expected, expected) == 0
    assert limits.distance(expected * np.float32(1.5), expected) == pytest.approx(0.5)
    one_window = expected + np.array([[0, 0], [0.2, 0]], np.float32)
    assert limits.distance(one_window, expected) == pytest.approx(0.1)
    assert limits.distance(expected * np.float32(np.nan), expected) == np.inf
    assert limits.distance(expected[0], expected) == np.inf
    assert limits.distance(expected[0] * np.float32(1.1), expected[0]) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("measured", "limit"),
    [(0.0, 1e-3), (0.004, 0.012), (0.3, 0.5), (np.inf, 0.5)],
)
def test_limits_have_a_floor_and_a_ceiling(measured: float, limit: float) -> None:
    assert limits.limit_for(measured) == pytest.approx(limit)
