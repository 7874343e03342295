"""One attempt at a video that is embedded from its bytes: what is asked of the engine, and which
frames are kept.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from db.errors import UnavailableError
from db.jobs.outcome import Outcome
from producer.request import declared_encoder
from workers import pipeline
from workers.attempt import Attempt
from workers.pipeline import Owed
from workers.sampling.plan import SHAPE
from workers.sources.retrying import Cancelled


def owed(policy: str = "notebook", backbone: str = "probe") -> Owed:
    return Owed(declared_encoder(backbone, "pretrained", policy))


def claim(owes: Sequence[Owed], **facts: object) -> Any:
    """A claim that owes this, whatever the version."""
    made = SimpleNamespace(
        video_id=1,
        uri="file:///a.mp4",
        lost_count=0,
        place_id=None,
        recheck=(),
        wants_strip=True,
        keep_context=False,
        keep_frames=False,
        stage="video",
        owes=owes,
    )
    made.for_version = lambda _: made
    vars(made).update(facts)
    return made


class Worker:
    """`asked`: what the engine was asked for, as model and whether alone."""

    def __init__(self, **damaged_shares: float) -> None:
        self.asked: list[tuple[str, bool]] = []

        def frames(policy: str, **_: object) -> Any:
            share = damaged_shares.get(policy, 0.0)
            return SimpleNamespace(pixels=np.zeros(SHAPE, np.uint8), damaged_share=share)

        source = SimpleNamespace(etag="v2", size_bytes=9, frames=frames)
        self.runtime: Any = SimpleNamespace(
            models=SimpleNamespace(owed=lambda claimed: claimed.owes, require=lambda _: None),
            videos=SimpleNamespace(open=lambda _: nullcontext(source)),
            engine=SimpleNamespace(submit=self._submit),
            settings=SimpleNamespace(engine_wait_seconds=1.0),
            draining=threading.Event(),
            refusals=SimpleNamespace(read=lambda _: False),
        )

    def _submit(self, key: Any, *_: object, alone: bool, **__: object) -> Future[None]:
        self.asked.append((key.backbone, alone))
        future: Future[None] = Future()
        future.set_result(None)
        return future


@pytest.fixture(autouse=True)
def rows(monkeypatch: pytest.MonkeyPatch) -> Outcome:
    made = Outcome()
    monkeypatch.setattr(pipeline, "outcome_of", lambda *_, **__: made)
    return made


@pytest.mark.parametrize(("lost", "alone"), [(0, False), (2, False), (3, True), (7, True)])
def test_a_video_that_workers_died_over_gets_the_device_for_itself(
    rows: Outcome, lost: int, alone: bool
) -> None:
    worker = Worker()
    assert Attempt(worker.runtime, claim([owed()], lost_count=lost), math.inf).outcome() is rows
    assert worker.asked == [("probe", alone)]


def test_of_another_version_everything_is_made_at_once() -> None:
    worker = Worker()
    renewed = claim([owed(), owed(backbone="vivit")])
    Attempt(worker.runtime, claim([owed()], for_version=lambda _: renewed), math.inf).outcome()
    assert worker.asked == [("probe", False), ("vivit", False)]


def test_frames_that_nothing_was_made_of_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    monkeypatch.setattr(Attempt, "_write", lambda _, frames, size_bytes: kept.extend(frames) or 1)
    worker = Worker(uniform=0.9)
    both = claim([owed("notebook"), owed("uniform")], keep_frames=True)
    Attempt(worker.runtime, both, math.inf).outcome()
    assert kept == ["notebook"]
    assert worker.asked == [("probe", False)]


def test_what_is_away_while_the_worker_drains_costs_the_video_nothing() -> None:
    worker = Worker()
    worker.runtime.models.owed = raising(UnavailableError("Postgres does not answer"))
    worker.runtime.draining.set()
    with pytest.raises(Cancelled):
        Attempt(worker.runtime, claim([owed()]), math.inf).outcome()


def raising(error: Exception) -> Callable[[object], None]:
    def fail(_: object) -> None:
        raise error

    return fail
