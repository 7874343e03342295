"""When one process stops taking a place, and when it tries it again."""

from __future__ import annotations

from workers.delivery.refusals import FAILURES, FAILURES_IF_DENIED, RETRY_BEATS, Refusals


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def refusing(clock: Clock, code: str = "no_bucket") -> Refusals:
    made = Refusals(beat_seconds=10.0, clock=clock)
    for _ in range(FAILURES - 1):
        assert not made.failed(1, code)
    assert not made
    assert made.failed(1, code)
    return made


def test_a_place_that_fails_again_and_again_is_refused_alone() -> None:
    made = refusing(Clock())
    assert made
    assert not made.takes(1)
    assert made.takes(2)
    assert made.takes(None), "a video without a place is anybody's"


def test_a_video_that_is_read_in_between_starts_the_count_anew() -> None:
    made = Refusals(beat_seconds=10.0)
    for _ in range(5):
        for _ in range(FAILURES - 1):
            assert not made.failed(1, "unreachable")
        assert not made.read(1)
    assert not made


def test_forbidden_objects_need_more_than_a_lost_bucket() -> None:
    made = Refusals(beat_seconds=10.0)
    assert [made.failed(1, "access_denied") for _ in range(FAILURES_IF_DENIED)] == [False] * (
        FAILURES_IF_DENIED - 1
    ) + [True]


def test_a_refused_place_is_tried_once_in_a_while() -> None:
    clock = Clock()
    made = refusing(clock)
    clock.now += RETRY_BEATS * 10.0
    assert made.takes(1)
    assert not made.takes(1), "only one try"
    assert made.failed(1, "no_bucket"), "it is refused still"
    clock.now += RETRY_BEATS * 10.0
    assert made.takes(1)
    assert made.read(1), "it is taken again from now on"
    assert not made
    assert made.takes(1)


def test_it_vouches_only_for_what_it_has_read_lately() -> None:
    clock = Clock()
    made = Refusals(beat_seconds=10.0, clock=clock)
    made.read(1)
    clock.now += 30.0
    made.read(2)
    assert made.read_within(60.0) == {1, 2}
    clock.now += 40.0
    assert made.read_within(60.0) == {2}
    for _ in range(FAILURES):
        made.failed(2, "no_bucket")
    assert made.read_within(60.0) == set(), "it cannot be read any more"
