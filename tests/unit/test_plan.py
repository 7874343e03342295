"""Which frames are looked at."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest

from db.errors import UsageError
from workers.sampling.plan import FRAMES, nearest, plan
from workers.sampling.policies import POLICIES


def notebook_indices(fps: float, duration: float, total: int) -> list[int]:
    """The notebook's arithmetic, restated: a step in whole frames, and every position cut at the
    last frame.
    """
    target = duration if duration < 60 else 60
    rate = math.floor(fps * target / 96)
    if rate < 1:
        rate = 1
    indices = list(range(0, rate * 96, rate))
    return [index if index < total else total - 1 for index in indices]


FPS = (5, 12, 23.976, 24, 25, 29.97, 30, 48, 50, 59.94, 60, 120, 240, 0.5)
DURATIONS = (0.0, 0.04, 1, 3.83, 4, 7.6, 7.68, 8, 13, 30, 59.99, 60, 60.01, 122.6, 43 * 60)


@pytest.mark.parametrize(("fps", "duration"), list(itertools.product(FPS, DURATIONS)))
def test_notebook_policy_is_the_notebook(fps: float, duration: float) -> None:
    total = max(1, int(fps * duration))
    indices = plan("notebook", fps=fps, duration_seconds=duration, frame_count=total)
    assert indices.dtype == np.int64
    assert indices.tolist() == notebook_indices(fps, duration, total)


@pytest.mark.parametrize(
    ("fps", "duration", "total", "step", "last"),
    [
        (25, 60, 1500, 15, 1425),
        (25, 3600, 90000, 15, 1425),  # only the first minute
        (30, 122.6, 3678, 18, 1710),
        (25, 13, 325, 3, 285),
        (25, 7.6, 190, 1, 95),  # just under twice 96: only its first half
        (25, 3, 75, 1, 74),  # shorter than 96 frames: the last repeats
        (25, 0.04, 1, 1, 0),
    ],
)
def test_notebook_policy_by_hand(
    fps: float, duration: float, total: int, step: int, last: int
) -> None:
    indices = plan("notebook", fps=fps, duration_seconds=duration, frame_count=total)
    assert indices[:2].tolist() == [0, min(step, total - 1)]
    assert indices[-1] == last


@pytest.mark.parametrize(
    ("fps", "duration", "total", "first_ten"),
    [
        (25, 4, 100, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (25, 7.68, 192, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]),
        (25, 1.92, 48, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]),
        (25, 3600, 90000, [0, 15, 31, 46, 62, 78, 93, 109, 125, 140]),
        (25, 0.04, 1, [0] * 10),
    ],
)
def test_uniform_policy_by_hand(
    fps: float, duration: float, total: int, first_ten: list[int]
) -> None:
    indices = plan("uniform", fps=fps, duration_seconds=duration, frame_count=total)
    assert indices[:10].tolist() == first_ten


def test_uniform_policy_keeps_the_last_frame_where_the_rate_is_no_whole_number() -> None:
    fps = 30000 / 1001
    assert fps * (61 / fps) < 61, "a floor would lose the 61st frame"
    indices = plan("uniform", fps=fps, duration_seconds=61 / fps, frame_count=61)
    assert indices.tolist() == [slot * 61 // 96 for slot in range(96)]


@pytest.mark.parametrize("policy", POLICIES)
def test_every_plan_is_96_rising_positions_inside_the_video(policy: str) -> None:
    random = np.random.default_rng(0)
    for _ in range(500):
        fps, duration = random.uniform(0.1, 240), random.uniform(0, 200)
        total = int(random.integers(1, max(2, int(fps * duration))))
        indices = plan(policy, fps=fps, duration_seconds=duration, frame_count=total)
        assert indices.shape == (FRAMES,)
        assert indices[0] == 0
        assert (np.diff(indices) >= 0).all()
        assert indices[-1] < total
        assert indices[-1] <= max(FRAMES, fps * min(60, duration) + 1)


def test_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unifrom.*notebook, uniform"):
        plan("unifrom", fps=25, duration_seconds=4, frame_count=100)


@pytest.mark.parametrize(
    ("fps", "duration", "total"),
    [(0, 4, 100), (25, -1, 100), (25, 4, 0), (math.nan, 4, 9), (25, math.inf, 9)],
)
def test_facts_of_no_video_are_refused(fps: float, duration: float, total: int) -> None:
    with pytest.raises(ValueError, match="no frames to plan"):
        plan("notebook", fps=fps, duration_seconds=duration, frame_count=total)


def test_each_position_gets_its_nearest_key_and_of_two_as_near_the_earlier() -> None:
    random = np.random.default_rng(1)
    for _ in range(300):
        wanted = sorted(random.integers(0, 60, 12).tolist())
        keys = sorted({int(key) for key in random.integers(0, 90, random.integers(1, 9))})
        found = {}
        for position, thing, slots in nearest(wanted, ((key, str(key)) for key in keys)):
            assert thing == str(position)
            assert slots, "a key frame that nobody wants"
            found.update(dict.fromkeys(slots, position))
        best = [min(keys, key=lambda key: (abs(key - one), key)) for one in wanted]
        assert [found[slot] for slot in range(len(wanted))] == best


def test_no_more_keys_are_asked_for_than_are_needed() -> None:
    asked = []

    def keys() -> Iterator[tuple[int, None]]:
        for position in range(0, 1000, 10):
            asked.append(position)
            yield position, None

    assert [position for position, _, _ in nearest([0, 4, 16, 25], keys())] == [0, 20]
    assert asked == [0, 10, 20, 30]
