"""Queued rows whose message is gone are found, whenever they were queued, and those whose message
may still be read are left.
"""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from db import session
from db.jobs.catalogue import Wanted
from tests.ledgering import Row, declare, execute, feed, record, state_of
from workers.feeder import LostMessages


@pytest.fixture
def queued(engine: Engine) -> list[int]:
    """Three queued videos, 5, 40 and 400 s ago."""
    record(engine, [Row(f"s3://bucket/{i}.mp4") for i in range(3)], Wanted((declare(engine),), ()))
    with session.transaction(engine) as connection:
        video_ids = feed(connection, room=3)
    for video_id, seconds in zip(video_ids, (5, 40, 400), strict=True):
        execute(
            engine,
            "UPDATE reelvec.jobs SET queued_at = now() - make_interval(secs => :seconds) WHERE "
            "video_id = :video_id",
            seconds=seconds,
            video_id=video_id,
        )
    return video_ids


def test_an_empty_broker_has_lost_what_was_queued_since_it_is_empty(
    engine: Engine, queued: list[int]
) -> None:
    """Messages that come and are lost between two looks never make the broker look filled."""
    lost = LostMessages(look_seconds=30, queued_seconds=600)
    assert lost.look(engine, 0, now=0) == 0, "one look proves nothing"
    assert lost.look(engine, 0, now=20) == 0
    assert lost.look(engine, 0, now=200) == 2
    assert [state_of(engine, video_id) for video_id in queued] == ["queued", "pending", "pending"]


def test_a_message_that_waits_starts_the_count_anew(engine: Engine, queued: list[int]) -> None:
    lost = LostMessages(look_seconds=30, queued_seconds=600)
    assert lost.look(engine, 0, now=0) == 0
    assert lost.look(engine, 1, now=40) == 0
    assert lost.look(engine, 0, now=50) == 0
    assert lost.look(engine, 0, now=79) == 0
    assert lost.look(engine, 0, now=81) == 2
