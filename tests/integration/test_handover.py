"""Frames on their way through the store: what is embedded is what was sampled, or nothing."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine as Database

from db import encoders, session
from db.errors import UnavailableError, VideoError
from db.frames import packs
from db.jobs.catalogue import Wanted
from producer.request import declared_encoder
from producer.sources.reading import VideoRow
from tests import ledgering
from tests.integration.test_two_policies import POLICIES, Video
from tests.ledgering import execute, one
from tests.weights import NOTEBOOK
from workers import insisting
from workers.attempt import Attempt
from workers.engine.engine import Engine
from workers.frames import handover
from workers.frames.folder import FolderStore
from workers.frames.policies import Policies
from workers.pipeline import Owed

JOB = "SELECT concat_ws(' ', state, stage, attempts, frames_lost, error_code) FROM reelvec.jobs"
MODELS = [
    ("probe", "pretrained"),
    ("efficientnet", "pretrained"),
    *((name, "random-tiny") for name in (*NOTEBOOK, "siglip2", "vjepa2")),
]


@pytest.fixture(scope="module")
def device() -> Iterator[Engine]:
    made = Engine(device="cpu", models_dir=None)
    yield made
    made.close()


class Fleet:
    """A sampler node and a worker that embeds, in this process, with a folder between them."""

    def __init__(self, database: Database, device: Engine, store: Path) -> None:
        self.database = database
        self.device = device
        self.store = FolderStore(store)
        self.failing = ""
        self.owed: list[Owed] = []

    def enqueue(
        self, models: list[tuple[str, str]], policies: tuple[str, ...], **wanted: bool
    ) -> None:
        for model, weights in models:
            for policy in policies:
                encoder = declared_encoder(model, weights, policy)
                with session.transaction(self.database) as connection:
                    encoder_id = encoders.declare_encoder(connection, encoder)
                    known = encoders.fetch_encoders(connection, [encoder_id])[encoder_id]
                self.owed.append(Owed(known))
                self.device.load(self.owed[-1].key)
        ids = tuple(one.encoder.encoder_id for one in self.owed)
        row = VideoRow("file:///v/1.mp4")
        ledgering.record(self.database, [row], Wanted(ids, (), **wanted))  # type: ignore[arg-type]

    def sample(self) -> str | None:
        return self._attempt(engine=None, models=Policies(self.database))

    def embed(self) -> str | None:
        def owed(claimed: Any) -> list[Owed]:
            return [one for one in self.owed if one.encoder.encoder_id in claimed.encoders]

        return self._attempt(
            engine=self.device, models=SimpleNamespace(owed=owed, require=lambda _: None)
        )

    def _attempt(self, **worker: Any) -> str | None:
        runtime: Any = SimpleNamespace(
            database=self.database,
            frame_store=self.store,
            videos=SimpleNamespace(open=lambda _: nullcontext(Video(self.failing))),
            settings=SimpleNamespace(engine_wait_seconds=60.0),
            draining=threading.Event(),
            refusals=SimpleNamespace(read=lambda _: False),
            **worker,
        )
        claimed = ledgering.claim(self.database, 1, ledgering.worker(self.database))
        assert claimed is not None
        outcome = Attempt(runtime, claimed, math.inf).outcome()
        return ledgering.finish(self.database, claimed, outcome)

    def job(self) -> str:
        return str(one(self.database, JOB))


@pytest.fixture
def fleet(engine: Database, device: Engine, tmp_path: Path) -> Fleet:
    return Fleet(engine, device, tmp_path)


def vectors(database: Database) -> list[tuple[int, str]]:
    query = "SELECT array_agg((encoder_id, embedding::text)::text ORDER BY encoder_id) FROM reelvec.video_embeddings"
    return one(database, query)  # type: ignore[return-value]


def test_vectors_from_packs_are_those_from_the_source_bit_by_bit(fleet: Fleet) -> None:
    fleet.enqueue(MODELS, ("notebook",))
    assert fleet.sample() == "pending"
    assert fleet.embed() == "done"
    from_packs = vectors(fleet.database)
    assert len(from_packs) == len(MODELS)
    facts = "SELECT (codec, width_px, fps, duration_seconds, etag, size_bytes, damaged_share, sampler_version)::text FROM reelvec.videos"
    windows = "SELECT array_agg((encoder_id, start_seconds, end_seconds, embedding)::text ORDER BY encoder_id, window_index) FROM reelvec.window_embeddings"
    strip = "SELECT md5(strip) FROM reelvec.strips"
    told = [one(fleet.database, query) for query in (facts, windows, strip)]
    for table in ("video_embeddings", "window_embeddings", "strips"):
        execute(fleet.database, f"DELETE FROM reelvec.{table}")
    execute(fleet.database, "UPDATE reelvec.jobs SET state = 'pending'")
    assert fleet.embed() == "done"
    assert vectors(fleet.database) == from_packs
    assert [one(fleet.database, query) for query in (facts, windows, strip)] == told


@pytest.mark.parametrize("failing", POLICIES)
def test_a_policy_without_frames_costs_its_own_encoders_in_two_stages_too(
    fleet: Fleet, failing: str
) -> None:
    fleet.failing = failing
    fleet.enqueue(MODELS[:1], POLICIES)
    assert fleet.sample() == "pending"
    assert fleet.embed() == "pending", "one is embedded, the other has no frames"
    assert one(fleet.database, "SELECT count(*) FROM reelvec.video_embeddings") == 1
    assert fleet.embed() == "pending"
    assert fleet.job() == "pending video 0 1 frames_lost"
    assert fleet.sample() == "failed"
    assert fleet.job() == "failed video 1 truncated"


def test_another_version_makes_all_of_it_again(fleet: Fleet) -> None:
    fleet.enqueue(MODELS[:1], ("notebook",))
    execute(fleet.database, "UPDATE reelvec.videos SET etag = 'v0'")
    ledgering.vectors(1)
    claimed = ledgering.claim(fleet.database, 1, ledgering.worker(fleet.database))
    assert claimed is not None
    ledgering.finish(fleet.database, claimed, ledgering.Outcome((ledgering.vectors(1, dim=64),)))
    old = vectors(fleet.database)
    execute(fleet.database, "UPDATE reelvec.jobs SET state = 'pending', force = true")
    assert fleet.sample() == "pending"
    assert one(fleet.database, "SELECT etag FROM reelvec.videos") == "v0", "that of the vectors"
    assert fleet.embed() == "done"
    assert one(fleet.database, "SELECT etag FROM reelvec.videos") == "v1"
    assert vectors(fleet.database) != old


def test_frames_are_kept_by_whoever_samples(fleet: Fleet) -> None:
    fleet.enqueue(MODELS[:1], ("notebook",), keep_frames=True)
    assert fleet.embed() == "done", "one worker did all of it"
    with session.transaction(fleet.database) as connection:
        (row,) = packs.of_video(connection, 1)
    assert (row.kept, row.written, row.etag) == (True, True, "v1")
    fleet.owed.clear()
    fleet.enqueue(MODELS[1:2], ("notebook",))
    assert fleet.job().startswith("pending frames")
    fleet.failing = "notebook"  # nothing can be read of the video any more
    assert fleet.embed() == "done"
    with session.transaction(fleet.database) as connection:
        assert packs.of_video(connection, 1) == [row]


def test_who_only_looks_again_is_done_with_that(fleet: Fleet) -> None:
    fleet.enqueue(MODELS[:1], ("notebook",))
    assert fleet.embed() == "done"
    execute(
        fleet.database, "UPDATE reelvec.jobs SET state = 'pending', recheck = true, owes = '{}'"
    )
    assert fleet.sample() == "done"
    with session.transaction(fleet.database) as connection:
        assert packs.of_video(connection, 1) == []


def test_a_store_that_is_away_is_waited_for(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.enqueue(MODELS[:1], ("notebook",))
    away = tmp_path.with_name("away")
    tmp_path.rename(away)
    asked: list[BaseException] = []

    def of_store(attempt: Any) -> Any:
        try:
            return real(attempt)
        except UnavailableError as error:
            asked.append(error)
            if len(asked) == 2:
                away.rename(tmp_path)
            raise

    real = insisting.of_store
    monkeypatch.setattr("workers.attempt.of_store", of_store)
    assert fleet.sample() == "pending"
    assert len(asked) == 2
    assert all(isinstance(error.__cause__, VideoError) for error in asked)
    assert fleet.embed() == "done"


def test_a_pack_of_another_video_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    fleet.enqueue(MODELS[:1], ("notebook",))
    assert fleet.sample() == "pending"
    execute(fleet.database, "UPDATE reelvec.packs SET etag = 'v2'")
    assert fleet.embed() == "pending"
    assert fleet.job() == "pending video 0 1 frames_lost"
    assert str(one(fleet.database, "SELECT error FROM reelvec.attempts")).startswith("pack_foreign")
    assert handover.find(fleet.database, 1) == {}, "they are forgotten"


def test_frames_come_back_as_they_were(fleet: Fleet) -> None:
    fleet.enqueue(MODELS[:1], ("notebook",))
    assert fleet.sample() == "pending"
    rows = handover.find(fleet.database, 1)
    read = handover.read(fleet.store, rows, new_frames=fleet.device.new_frames)
    frames, sampled = read.frames("notebook"), Video("").frames("notebook")
    for name in ("pixels", "indices", "pts_seconds"):
        np.testing.assert_array_equal(getattr(frames, name), getattr(sampled, name))
    assert (frames.facts, frames.version, read.size_bytes) == (sampled.facts, "v1", 9)
