"""The batcher with plain functions: every item ends in exactly one outcome, whatever happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from contextlib import contextmanager

import pytest

from db.errors import RefusedConfigurationError, VideoError
from workers.engine.batcher import Batcher

#: Longest wait for something that must happen at once.
SOON = 10.0


def double(lane: str, payloads: Sequence[int]) -> list[int]:
    return [2 * payload for payload in payloads]


@contextmanager
def batcher(
    run: Callable, *, delay: float = 0.0, max_windows: int = 4, limit: int = 1000, **options
) -> Iterator[Batcher]:
    made = Batcher(run, max_queued_windows=limit, **options)
    made.lane("a", max_windows, delay)
    made.lane("b", max_windows, delay)
    try:
        yield made
    finally:
        made.close()


class Gate:
    """A run function that stops at each batch until it is opened, and remembers the batches it saw."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, lane: str, payloads: Sequence[int]) -> list[int]:
        self.batches.append(list(payloads))
        self.entered.set()
        assert self.opened.wait(SOON)
        return double(lane, payloads)


def test_each_item_gets_its_own_result() -> None:
    with batcher(double, delay=0.01) as engine:
        futures = [engine.submit(lane, value, windows=1) for value in range(50) for lane in "ab"]
        assert [future.result(SOON) for future in futures] == [2 * value for value in range(50) for _ in "ab"]


def test_a_batch_holds_whole_items_up_to_its_windows_and_one_lane() -> None:
    gate = Gate()
    with batcher(gate, max_windows=4) as engine:
        first = engine.submit("a", 0, windows=9)  # larger than a batch: runs alone
        assert gate.entered.wait(SOON)
        rest = [engine.submit(*job, windows=2) for job in (("a", 1), ("b", 10), ("a", 2), ("a", 3))]
        gate.opened.set()
        wait([first, *rest], SOON)
    assert gate.batches == [[0], [1, 2], [10], [3]]


def test_the_first_item_waits_for_company_until_its_delay() -> None:
    batches = []
    with batcher(lambda lane, payloads: batches.append(list(payloads)) or payloads, delay=0.2, max_windows=3) as engine:
        started = time.monotonic()
        futures = [engine.submit("a", value, windows=1) for value in range(2)]
        wait(futures, SOON)
        assert time.monotonic() - started >= 0.2
        assert batches == [[0, 1]]


def test_a_full_batch_does_not_wait() -> None:
    with batcher(double, delay=3600.0, max_windows=3) as engine:
        futures = [engine.submit("a", value, windows=1) for value in range(3)]
        assert [future.result(SOON) for future in futures] == [0, 2, 4]


def test_a_failing_item_fails_alone() -> None:
    def run(lane: str, payloads: Sequence[int]) -> list[int]:
        if 5 in payloads:
            raise ValueError("five")
        return double(lane, payloads)

    with batcher(run, delay=3600.0, max_windows=8) as engine:
        futures = [engine.submit("a", value, windows=1) for value in range(8)]
        with pytest.raises(VideoError, match="ValueError: five") as caught:
            futures[5].result(SOON)
        assert (caught.value.code, caught.value.stage) == ("device_error", "encode")
        assert isinstance(caught.value.__cause__, ValueError)
        assert [futures[value].result(SOON) for value in (0, 1, 2, 3, 4, 6, 7)] == [0, 2, 4, 6, 8, 12, 14]


def test_an_outcome_may_be_an_error() -> None:
    refusal = RefusedConfigurationError("not this one")
    with batcher(lambda lane, payloads: [refusal if value == 1 else value for value in payloads], delay=0.01) as engine:
        good, bad = engine.submit("a", 0, windows=1), engine.submit("a", 1, windows=1)
        assert good.result(SOON) == 0
        assert bad.exception(SOON) is refusal


def test_a_wrong_number_of_outcomes_is_an_error_and_nobody_gets_anothers_result() -> None:
    with batcher(lambda lane, payloads: [7], delay=3600.0, max_windows=2) as engine:
        futures = [engine.submit("a", value, windows=1) for value in range(2)]
        assert [future.result(SOON) for future in futures] == [7, 7]  # run again one by one: one outcome for one item
    with batcher(lambda lane, payloads: []) as engine, pytest.raises(VideoError, match="0 outcomes for 1 items"):
        engine.submit("a", 0, windows=1).result(SOON)


