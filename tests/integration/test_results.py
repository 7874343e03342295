"""What the ledger says of rows made by hand: counts, rates, stages, workers, outages, selections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, text

from db import catalogue, fleet, ledger, results, selection, session
from db.catalogue import Wanted
from db.fleet import Fleet, LiveWorker
from db.ledger import Worker
from db.results import ALL, NO_CATEGORY, Progress
from db.selection import Selection
from tests.ledgering import Row, declare, execute, one, record, state_of, worker

T = TypeVar("T")


@pytest.fixture
def videos(engine: Engine) -> None:
    """Ten pending videos: 1-3 films in one bucket, 4-5 animals in another, 6-10 without a category."""
    rows = [
        *(Row(f"s3://one/a_{i}.mp4", external_id=f"rt-{i}", category="films") for i in range(3)),
        *(Row(f"s3://two/a%_{i}.mp4", category="animals") for i in range(2)),
        *(Row(f"file:///v/{i}.mp4") for i in range(5)),
    ]
    wanted = Wanted((declare(engine),), ())
    for row in rows:  # one by one: ids in this order
        record(engine, [row], wanted)


def set_jobs(engine: Engine, video_ids: str, **columns: str) -> None:
    """`set_jobs(engine, "1,2", state="'done'", finished_at="now()")`: columns as SQL."""
    assignments = ", ".join(f"{name} = {value}" for name, value in columns.items())
    execute(engine, f"UPDATE reelvec.jobs SET {assignments} WHERE video_id IN ({video_ids})")


def read(engine: Engine, query: Callable[[Connection], T]) -> T:
    with session.transaction(engine) as connection:
        return query(connection)


def read_fleet(engine: Engine) -> Fleet:
    return read(engine, lambda connection: fleet.read(connection, stale_seconds=45))


def ago(seconds: float) -> str:
    return f"now() - interval '{seconds} s'"


def test_an_empty_database_has_nothing_to_say(engine: Engine) -> None:
    assert read(engine, results.census) == []
    assert results.progress([]) == []
    assert read(engine, results.recent) == results.Recent(0, 0.0, None)
    assert read(engine, results.stages) == results.Stages(0)
    assert read_fleet(engine) == Fleet(0, 0, 0, 0, None)


@pytest.mark.usefixtures("videos")
def test_progress_agrees_with_the_view(engine: Engine) -> None:
    for video_id, state in enumerate(("done", "failed", "cancelled", "running", "queued"), 1):
        set_jobs(engine, str(video_id), state=f"'{state}'", error_code="'truncated'", not_before=ago(-60))
    set_jobs(engine, "6", not_before=ago(-60))
    groups = read(engine, results.census)
    rows = results.progress(groups)
    assert [row.category for row in rows] == [ALL, NO_CATEGORY, "films", "animals"]
    assert rows[0] == Progress(ALL, 10, done=1, failed=1, running=1, waiting=6, cancelled=1)
    view = text("SELECT category, videos, done, failed, running, waiting, cancelled FROM reelvec.progress")
    assert {astuple(row) for row in rows} == read(engine, lambda connection: set(map(tuple, connection.execute(view))))
    assert results.failure_counts(groups) == [("truncated", 1)], "a code of a video that has not failed is no failure"
    assert sum(group.videos for group in groups if group.delayed) == 1, "only those that wait"


@pytest.mark.usefixtures("videos")
def test_failures_are_counted_by_code(engine: Engine) -> None:
    set_jobs(engine, "1,4", state="'failed'", error_code="'no_video'")
    set_jobs(engine, "2,3,6", state="'failed'", error_code="'truncated'")
    assert results.failure_counts(read(engine, results.census)) == [("truncated", 3), ("no_video", 2)]


@pytest.mark.usefixtures("videos")
def test_the_rate_is_of_the_ten_minutes_before_the_latest_end(engine: Engine) -> None:
    set_jobs(engine, "1", state="'done'", started_at=ago(1150), finished_at=ago(1100))
    set_jobs(engine, "2", state="'done'", started_at=ago(1060), finished_at=ago(900))
    set_jobs(engine, "3", state="'failed'", started_at=ago(420), finished_at=ago(400))
    set_jobs(engine, "4", state="'cancelled'", started_at=ago(400), finished_at=ago(10))
    set_jobs(engine, "5", state="'pending'", started_at=ago(400), finished_at=ago(20))  # opened again
    found = read(engine, results.recent)
    assert (found.ended, round(found.span_seconds), round(found.idle_seconds or 0)) == (2, 600, 400), (
        "from the window's beginning: the first of them started before it"
    )
    set_jobs(engine, "2", started_at=ago(950))
    assert round(read(engine, results.recent).span_seconds) == 550


@pytest.mark.usefixtures("videos")
def test_stages_are_means_of_what_went_through_all_lately(engine: Engine) -> None:
    timings = {"fetch_seconds": "0.5", "decode_seconds": "1", "wait_seconds": "2", "bytes_read": "1000"}
    set_jobs(engine, "1", state="'done'", started_at=ago(14), finished_at=ago(10), device_seconds="0.25", **timings)
    set_jobs(engine, "2", state="'failed'", started_at=ago(18), finished_at=ago(10), device_seconds="0.75", **timings)
    set_jobs(engine, "3", state="'failed'", started_at=ago(99), finished_at=ago(10))  # never got to the device
    set_jobs(engine, "4", state="'done'", started_at=ago(900), finished_at=ago(601), device_seconds="9", **timings)
    found = read(engine, results.stages)
    assert astuple(found) == pytest.approx((2, 0.5, 1.0, 2.0, 0.5, 6.0, 1000.0))


@pytest.mark.usefixtures("videos")
def test_stages_are_of_the_latest_videos(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "STAGE_VIDEOS", 2)
    for video_id in (1, 2, 3):
        end = {"finished_at": ago(100 - video_id), "device_seconds": str(video_id)}
        set_jobs(engine, str(video_id), state="'done'", started_at=ago(100), **end)
    found = read(engine, results.stages)
    assert (found.videos, found.device_seconds) == (2, 2.5)


def test_the_fleet_is_who_beats(engine: Engine) -> None:
    for _ in range(4):
        worker(engine)  # 3 videos in flight each
    execute(engine, "UPDATE reelvec.workers SET pid = n, host = 'gpu-' || n FROM (SELECT worker_id AS id, row_number()"
                    " OVER (ORDER BY worker_id) AS n FROM reelvec.workers) w WHERE worker_id = id")  # fmt: skip
    execute(engine, "UPDATE reelvec.workers SET device = 'cuda:0 (H100)' WHERE pid < 3")
    execute(engine, "UPDATE reelvec.workers SET draining = true WHERE pid = 2")
    execute(engine, f"UPDATE reelvec.workers SET beat_at = {ago(46)} WHERE pid = 4")
    execute(engine, f"UPDATE reelvec.workers SET beat_at = {ago(5)} WHERE pid = 1")
    found = read_fleet(engine)
    assert (found.alive, found.draining, found.in_flight, found.gpus) == (3, 1, 6, 1)
    assert sorted((worker.pid, worker.draining) for worker in found.workers) == [(1, False), (2, True), (3, False)]
    assert [(gone.host, gone.pid, round(gone.beat_seconds)) for gone in found.stale] == [("gpu-4", 4, 46)]
    assert found.last_beat_seconds is not None
    assert found.last_beat_seconds < 5
    assert not found.paused
    with session.transaction(engine) as connection:
        catalogue.pause(connection, paused=True, reason="maintenance")
    found = read_fleet(engine)
    assert (found.paused, found.pause_reason) == (True, "maintenance")


def test_workers_say_what_they_are_made_of_with_every_beat(engine: Engine) -> None:
    me = Worker(
        uuid4(), "gpu-1", 7, "cuda:0 (H100)", "1", in_flight=34, samplers=15, cores=15.5, videos_per_batch=4,
        queued_windows=36, running_windows=12,
    )  # fmt: skip
    for said in (replace(me, videos_per_batch=2, queued_windows=0), me):
        with session.transaction(engine) as connection:
            ledger.beat(connection, said, draining=False, gap_seconds=20)
    expected = LiveWorker(
        "gpu-1", 7, "cuda:0 (H100)", draining=False, in_flight=34, samplers=15, cores=15.5, videos_per_batch=4,
        queued_windows=36, running_windows=12,
    )  # fmt: skip
    assert read_fleet(engine).workers == (expected,)


def test_a_worker_of_the_version_before_beats_and_is_understood(engine: Engine) -> None:
    columns = "(worker_id, host, pid, device, version, in_flight, draining)"
    execute(
        engine, f"INSERT INTO reelvec.workers {columns} VALUES (gen_random_uuid(), 'old', 1, 'cpu', '0', 31, false)"
    )
    (old,) = read_fleet(engine).workers
    assert (old.samplers, old.cores, old.videos_per_batch, old.queued_windows) == (15, 16, 1, None)


@pytest.mark.usefixtures("videos")
def test_outages_are_videos_that_wait_for_a_service(engine: Engine) -> None:
    set_jobs(engine, "1,2", error_code="'bad_credentials'", error="'no such key'", started_at=ago(50))
    set_jobs(engine, "4,6", error_code="'bad_credentials'", error="'no such key'", started_at=ago(20))
    set_jobs(engine, "1", infra_since=ago(720))
    set_jobs(engine, "2,4,7", infra_since=ago(90))
    set_jobs(engine, "7", state="'running'", error_code="'no_bucket'", error="'gone'", started_at=ago(5))
    set_jobs(engine, "8", error_code="'server_error'", error="'500'", started_at=ago(5))  # its own matter: transient
    set_jobs(engine, "9", state="'failed'", error_code="'no_bucket'", error="'gone'", started_at=ago(1))
    with session.transaction(engine) as connection:
        found = results.outages(connection, results.census(connection))
    assert [(outage.error_code, outage.videos, outage.example) for outage in found] == [
        ("bad_credentials", 4, "no such key"),
        ("no_bucket", 1, "gone"),
    ]
    assert [(round(outage.newest_try_seconds), round(outage.waited_seconds)) for outage in found] == [
        (20, 720),
        (5, 90),
    ]


def failed_ids(engine: Engine, chosen: Selection, limit: int = 20) -> list[int]:
    rows = read(engine, lambda connection: results.failures(connection, chosen, limit=limit))
    return [row.video_id for row in rows]


@pytest.mark.usefixtures("videos")
def test_failures_by_every_selector(engine: Engine) -> None:
    for video_id in range(1, 9):
        code = "truncated" if video_id % 2 else "no_video"
        end = {"error_code": f"'{code}'", "error": "'why'", "finished_at": ago(3600 * video_id), "attempts": "1"}
        set_jobs(engine, str(video_id), state="'failed'", **end)
    assert failed_ids(engine, Selection()) == [1, 2, 3, 4, 5, 6, 7, 8], "latest first"
    assert failed_ids(engine, Selection(), limit=2) == [1, 2]
    assert failed_ids(engine, Selection(categories=("films", "animals"))) == [1, 2, 3, 4, 5]
    assert failed_ids(engine, Selection(codes=("no_video",))) == [2, 4, 6, 8]
    assert failed_ids(engine, Selection(uri_prefix="s3://one/")) == [1, 2, 3]
    assert failed_ids(engine, Selection(uri_prefix="s3://two/a%_")) == [4, 5]
    assert failed_ids(engine, Selection(uri_prefix="s3://___/")) == [], "taken literally"
    assert failed_ids(engine, Selection(since=timedelta(hours=2.5))) == [1, 2]
    assert failed_ids(engine, Selection(since=datetime.now(UTC) - timedelta(hours=3.5))) == [1, 2, 3]
    assert failed_ids(engine, Selection(("films",), ("truncated",), "s3://one/a_2", timedelta(hours=9))) == [3]
    (first, *_) = read(engine, lambda connection: results.failures(connection, Selection(), limit=1))
    assert astuple(first) == (1, "rt-0", "s3://one/a_0.mp4", "films", "truncated", "why", 1)


@pytest.mark.usefixtures("videos")
def test_retry_takes_what_was_selected_and_gives_fresh_attempts(engine: Engine) -> None:
    facts = {"error_code": "'truncated'", "attempts": "8", "strikes": "2", "not_before": ago(-60)}
    set_jobs(engine, "1,2,4", state="'failed'", finished_at=ago(60), infra_since=ago(9), **facts)
    set_jobs(engine, "2", finished_at=ago(7200))
    set_jobs(engine, "3", state="'done'", finished_at=ago(60))
    recently = Selection(categories=("films",), codes=("truncated",), since=timedelta(hours=1))
    assert read(engine, lambda connection: catalogue.retry(connection, recently)) == 1
    assert [state_of(engine, video) for video in (1, 2, 3, 4)] == ["pending", "failed", "done", "failed"]
    fresh = "(attempts, strikes, not_before, error_code, error, infra_since, finished_at)::text"
    assert one(engine, f"SELECT {fresh} FROM reelvec.jobs WHERE video_id = 1") == "(0,0,,,,,)"
    assert read(engine, lambda connection: catalogue.retry(connection, Selection())) == 2


@pytest.mark.usefixtures("videos")
def test_cancel_takes_only_what_waits(engine: Engine) -> None:
    set_jobs(engine, "1,2", error_code="'no_bucket'", infra_since=ago(9))
    set_jobs(engine, "2", state="'running'")
    set_jobs(engine, "6,7", enqueued_at=ago(7200))
    set_jobs(engine, "8", state="'queued'")
    assert read(engine, lambda connection: catalogue.cancel(connection, Selection(codes=("no_bucket",)))) == 1
    assert one(engine, "SELECT infra_since FROM reelvec.jobs WHERE video_id = 1") is None, "should it be enqueued again"
    local = Selection(uri_prefix="file:///v/", since=timedelta(hours=1))
    assert read(engine, lambda connection: catalogue.cancel(connection, local)) == 3
    states = [state_of(engine, video) for video in range(1, 11)]
    assert states == ["cancelled", "running", *["pending"] * 5, *["cancelled"] * 3]


@pytest.mark.usefixtures("videos")
def test_recorded_categories(engine: Engine) -> None:
    asked = ["films", "Фильмы", "cars"]
    assert read(engine, lambda connection: selection.recorded_categories(connection, asked)) == {"films"}
