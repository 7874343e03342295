"""How long `enqueue --wait` waits for what does not go on, and what it says meanwhile."""

from __future__ import annotations

from producer.status.verdict import Verdict
from producer.wait import STALL_SECONDS, StallWatch


def verdict(state: str, code: int) -> Verdict:
    return Verdict(state, f"{state} ...", code, 0.0, 0.0, None)


STALLED, RUNNING = verdict("STALLED", 1), verdict("RUNNING", 0)


def test_trouble_is_said_once_and_its_end_too() -> None:
    told: list[str] = []
    stall_watch = StallWatch(told.append)
    for seen in (RUNNING, STALLED, STALLED, verdict("BLOCKED", 1), RUNNING, RUNNING):
        assert not stall_watch.is_over(seen, 0.0)
    assert told == ["STALLED ...", "BLOCKED ...", "RUNNING ..."]


def test_it_ends_when_nothing_goes_on_for_long() -> None:
    stall_watch = StallWatch(lambda line: None)
    assert not stall_watch.is_over(STALLED, 100.0)
    assert not stall_watch.is_over(RUNNING, 90.0 + STALL_SECONDS)
    assert not stall_watch.is_over(STALLED, 110.0 + STALL_SECONDS), "it began anew"
    assert not stall_watch.is_over(verdict("BLOCKED", 1), 109.0 + 2 * STALL_SECONDS)
    assert stall_watch.is_over(STALLED, 110.0 + 2 * STALL_SECONDS)


def test_a_pause_is_waited_for() -> None:
    stall_watch = StallWatch(lambda line: None)
    assert not any(stall_watch.is_over(verdict("PAUSED", 1), 1000.0 * look) for look in range(5))