def test_an_item_past_its_deadline_is_not_run() -> None:
    now = [0.0]
    gate = Gate()
    with batcher(gate, clock=lambda: now[0]) as engine:
        first = engine.submit("a", 0, windows=1)
        assert gate.entered.wait(SOON)
        late, patient = (engine.submit("a", value, windows=1, timeout_seconds=5 * value) for value in (1, 2))
        now[0] = 7.0
        gate.opened.set()
        assert first.result(SOON) == 0
        assert patient.result(SOON) == 4
        with pytest.raises(VideoError) as caught:
            late.result(SOON)
        assert caught.value.code == "engine_timeout"
    assert gate.batches == [[0], [2]]


def test_a_stalled_device_strands_nobody() -> None:
    gate = Gate()
    with batcher(gate) as engine:
        running = engine.submit("a", 0, windows=1, timeout_seconds=0.2)
        waiting = engine.submit("a", 1, windows=1, timeout_seconds=0.2)
        assert [future.exception(SOON).code for future in (running, waiting)] == ["engine_timeout"] * 2
        gate.opened.set()


def test_a_full_queue_blocks_until_there_is_room_or_the_deadline() -> None:
    gate = Gate()
    with batcher(gate, limit=4) as engine:
        engine.submit("a", 0, windows=4)
        assert gate.entered.wait(SOON)
        engine.submit("a", 1, windows=3)
        assert engine.load() == (3, 4, 4)
        assert engine.submit("a", 2, windows=2, timeout_seconds=0.05).exception(SOON).code == "engine_timeout"
        threading.Timer(0.05, gate.opened.set).start()
        assert engine.submit("a", 3, windows=2).result(SOON) == 6
        assert engine.load() == (0, 0, 4)
    assert [2] not in gate.batches


def test_closing_finishes_the_running_batch_and_ends_the_rest() -> None:
    gate = Gate()
    with batcher(gate) as engine:
        running = engine.submit("a", 0, windows=4)
        assert gate.entered.wait(SOON)
        queued = engine.submit("a", 1, windows=4)
        threading.Timer(0.05, gate.opened.set).start()
        engine.close()
        assert running.result(0) == 0
        assert queued.exception(0).code == "device_error"
        assert engine.submit("a", 2, windows=1).exception(0).code == "device_error"
    assert gate.batches == [[0]]


def test_closing_does_not_wait_for_a_stalled_device() -> None:
    gate = Gate()
    engine = Batcher(gate, max_queued_windows=9)
    engine.lane("a", 4, 0)
    running = engine.submit("a", 0, windows=4)
    assert gate.entered.wait(SOON)
    engine.close(wait_seconds=0.05)
    assert running.exception(0).code == "device_error"
    gate.opened.set()


@pytest.mark.parametrize("death", [SystemExit, KeyboardInterrupt])
def test_a_dead_thread_ends_everything_and_says_so(death: type[BaseException]) -> None:
    gate = Gate()

    def run(lane: str, payloads: Sequence[int]) -> list[int]:
        gate(lane, payloads)
        raise death("gone")

    with batcher(run) as engine:
        futures = [engine.submit(lane, 0, windows=4) for lane in "ab"]
        gate.opened.set()
        for future in [*futures, engine.submit("a", 1, windows=1)]:
            with pytest.raises(VideoError, match="died") as caught:
                future.result(SOON)
            assert caught.value.code == "device_error"


def test_opening_a_lane_again_keeps_what_waits_in_it() -> None:
    with batcher(double, delay=0.05, max_windows=9) as engine:
        future = engine.submit("a", 4, windows=1)
        engine.lane("a", 9, 0.05)
        assert future.result(SOON) == 8


def test_many_threads_lose_and_swap_nothing() -> None:
    def run(lane: str, payloads: Sequence[int]) -> list[int]:
        if any(value % 37 == 0 for value in payloads):
            raise ValueError("bad")
        return double(lane, payloads)

    wrong: list[int] = []

    def client(offset: int) -> None:
        for value in range(offset, 2000, 8):
            future = engine.submit("ab"[value % 2], value, windows=1 + value % 5)
            error = future.exception(SOON)
            if (error is None) == (value % 37 == 0) or (error is None and future.result() != 2 * value):
                wrong.append(value)

    with batcher(run, delay=0.001, limit=16) as engine:
        threads = [threading.Thread(target=client, args=(offset,)) for offset in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert wrong == []
