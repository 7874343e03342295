"""What a worker asks the broker for first, and what it does not ask for while its hands are full."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kombu.transport import redis

from workers.delivery import transport

QUEUES = ["reelvec.siglip2", "reelvec.frames", "reelvec", "reelvec.frames.siglip2"]


class Request:
    """A video in hand, as Celery keeps it; weakly referred to."""

    def __init__(self, queue: str) -> None:
        self.delivery_info = {"routing_key": queue}


@pytest.fixture
def in_hand(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    requests: list[Request] = []
    monkeypatch.setattr(transport, "state", SimpleNamespace(reserved_requests=requests))
    return requests


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float | None, list[str]]]:
    """Of every question to the broker: how long it waits, and for which queues in which order."""
    found: list[tuple[float | None, list[str]]] = []

    def start(channel: Any, timeout: float | None = None) -> None:
        found.append((timeout, channel._queue_cycle.consume(len(QUEUES))))

    monkeypatch.setattr(redis.Channel, "_brpop_start", start)
    return found


def channel(slots: int | None) -> Any:
    made = object.__new__(transport.Channel)
    made.video_slots = slots
    made._queue_cycle = transport.RareFirst(list(QUEUES))
    return made


def test_frames_come_first_and_what_few_can_make_before_the_rest(
    in_hand: list[Request], asked: list[tuple[float | None, list[str]]]
) -> None:
    channel(None)._brpop_start()
    in_hand.append(Request("reelvec.frames"))
    channel(1)._brpop_start()
    ordered = ["reelvec.frames.siglip2", "reelvec.frames", "reelvec.siglip2", "reelvec"]
    assert asked == [(None, ordered), (None, ordered)], "frames take no slot of a video"


def test_while_all_slots_for_videos_are_taken_frames_alone_are_asked_for(
    in_hand: list[Request], asked: list[tuple[float | None, list[str]]]
) -> None:
    made = channel(2)
    in_hand += [Request("reelvec"), Request("reelvec.siglip2")]
    made._brpop_start()
    assert asked == [(transport.FRAMES_SECONDS, ["reelvec.frames.siglip2", "reelvec.frames"])]
    in_hand.pop()
    made._brpop_start()
    assert asked[-1] == (
        None,
        ["reelvec.frames.siglip2", "reelvec.frames", "reelvec.siglip2", "reelvec"],
    )


def test_without_queues_of_frames_a_full_worker_asks_for_nothing(in_hand: list[Request]) -> None:
    made = channel(1)
    made._queue_cycle.update(["reelvec"])
    made._active_queues = ["reelvec"]
    made.active_fanout_queues = set()
    made.brpop_timeout = 1
    in_hand.append(Request("reelvec"))
    made._brpop_start()  # it would send something by a connection that is not there
    assert not made._in_poll
