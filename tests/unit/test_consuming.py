"""When a worker that takes nothing connects again, when it ends, and when it is right to take
nothing.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from db.errors import UnavailableError
from workers.delivery.consuming import Consumption, Watch


class Worker:
    """A worker of two places with messages waiting; `events` are what its watch did, at which
    second.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[tuple[float, str]] = []
        self.waiting: int | UnavailableError = 5
        self.consumption = Consumption()
        hub = SimpleNamespace(call_soon=lambda _: self.events.append((self.now, "reconnect")))
        self.listed = ["reelvec"]
        queues = SimpleNamespace(consume_from=self.listed)
        app = SimpleNamespace(amqp=SimpleNamespace(queues=queues))
        pool = SimpleNamespace(num_processes=2)
        self.consumption.ready(SimpleNamespace(app=app, hub=hub, pool=pool))
        self.watch = Watch(
            self.consumption,
            idle_seconds=60,
            waiting=self.ask,
            end=lambda _: self.events.append((self.now, "end")),
        )
        self.watch.look(now=0.0)

    def ask(self) -> int:
        if isinstance(self.waiting, UnavailableError):
            raise self.waiting
        return self.waiting

    def idle(self, seconds: float, every: float = 10.0) -> None:
        end = self.now + seconds
        while self.now < end and (self.now, "end") not in self.events:
            self.now += every
            self.watch.look(self.now)


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_it_connects_again_after_a_minute_and_ends_after_two(worker: Worker) -> None:
    worker.idle(300)
    assert worker.events == [(60, "reconnect"), (120, "end")]


def test_one_message_taken_begins_anew(worker: Worker) -> None:
    for _ in range(5):
        worker.idle(100)
        worker.consumption.began()
        worker.consumption.ended()
    assert {event for _, event in worker.events} == {"reconnect"}


def test_a_full_house_takes_nothing(worker: Worker) -> None:
    worker.consumption.began()
    worker.consumption.began()
    worker.idle(3_600)
    assert worker.events == []
    worker.consumption.ended()
    worker.idle(60)
    assert worker.events == [(3_660, "reconnect")]


def test_videos_are_left_alone_while_their_slots_are_taken_and_frames_are_not() -> None:
    worker = Worker()
    worker.consumption.video_slots = 1
    assert worker.consumption.open_queues() == ["reelvec"]
    worker.consumption.began("reelvec.siglip2")
    assert worker.consumption.open_queues() == []
    worker.idle(3_600)
    assert worker.events == [], "there is nothing that it could take"
    worker.listed += ["reelvec.frames", "reelvec.frames.siglip2"]
    assert worker.consumption.open_queues() == ["reelvec.frames", "reelvec.frames.siglip2"]
    worker.consumption.began("reelvec.frames.siglip2")
    assert worker.consumption.open_queues() == []
    worker.consumption.ended("reelvec.siglip2")
    assert len(worker.consumption.open_queues()) == 3


@pytest.mark.parametrize("waiting", [0, UnavailableError("the broker is away")])
def test_neither_an_empty_queue_nor_a_broker_that_is_away_is_a_reason(
    worker: Worker, waiting: int | UnavailableError
) -> None:
    worker.idle(50)
    worker.waiting = waiting
    worker.idle(600)
    worker.waiting = 5
    worker.idle(50)
    assert worker.events == []


def test_a_process_that_was_stopped_does_not_count_the_time_it_slept(worker: Worker) -> None:
    worker.idle(50)
    worker.now += 1_000
    worker.idle(50)
    assert worker.events == []


def test_a_worker_that_never_becomes_ready_ends(worker: Worker) -> None:
    worker.watch = Watch(
        Consumption(),
        idle_seconds=60,
        waiting=lambda: 5,
        end=lambda _: worker.events.append((worker.now, "end")),
    )
    worker.watch.look(now=0.0)
    worker.idle(300)
    assert worker.events == [(120, "end")]
