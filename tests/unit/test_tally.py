"""What a worker says of itself, on a clock of the test's own."""

from __future__ import annotations

from threading import Thread

import pytest

from workers.tally import Tally


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_worker_that_has_done_nothing_says_so(clock: Clock) -> None:
    assert Tally(clock).said() == {
        "claimed_seconds": None, "videos_done": 0, "videos_failed": 0, "videos_per_second": 0.0, "last_error": None,
        "last_error_seconds": None,
    }  # fmt: skip


def test_claims_ends_and_errors_are_told_with_their_age(clock: Clock) -> None:
    tally = Tally(clock)
    tally.claimed()
    clock.now += 4
    tally.failed("truncated", "the file\0 ends\nTraceback " + "x" * 500)
    tally.done()
    clock.now += 6
    said = tally.said()
    assert (said["claimed_seconds"], said["last_error_seconds"]) == (10.0, 6.0)
    assert (said["videos_done"], said["videos_failed"], said["videos_per_second"]) == (1, 1, 0.1)
    assert said["last_error"] == "truncated: the file ends"
    tally.failed("internal", "x" * 500)
    assert len(tally.said()["last_error"] or "") == 200


def test_the_rate_is_of_the_last_ten_minutes(clock: Clock) -> None:
    tally = Tally(clock)
    for _ in range(60):
        tally.done()
    clock.now += 600
    assert tally.said()["videos_per_second"] == 0.1
    clock.now += 1
    tally.done()
    said = tally.said()
    assert (said["videos_done"], said["videos_per_second"]) == (61, pytest.approx(1 / 600))


def test_threads_lose_no_count() -> None:
    tally = Tally()
    threads = [Thread(target=lambda: [tally.done() for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.said()["videos_done"] == 2000
