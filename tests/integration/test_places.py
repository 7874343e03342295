"""Places on a real Postgres: dealt out in turn, closed when nobody can read them, probed, opened;
backbones paused.
"""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from db import session
from db.errors import ErrorClass
from db.jobs import backbone_breaker, places
from db.jobs.backbone_breaker import Paused
from db.jobs.catalogue import Wanted
from db.jobs.outcome import Failure, Outcome
from db.jobs.places import Change
from tests import ledgering
from tests.ledgering import (
    Row,
    claim,
    declare,
    execute,
    finish,
    one,
    record,
    state_of,
    vectors,
    worker,
)

BUCKET, HOST = "s3://bucket", "https://host:8443"
DENIED = Failure("fetch", "access_denied", ErrorClass.INFRA, "the key may not read this\0")


@pytest.fixture
def probe(engine: Engine) -> int:
    return declare(engine)


def enqueue(engine: Engine, probe: int, **counts: int) -> None:
    """`bucket=3, host=2`: videos 1 to 3 of the bucket, then 4 and 5 of the host."""
    folders = {"bucket": f"{BUCKET}/a", "host": f"{HOST}/v"}
    for name, count in counts.items():
        record(
            engine,
            [Row(f"{folders[name]}/{i}.mp4?x=//y") for i in range(count)],
            Wanted((probe,), ()),
        )


def feed(engine: Engine, room: int) -> list[int]:
    with session.transaction(engine) as connection:
        return ledgering.feed(connection, room=room)


def fails(engine: Engine, worker_id: UUID, place_id: int = 1) -> Change | None:
    with session.transaction(engine) as connection:
        return places.say_failing(
            connection, place_id, worker_id, code="access_denied", error="no\0 key"
        )


def reads(engine: Engine, worker_id: UUID, place_id: int = 1) -> None:
    with session.transaction(engine) as connection:
        places.say_reading(connection, worker_id, [place_id])


def judge(engine: Engine, beat_seconds: float = 10.0) -> list[Change]:
    with session.transaction(engine) as connection:
        return places.close_failing(connection, stale_seconds=45.0, beat_seconds=beat_seconds)


def probes(engine: Engine, beat_seconds: float = 10.0) -> list[int]:
    with session.transaction(engine) as connection:
        return places.hand_out_probes(connection, beat_seconds=beat_seconds)


def opens(engine: Engine, place_id: int = 1) -> Change | None:
    with session.transaction(engine) as connection:
        return places.open_again(connection, place_id)


def closed(engine: Engine) -> UUID:
    """The bucket, place 1, closed by the only worker there is."""
    me = worker(engine)
    assert fails(engine, me) == Change(BUCKET, "access_denied", "no\0 key")
    assert judge(engine) == [Change(BUCKET, "access_denied", "no key")]
    return me


def test_every_video_has_its_place(engine: Engine, probe: int) -> None:
    enqueue(engine, probe, bucket=2, host=1)
    enqueue(engine, probe, bucket=3)
    record(engine, [Row("file:///a/b.mp4")], Wanted((probe,), ()))
    found = (
        "SELECT string_agg(place, ' ' ORDER BY video_id) FROM reelvec.jobs JOIN reelvec.places "
        "USING (place_id)"
    )
    assert one(engine, found) == f"{BUCKET} {BUCKET} {HOST} {BUCKET} file://"
    assert one(engine, "SELECT max(place_id) FROM reelvec.places") == 3, (
        "a known place costs no number"
    )


def test_places_take_turns_however_many_videos_one_has(engine: Engine, probe: int) -> None:
    enqueue(engine, probe, bucket=50, host=3)
    dealt = feed(engine, 4)
    assert dealt[0::2] == [1, 2]
    assert dealt[1::2] == [51, 52]
    assert feed(engine, 10) == [3, 53, 4, 5, 6, 7, 8, 9, 10, 11], (
        "what one has not goes to the other"
    )


def test_many_hosts_all_get_their_turn(engine: Engine, probe: int) -> None:
    record(engine, [Row(f"https://host{i % 40}/{i}.mp4") for i in range(200)], Wanted((probe,), ()))
    seen: set[int] = set()
    for _ in range(50):
        dealt = feed(engine, 4)
        hosts = one(
            engine,
            "SELECT count(DISTINCT place_id) FROM reelvec.jobs WHERE video_id = ANY(:ids)",
            ids=list(dealt),
        )
        assert hosts == min(4, len(dealt)) or len(seen) > 150
        seen.update(dealt)
    assert seen == set(range(1, 201))


def test_videos_of_an_older_producer_are_adopted(engine: Engine, probe: int) -> None:
    enqueue(engine, probe, bucket=2, host=1)
    execute(
        engine,
        "UPDATE reelvec.jobs SET place_id = NULL; DELETE FROM reelvec.places WHERE place LIKE "
        "'https%'",
    )
    assert sorted(feed(engine, 10)) == [1, 2, 3]
    assert one(engine, "SELECT count(*) FROM reelvec.jobs WHERE place_id IS NULL") == 0


