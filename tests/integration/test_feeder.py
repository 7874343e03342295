"""Publishing to a broker that refuses, hangs or is gone: rows are never stuck as queued without a
message.
"""

from __future__ import annotations

import socket
import threading
from types import SimpleNamespace
from uuid import uuid4

import pytest
import redis
from celery import Celery
from sqlalchemy import Engine

from db.errors import UnavailableError
from db.jobs.catalogue import Wanted
from tests.ledgering import Row, declare, execute, one, record
from workers import feeder
from workers.delivery.refusals import Refusals
from workers.heartbeat import Heartbeat
from workers.settings import WorkerSettings

QUEUED = "SELECT count(*) FROM reelvec.jobs WHERE state = 'queued'"


@pytest.fixture
def client(broker_url: str) -> redis.Redis:
    return redis.Redis.from_url(broker_url)


@pytest.fixture(autouse=True)
def rows(engine: Engine) -> None:
    record(engine, [Row(uri=f"file:///{n}.mp4") for n in range(20)], Wanted((declare(engine),), ()))


def test_what_a_full_broker_refuses_is_pending_again(
    engine: Engine, app: Celery, client: redis.Redis
) -> None:
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(
            UnavailableError,
            match=r"the broker refuses: .*command not allowed when used memory.* It is full",
        ):
            feeder.feed(engine, app)
    finally:
        client.config_set("maxmemory", 0)
    assert one(engine, QUEUED) == 0
    assert feeder.feed(engine, app) == 20
    assert one(engine, QUEUED) == client.llen("reelvec:reelvec") == 20


def test_what_helps_is_said_for_each_refusal(
    engine: Engine, app: Celery, client: redis.Redis, broker_url: str
) -> None:
    def refusal() -> str:
        with pytest.raises(UnavailableError, match="the broker refuses: ") as refused:
            feeder.feed(engine, app)
        assert one(engine, QUEUED) == 0
        return str(refused.value)

    client.set("reelvec:reelvec", "hello")
    assert "delete that key" in refusal()
    client.delete("reelvec:reelvec")
    client.replicaof("127.0.0.1", 1)
    try:
        assert "the primary's address" in refusal()
    finally:
        client.replicaof("NO", "ONE")
    app.conf.broker_url = f"{broker_url.rpartition('/')[0]}/9999"
    assert "a smaller number" in refusal()


def test_a_broker_that_never_answers_is_not_waited_for(engine: Engine, app: Celery) -> None:
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, "socket_timeout": 0.2}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        app.conf.broker_url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with pytest.raises(UnavailableError, match="the broker does not answer: Timeout"):
            feeder.feed(engine, app)
    assert one(engine, QUEUED) == 0


def test_a_broker_that_asks_for_a_password_is_said_to_refuse_the_login(
    engine: Engine, app: Celery, broker_url: str
) -> None:
    app.conf.broker_url = f"redis://{broker_url.rpartition('@')[2]}"
    with pytest.raises(
        UnavailableError, match=r"refuses the login: it asks for a password\. Check"
    ):
        feeder.feed(engine, app)
    assert one(engine, QUEUED) == 0


def test_messages_that_are_lost_again_before_anybody_saw_them_come_back_again(
    engine: Engine, app: Celery
) -> None:
    lost = feeder.LostMessages(look_seconds=30, queued_seconds=600)
    aged = "UPDATE reelvec.jobs SET queued_at = now() - interval '40 seconds'"
    assert feeder.feed(engine, app) == 20
    execute(engine, aged)
    assert lost.look(engine, 0, now=0) == 0
    assert lost.look(engine, 0, now=31) == 20
    assert feeder.feed(engine, app) == 20
    assert lost.look(engine, 0, now=62) == 0, "just sent"
    execute(engine, aged)
    assert lost.look(engine, 0, now=93) == 20


def test_a_worker_that_drains_fetches_no_more_work(engine: Engine, app: Celery) -> None:
    runtime = SimpleNamespace(
        database=engine,
        settings=WorkerSettings(),
        worker_id=uuid4(),
        in_hand=list,
        refusals=Refusals(beat_seconds=10.0),
        draining=threading.Event(),
    )
    heartbeat = Heartbeat.__new__(Heartbeat)
    heartbeat._runtime, heartbeat._app = runtime, app  # type: ignore[assignment]
    look = heartbeat.look_after_ledger()
    runtime.draining.set()
    look()
    assert one(engine, QUEUED) == 0
    runtime.draining.clear()
    look()
    assert one(engine, QUEUED) == 20
