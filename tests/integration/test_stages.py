"""Two stages on one ledger: who is handed what, and what becomes of frames that are lost."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from db import ledger, session
from db.errors import ErrorClass
from db.frames import ended, packs
from db.frames.packs import PackRow
from db.jobs import abilities, feeding, liveness, lost_messages, places, steering
from db.jobs.catalogue import Wanted
from db.jobs.outcome import Failure, Outcome
from db.jobs.selection import Selection
from db.jobs.stages import COMMON, COMMON_FRAMES, FRAMES, VIDEO, Queue
from db.media import Media
from tests.ledgering import (
    Row,
    ago,
    claim,
    declare,
    execute,
    finish,
    one,
    record,
    saying,
    set_jobs,
    state_of,
    vectors,
    worker,
)
from workers import feeder

SAMPLED = Outcome(
    is_sampled=True, bytes_written=300, bytes_read=7, fetch_seconds=0.1, decode_seconds=0.2
)
LOST = Outcome(failure=Failure("store", "frames_lost", ErrorClass.FRAMES, "pack_damaged: ..."))
JOB = """SELECT concat_ws(' ', state, stage, attempts, frames_lost, error_code) FROM reelvec.jobs
  WHERE video_id = :video_id"""


@pytest.fixture
def probe(engine: Engine) -> int:
    return declare(engine)


def enqueue(engine: Engine, count: int, *encoder_ids: int, **wanted: bool) -> None:
    rows = [Row(f"s3://bucket/v{i}", etag="e1") for i in range(count)]
    record(engine, rows, Wanted(encoder_ids, (), **wanted))


def job(engine: Engine, video_id: int = 1) -> str:
    return str(one(engine, JOB, video_id=video_id))


def sampled(engine: Engine, video_id: int = 1) -> None:
    """As a sampler node leaves a video."""
    taken = claim(engine, video_id, uuid4(), takes=[VIDEO])
    assert taken is not None
    assert finish(engine, taken, SAMPLED) == "pending"


def pack(engine: Engine, video_id: int = 1, *, etag: str = "e1", kept: bool = False) -> None:
    row = PackRow(video_id, "notebook", "0" * 64, 300, "recipe", etag, kept)
    with session.transaction(engine) as connection:
        assert packs.record(connection, row)
        assert packs.mark_written(connection, row)


def fed(engine: Engine, *queues: Queue) -> dict[Queue, list[int]]:
    with session.transaction(engine) as connection:
        fleet = abilities.read(connection, stale_seconds=45.0)
        return feeding.feed(connection, fleet, rooms=dict.fromkeys(queues, 100))


def test_what_is_sampled_goes_on_to_those_who_take_frames(engine: Engine, probe: int) -> None:
    enqueue(engine, 1, probe)
    sampled(engine)
    assert job(engine) == "pending frames 0", "half of an attempt is none"
    assert claim(engine, 1, uuid4(), takes=[VIDEO]) is None, "a sampler node leaves it alone"
    assert job(engine) == "pending frames 0"
    taken = claim(engine, 1, uuid4(), takes=[FRAMES])
    assert taken is not None
    assert (taken.stage, taken.encoders, taken.attempts) == (FRAMES, (probe,), 1)
    embedded = Outcome((vectors(probe),), frames_bytes=300, frames_seconds=0.5, device_seconds=1.0)
    assert finish(engine, taken, embedded) == "done"
    assert job(engine) == "done video 1"
    costs = (
        "SELECT concat_ws(' ', bytes_read, decode_seconds, bytes_written, frames_bytes, "
        "frames_seconds, device_seconds) FROM reelvec.jobs"
    )
    assert one(engine, costs) == "7 0.2 300 300 0.5 1", "what sampling cost is kept"


def test_a_video_that_is_not_sampled_is_not_taken_in_a_slot_for_frames(
    engine: Engine, probe: int
) -> None:
    enqueue(engine, 1, probe)
    set_jobs(engine, "1", state="'queued'")
    assert claim(engine, 1, uuid4(), takes=[FRAMES]) is None
    assert job(engine) == "pending video 0", "it is sent another way"


def test_a_sampler_that_is_late_hands_nothing_on(engine: Engine, probe: int) -> None:
    enqueue(engine, 1, probe)
    late = claim(engine, 1, uuid4())
    assert late is not None
    set_jobs(engine, "1", state="'pending'", worker_id="NULL")
    assert finish(engine, late, SAMPLED) is None
    assert job(engine) == "pending video 1"


def test_frames_are_fed_by_queues_of_their_own_with_the_fleets_abilities(
    engine: Engine, probe: int
) -> None:
    rare = declare(engine, "rare")
    for models in (["probe"], ["probe", "rare"]):
        me = replace(saying(uuid4()), models=models, pack_slots=3)
        with session.transaction(engine) as connection:
            liveness.beat(connection, me, draining=False, gap_seconds=20.0)
    sampler = replace(saying(uuid4()), models=[], stage="sample", in_flight=4)
    with session.transaction(engine) as connection:
        liveness.beat(connection, sampler, draining=False, gap_seconds=20.0)
        fleet = abilities.read(connection, stale_seconds=45.0)
    assert (fleet.workers, fleet.in_flight, fleet.pack_slots, fleet.sampling) == (2, 6, 6, 4)
    assert [makers.encoder_id for makers in fleet.rare()] == [rare], "a sampler makes nothing"
    enqueue(engine, 2, probe)
    record(engine, [Row(f"s3://bucket/r{i}") for i in range(2)], Wanted((rare,), ()))
    set_jobs(engine, "2,4", stage="'frames'")
    queues = (COMMON, COMMON_FRAMES, Queue(rare), Queue(rare, FRAMES))
    assert fed(engine, *queues) == {
        COMMON: [1], COMMON_FRAMES: [2], Queue(rare): [3], Queue(rare, FRAMES): [4]
    }  # fmt: skip
    with session.transaction(engine) as connection:
        assert lost_messages.queues(connection) == {
            COMMON: None, COMMON_FRAMES: None, Queue(rare): "rare", Queue(rare, FRAMES): "rare"
        }  # fmt: skip
        assert feeding.outstanding(connection) == 2


def test_a_queue_of_frames_says_nothing_of_videos(engine: Engine, probe: int) -> None:
    enqueue(engine, 4, probe)
    set_jobs(engine, "3,4", stage="'frames'")
    fed(engine, COMMON, COMMON_FRAMES)
    set_jobs(engine, "1,2,3,4", queued_at=f"{ago(700)} + video_id * interval '1 s'")
    assert claim(engine, 2, uuid4()) is not None
    with session.transaction(engine) as connection:
        over = {"older_than_seconds": 600.0}
        assert lost_messages.requeue_overtaken(connection, queue=COMMON_FRAMES, **over) == 0
        assert lost_messages.requeue_overtaken(connection, **over) == 1
        assert lost_messages.requeue_all(connection, older_than_seconds=30.0) == 0
        assert (
            lost_messages.requeue_all(connection, queue=COMMON_FRAMES, older_than_seconds=30.0) == 2
        )


def test_sampling_runs_ahead_only_so_far(engine: Engine, probe: int) -> None:
    enqueue(engine, 3, probe)
    fleet = abilities.Abilities(1, 6, (), pack_slots=12, sampling=4)
    windows = feeder._windows(fleet)
    waiting = dict.fromkeys((name for name, _ in windows.values()), 50)
    with session.transaction(engine) as connection:
        assert feeder._rooms(connection, fleet, windows, waiting) == {
            COMMON: 150, COMMON_FRAMES: 190
        }  # fmt: skip
    enqueue(engine, 400, probe)
    set_jobs(engine, "SELECT video_id FROM reelvec.jobs LIMIT 160", stage="'frames'")
    with session.transaction(engine) as connection:
        assert feeder._rooms(connection, fleet, windows, waiting)[COMMON] == 30
        alone = replace(fleet, sampling=0)
        assert feeder._rooms(connection, alone, windows, waiting)[COMMON] == 150, "none run ahead"
    set_jobs(engine, "SELECT video_id FROM reelvec.jobs", stage="'frames'")
    with session.transaction(engine) as connection:
        assert COMMON not in feeder._rooms(connection, fleet, windows, waiting)


def test_a_closed_place_holds_up_no_frames(engine: Engine, probe: int) -> None:
    enqueue(engine, 3, probe)
    fed(engine, COMMON)
    set_jobs(engine, "1", stage="'frames'")
    set_jobs(engine, "2", stage="'frames'", state="'pending'")
    me = worker(engine)
    place_id = one(engine, "SELECT place_id FROM reelvec.places")
    execute(
        engine,
        "INSERT INTO reelvec.place_workers (place_id, worker_id, failing_since, error_code) "
        "VALUES (:place, :me, now(), 'no_bucket')",
        place=place_id,
        me=me,
    )
    with session.transaction(engine) as connection:
        assert places.close_failing(connection, stale_seconds=45.0, beat_seconds=10.0)
    assert [state_of(engine, video) for video in (1, 2, 3)] == ["queued", "pending", "pending"]
    assert fed(engine, COMMON, COMMON_FRAMES) == {COMMON_FRAMES: [2]}
    taken = claim(engine, 1, me)
    assert taken is not None
    assert not taken.is_probe
    assert claim(engine, 3, me) is None, "its place is closed"
    execute(engine, "UPDATE reelvec.places SET probe_at = now()")
    set_jobs(engine, "2", state="'pending'")
    with session.transaction(engine) as connection:
        assert places.hand_out_probes(connection, beat_seconds=10.0) == [3]


def test_frames_that_are_lost_are_sampled_again_and_the_third_time_given_up(
    engine: Engine, probe: int
) -> None:
    enqueue(engine, 1, probe)
    for lost in (1, 2):
        sampled(engine)
        taken = claim(engine, 1, uuid4(), takes=[FRAMES])
        assert taken is not None
        assert finish(engine, taken, LOST) == "pending"
        assert job(engine) == f"pending video 0 {lost} frames_lost"
    sampled(engine)
    taken = claim(engine, 1, uuid4(), takes=[FRAMES])
    assert taken is not None
    assert finish(engine, taken, LOST) == "failed"
    assert job(engine) == "failed video 0 frames_lost"
    assert one(engine, "SELECT count(*) FROM reelvec.attempts WHERE stage = 'store'") == 3
    with session.transaction(engine) as connection:
        assert steering.retry(connection, Selection(), who="ann", what="") == 1
    assert job(engine) == "pending video 0"


def test_a_device_that_fails_keeps_the_frames(engine: Engine, probe: int) -> None:
    enqueue(engine, 1, probe)
    sampled(engine)
    taken = claim(engine, 1, uuid4(), takes=[FRAMES])
    assert taken is not None
    failure = Failure("encode", "device_error", ErrorClass.DEVICE, "lost", "probe")
    assert finish(engine, taken, Outcome(failure=failure)) == "pending"
    assert job(engine) == "pending frames 1 device_error"


def test_the_frames_of_a_dead_worker_are_taken_by_another(engine: Engine, probe: int) -> None:
    enqueue(engine, 1, probe)
    sampled(engine)
    assert claim(engine, 1, uuid4()) is not None
    me = worker(engine)
    execute(engine, "UPDATE reelvec.workers SET beating_since = now() - interval '1 hour'")
    with session.transaction(engine) as connection:
        assert liveness.reap(connection, me, stale_seconds=45.0, gap_seconds=20.0) == [1]
    assert job(engine) == "pending frames 0"


def test_a_worker_of_an_older_version_reads_the_video(engine: Engine, probe: int) -> None:
    """It knows of no stages: it writes none, and claims whatever it is sent."""
    enqueue(engine, 1, probe)
    sampled(engine)
    set_jobs(engine, "1", state="'done'")
    assert job(engine) == "done frames 0", "as its finish leaves it"
    other = declare(engine, "other")
    record(engine, [Row("s3://bucket/v0", etag="e1")], Wanted((other,), ()))
    assert job(engine) == "pending video 0", "its packs are gone"
    execute(engine, "INSERT INTO reelvec.videos (uri) VALUES ('file:///old')")
    execute(
        engine,
        "INSERT INTO reelvec.jobs (video_id, encoders) SELECT max(video_id), '{1}' FROM reelvec.videos",
    )
    assert one(engine, "SELECT stage FROM reelvec.jobs ORDER BY video_id DESC") == VIDEO


def done(engine: Engine, encoder: int) -> None:
    taken = claim(engine, 1, uuid4())
    assert taken is not None
    media = Media("e1", 10)
    assert finish(engine, taken, Outcome((vectors(encoder),), media=media)) == "done"


def test_kept_frames_of_this_version_serve_a_later_model(engine: Engine, probe: int) -> None:
    enqueue(engine, 1, probe, keep_frames=True)
    done(engine, probe)
    pack(engine, kept=True)
    other = declare(engine, "other")
    record(engine, [Row("s3://bucket/v0", etag="e1")], Wanted((other,), ()))
    assert job(engine) == "pending frames 0"
    assert one(engine, "SELECT bytes_read FROM reelvec.jobs") is None, "nothing of it is read now"
    record(engine, [Row("s3://bucket/v0", etag="e2")], Wanted((other,), ()))
    assert job(engine) == "pending video 0", "the video is another one by now"


@pytest.mark.parametrize("etag", ["e0", None])
def test_frames_of_another_version_serve_nothing(
    engine: Engine, probe: int, etag: str | None
) -> None:
    enqueue(engine, 1, probe, keep_frames=True)
    done(engine, probe)
    pack(engine, etag=etag, kept=True)  # type: ignore[arg-type]
    record(engine, [Row("s3://bucket/v0")], Wanted((declare(engine, "other"),), ()))
    assert job(engine) == "pending video 0"


def test_packs_go_with_the_end_of_their_video_unless_they_are_kept(
    engine: Engine, probe: int
) -> None:
    enqueue(engine, 3, probe)
    for video_id in (1, 2, 3):
        pack(engine, video_id, kept=video_id == 2)
    with session.transaction(engine) as connection:
        assert ended.drop(connection) == 0, "all of them wait"
    set_jobs(engine, "1,2", state="'done'")
    with session.transaction(engine) as connection:
        assert ended.drop(connection) == 1
        assert [bool(packs.of_video(connection, video)) for video in (1, 2, 3)] == [
            False,
            True,
            True,
        ]
    enqueue(engine, 3, probe, keep_frames=True)
    set_jobs(engine, "3", state="'done'")
    with session.transaction(engine) as connection:
        ended.drop_of(connection, 3)
        assert packs.of_video(connection, 3), "somebody asked for it meanwhile"


def test_a_cancelled_video_needs_its_bytes_when_it_is_wanted_again(
    engine: Engine, probe: int
) -> None:
    enqueue(engine, 1, probe)
    sampled(engine)
    with session.transaction(engine) as connection:
        steering.cancel(connection, Selection(), who="ann", what="")
    assert job(engine) == "cancelled video 0"


def test_everything_takes_both_stages_unless_told_otherwise(engine: Engine, probe: int) -> None:
    enqueue(engine, 1, probe)
    sampled(engine)
    with session.transaction(engine) as connection:
        assert ledger.claim(connection, 1, uuid4(), job_seconds=60.0) is not None
