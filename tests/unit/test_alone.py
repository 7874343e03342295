"""A video that workers died over again and again gets the device for itself."""

from __future__ import annotations

import math
import threading
from concurrent.futures import Future
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from producer.request import declared_encoder
from workers import pipeline
from workers.attempt import Attempt
from workers.pipeline import Owed
from workers.sampling.plan import SHAPE


@pytest.mark.parametrize(("lost", "alone"), [(0, False), (2, False), (3, True), (7, True)])
def test_from_the_third_dead_worker_on_it_is_alone(
    monkeypatch: pytest.MonkeyPatch, lost: int, alone: bool
) -> None:
    submitted: list[bool] = []

    def submit(*_: object, alone: bool, **__: object) -> Future:
        submitted.append(alone)
        future: Future = Future()
        future.set_result(None)
        return future

    claimed = SimpleNamespace(
        video_id=1,
        uri="file:///a.mp4",
        lost_count=lost,
        place_id=None,
        recheck=(),
        wants_strip=True,
        keep_context=False,
        keep_frames=False,
        stage="video",
        for_version=lambda _: claimed,
    )
    frames = SimpleNamespace(pixels=np.zeros(SHAPE, np.uint8), damaged_share=0.0)
    source = SimpleNamespace(etag=None, size_bytes=9, frames=lambda *_, **__: frames)
    runtime = SimpleNamespace(
        models=SimpleNamespace(
            owed=lambda _: [Owed(declared_encoder("probe", "pretrained", "notebook"))],
            require=lambda _: None,
        ),
        videos=SimpleNamespace(open=lambda _: nullcontext(source)),
        engine=SimpleNamespace(submit=submit),
        settings=SimpleNamespace(engine_wait_seconds=1.0),
        draining=threading.Event(),
        refusals=SimpleNamespace(read=lambda _: False),
    )
    monkeypatch.setattr(pipeline, "outcome_of", lambda *_, **__: "rows")
    assert Attempt(runtime, claimed, math.inf).outcome() == "rows"
    assert submitted == [alone]
