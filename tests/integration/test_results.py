"""What the ledger says of rows made by hand: rates, stages, workers, outages, selections."""

from __future__ import annotations

from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from db import session
from db.jobs import liveness, selection
from db.jobs.liveness import Worker
from db.jobs.selection import Selection
from db.progress import census, fleet, rates
from db.progress.census import Census
from db.progress.fleet import Fleet, FleetWorker
from tests.ledgering import ago, execute, read, set_jobs, ten_videos, worker


@pytest.fixture
def videos(engine: Engine) -> None:
    ten_videos(engine)


def read_fleet(engine: Engine) -> Fleet:
    return read(engine, lambda connection: fleet.read(connection, stale_seconds=45))


def test_an_empty_database_has_nothing_to_say(engine: Engine) -> None:
    assert read(engine, census.count) == Census((), ())
    assert census.progress([]) == []
    assert read(engine, rates.recent) == rates.Recent(0, 0, 0, 0.0, None)
    assert read(engine, rates.stages) == rates.Stages(0)
    assert read_fleet(engine) == Fleet(0, 0, 0, 0, None)


@pytest.mark.usefixtures("videos")
def test_the_rate_is_of_the_ten_minutes_before_the_latest_end(engine: Engine) -> None:
    set_jobs(engine, "1", state="'done'", started_at=ago(1150), finished_at=ago(1100))
    set_jobs(engine, "2", state="'done'", started_at=ago(1060), finished_at=ago(900))
    set_jobs(
        engine,
        "3",
        state="'failed'",
        error_code="'device_error'",
        started_at=ago(420),
        finished_at=ago(400),
    )
    set_jobs(engine, "4", state="'cancelled'", started_at=ago(400), finished_at=ago(10))
    set_jobs(
        engine, "5", state="'pending'", started_at=ago(400), finished_at=ago(20)
    )  # opened again
    found = read(engine, rates.recent)
    assert (round(found.span_seconds), round(found.idle_seconds or 0)) == (600, 400), (
        "from the window's beginning: the first of them started before it"
    )
    assert (found.done, found.failed, found.ours) == (1, 1, 1)
    set_jobs(engine, "3", error_code="'truncated'")
    assert read(engine, rates.recent).ours == 0
    set_jobs(engine, "2", started_at=ago(950))
    assert round(read(engine, rates.recent).span_seconds) == 550


@pytest.mark.usefixtures("videos")
def test_stages_are_means_of_what_went_through_all_lately(engine: Engine) -> None:
    timings = {
        "fetch_seconds": "0.5",
        "decode_seconds": "1",
        "wait_seconds": "2",
        "bytes_read": "1000",
    }
    set_jobs(
        engine,
        "1",
        state="'done'",
        started_at=ago(14),
        finished_at=ago(10),
        device_seconds="0.25",
        **timings,
    )
    set_jobs(
        engine,
        "2",
        state="'failed'",
        started_at=ago(18),
        finished_at=ago(10),
        device_seconds="0.75",
        **timings,
    )
    set_jobs(
        engine, "3", state="'failed'", started_at=ago(99), finished_at=ago(10)
    )  # never got to the device
    set_jobs(
        engine,
        "4",
        state="'done'",
        started_at=ago(900),
        finished_at=ago(601),
        device_seconds="9",
        **timings,
    )
    found = read(engine, rates.stages)
    assert astuple(found)[:7] == pytest.approx((2, 0.5, 1.0, 2.0, 0.5, 6.0, 1000.0))


@pytest.mark.usefixtures("videos")
def test_stages_are_of_the_latest_videos(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "STAGE_VIDEOS", 2)
    for video_id in (1, 2, 3):
        end = {"finished_at": ago(100 - video_id), "device_seconds": str(video_id)}
        set_jobs(engine, str(video_id), state="'done'", started_at=ago(100), **end)
    found = read(engine, rates.stages)
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
    assert sorted((worker.pid, worker.draining) for worker in found.workers) == [
        (1, False),
        (2, True),
        (3, False),
    ]
    assert [(gone.host, gone.pid, round(gone.beat_seconds)) for gone in found.stale] == [
        ("gpu-4", 4, 46)
    ]
    assert found.last_beat_seconds is not None
    assert found.last_beat_seconds < 5
    assert (found.paused, found.last_claim_seconds) == (False, None)
    execute(
        engine,
        "INSERT INTO reelvec.control (name, paused, reason) VALUES ('operator', true, "
        "'maintenance')",
    )
    found = read_fleet(engine)
    assert (found.paused, found.pause_reason) == (True, "maintenance")


