"""What older samplers left behind: finished videos that are looked at again, and failures that are
worth another try.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine

from db import encoders, session
from db.errors import VIDEO_ERROR_CLASSES, VideoError
from db.jobs import catalogue, recheck, steering
from db.jobs.catalogue import Wanted
from db.jobs.outcome import Failure, Outcome
from db.jobs.sampler_version import MENDS, VERSION
from db.jobs.selection import Selection
from db.ledger import Claim
from db.media import Media
from producer.sources.reading import VideoRow
from tests import ledgering, media
from tests.ledgering import execute, one, read
from workers import pipeline
from workers.attempt import Attempt
from workers.sampling.pool import SamplerPool
from workers.sampling.videos import Videos
from workers.settings import WorkerSettings
from workers.sources.storage import Storage

VECTORS = "SELECT count(*) FROM reelvec.video_embeddings WHERE video_id = 1"
EVERYTHING = Selection()
ERROR = "SELECT error FROM reelvec.jobs WHERE video_id = 1"
STAMP = "SELECT sampler_version FROM reelvec.videos WHERE video_id = 1"


def failed(code: str, stage: str = "sample") -> Failure:
    return pipeline.failure_of(VideoError(code, "because", stage=stage))


def record_done(engine: Engine, uri: str = "file:///v/1.mp4") -> None:
    """Video 1, done by a sampler without a number, with a vector and scores."""
    encoder_id = ledgering.declare(engine)
    with session.transaction(engine) as connection:
        tagger_id = encoders.declare_tagger(connection, encoder_id, "probe", ledgering.LABELS)
    ledgering.record(engine, [VideoRow(uri)], Wanted((encoder_id,), (tagger_id,)))
    claimed = ledgering.claim(engine, 1, ledgering.worker(engine))
    assert claimed is not None
    rows = Outcome(
        (ledgering.vectors(encoder_id),), (ledgering.scores(tagger_id),), media=Media("one")
    )
    assert ledgering.finish(engine, claimed, rows) == "done"


def reopened(engine: Engine, selection: Selection = EVERYTHING) -> list[int]:
    with session.transaction(engine) as connection:
        catalogue.begin(connection)
        return recheck.reopen(connection, selection, after_video_id=0)


def look(engine: Engine) -> Claim:
    assert reopened(engine) == [1]
    claimed = ledgering.claim(engine, 1, ledgering.worker(engine))
    assert claimed is not None
    return claimed


def test_only_done_videos_of_older_samplers_are_looked_at_again(engine: Engine) -> None:
    ledgering.ten_videos(engine)
    ledgering.set_jobs(engine, "1,2,4,6,7", state="'done'")
    ledgering.set_jobs(engine, "3", state="'failed'", error_code="'truncated'")
    execute(
        engine,
        "UPDATE reelvec.videos SET sampler_version = :version WHERE video_id IN (2, 7)",
        version=VERSION,
    )
    assert read(engine, lambda connection: recheck.count(connection, EVERYTHING)) == 3
    assert reopened(engine, Selection(categories=("films",))) == [1]
    assert reopened(engine, Selection(uri_prefix="s3://two/")) == [4]
    assert reopened(engine) == [6]
    assert reopened(engine) == [], "those that wait for it are not reopened twice"
    assert [ledgering.state_of(engine, number) for number in (1, 2, 4)] == [
        "pending",
        "done",
        "pending",
    ]


def test_a_look_needs_no_weights(engine: Engine) -> None:
    record_done(engine)
    reopened(engine)
    assert one(engine, "SELECT owes FROM reelvec.jobs") == [], (
        "so that it is fed, whoever has the weights"
    )


def test_a_look_owes_nothing_and_only_stamps_what_is_right(engine: Engine) -> None:
    record_done(engine)
    claimed = look(engine)
    assert (claimed.recheck, claimed.encoders, claimed.taggers) == (("notebook",), (), ())
    seen = Media("one", damaged_share=0.0, sampler_version=VERSION)
    assert ledgering.finish(engine, claimed, Outcome(media=seen)) == "done"
    assert (one(engine, VECTORS), one(engine, STAMP)) == (1, VERSION)
    assert reopened(engine) == []
    assert one(engine, "SELECT recheck FROM reelvec.jobs") is None


@pytest.mark.parametrize("code", sorted({"damaged", "encrypted"} & VIDEO_ERROR_CLASSES.keys()))
def test_noise_fails_and_its_vectors_go(engine: Engine, code: str) -> None:
    record_done(engine)
    seen = Media("one", sampler_version=VERSION)
    assert (
        ledgering.finish(engine, look(engine), Outcome(failure=failed(code), media=seen))
        == "failed"
    )
    tables = ("embeddings", "window_embeddings", "scores")
    assert [one(engine, f"SELECT count(*) FROM reelvec.{table}") for table in tables] == [0, 0, 0]
    assert one(engine, ERROR) == "because (1 vectors that were made of it are removed)"
    assert one(engine, "SELECT owes FROM reelvec.jobs") is None, "all that is wanted is owed again"
    assert one(engine, "SELECT sampler_version FROM reelvec.attempts") == VERSION


@pytest.mark.parametrize(
    ("code", "stage"), [("not_found", "fetch"), ("undecodable", "sample"), ("truncated", "sample")]
)
def test_a_look_that_fails_otherwise_leaves_it_done_and_says_why(
    engine: Engine, code: str, stage: str
) -> None:
    record_done(engine)
    media = Media("one", sampler_version=VERSION)
    assert (
        ledgering.finish(engine, look(engine), Outcome(failure=failed(code, stage), media=media))
        == "done"
    )
    assert (one(engine, VECTORS), one(engine, STAMP), one(engine, ERROR)) == (1, None, None)
    assert one(engine, "SELECT error_code FROM reelvec.attempts") == code


def test_an_outage_is_waited_for_and_the_look_stays_owed(engine: Engine) -> None:
    record_done(engine)
    assert (
        ledgering.finish(engine, look(engine), Outcome(failure=failed("unreachable", "fetch")))
        == "pending"
    )
    execute(engine, "UPDATE reelvec.jobs SET not_before = NULL")
    claimed = ledgering.claim(engine, 1, ledgering.worker(engine))
    assert claimed is not None
    assert claimed.recheck == ("notebook",)


def test_a_file_that_is_another_by_now_fails_as_any_other(engine: Engine) -> None:
    record_done(engine)
    outcome = Outcome(failure=failed("not_media"), media=Media("two", sampler_version=VERSION))
    assert ledgering.finish(engine, look(engine), outcome) == "failed"


@pytest.fixture(scope="module")
def pool() -> Iterator[SamplerPool]:
    made = SamplerPool(1, wall_seconds=60, cpu_seconds=60)
    yield made
    made.close()


def ran(claimed: Claim, pool: SamplerPool, folder: Path) -> Outcome:
    """The task's own way through a video that owes nothing, with a sampler process and without an
    engine.
    """
    with Storage(WorkerSettings(), roots=(folder,)) as storage:
        runtime: Any = SimpleNamespace(
            models=SimpleNamespace(owed=lambda _: [], require=lambda _: None),
            videos=Videos(storage, pool),
            engine=object(),
            settings=SimpleNamespace(engine_wait_seconds=1.0),
            draining=threading.Event(),
            refusals=SimpleNamespace(read=lambda _: False),
        )
        return Attempt(runtime, claimed, math.inf).outcome()


def test_what_a_sampler_refuses_says_which_sampler_that_was(
    engine: Engine, pool: SamplerPool, tmp_path: Path
) -> None:
    page = media.html(tmp_path / "page.mp4")
    record_done(engine, page.as_uri())
    claimed = look(engine)
    outcome = ran(claimed, pool, tmp_path)
    assert outcome.media is not None
    assert outcome.media.sampler_version == VERSION
    assert ledgering.finish(engine, claimed, outcome) == "failed", (
        "it is another file than the one that was embedded"
    )
    assert one(engine, STAMP) == VERSION


@pytest.mark.parametrize("lost", [0, 30])
def test_a_worker_looks_without_computing(
    engine: Engine, pool: SamplerPool, tmp_path: Path, lost: int
) -> None:
    clip = media.make_clip(
        tmp_path / "clip.mov", codec="mjpeg", pix_fmt="yuvj420p", width=96, height=96
    )
    data = bytearray(clip.read_bytes())
    start = data.index(b"mdat") + 4
    data[start + 1000 : start + 1000 + len(data) * lost // 100] = bytes(len(data) * lost // 100)
    clip.write_bytes(data)
    record_done(engine, clip.as_uri())
    execute(engine, "UPDATE reelvec.videos SET etag = NULL")
    claimed = look(engine)
    outcome = ran(claimed, pool, tmp_path)
    state = ledgering.finish(engine, claimed, outcome)
    assert (state, one(engine, VECTORS)) == (("failed", 0) if lost else ("done", 1))
    assert one(engine, STAMP) == VERSION
    share = one(engine, "SELECT coalesce(max(damaged_share), 0) FROM reelvec.damaged")
    assert isinstance(share, float)
    assert (share > 0.2) == bool(lost)


def test_outdated_failures_are_those_a_newer_sampler_mends(engine: Engine) -> None:
    ledgering.ten_videos(engine)
    codes = ["not_media", "poison", "truncated", "not_found", "over_limits", "damaged", "not_media"]
    for video_id, code in enumerate(codes, 1):
        ledgering.set_jobs(engine, str(video_id), state="'failed'", error_code=f"'{code}'")
    execute(
        engine,
        "UPDATE reelvec.videos SET sampler_version = :version WHERE video_id = 7",
        version=VERSION,
    )

    def retry(selection: Selection) -> int:
        with session.transaction(engine) as connection:
            return steering.retry(connection, selection, who="me", what="", outdated=True)

    assert retry(Selection(codes=("poison",))) == 1
    assert retry(EVERYTHING) == 2
    states = [ledgering.state_of(engine, video_id) for video_id in range(1, 8)]
    assert states == ["pending"] * 3 + ["failed"] * 4


def test_every_mended_code_exists_and_no_version_is_ahead() -> None:
    assert {code for codes in MENDS.values() for code in codes} <= VIDEO_ERROR_CLASSES.keys()
    assert max(MENDS) <= VERSION
