"""What a worker makes of a message, and of a video that failed, while a place fails."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from db.errors import ErrorClass
from db.jobs.outcome import Failure
from db.jobs.places import Change, Standing
from db.ledger import Claim
from workers.delivery import breaker
from workers.delivery.breaker import Message
from workers.delivery.refusals import FAILURES, Refusals

PLACE = 7


class Places:
    """Takes the place of `db.jobs.places`, and keeps what is said to it."""

    VOUCH_SECONDS = 60.0

    def __init__(self, standing: Standing) -> None:
        self.said: list[str] = []
        self._standing = standing

    def standing(self, *_: object) -> Standing:
        self.said.append("asked")
        return self._standing

    def say_reading(self, *_: object) -> None:
        self.said.append("reads")

    def say_failing(self, *_: object, **__: object) -> Change | None:
        self.said.append("fails")
        return None

    def open_again(self, *_: object) -> Change | None:
        self.said.append("opens")
        return None

    def close_failing(self, *_: object, **__: object) -> list[Change]:
        return []


@contextlib.contextmanager
def transaction(_: object) -> Iterator[None]:
    yield


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Places:
    return placed(monkeypatch, Standing(PLACE, closed=False, is_probe=False))


def placed(monkeypatch: pytest.MonkeyPatch, standing: Standing) -> Places:
    made = Places(standing)
    monkeypatch.setattr(breaker, "places", made)
    monkeypatch.setattr(breaker, "session", SimpleNamespace(transaction=transaction))
    monkeypatch.setattr(breaker, "HOLD_SECONDS", 0.0)
    return made


def worker(*, refuses: bool) -> Any:
    made = SimpleNamespace(
        refusals=Refusals(beat_seconds=10.0),
        database=None,
        worker_id=uuid4(),
        name="here:1",
        settings=SimpleNamespace(stale_seconds=45.0, beat_seconds=10.0),
        look_now=threading.Event(),
        draining=threading.Event(),
    )
    for _ in range(FAILURES if refuses else FAILURES - 1):
        made.refusals.failed(PLACE, "no_bucket")
    return made


def claimed(*, is_probe: bool = False) -> Claim:
    return Claim(1, "s3://bucket/1.mp4", None, uuid4(), 1, 1, 0, 0, (), (), (), (), PLACE, is_probe)


def failure(error_class: ErrorClass, stage: str = "fetch") -> Failure:
    return Failure(stage, "no_bucket", error_class, "there is no such bucket")


# A message


@pytest.mark.parametrize(
    ("closed", "is_probe", "message"),
    [(False, False, Message.LEAVE), (True, False, Message.DROP), (True, True, Message.CLAIM)],
)
def test_what_becomes_of_a_message_of_a_refused_place(
    monkeypatch: pytest.MonkeyPatch, closed: bool, is_probe: bool, message: Message
) -> None:
    placed(monkeypatch, Standing(PLACE, closed, is_probe))
    assert breaker.sort(worker(refuses=True), 1, "video") is message
    assert breaker.sort(worker(refuses=True), 1, "frames") is Message.CLAIM


def test_who_refuses_nothing_asks_nobody(places: Places) -> None:
    assert breaker.sort(worker(refuses=False), 1, "video") is Message.CLAIM
    assert places.said == []


# A failure


def test_a_missing_object_says_that_the_place_answers(places: Places) -> None:
    here = worker(refuses=True)
    breaker.settle(here, claimed(), failure(ErrorClass.PERMANENT), "failed")
    assert not here.refusals
    assert places.said == ["reads"]


def test_the_last_of_several_failures_is_told(places: Places) -> None:
    here = worker(refuses=False)
    breaker.settle(here, claimed(), failure(ErrorClass.INFRA), "pending")
    assert here.refusals.refuses(PLACE)
    assert places.said == ["fails"]


def test_a_probe_that_fails_is_told_no_more(places: Places) -> None:
    here = worker(refuses=False)
    breaker.settle(here, claimed(is_probe=True), failure(ErrorClass.INFRA), "pending")
    assert here.refusals.refuses(PLACE)
    assert places.said == []


@pytest.mark.parametrize(
    ("failed", "state"),
    [
        (None, "done"),
        (failure(ErrorClass.INFRA), "failed"),  # the video itself is at fault
        (failure(ErrorClass.INFRA, "sample"), "pending"),
        (failure(ErrorClass.TRANSIENT), "pending"),
    ],
)
def test_what_says_nothing_of_the_place(places: Places, failed: Failure | None, state: str) -> None:
    here = worker(refuses=False)
    breaker.settle(here, claimed(), failed, state)
    assert not here.refusals
    assert places.said == []


def test_a_probe_that_is_read_opens_the_place(places: Places) -> None:
    here = worker(refuses=False)
    breaker.was_read(here, claimed(is_probe=True))
    assert places.said == ["reads", "opens"]