def test_workers_say_what_they_are_made_of_and_did_with_every_beat(engine: Engine) -> None:
    me = Worker(
        uuid4(), "gpu-1", 7, "cuda:0 (H100)", "1", in_flight=34, samplers=15, cores=15.5, videos_per_batch=4,
        queued_windows=36, running_windows=12, name="gpu0",
    )  # fmt: skip
    later = replace(me, claimed_seconds=20.0, videos_done=70, videos_failed=3, videos_per_second=0.5,
                    last_error="truncated: it ends", last_error_seconds=300.0)  # fmt: skip
    expected = FleetWorker(
        "gpu-1", 7, "cuda:0 (H100)", draining=False, in_flight=34, samplers=15, cores=15.5, videos_per_batch=4,
        queued_windows=36, running_windows=12, name="gpu0", videos_done=0, videos_failed=0, videos_per_second=0.0,
        version="1",
    )  # fmt: skip
    for said in (replace(me, videos_per_batch=2, queued_windows=0), me, later):
        with session.transaction(engine) as connection:
            liveness.beat(connection, said, draining=False, gap_seconds=20)
        (seen,) = read_fleet(engine).workers
        if said is me:
            assert replace(seen, beat_seconds=0.0) == expected, "nothing yet"
    assert (seen.videos_done, seen.videos_failed, seen.videos_per_second) == (70, 3, 0.5)
    assert seen.last_error == "truncated: it ends"
    assert (
        round(seen.claimed_seconds or 0) == round(read_fleet(engine).last_claim_seconds or 0) == 20
    )
    assert round(seen.last_error_seconds or 0) == 300


def test_a_worker_of_the_version_before_beats_and_is_understood(engine: Engine) -> None:
    columns = "(worker_id, host, pid, device, version, in_flight, draining)"
    execute(
        engine,
        f"INSERT INTO reelvec.workers {columns} VALUES (gen_random_uuid(), 'old', 1, 'cpu', '0', "
        "31, false)",
    )
    (old,) = read_fleet(engine).workers
    assert (old.samplers, old.cores, old.videos_per_batch, old.queued_windows) == (15, 16, 1, None)
    assert (old.name, old.claimed_seconds, old.videos_done) == (None, None, None)


@pytest.mark.usefixtures("videos")
def test_outages_are_videos_that_wait_for_a_service(engine: Engine) -> None:
    set_jobs(
        engine, "1,2", error_code="'bad_credentials'", error="'no such key'", started_at=ago(50)
    )
    set_jobs(
        engine, "4,6", error_code="'bad_credentials'", error="'no such key'", started_at=ago(20)
    )
    set_jobs(engine, "1", infra_since=ago(720))
    set_jobs(engine, "2,4,7", infra_since=ago(90))
    set_jobs(
        engine, "7", state="'running'", error_code="'no_bucket'", error="'gone'", started_at=ago(5)
    )
    set_jobs(
        engine, "8", error_code="'server_error'", error="'500'", started_at=ago(5)
    )  # its own matter: transient
    set_jobs(
        engine, "9", state="'failed'", error_code="'no_bucket'", error="'gone'", started_at=ago(1)
    )
    with session.transaction(engine) as connection:
        found = rates.outages(connection, census.count(connection).groups)
    assert [(outage.error_code, outage.videos, outage.example) for outage in found] == [
        ("bad_credentials", 4, "no such key"),
        ("no_bucket", 1, "gone"),
    ]
    assert [
        (round(outage.newest_try_seconds), round(outage.waited_seconds)) for outage in found
    ] == [
        (20, 720),
        (5, 90),
    ]


def failed_ids(engine: Engine, chosen: Selection, limit: int = 20) -> list[int]:
    rows = read(engine, lambda connection: rates.failures(connection, chosen, limit=limit))
    return [row.video_id for row in rows]


@pytest.mark.usefixtures("videos")
def test_failures_by_every_selector(engine: Engine) -> None:
    for video_id in range(1, 9):
        code = "truncated" if video_id % 2 else "no_video"
        end = {
            "error_code": f"'{code}'",
            "error": "'why'",
            "finished_at": ago(3600 * video_id),
            "attempts": "1",
        }
        set_jobs(engine, str(video_id), state="'failed'", **end)
    assert failed_ids(engine, Selection()) == [1, 2, 3, 4, 5, 6, 7, 8], "latest first"
    assert failed_ids(engine, Selection(), limit=2) == [1, 2]
    assert failed_ids(engine, Selection(categories=("films", "animals"))) == [1, 2, 3, 4, 5]
    assert failed_ids(engine, Selection(codes=("no_video",))) == [2, 4, 6, 8]
    assert failed_ids(engine, Selection(uri_prefix="s3://one/")) == [1, 2, 3]
    assert failed_ids(engine, Selection(uri_prefix="s3://two/a%_")) == [4, 5]
    assert failed_ids(engine, Selection(uri_prefix="s3://___/")) == [], "taken literally"
    assert failed_ids(engine, Selection(since=timedelta(hours=2.5))) == [1, 2]
    assert failed_ids(engine, Selection(since=datetime.now(UTC) - timedelta(hours=3.5))) == [
        1,
        2,
        3,
    ]
    assert failed_ids(
        engine, Selection(("films",), ("truncated",), "s3://one/a_2", timedelta(hours=9))
    ) == [3]
    (first, *_) = read(engine, lambda connection: rates.failures(connection, Selection(), limit=1))
    assert astuple(first) == (1, "rt-0", "s3://one/a_0.mp4", "films", "truncated", "why", 1)


@pytest.mark.usefixtures("videos")
def test_recorded_categories(engine: Engine) -> None:
    asked = ["films", "Фильмы", "cars"]
    assert read(engine, lambda connection: selection.recorded_categories(connection, asked)) == {
        "films"
    }
