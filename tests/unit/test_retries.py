"""What happens after an error, as a table."""

from __future__ import annotations

import pytest

from db.errors import VIDEO_ERROR_CLASSES, ErrorClass, VideoError
from db.jobs import retries


def decide(
    kind: ErrorClass, *, attempts: int = 1, strikes: int = 0, chance: float = 1.0
) -> retries.Decision:
    return retries.decide(
        kind, "code", attempts=attempts, strikes=strikes, first_delay_seconds=5.0, chance=chance
    )


@pytest.mark.parametrize("kind", [ErrorClass.PERMANENT, ErrorClass.BAD_OUTPUT])
def test_what_would_fail_again_fails_at_once(kind: ErrorClass) -> None:
    assert decide(kind).state == "failed"


@pytest.mark.parametrize("kind", [ErrorClass.TRANSIENT, ErrorClass.DEVICE, ErrorClass.STRIKE])
def test_delays_double_up_to_a_quarter_of_an_hour(kind: ErrorClass) -> None:
    delays = [decide(kind, attempts=attempts).delay_seconds for attempts in (1, 2, 3, 7)]
    assert delays == [5.0, 10.0, 20.0, 320.0]
    assert (
        retries.decide(
            kind, "c", attempts=7, strikes=0, first_delay_seconds=50, chance=1.0
        ).delay_seconds
        == 900.0
    )


def test_the_eighth_attempt_is_the_last() -> None:
    assert decide(ErrorClass.TRANSIENT, attempts=7).state == "pending"
    assert decide(ErrorClass.TRANSIENT, attempts=8) == retries.Decision("failed", "code", 8, 0)


def test_three_strikes_are_poison() -> None:
    assert decide(ErrorClass.STRIKE, strikes=1).strikes == 2
    assert decide(ErrorClass.STRIKE, strikes=2) == retries.Decision("failed", "poison", 1, 3)


def test_lost_frames_burn_no_attempt_and_are_sampled_three_times() -> None:
    decided = [
        retries.decide(
            ErrorClass.FRAMES, "code", attempts=8, strikes=2, frames_lost=lost,
            first_delay_seconds=5.0, chance=1.0,
        )
        for lost in (0, 1, 2)
    ]  # fmt: skip
    assert decided == [
        retries.Decision("pending", "code", 7, 2, frames_lost=1),
        retries.Decision("pending", "code", 7, 2, frames_lost=2),
        retries.Decision("failed", "code", 7, 2, frames_lost=3),
    ]
    kept = retries.decide(
        ErrorClass.DEVICE, "code", attempts=1, strikes=0, frames_lost=2,
        first_delay_seconds=5.0, chance=1.0,
    )  # fmt: skip
    assert kept.frames_lost == 2, "another error forgets none of it"


def test_an_outage_burns_no_attempt() -> None:
    decision = decide(ErrorClass.INFRA, attempts=8)
    assert (decision.state, decision.attempts, decision.delay_seconds) == ("pending", 7, 60.0)


def test_a_long_outage_is_looked_at_ever_more_rarely() -> None:
    def delay_seconds(waited_seconds: float, chance: float = 1.0) -> float:
        return retries.decide(
            ErrorClass.INFRA, "c", attempts=1, strikes=0, first_delay_seconds=5.0, chance=chance,
            waited_seconds=waited_seconds,
        ).delay_seconds  # fmt: skip

    assert [delay_seconds(waited) for waited in (0, 61, 300, 10_000)] == [60.0, 61.0, 300.0, 900.0]
    assert delay_seconds(300, chance=0.0) == 150.0


def test_one_that_is_alone_with_its_trouble_fails() -> None:
    decision = retries.decide(
        ErrorClass.INFRA,
        "access_denied",
        attempts=3,
        strikes=0,
        first_delay_seconds=5.0,
        chance=1.0,
        is_alone=True,
    )
    assert decision == retries.Decision("failed", "access_denied", 3, 0)


def test_jitter_spreads_delays() -> None:
    assert decide(ErrorClass.TRANSIENT, chance=0.0).delay_seconds == pytest.approx(0.5)
    assert 0 <= retries.jitter() < 1


def test_a_video_error_carries_the_class_of_its_code() -> None:
    for code, kind in VIDEO_ERROR_CLASSES.items():
        assert VideoError(code, "why", stage="fetch").error_class is kind
    with pytest.raises(KeyError):
        VideoError("no such code", "why", stage="fetch")
