"""The verdict line and its exit code."""

from __future__ import annotations

import pytest

from db.results import Fleet, Progress
from producer.verdict import duration, judge

ALIVE = Fleet(alive=2, in_flight=6, last_beat_seconds=3.0, paused=False, pause_reason=None)
NOBODY = Fleet(0, 0, None, False, None)


def total(*, done: int = 0, failed: int = 0, running: int = 0, waiting: int = 0) -> list[Progress]:
    return [Progress("(all)", done + failed + running + waiting, done, failed, running, waiting, 0, 0.0)]


@pytest.mark.parametrize(
    ("rows", "fleet", "state", "code"),
    [
        ([], ALIVE, "IDLE", 0),
        (total(done=5, failed=1), NOBODY, "DONE", 0),
        (total(done=5, waiting=1), ALIVE, "RUNNING", 0),
        (total(done=5, waiting=1), NOBODY, "STALLED", 1),
        (total(running=1), Fleet(1, 3, 1.0, True, "bucket"), "PAUSED", 1),
    ],
)
def test_states(rows: list[Progress], fleet: Fleet, state: str, code: int) -> None:
    verdict = judge(rows, 2.0, fleet)
    assert (verdict.state, verdict.exit_code) == (state, code)
    assert verdict.line.startswith(state)


def test_time_left_is_what_waits_over_the_rate() -> None:
    assert judge(total(done=100, waiting=60, running=20), 2.0, ALIVE).seconds_left == 40.0
    assert "no rate yet" in judge(total(waiting=1), 0.0, ALIVE).line


def test_durations_read_like_speech() -> None:
    assert [duration(seconds) for seconds in (40, 180, 8700, 400000)] == ["40 s", "3 min", "2 h 25 min", "5 days"]