def test_a_closed_place_stops_nobody_else(engine: Engine, probe: int) -> None:
    enqueue(engine, probe, bucket=5, host=2)
    assert len(feed(engine, 4)) == 4
    me = closed(engine)
    assert {state_of(engine, video) for video in range(1, 6)} == {"pending"}, (
        "what was queued waits again"
    )
    assert claim(engine, 1, me) is None, "its messages are dropped"
    assert claim(engine, 6, me) is not None
    execute(engine, "UPDATE reelvec.jobs SET state = 'pending' WHERE video_id = 7")
    assert feed(engine, 10) == [7]
    assert judge(engine) == [], "it is told once"


def test_one_probe_a_beat_and_another_video_each_time(engine: Engine, probe: int) -> None:
    enqueue(engine, probe, bucket=3)
    me = closed(engine)
    assert probes(engine) == [], "a beat must have gone by"
    handed_out = []
    for _ in range(4):
        execute(engine, "UPDATE reelvec.places SET probe_at = now()")
        (video_id,) = probes(engine)
        assert probes(engine) == []
        claimed = claim(engine, video_id, me)
        assert claimed is not None
        assert claimed.is_probe
        assert finish(engine, claimed, Outcome(failure=DENIED)) == "pending"
        handed_out.append(video_id)
    assert handed_out == [1, 2, 3, 1], "the fourth although its own delay is not over"
    assert one(engine, "SELECT max(attempts) FROM reelvec.jobs") == 0, "no attempt is burnt"
    execute(engine, "INSERT INTO reelvec.control (name, paused) VALUES ('operator', true)")
    execute(engine, "UPDATE reelvec.places SET probe_at = now()")
    assert probes(engine) == []


def test_a_place_that_is_read_again_frees_its_videos(engine: Engine, probe: int) -> None:
    enqueue(engine, probe, bucket=3)
    closed(engine)
    execute(
        engine,
        "UPDATE reelvec.jobs SET not_before = now() + interval '1 h', infra_since = CASE WHEN "
        "video_id < 3 THEN now() END",
    )
    assert opens(engine) == Change(BUCKET)
    assert opens(engine) is None
    assert one(engine, "SELECT count(*) FROM reelvec.place_workers") == 0
    assert feed(engine, 10) == [1, 2], "the third waits for a reason of its own"


def test_a_worker_that_alone_fails_closes_nothing(engine: Engine, probe: int) -> None:
    enqueue(engine, probe, bucket=1)
    alone, other = worker(engine), worker(engine)
    assert fails(engine, alone) is not None
    assert fails(engine, alone) is None, "it is told once"
    assert judge(engine) == [], "the other one has a chance to say that it reads it"
    reads(engine, other)
    execute(
        engine, "UPDATE reelvec.place_workers SET failing_since = failing_since - interval '1 h'"
    )
    assert judge(engine) == []
    execute(engine, "UPDATE reelvec.place_workers SET at = at - interval '61 s'")
    assert len(judge(engine)) == 1, "it has not read it for long"


def test_all_that_live_must_fail_or_keep_silent(engine: Engine, probe: int) -> None:
    enqueue(engine, probe, bucket=1)
    first, second, dead = worker(engine), worker(engine), worker(engine)
    fails(engine, first)
    execute(
        engine,
        "UPDATE reelvec.workers SET beat_at = now() - interval '1 h' WHERE worker_id = :id",
        id=dead,
    )
    assert judge(engine) == []
    fails(engine, second)
    assert len(judge(engine)) == 1, "at once: everybody has failed, and the dead do not count"
    opens(engine)
    fails(engine, first)
    assert judge(engine) == []
    execute(
        engine, "UPDATE reelvec.place_workers SET failing_since = failing_since - interval '26 s'"
    )
    assert len(judge(engine)) == 1, "the second had the time to say that it reads it"


def test_nobody_vouches_where_nothing_fails(engine: Engine, probe: int) -> None:
    enqueue(engine, probe, bucket=1)
    me = worker(engine)
    reads(engine, me)
    assert one(engine, "SELECT count(*) FROM reelvec.place_workers") == 0
    fails(engine, me)
    reads(engine, me)
    assert (
        one(engine, "SELECT failing_since IS NULL AND error IS NULL FROM reelvec.place_workers")
        is True
    )


def test_how_a_video_stands_to_its_place(engine: Engine, probe: int) -> None:
    enqueue(engine, probe, bucket=2)
    with session.transaction(engine) as connection:
        assert places.standing(connection, 1) == places.Standing(1, closed=False, is_probe=False)
        assert places.standing(connection, 99) == places.Standing(
            None, closed=False, is_probe=False
        )
    closed(engine)
    execute(engine, "UPDATE reelvec.places SET probe_at = now()")
    assert probes(engine) == [1]
    with session.transaction(engine) as connection:
        assert places.standing(connection, 1) == places.Standing(1, closed=True, is_probe=True)
        assert places.standing(connection, 2) == places.Standing(1, closed=True, is_probe=False)


