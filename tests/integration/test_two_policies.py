"""A video owed by encoders of two sampling policies, one of which gives no frames."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine as Database

from db import encoders, session
from db.errors import VideoError
from db.jobs.catalogue import Wanted
from db.media import MediaFacts
from producer.request import declared_encoder
from producer.sources.reading import VideoRow
from tests import ledgering
from tests.ledgering import one
from workers.attempt import Attempt
from workers.engine.engine import Engine
from workers.pipeline import Owed
from workers.sampling.frames import Frames
from workers.sampling.plan import FRAMES, SHAPE

POLICIES = ("notebook", "uniform")


@pytest.fixture(scope="module")
def device() -> Iterator[Engine]:
    made = Engine(device="cpu", models_dir=None)
    made.load(Owed(declared_encoder("probe", "pretrained", "notebook")).key)
    yield made
    made.close()


class Video:
    """An open video that one policy cannot sample."""

    etag = "v1"
    size_bytes = 9

    def __init__(self, failing: str) -> None:
        self._failing = failing

    def frames(self, policy: str, *, stop: threading.Event | None = None) -> Frames:
        if policy == self._failing:
            raise VideoError("truncated", f"nothing for {policy}", stage="sample")
        return Frames(
            pixels=np.random.default_rng(7).integers(0, 256, SHAPE, np.uint8),
            indices=np.arange(FRAMES),
            pts_seconds=np.arange(FRAMES) / 25,
            facts=MediaFacts("h264", 320, 180, fps=25.0, duration_seconds=4.0),
            version=self.etag,
            frame_count=100,
            frames_decoded=96,
            decode_mode="sparse",
            decode_errors=0,
            damaged_share=0.0,
            bytes_read=9,
            fetch_seconds=0.1,
            decode_seconds=0.2,
        )


@pytest.mark.parametrize("failing", POLICIES)
def test_one_that_fails_costs_its_own_encoders_and_no_others(
    engine: Database, device: Engine, failing: str
) -> None:
    owed = []
    for policy in POLICIES:
        encoder = declared_encoder("probe", "pretrained", policy)
        with session.transaction(engine) as connection:
            encoder_id = encoders.declare_encoder(connection, encoder)
            owed.append(Owed(encoders.fetch_encoders(connection, [encoder_id])[encoder_id]))
    wanted = tuple(item.encoder.encoder_id for item in owed)
    ledgering.record(engine, [VideoRow("file:///v/1.mp4")], Wanted(wanted, ()))  # type: ignore[arg-type]
    claimed = ledgering.claim(engine, 1, ledgering.worker(engine))
    assert claimed is not None
    runtime: Any = SimpleNamespace(
        models=SimpleNamespace(owed=lambda _: owed, require=lambda _: None),
        videos=SimpleNamespace(open=lambda _: nullcontext(Video(failing))),
        engine=device,
        settings=SimpleNamespace(engine_wait_seconds=60.0),
        draining=threading.Event(),
        refusals=SimpleNamespace(read=lambda _: False),
    )
    outcome = Attempt(runtime, claimed, math.inf).outcome()
    assert ledgering.finish(engine, claimed, outcome) == "failed"
    assert one(engine, "SELECT array_agg(sampling) FROM reelvec.video_embeddings JOIN reelvec.encoders USING (encoder_id)") == [
        policy for policy in POLICIES if policy != failing
    ]  # fmt: skip
    told = "SELECT error_code || ': ' || error FROM reelvec.{} WHERE video_id = 1"
    for table in ("jobs", "attempts"):
        assert one(engine, told.format(table)) == f"truncated: nothing for {failing}"
    assert one(engine, "SELECT codec || ' ' || etag FROM reelvec.videos") == "h264 v1"
