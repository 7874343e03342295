"""What becomes of a message whose video is not worked on: acknowledged it is gone, rejected it goes
back to the broker for others.
"""

from __future__ import annotations

import math
import threading
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import Reject

from db import ledger, session
from db.errors import ErrorClass, RefusedConfigurationError, UnavailableError
from db.exit_codes import ExitCode
from db.jobs.outcome import Failure, Outcome
from tests.unit.test_runtime import holding
from tests.verdict import fenced
from workers import tasks
from workers.attempt import Attempt
from workers.delivery import breaker
from workers.delivery.breaker import Message
from workers.models import NothingToMakeError
from workers.runtime import Runtime
from workers.sources.retrying import Cancelled
from workers.tally import Tally

CLAIM = SimpleNamespace(video_id=7, lost_count=0)


class Asked:
    """The ledger and what is asked of it, with `answer` to a claim."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer: Any = None
        self.events: list[str] = []
        monkeypatch.setattr(session, "one_statement", lambda database: nullcontext())
        monkeypatch.setattr(ledger, "claim", self._claim)
        monkeypatch.setattr(ledger, "release", lambda connection, claimed: self._said("release"))

    def _said(self, what: str) -> None:
        self.events.append(what)

    def _claim(self, *_: object, **__: object) -> Any:
        self._said("claim")
        return self.answer


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


@pytest.fixture
def runtime() -> Runtime:
    """`codes` of its drain are the exit codes it was asked to end with."""
    codes: list[ExitCode] = []
    return holding(
        settings=SimpleNamespace(job_seconds=60.0),
        identity=SimpleNamespace(worker_id="me"),
        models=SimpleNamespace(ability=None),
        tally=Tally(),
        refusals=(),
        drain=SimpleNamespace(
            begun=threading.Event(), ask=lambda why, code: codes.append(code), codes=codes
        ),
    )


def taken(runtime: Runtime) -> str:
    """How the message of a video ends."""
    try:
        tasks._take(runtime, CLAIM.video_id)
    except Reject as rejected:
        assert runtime.in_hand() == []
        return "back to the broker" if rejected.requeue else "lost"
    assert runtime.in_hand() == []
    return "acknowledged"


@pytest.mark.parametrize(
    ("message", "end", "events"),
    [
        (Message.LEAVE, "back to the broker", []),
        (Message.DROP, "acknowledged", []),
        (Message.CLAIM, "acknowledged", ["claim"]),  # and found nothing to do
    ],
)
def test_what_the_place_of_a_video_says(
    message: Message,
    end: str,
    events: list[str],
    runtime: Runtime,
    asked: Asked,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(breaker, "sort", lambda runtime, video_id, stage: message)
    assert (taken(runtime), asked.events) == (end, events)


def test_whoever_drains_claims_nothing(runtime: Runtime, asked: Asked) -> None:
    runtime.draining.set()
    assert (taken(runtime), asked.events) == ("back to the broker", [])


def test_a_drain_ends_the_wait_for_a_database(
    runtime: Runtime, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(runtime: Runtime, video_id: int, stage: str) -> Message:
        runtime.draining.set()
        raise UnavailableError("the database is away")

    monkeypatch.setattr(breaker, "sort", away)
    assert (taken(runtime), asked.events) == ("back to the broker", [])


@pytest.mark.parametrize(
    ("error", "end", "codes"),
    [
        (Cancelled(), "back to the broker", []),
        (NothingToMakeError(), "acknowledged", []),  # the feeder sends it another way
        (
            RefusedConfigurationError("these are other weights"),
            "back to the broker",
            [ExitCode.REFUSED],
        ),
    ],
)
def test_a_claimed_video_that_is_not_finished_is_given_back_first(
    error: Exception,
    end: str,
    codes: list[ExitCode],
    runtime: Runtime,
    asked: Asked,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Attempt, "outcome", run)
    asked.answer = CLAIM
    assert (taken(runtime), asked.events) == (end, ["claim", "release"])
    assert runtime.drain.codes == codes  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (None, "video 7: pending, because models are left that this worker did not make"),
        (
            Failure("fetch", "unreachable", ErrorClass.INFRA, "no route"),
            "video 7: pending, to be tried again after unreachable",
        ),
        (
            Failure("embed", "nonfinite", ErrorClass.BAD_OUTPUT, "NaN", encoder="vivit"),
            "video 7: pending, because other models are left: vivit gave nonfinite",
        ),
    ],
)
def test_the_log_says_why_a_video_waits_again(
    failure: Failure | None,
    said: str,
    runtime: Runtime,
    asked: Asked,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="workers.tasks")
    asked.answer = CLAIM
    monkeypatch.setattr(Attempt, "outcome", lambda self: Outcome(failure=failure))
    monkeypatch.setattr(tasks, "_finish", lambda *_, **__: "pending")
    monkeypatch.setattr(breaker, "settle", lambda *_: None)
    monkeypatch.setattr(Runtime, "count_video", lambda self: None)
    assert taken(runtime) == "acknowledged"
    assert [record.getMessage() for record in caplog.records] == [said]


def test_a_result_that_comes_too_late_is_told_in_words_that_are_counted(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connection = SimpleNamespace(rollback=lambda: None)
    monkeypatch.setattr(session, "transaction", lambda database: nullcontext(connection))
    monkeypatch.setattr(ledger, "finish", lambda *_, **__: None)
    claimed: Any = SimpleNamespace(video_id=7, place_id=None, stage="video")
    late = replace(
        runtime,
        settings=SimpleNamespace(retry_seconds=5.0),
        refusals=SimpleNamespace(refuses=lambda place_id: False),
    )
    assert tasks._finish(late, claimed, Outcome(), give_up_at=math.inf) is None
    assert fenced(caplog.text) == 1