# ---- backbones


def attempts(
    engine: Engine, count: int, *, encoder: str | None, code: str, workers: int = 2
) -> None:
    ids = [str(uuid4()) for _ in range(workers)]
    execute(
        engine,
        "INSERT INTO reelvec.attempts (video_id, attempt, stage, error_code, error, encoder, worker_id)"
        " SELECT v, 1, 'encode', :code, 'NaN', :encoder, (CAST(:ids AS uuid[]))[1 + v % :workers]"
        " FROM generate_series(1, :count) v",
        code=code, encoder=encoder, ids=ids, workers=workers, count=count,
    )  # fmt: skip


def pause_failing(engine: Engine) -> list[Paused]:
    with session.transaction(engine) as connection:
        return backbone_breaker.pause_failing(connection)


@pytest.mark.parametrize(
    ("code", "count", "workers", "pauses"),
    [
        ("nonfinite", 20, 2, True),
        ("device_error", 20, 2, True),
        ("nonfinite", 19, 2, False),
        ("nonfinite", 20, 1, False),
        ("not_media", 50, 2, False),
        ("access_denied", 50, 2, False),
    ],
)
def test_a_backbone_that_fails_is_paused(
    engine: Engine, probe: int, code: str, count: int, workers: int, pauses: bool
) -> None:
    enqueue(engine, probe, bucket=60)
    attempts(engine, count, encoder="probe", code=code, workers=workers)
    paused = pause_failing(engine)
    assert [pause.backbone for pause in paused] == (["probe"] if pauses else [])
    assert pause_failing(engine) == []
    assert (feed(engine, 10) == []) is pauses


def test_one_worker_at_two_places_is_enough(engine: Engine, probe: int) -> None:
    enqueue(engine, probe, bucket=10, host=10)
    attempts(engine, 20, encoder="probe", code="nonfinite", workers=1)
    (paused,) = pause_failing(engine)
    assert (
        paused.reason == "20 videos failed with nonfinite, 0 were embedded meanwhile; the last: NaN"
    )


def test_a_backbone_that_mostly_works_is_not_paused(engine: Engine, probe: int) -> None:
    enqueue(engine, probe, bucket=45)
    attempts(engine, 20, encoder="probe", code="nonfinite")
    for video_id in range(21, 42):
        claimed = claim(engine, video_id, uuid4())
        assert claimed is not None
        finish(engine, claimed, Outcome((vectors(probe),)))
    assert pause_failing(engine) == []
    execute(engine, "UPDATE reelvec.video_embeddings SET created_at = now() - interval '1 h'")
    assert len(pause_failing(engine)) == 1


def test_what_is_paused_is_left_and_the_rest_is_made(engine: Engine, probe: int) -> None:
    other = declare(engine, "other")
    record(engine, [Row("s3://b/1"), Row("s3://b/2")], Wanted((probe, other), ()))
    execute(
        engine, "INSERT INTO reelvec.paused_backbones (backbone, reason) VALUES ('probe', 'NaN')"
    )
    claimed = claim(engine, 1, uuid4())
    assert claimed is not None
    assert (claimed.encoders, claimed.all_encoders) == ((other,), (other,))
    assert finish(engine, claimed, Outcome((vectors(other),))) == "pending"
    assert feed(engine, 10) == [2], "the first owes nothing else"
    execute(engine, "UPDATE reelvec.paused_backbones SET paused = false, at = now()")
    claimed = claim(engine, 1, uuid4())
    assert claimed is not None
    assert (claimed.encoders, claimed.all_encoders) == ((probe,), (probe, other))


def test_after_a_resume_only_new_failures_count(engine: Engine, probe: int) -> None:
    enqueue(engine, probe, bucket=60)
    attempts(engine, 25, encoder="probe", code="nonfinite")
    assert len(pause_failing(engine)) == 1
    execute(engine, "UPDATE reelvec.paused_backbones SET paused = false, at = now()")
    assert pause_failing(engine) == []
    attempts(engine, 25, encoder="probe", code="nonfinite")
    assert len(pause_failing(engine)) == 1


@pytest.mark.parametrize("code", ["sampler_crashed", "sampler_defect"])
def test_samplers_that_crash_stop_everything(code: str, engine: Engine, probe: int) -> None:
    enqueue(engine, probe, bucket=30)
    attempts(engine, 20, encoder=None, code=code)
    (paused,) = pause_failing(engine)
    assert paused.backbone is None
    assert claim(engine, 1, uuid4()) is None
    with session.transaction(engine) as connection:
        assert (
            connection.execute(text("SELECT reason FROM reelvec.control WHERE paused")).scalar()
            == paused.reason
        )
