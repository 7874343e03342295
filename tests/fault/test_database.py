"""Postgres away, silent, full, read-only, locked: nothing waits without an end, and nothing is
lost.

What real workers make of it: `tests/fault/test_strikes.py`.
"""

from __future__ import annotations

import functools
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from db import deadlines, ledger, session
from db.errors import BusyError, RefusedConfigurationError, UnavailableError
from db.jobs import catalogue, liveness
from db.jobs.catalogue import Wanted
from db.jobs.outcome import Outcome
from db.media import Media
from producer.sources.manifest import FROM_NAMES
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
from tests.proxy import Direction, Proxy
from workers import heartbeat, tasks
from workers.delivery.refusals import Refusals
from workers.runtime import Runtime
from workers.tally import Tally

#: In these tests; the default is 10 s.
STATEMENT_SECONDS = 0.5


class CountingProxy(Proxy):
    """Counts what comes from the client in one piece: a round trip each."""

    requests = 0

    async def _pass_on(self, link: Any, direction: Direction, data: bytes, sink: Any) -> None:
        self.requests += direction == "request"
        await super()._pass_on(link, direction, data, sink)


@pytest.fixture
def hop(database_url: str) -> Iterator[CountingProxy]:
    url = make_url(database_url)
    with CountingProxy(f"{url.host}:{url.port}") as proxy:
        yield proxy


@pytest.fixture
def through(hop: Proxy, database_url: str) -> Iterator[Engine]:
    """A pool whose connections lead through the proxy."""
    with session.connect(
        hop.url(database_url), pool_size=4, statement_seconds=STATEMENT_SECONDS
    ) as made:
        yield made


@pytest.fixture
def probe(engine: Engine) -> int:
    return declare(engine)


def enqueue(engine: Engine, count: int, encoder_id: int) -> None:
    record(engine, [Row(f"file:///v{i}") for i in range(count)], Wanted((encoder_id,), ()))


