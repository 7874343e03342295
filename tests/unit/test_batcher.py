"""The batcher with plain functions: every item ends in exactly one outcome, whatever happens."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, wait
from contextlib import contextmanager
from typing import Any

import pytest

from db.errors import RefusedConfigurationError, VideoError
from workers.engine import lanes
from workers.engine.batcher import Batcher
from workers.engine.encoding import DeviceLostError, Ended
from workers.engine.lanes import Piece

#: Longest wait for something that must happen at once.
SOON = 10.0


def double(payloads: Sequence[int]) -> list[int]:
    return [2 * payload for payload in payloads]


class Plain:
    """`Work` of a function from a batch's payloads to their outcomes. Remembers batches; `lazy`:
    computes at the end.
    """

    def __init__(
        self, run: Callable[[list[int]], Sequence[Any]] = double, *, lazy: bool = False
    ) -> None:
        self.run = run
        self.lazy = lazy
        self.batches: list[list[int]] = []
        self.windows: list[list[tuple[int, int]]] = []
        self.precise: list[bool] = []
        self.events: list[str] = []

    def start(self, lane: str, pieces: Sequence[Piece], *, precise: bool) -> Any:
        payloads = [piece.item.payload for piece in pieces]
        self.batches.append(payloads)
        self.windows.append([(piece.start, piece.stop) for piece in pieces])
        self.precise.append(precise)
        self.events.append(f"start {payloads}")
        return payloads if self.lazy else self.run(payloads)

    def is_done(self, started: Any) -> bool:
        return not self.lazy

    def finish(self, started: Any) -> Sequence[Any]:
        self.events.append(f"finish {started}")
        return self.run(started) if self.lazy else started

    def join(self, parts: Sequence[Any]) -> Any:
        return list(parts)


class Gate(Plain):
    """Stops at each batch until it is opened."""

    def __init__(self, *, lazy: bool = False) -> None:
        super().__init__(self.pass_through, lazy=lazy)
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.tick: Callable[[], None] = lambda: None

    def pass_through(self, payloads: list[int]) -> list[int]:
        self.entered.set()
        assert self.opened.wait(SOON)
        self.tick()
        return double(payloads)


@contextmanager
def batcher(
    work: Plain, *, delay: float = 0.0, sizes: Sequence[int] = (4,), limit: int = 1000, **options
) -> Iterator[Batcher]:
    made = Batcher(work, max_queued_windows=limit, **options)
    made.lane("a", sizes, delay)
    made.lane("b", sizes, delay)
    try:
        yield made
    finally:
        made.close()


def code_of(future: Future) -> str:
    error = future.exception(SOON)
    assert isinstance(error, VideoError)
    return error.code


# ---- batches


@pytest.mark.parametrize("lazy", [False, True])
def test_each_item_gets_its_own_result(lazy: bool) -> None:
    with batcher(Plain(lazy=lazy), delay=0.01) as engine:
        futures = [engine.submit(lane, value, windows=1) for value in range(50) for lane in "ab"]
        assert [future.result(SOON) for future in futures] == [
            2 * value for value in range(50) for _ in "ab"
        ]


def test_a_batch_holds_whole_items_up_to_its_windows_and_one_lane() -> None:
    gate = Gate()
    with batcher(gate) as engine:
        first = engine.submit("a", 0, windows=9)  # larger than a batch: runs alone
        assert gate.entered.wait(SOON)
        rest = [engine.submit(*job, windows=2) for job in (("a", 1), ("b", 10), ("a", 2), ("a", 3))]
        gate.opened.set()
        wait([first, *rest], SOON)
    assert gate.batches == [[0], [1, 2], [10], [3]]
    assert gate.windows[0] == [(0, 9)]


def test_a_batch_has_the_largest_size_that_is_waiting_and_is_never_filled_up() -> None:
    gate = Gate()
    with batcher(gate, sizes=(2, 4, 8)) as engine:
        first = engine.submit("a", 0, windows=2)
        assert gate.entered.wait(SOON)
        rest = [engine.submit("a", value, windows=2) for value in range(1, 8)]
        gate.opened.set()
        wait([first, *rest], SOON)
    assert gate.batches == [[0], [1, 2, 3, 4], [5, 6], [7]]


def test_the_next_batch_is_started_before_the_last_one_is_waited_for() -> None:
    gate = Gate(lazy=True)
    with batcher(gate, sizes=(1,)) as engine:
        first = engine.submit("a", 0, windows=1)
        assert gate.entered.wait(SOON)
        rest = [engine.submit("a", value, windows=1) for value in (1, 2)]
        gate.opened.set()
        wait([first, *rest], SOON)
    assert gate.events == [
        "start [0]",
        "finish [0]",
        "start [1]",
        "start [2]",
        "finish [1]",
        "finish [2]",
    ]


def test_what_is_there_at_once_is_handed_out_before_the_next_batch_is_begun() -> None:
    """On the CPU a batch is through when it is started; its video shall not wait for another
    one.
    """
    work = Plain()
    with batcher(work, delay=3600.0, sizes=(1,)) as engine:
        wait([engine.submit("a", value, windows=1) for value in (0, 1)], SOON)
    assert work.events == ["start [0]", "finish [0]", "start [1]", "finish [2]"]  # doubled


def test_the_first_item_waits_for_company_until_its_delay() -> None:
    work = Plain()
    with batcher(work, delay=0.2, sizes=(3,)) as engine:
        started = time.monotonic()
        wait([engine.submit("a", value, windows=1) for value in range(2)], SOON)
        assert time.monotonic() - started >= 0.2
        assert work.batches == [[0, 1]]


def test_a_full_batch_does_not_wait() -> None:
    with batcher(Plain(), delay=3600.0, sizes=(1, 3)) as engine:
        futures = [engine.submit("a", value, windows=1) for value in range(3)]
        assert [future.result(SOON) for future in futures] == [0, 2, 4]


def test_who_must_be_alone_shares_no_batch() -> None:
    gate = Gate()
    with batcher(gate) as engine:
        first = engine.submit("a", 0, windows=1)
        assert gate.entered.wait(SOON)
        rest = [
            engine.submit("a", value, windows=1, alone=value in (2, 3)) for value in range(1, 6)
        ]
        gate.opened.set()
        wait([first, *rest], SOON)
    assert gate.batches == [[0], [1], [2], [3], [4, 5]]
    with batcher(Plain(), delay=3600.0) as engine:
        assert engine.submit("a", 1, windows=1, alone=True).result(SOON) == 2, (
            "it need not wait for anybody"
        )


def test_opening_a_lane_again_keeps_what_waits_in_it() -> None:
    with batcher(Plain(), delay=0.05, sizes=(9,)) as engine:
        future = engine.submit("a", 4, windows=1)
        engine.lane("a", (9,), 0.05)
        assert future.result(SOON) == 8


# ---- what goes wrong with a batch


@pytest.mark.parametrize("lazy", [False, True])
def test_a_failing_item_fails_alone(lazy: bool) -> None:
    def run(payloads: list[int]) -> list[int]:
        if 5 in payloads:
            raise ValueError("five")
        return double(payloads)

    with batcher(Plain(run, lazy=lazy), delay=3600.0, sizes=(8,)) as engine:
        futures = [engine.submit("a", value, windows=1) for value in range(8)]
        with pytest.raises(VideoError, match="ValueError: five") as caught:
            futures[5].result(SOON)
        assert (caught.value.code, caught.value.stage) == ("device_error", "encode")
        assert isinstance(caught.value.__cause__, ValueError)
        assert [futures[value].result(SOON) for value in (0, 1, 2, 3, 4, 6, 7)] == [
            0,
            2,
            4,
            6,
            8,
            12,
            14,
        ]


def test_an_outcome_may_be_an_error() -> None:
    refusal = RefusedConfigurationError("not this one")
    work = Plain(lambda payloads: [refusal if value == 1 else value for value in payloads])
    with batcher(work, delay=0.01) as engine:
        good, bad = engine.submit("a", 0, windows=1), engine.submit("a", 1, windows=1)
        assert good.result(SOON) == 0
        assert bad.exception(SOON) is refusal


def test_a_wrong_number_of_outcomes_is_an_error_and_nobody_gets_anothers_result() -> None:
    with batcher(Plain(lambda _: [7]), delay=3600.0, sizes=(2,)) as engine:
        futures = [engine.submit("a", value, windows=1) for value in range(2)]
        assert [future.result(SOON) for future in futures] == [
            7,
            7,
        ]  # run again one by one: one outcome for one item
    with (
        batcher(Plain(lambda _: [])) as engine,
        pytest.raises(VideoError, match="0 outcomes for 1 pieces"),
    ):
        engine.submit("a", 0, windows=1).result(SOON)


class Memory(Plain):
    """A device that holds so many windows at a time."""

    def __init__(self, windows: int) -> None:
        super().__init__()
        self.room = windows

    def start(self, lane: str, pieces: Sequence[Piece], *, precise: bool) -> Any:
        super().start(lane, pieces, precise=precise)
        if sum(piece.windows for piece in pieces) > self.room:
            raise VideoError("device_out_of_memory", "no room", stage="encode")
        return [(piece.item.payload, piece.start, piece.stop) for piece in pieces]


def test_out_of_memory_halves_batches_even_below_one_video_and_loses_no_window() -> None:
    work = Memory(2)
    with batcher(work, delay=3600.0, sizes=(6, 12)) as engine:
        futures = [engine.submit("a", value, windows=6) for value in (1, 2)]
        # halves of 12, then of 6 windows
        assert [future.result(SOON) for future in futures] == [
            [(value, 0, 1), (value, 1, 3), (value, 3, 4), (value, 4, 6)] for value in (1, 2)
        ]
        work.windows.clear()
        third = engine.submit("a", 3, windows=6)  # the lane has learnt
        assert third.result(SOON) == [(3, start, start + 1) for start in range(6)]
        assert work.windows == [[(start, start + 1)] for start in range(6)]


def test_batches_grow_again_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "GOOD_BATCHES", 10)
    work = Memory(1)
    with batcher(work, sizes=(1, 2, 4)) as engine:
        futures = [engine.submit("a", value, windows=1) for value in range(4)]
        wait(futures, SOON)
        work.room = 4
        work.windows.clear()
        for _ in range(16):
            wait([engine.submit("a", 0, windows=1, timeout_seconds=SOON) for _ in range(4)], SOON)
        largest = [len(batch) for batch in work.windows]
    assert max(largest) == 4
    assert max(largest[:5]) == 1, "it does not try at once"


def test_one_window_that_does_not_fit_fails_its_item_only() -> None:
    work = Memory(0)
    with batcher(work) as engine:
        assert code_of(engine.submit("a", 1, windows=2)) == "device_out_of_memory"
        work.room = 9
        assert engine.submit("a", 2, windows=1).result(SOON) == (2, 0, 1)


def test_a_result_that_is_not_finite_is_asked_for_once_more_alone_and_in_full_precision() -> None:
    class Rough(Plain):
        def start(self, lane: str, pieces: Sequence[Piece], *, precise: bool) -> Any:
            started = super().start(lane, pieces, precise=precise)
            bad = {5: True, 6: not precise}
            return [
                VideoError("nonfinite", "NaN", stage="encode")
                if bad.get(piece.item.payload)
                else value
                for piece, value in zip(pieces, started, strict=True)
            ]

    work = Rough()
    with batcher(work, delay=3600.0, sizes=(3,)) as engine:
        futures = [engine.submit("a", value, windows=1) for value in (5, 6, 7)]
        assert code_of(futures[0]) == "nonfinite"
        assert [future.result(SOON) for future in futures[1:]] == [12, 14]
    assert (work.batches, work.precise) == ([[5, 6, 7], [5], [6]], [False, True, True])


# ---- callers that do not wait


def test_an_item_past_its_deadline_is_not_run() -> None:
    now = [0.0]
    gate = Gate()
    with batcher(gate, clock=lambda: now[0]) as engine:
        first = engine.submit("a", 0, windows=1)
        assert gate.entered.wait(SOON)
        late, patient = (
            engine.submit("a", value, windows=1, timeout_seconds=5 * value) for value in (1, 2)
        )
        now[0] = 7.0
        gate.opened.set()
        assert first.result(SOON) == 0
        assert patient.result(SOON) == 4
        assert code_of(late) == "engine_timeout"
    assert gate.batches == [[0], [2]]


def test_a_cancelled_item_is_not_run_and_makes_room_at_once() -> None:
    gate = Gate()
    with batcher(gate, limit=4) as engine:
        first = engine.submit("a", 0, windows=1)
        assert gate.entered.wait(SOON)
        dropped = engine.submit("a", 1, windows=4)
        assert not first.cancel(), "it is on the device"
        assert dropped.cancel()
        kept = engine.submit("a", 2, windows=4, timeout_seconds=SOON)
        gate.opened.set()
        assert [first.result(SOON), kept.result(SOON)] == [0, 4]
        with pytest.raises(CancelledError):
            dropped.result(SOON)
    assert gate.batches == [[0], [2]]


@pytest.mark.parametrize("lazy", [False, True])
def test_a_video_is_let_go_of_once_it_has_its_outcome(lazy: bool) -> None:
    """Without waiting for the garbage collector: the memory of frames is used again for the next
    video.
    """

    class Frames:
        pass

    work = Plain(lambda payloads: [0 for _ in payloads], lazy=lazy)
    work.batches = type("Nothing", (list,), {"append": lambda *_: None})()
    gc.disable()
    try:
        with batcher(work) as engine:
            for _ in range(3):
                frames = Frames()
                alive = weakref.ref(frames)
                future = engine.submit("a", frames, windows=1)
                del frames
                assert future.result(SOON) == 0
                deadline = time.monotonic() + SOON
                while alive() is not None and time.monotonic() < deadline:
                    time.sleep(0.01)
                assert alive() is None
    finally:
        gc.enable()


def test_a_full_queue_blocks_until_there_is_room_or_the_deadline() -> None:
    gate = Gate()
    with batcher(gate, limit=4) as engine:
        engine.submit("a", 0, windows=4)
        assert gate.entered.wait(SOON)
        engine.submit("a", 1, windows=3)
        assert engine.load() == (3, 4)
        assert engine.batch_seconds() > 0
        assert code_of(engine.submit("a", 2, windows=2, timeout_seconds=0.05)) == "engine_timeout"
        threading.Timer(0.05, gate.opened.set).start()
        assert engine.submit("a", 3, windows=2).result(SOON) == 6
        assert engine.load() == (0, 0)
        assert engine.batch_seconds() == 0
    assert [2] not in gate.batches


def test_an_item_larger_than_the_queue_enters_when_it_is_empty() -> None:
    with batcher(Plain(), limit=4) as engine:
        assert engine.submit("a", 1, windows=9, timeout_seconds=SOON).result(SOON) == 2


def test_who_has_an_outcome_is_not_run_again_when_its_batch_fails() -> None:
    now = [0.0]
    futures: list[Future] = []

    def run(payloads: list[int]) -> list[int]:
        if len(payloads) > 1:  # the first is late by the time that the batch has failed
            now[0] = 7.0
            with engine._changed:
                engine._changed.notify_all()
            assert code_of(futures[0]) == "engine_timeout"
            raise RuntimeError("it does not like company")
        return double(payloads)

    work = Plain(run)
    with batcher(work, delay=60.0, sizes=(2,), clock=lambda: now[0]) as engine:
        for value, seconds in ((1, 5.0), (2, 60.0)):
            futures.append(engine.submit("a", value, windows=1, timeout_seconds=seconds))
        assert futures[1].result(SOON) == 4
    assert work.batches == [[1, 2], [2]]


# ---- the end


class Ends(list):
    """What `ended` was called with, and how many items had an outcome by then."""

    def __call__(self, cause: Ended, reason: str) -> None:
        self.append((cause, reason))


def test_a_stalled_device_strands_nobody_and_ends_the_engine() -> None:
    gate, ends = Gate(), Ends()
    with batcher(gate, stall_seconds=0.4, ended=ends) as engine:
        running = engine.submit("a", 0, windows=1, timeout_seconds=0.1)
        waiting = engine.submit("a", 1, windows=1, timeout_seconds=0.1)
        patient = engine.submit("a", 2, windows=1)
        assert [code_of(future) for future in (running, waiting)] == ["engine_timeout"] * 2
        assert code_of(patient) == "device_error"
        assert [cause for cause, _ in ends] == [Ended.STALLED]
        assert code_of(engine.submit("a", 3, windows=1)) == "device_error"

        def lost() -> None:
            raise DeviceLostError("now it says so")

        gate.tick = lost
        gate.opened.set()
    assert len(ends) == 1, "once is enough"


def test_a_lane_that_may_take_long_stalls_nothing() -> None:
    gate, ends = Gate(), Ends()
    with batcher(gate, stall_seconds=0.05, ended=ends) as engine:
        engine.lane("load", (1,), 0, may_stall=False)
        loading = engine.submit("load", 4, windows=1)
        assert gate.entered.wait(SOON)
        time.sleep(0.2)
        assert engine.batch_seconds() == 0
        gate.opened.set()
        assert loading.result(SOON) == 8
    assert ends == []


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("death", "cause", "text"),
    [
        (SystemExit, Ended.THREAD_DIED, "thread died: SystemExit: gone"),
        (KeyboardInterrupt, Ended.THREAD_DIED, "thread died: KeyboardInterrupt: gone"),
        (DeviceLostError, Ended.DEVICE_LOST, "the device is lost: gone"),
    ],
)
def test_a_lost_device_or_dead_thread_ends_everything_and_says_so_first(
    death: type[BaseException], cause: Ended, text: str, lazy: bool
) -> None:
    gate = Gate(lazy=lazy)

    def run(payloads: list[int]) -> list[int]:
        gate.pass_through(payloads)
        raise death("gone")

    gate.run = run
    futures: list[Future] = []
    told: list[tuple[Ended, str, int]] = []

    def ended(cause: Ended, reason: str) -> None:
        told.append((cause, reason, sum(future.done() for future in futures)))

    with batcher(gate, ended=ended) as engine:
        futures += [engine.submit(lane, 0, windows=4) for lane in "aab"]
        gate.opened.set()
        for future in [*futures, engine.submit("a", 1, windows=1)]:
            assert text in str(future.exception(SOON))
            assert code_of(future) == "device_error"
    (only,) = told
    assert only[0] is cause
    assert text in only[1]
    assert only[2] == 0, (
        "the process is to end before a task can write down what became of its video"
    )


def test_closing_finishes_the_running_batch_and_ends_the_rest() -> None:
    gate, ends = Gate(), Ends()
    with batcher(gate, ended=ends) as engine:
        running = engine.submit("a", 0, windows=4)
        assert gate.entered.wait(SOON)
        queued = engine.submit("a", 1, windows=4)
        threading.Timer(0.05, gate.opened.set).start()
        engine.close()
        assert running.result(0) == 0
        assert code_of(queued) == "device_error"
        assert code_of(engine.submit("a", 2, windows=1)) == "device_error"
    assert gate.batches == [[0]]
    assert ends == []


def test_closing_does_not_wait_for_a_stalled_device() -> None:
    gate = Gate()
    engine = Batcher(gate, max_queued_windows=9)
    engine.lane("a", (4,), 0)
    running = engine.submit("a", 0, windows=4)
    assert gate.entered.wait(SOON)
    engine.close(wait_seconds=0.05)
    assert code_of(running) == "device_error"
    gate.opened.set()


def test_closing_leaves_no_thread_behind() -> None:
    """One that ends after Python does aborts the process, where it is the last that has a model."""

    class Slow(Batcher):
        def _watch(self) -> None:
            super()._watch()
            time.sleep(0.2)  # on a busy machine

    before = set(threading.enumerate())
    Slow(Plain(), max_queued_windows=9).close()
    assert set(threading.enumerate()) <= before


# ---- all of it at once


@pytest.mark.parametrize("lazy", [False, True])
def test_many_threads_lose_and_swap_nothing(lazy: bool) -> None:
    """32 threads, bad items, results that are not finite, too little memory, cancelled and expired
    callers.
    """

    class Rough(Plain):
        def start(self, lane: str, pieces: Sequence[Piece], *, precise: bool) -> Any:
            if sum(piece.windows for piece in pieces) > 7:
                raise VideoError("device_out_of_memory", "no room", stage="encode")
            values = [(piece.item.payload, piece.windows, precise) for piece in pieces]
            if not self.lazy and any(value % 37 == 0 for value, _, _ in values):
                raise ValueError("bad")
            return values

        def finish(self, started: Any) -> Sequence[Any]:
            if any(value % 37 == 0 for value, _, _ in started):
                raise ValueError("bad")
            return [
                VideoError("nonfinite", "NaN", stage="encode")
                if value % 23 == 0 and not precise
                else (2 * value, windows)
                for value, windows, precise in started
            ]

        def join(self, parts: Sequence[Any]) -> Any:
            (double,) = {part[0] for part in parts}
            return double, sum(part[1] for part in parts)

    wrong: list[tuple[int, object]] = []

    def client(offset: int) -> None:
        for value in range(offset, 3200, 32):
            future = engine.submit("ab"[value % 2], value, windows=1 + value % 11)
            if value % 41 == 0 and future.cancel():
                continue
            error = future.exception(SOON)
            expected = None if error else (2 * value, 1 + value % 11)
            if (error is None) == (value % 37 == 0) or (
                error is None and future.result() != expected
            ):
                wrong.append((value, error or future.result()))

    with batcher(Rough(lazy=lazy), delay=0.001, limit=40, sizes=(4, 8)) as engine:
        threads = [threading.Thread(target=client, args=(offset,)) for offset in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert engine.load() == (0, 0)
    assert wrong == []
