"""A video whose source may not be read waits, until others of its bucket can be read and it alone
cannot.
"""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import Engine

from db.errors import VideoError
from db.jobs.catalogue import Wanted
from db.jobs.outcome import Outcome
from db.ledger import Claim
from producer.sources.reading import VideoRow as Row
from tests.ledgering import claim, declare, execute, finish, one, record, state_of, vectors, worker
from workers.pipeline import failure_of

BUCKET = ["s3://bucket/one.mp4", "s3://bucket/two.mp4", "s3://bucket-2/three.mp4"]


@pytest.fixture
def me(engine: Engine) -> UUID:
    record(engine, [Row(uri) for uri in BUCKET], Wanted((declare(engine),), ()))
    return worker(engine)


def claimed(engine: Engine, uri: str, me: UUID) -> Claim:
    video_id = one(engine, "SELECT video_id FROM reelvec.videos WHERE uri = :uri", uri=uri)
    execute(engine, "UPDATE reelvec.jobs SET not_before = NULL WHERE video_id = :id", id=video_id)
    found = claim(engine, int(str(video_id)), me)
    assert found is not None
    return found


def refuse(
    engine: Engine, uri: str, me: UUID, code: str = "access_denied", *, stage: str = "fetch"
) -> Claim:
    mine = claimed(engine, uri, me)
    finish(engine, mine, Outcome(failure=failure_of(VideoError(code, "why", stage=stage))))
    return mine


def read(engine: Engine, uri: str, me: UUID) -> None:
    mine = claimed(engine, uri, me)
    assert finish(engine, mine, Outcome(encoder_rows=(vectors(mine.encoders[0]),))) == "done"


def long_ago(engine: Engine) -> None:
    """Whatever waits, has waited for more than a minute."""
    execute(engine, "UPDATE reelvec.jobs SET infra_since = infra_since - interval '61 s'")


def test_while_nothing_of_the_bucket_can_be_read_all_wait(engine: Engine, me: UUID) -> None:
    for uri in BUCKET:
        refuse(engine, uri, me, "bad_credentials")
    for _ in range(3):
        long_ago(engine)
        mine = refuse(engine, BUCKET[0], me, "bad_credentials")
        assert state_of(engine, mine.video_id) == "pending"
    assert (
        one(engine, "SELECT attempts FROM reelvec.jobs WHERE video_id = :id", id=mine.video_id) == 0
    )
    assert (
        one(engine, "SELECT count(*) FROM reelvec.attempts WHERE video_id = :id", id=mine.video_id)
        == 1
    )


def test_one_alone_fails_at_its_second_try_after_a_minute(engine: Engine, me: UUID) -> None:
    mine = refuse(engine, BUCKET[0], me)
    read(engine, BUCKET[1], me)
    refuse(engine, BUCKET[0], me)
    assert state_of(engine, mine.video_id) == "pending", "too early"
    long_ago(engine)
    refuse(engine, BUCKET[0], me)
    assert state_of(engine, mine.video_id) == "failed"
    assert (
        one(engine, "SELECT error_code FROM reelvec.jobs WHERE video_id = :id", id=mine.video_id)
        == "access_denied"
    )
    assert (
        one(engine, "SELECT count(*) FROM reelvec.attempts WHERE video_id = :id", id=mine.video_id)
        == 2
    )


def test_another_bucket_an_earlier_time_and_another_stage_prove_nothing(
    engine: Engine, me: UUID
) -> None:
    read(engine, BUCKET[1], me)
    mine = refuse(engine, BUCKET[0], me)
    read(engine, BUCKET[2], me)
    execute(
        engine,
        "UPDATE reelvec.jobs SET infra_since = now() - interval '61 s' WHERE infra_since IS NOT "
        "NULL",
    )
    execute(engine, "UPDATE reelvec.jobs SET finished_at = now() - interval '90 s', started_at = now() - interval '91 s'"
            " FROM reelvec.videos v WHERE v.video_id = jobs.video_id AND v.uri = :uri", uri=BUCKET[1])  # fmt: skip
    refuse(engine, BUCKET[0], me)
    assert state_of(engine, mine.video_id) == "pending"
    began_before = (
        "UPDATE reelvec.jobs SET finished_at = now(), started_at = now() - interval '62 s' WHERE "
        "state = 'done'"
    )
    execute(engine, began_before)
    refuse(engine, BUCKET[0], me)
    assert state_of(engine, mine.video_id) == "pending", (
        "its bytes may have come before the trouble began"
    )
    execute(
        engine,
        "UPDATE reelvec.jobs SET finished_at = now(), started_at = now() WHERE state = 'done'",
    )
    refuse(engine, BUCKET[0], me, "unavailable", stage="run")
    assert state_of(engine, mine.video_id) == "pending"


def test_waiting_ends_with_any_other_end(engine: Engine, me: UUID) -> None:
    refuse(engine, BUCKET[0], me)
    assert one(engine, "SELECT count(*) FROM reelvec.jobs WHERE infra_since IS NOT NULL") == 1
    refuse(engine, BUCKET[0], me, "fetch_cut")
    assert one(engine, "SELECT count(*) FROM reelvec.jobs WHERE infra_since IS NOT NULL") == 0
    assert one(engine, "SELECT count(*) FROM reelvec.attempts") == 2


def test_the_wait_is_counted_from_the_first_error(engine: Engine, me: UUID) -> None:
    began = []
    for _ in range(2):
        mine = refuse(engine, BUCKET[0], me)
        query = "SELECT infra_since FROM reelvec.jobs WHERE video_id = :id"
        began.append(one(engine, query, id=mine.video_id))
    assert began[0] == began[1] is not None