def until(condition: Callable[[], object], *, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this should have happened by now"
        time.sleep(0.05)


@contextmanager
def in_thread(call: Callable[[], object]) -> Iterator[threading.Thread]:
    """Runs `call` meanwhile. One that hangs in the driver can be stopped by nothing: it must not
    hold up the tests.
    """
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    yield thread
    thread.join(60)
    assert not thread.is_alive()


# Deadlines


def test_the_limits_cost_no_round_trip_and_do_not_outlive_a_transaction(
    hop: CountingProxy, database_url: str
) -> None:
    counts = []
    for seconds in (math.inf, STATEMENT_SECONDS):
        with session.connect(
            hop.url(database_url), pool_size=1, statement_seconds=seconds
        ) as engine:
            before = hop.requests
            with session.transaction(engine) as connection:
                limit = connection.execute(text("SHOW statement_timeout")).scalar()
                connection.execute(text("SELECT 1"))
            counts.append(hop.requests - before)
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                assert connection.execute(text("SHOW statement_timeout")).scalar() == "0"
    assert limit == "500ms"
    assert counts == [4, 3], "without limits BEGIN is sent alone"


@pytest.mark.parametrize("when", ["before", "between", "during", "commit"])
def test_a_peer_that_acknowledges_and_never_answers_is_left(
    hop: Proxy,
    through: Engine,
    engine: Engine,
    probe: int,
    when: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the row it had locked is free again without anybody's doing."""
    monkeypatch.setattr(session, "IDLE_SECONDS", 0.0)
    enqueue(engine, 1, probe)
    lock = (
        "SELECT pg_sleep(0.2) FROM reelvec.jobs FOR UPDATE"
        if when == "during"
        else "SELECT FROM reelvec.jobs FOR UPDATE"
    )
    if when == "before":
        hop.black_hole(new=False)
    if when in ("during", "commit"):
        hop.trap(
            direction="request",
            at=b"FOR UPDATE" if when == "during" else b"COMMIT",
            then="black_hole",
        )

    def hang() -> None:
        with session.transaction(through) as connection:
            connection.execute(text(lock))
            if when == "between":
                hop.black_hole(new=False)
                connection.execute(text("SELECT 1"))

    def meet_it() -> None:
        if when == "before":
            hang()  # the pool looks first whether a connection still answers, and makes another
        else:
            with pytest.raises(UnavailableError, match=r"does not answer: no answer within 0\.6 s"):
                hang()
        left.set()

    left = threading.Event()
    with in_thread(meet_it):
        pass
    assert left.is_set()
    hop.forward()
    with session.transaction(through) as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    me = worker(engine)
    assert session.retrying(lambda: claim(engine, 1, me)) is not None


def test_a_copy_that_never_ends_is_ended_by_others(
    hop: Proxy, through: Engine, engine: Engine, probe: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that waits for the rest of a COPY obeys no limit of its own."""
    enqueue(engine, 1, probe)
    claimed = claim(engine, 1, worker(engine))
    assert claimed is not None
    hop.trap(direction="request", at=b"COPY", then="black_hole")
    with pytest.raises(UnavailableError, match="no answer within"):
        finish(through, claimed, Outcome((vectors(probe),)))
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientRead' AND state = 'active'"
    )
    assert one(engine, waiting) == 1
    monkeypatch.setenv("REELVEC_STATEMENT_SECONDS", str(STATEMENT_SECONDS))

    def ended() -> int:
        with session.transaction(engine) as connection:
            return session.end_silent(connection)

    until(lambda: ended() == 1)
    hop.forward()
    until(lambda: one(engine, waiting) == 0)
    assert finish(through, claimed, Outcome((vectors(probe),))) == "done"


def test_whoever_waits_at_the_desk_hears_of_it(
    hop: Proxy, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many slow answers are as silent as none."""
    monkeypatch.setattr(deadlines, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(deadlines, "QUICK_SECONDS", 0.1)
    said: list[str] = []
    with session.connect(hop.url(database_url), statement_seconds=60.0, tell=said.append) as engine:
        execute(engine, "SELECT 1")
        assert said == []
        hop.slow(delay_seconds=0.2)
        until(lambda: execute(engine, "SELECT 1") or said)
    assert set(said) == {"still waiting for Postgres to answer"}


def test_a_lock_that_somebody_holds_is_not_waited_for_without_end(
    engine: Engine, database_url: str, probe: int
) -> None:
    enqueue(engine, 1, probe)
    me = worker(engine)
    with (
        session.connect(database_url, statement_seconds=STATEMENT_SECONDS) as limited,
        engine.connect() as holder,
    ):
        holder.execute(text("LOCK TABLE reelvec.jobs"))
        with pytest.raises(BusyError, match="a lock that another session holds"):
            claim(limited, 1, me)
        tries: list[int] = []

        def attempt() -> object:
            tries.append(1)
            if len(tries) == 2:
                holder.rollback()
            return claim(limited, 1, me)

        assert session.retrying(attempt) is not None
    assert len(tries) == 2


# What Postgres says when it cannot serve


RAISE = "DO $$ BEGIN RAISE EXCEPTION 'so it is' USING ERRCODE = '{}'; END $$"


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("53100", UnavailableError, "has no space left on its disk: so it is"),
        ("53200", UnavailableError, "is out of memory"),
        ("53400", UnavailableError, "is short of resources"),
        ("25006", UnavailableError, "is read-only"),
        ("57P01", UnavailableError, "does not answer"),
        ("58030", UnavailableError, "cannot use its files"),
        ("40001", BusyError, "conflicted with another"),
        ("40P01", BusyError, "deadlock"),
        ("42501", RefusedConfigurationError, "lacks a right"),
        ("22012", DBAPIError, "so it is"),
        ("XX000", DBAPIError, "so it is"),
    ],
)
def test_a_refusal_is_in_plain_words(
    engine: Engine, code: str, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught, session.transaction(engine) as connection:
        connection.exec_driver_sql(RAISE.format(code))
    assert isinstance(caught.value, BusyError) == (kind is BusyError)


def test_a_disk_that_is_full_in_a_copy_costs_nothing(engine: Engine, probe: int) -> None:
    enqueue(engine, 1, probe)
    claimed = claim(engine, 1, worker(engine))
    assert claimed is not None
    body = "BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END"
    execute(
        engine,
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
        f"'{body.replace(chr(39), chr(39) * 2)}'",
    )
    execute(
        engine,
        "CREATE TRIGGER full_disk BEFORE INSERT ON reelvec.video_embeddings EXECUTE FUNCTION full_disk()",
    )
    with pytest.raises(UnavailableError, match="no space left on its disk: could not extend file"):
        finish(engine, claimed, Outcome((vectors(probe),)))
    assert state_of(engine, 1) == "running"
    execute(engine, "DROP FUNCTION full_disk CASCADE")
    assert finish(engine, claimed, Outcome((vectors(probe),))) == "done"


def test_a_read_only_database_is_waited_for(engine: Engine, database_url: str, probe: int) -> None:
    enqueue(engine, 1, probe)
    me, name = worker(engine), make_url(database_url).database
    execute(engine, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with (
        session.connect(database_url) as other,
        pytest.raises(UnavailableError, match="is read-only"),
    ):
        claim(other, 1, me)
    execute(engine, f"ALTER DATABASE {name} RESET default_transaction_read_only")
    with session.connect(database_url) as other:
        assert claim(other, 1, me) is not None


def test_a_role_without_connections_or_rights(
    engine: Engine, database_url: str, probe: int
) -> None:
    enqueue(engine, 1, probe)
    role = f"poor_{uuid4().hex[:8]}"
    execute(
        engine,
        f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1 PASSWORD 'x'; GRANT USAGE ON SCHEMA reelvec "
        f"TO {role}",
    )
    url = (
        make_url(database_url)
        .set(username=role, password="x")
        .render_as_string(hide_password=False)
    )
    try:
        with session.connect(url) as poor:
            with pytest.raises(RefusedConfigurationError, match="This role lacks SELECT on"):
                claim(poor, 1, uuid4())
            with poor.connect(), pytest.raises(UnavailableError, match="no free connection for"):
                execute(poor, "SELECT 1")
    finally:
        execute(engine, f"DROP OWNED BY {role}; DROP ROLE {role}")


# Who meets whom


def test_producers_and_workers_on_the_same_videos_never_fail(
    engine: Engine, database_url: str, probe: int
) -> None:
    """Four producers, the same uris, titles of their own (of two of them only names), orders of
    their own, beside two threads that claim and finish.
    """
    videos, chunk, ended = 2_000, 500, threading.Event()

    def produce(index: int) -> int:
        names = FROM_NAMES if index < 2 else frozenset()
        rows = [
            Row(f"file:///v{i}", title=f"of {index}", category=f"c{index}", derived=names)
            for i in range(videos)
        ]
        random.Random(index).shuffle(rows)
        wanted = Wanted((probe,), (), force=index == 3)
        new = 0
        with engine.connect() as connection:

            def attempt(part: list[Row]) -> int:
                with session.transaction(connection):
                    return catalogue.record(connection, part, wanted).new_videos

            with session.transaction(connection):
                catalogue.begin(connection)
            for start in range(0, videos, chunk):
                new += session.retrying(functools.partial(attempt, rows[start : start + chunk]))
        return new

    def work(me: UUID) -> int:
        waiting = (
            "SELECT array_agg(video_id) FROM (SELECT video_id FROM reelvec.jobs WHERE state = "
            "'pending' LIMIT 20) j"
        )
        finished = 0
        while not ended.is_set():
            for video_id in one(engine, waiting) or ():  # type: ignore[attr-defined]
                claimed = session.retrying(functools.partial(claim, engine, video_id, me))
                if claimed is not None:
                    outcome = Outcome((vectors(probe),), media=Media(f"of {video_id}"))
                    state = session.retrying(functools.partial(finish, engine, claimed, outcome))
                    finished += state is not None
        return finished

    with ThreadPoolExecutor(6) as pool:
        working = [pool.submit(work, worker(engine)) for _ in range(2)]
        producing = [pool.submit(produce, index) for index in range(4)]
        wait(producing, timeout=120)
        ended.set()
    new = [future.result() for future in producing]
    assert all(future.result() for future in working)
    assert sum(new) == videos
    assert one(engine, "SELECT count(*) FROM reelvec.videos") == videos
    assert (
        one(engine, "SELECT count(*) FROM reelvec.jobs WHERE state IN ('pending', 'done')")
        == videos
    )


# Results are held


def runtime(engine: Engine, me: UUID) -> Any:
    """As much of a worker as claims and finishes."""
    return SimpleNamespace(
        database=engine,
        engine=object(),
        frame_store=None,
        worker_id=me,
        draining=threading.Event(),
        settings=SimpleNamespace(retry_seconds=5.0, job_seconds=3600.0),
        refusals=Refusals(beat_seconds=10.0),
        tally=Tally(),
        models=SimpleNamespace(ability=ledger.EVERYTHING, wrote=lambda _: None),
        look_now=threading.Event(),
    )


@pytest.mark.parametrize("fault", ["refused", "commit", "answer"])
def test_a_result_is_held_until_it_is_written(
    hop: Proxy, through: Engine, engine: Engine, probe: int, fault: str
) -> None:
    """Nobody listens; or COMMIT arrives and its answer does not: then it was written, and once is
    enough.
    """
    enqueue(engine, 1, probe)
    me = worker(engine)
    claimed = claim(engine, 1, me)
    assert claimed is not None
    if fault == "refused":
        hop.refuse()
        hop.cut()
    else:
        hop.trap(
            direction="request", at=b"COMMIT", then="cut" if fault == "commit" else "black_hole"
        )
    held = runtime(through, me)
    outcome = Outcome((vectors(probe),))
    with in_thread(lambda: tasks._finish(held, claimed, outcome, give_up_at=math.inf)) as thread:
        if fault == "refused":
            thread.join(1.5)
            assert thread.is_alive(), "it waits"
            assert state_of(engine, 1) == "running"
            hop.forward()
    assert state_of(engine, 1) == "done"
    assert one(engine, "SELECT count(*) FROM reelvec.video_embeddings") == 1


def test_a_result_is_let_go_when_the_process_must_end(
    hop: Proxy, through: Engine, engine: Engine, probe: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(engine, 1, probe)
    me = worker(engine)
    claimed = claim(engine, 1, me)
    assert claimed is not None
    monkeypatch.setattr("workers.pipeline.DRAIN_GRACE_SECONDS", 0.2)
    hop.refuse()
    hop.cut()
    held = runtime(through, me)
    with in_thread(
        lambda: tasks._finish(held, claimed, Outcome((vectors(probe),)), give_up_at=math.inf)
    ):
        held.draining.set()
    assert state_of(engine, 1) == "running"


def test_a_claim_whose_answer_is_on_its_way_is_in_hand(
    engine: Engine, probe: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """COMMIT went through and the answer is late: the same worker's other thread must not give the
    video back.
    """
    enqueue(engine, 1, probe)
    me = worker(engine)
    made = runtime(engine, me)
    made.hold = functools.partial(Runtime.hold, made)
    made._held = set()
    seen: list[tuple[list[int], float]] = []

    def look(*_: object, **__: object) -> None:
        in_hand = Runtime.in_hand(made)
        with session.transaction(engine) as connection:
            unheld = liveness.give_back_unheld(
                connection, me, in_hand=in_hand, older_than_seconds=0.0
            )
        seen.append((unheld, Runtime.longest_active_seconds(made)))

    def claim_in_time(connection: Connection, *arguments: Any, **named: Any) -> object:
        claimed = once(connection, *arguments, **named)
        connection.commit()
        look()
        return claimed

    once = ledger.claim
    monkeypatch.setattr(ledger, "claim", claim_in_time)
    monkeypatch.setattr(tasks, "_work", look)
    tasks._take(made, 1)
    assert [unheld for unheld, _ in seen] == [[], []]
    assert seen[0][1] == 0.0 < seen[1][1], "the watchdog counts from the claim"
    look()
    assert seen[2][0] == [1], "a finish whose COMMIT was lost"


def test_the_heart_beats_while_all_connections_are_taken(engine: Engine, database_url: str) -> None:
    me = liveness.Worker(uuid4(), "here", 1, "cpu", "0", 3, 1, 2.0, 1)
    with session.connect(database_url, pool_size=1) as busy, busy.connect():
        beating = SimpleNamespace(
            database=busy, beating=engine, worker=me, draining=threading.Event(), longest_active_seconds=lambda: 0.0,
            settings=SimpleNamespace(stuck_seconds=9.0, gap_seconds=20.0, pack_slots=0),
            models=SimpleNamespace(look=lambda: None, ability=ledger.EVERYTHING),
        )  # fmt: skip
        heart = heartbeat.Heartbeat.__new__(heartbeat.Heartbeat)
        heart._runtime = beating  # type: ignore[assignment]
        heart.beat()
    assert one(engine, "SELECT count(*) FROM reelvec.workers") == 1
