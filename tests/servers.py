"""A Postgres and a broker that can be killed, frozen and cut off while others use them, with a
proxy before each.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil
import redis
from sqlalchemy import Engine, create_engine, text

from db import schema, session
from db.stack.local_stack import LocalStack
from db.stack.server_process import wait_until
from tests.proxy import Proxy

QUEUE = "reelvec:reelvec"
#: Lies in the broker while it is killed, so that it shows what was kept.
_MARK = "mark-of-a-kill"
#: Waits on events, not on time: only something that never happens takes this long.
PATIENCE_SECONDS = 60.0


@dataclass
class Servers:
    """`database_url` and `broker_url` lead to the servers themselves; what is under test comes
    through the proxies.

    `private_hop` lies before `database_hop`, on the way of one worker alone.
    """

    local: LocalStack
    database_url: str
    broker_url: str
    database_hop: Proxy
    broker_hop: Proxy
    private_hop: Proxy
    engine: Engine
    _keeps: bool | None = None

    @classmethod
    @contextmanager
    def on(cls, local: LocalStack, database_url: str) -> Iterator[Self]:
        """The servers of a running stack, and one migrated database on it."""
        _, broker_url = local.urls()
        with (
            Proxy(_endpoint(database_url)) as database_hop,
            Proxy(_endpoint(broker_url)) as broker_hop,
            Proxy(database_hop.endpoint) as private_hop,
            # thousands of vectors are read and compared after each strike, beside busy workers
            session.connect(database_url, pool_size=8, statement_seconds=60.0) as engine,
        ):
            yield cls(
                local, database_url, broker_url, database_hop, broker_hop, private_hop, engine
            )

    @classmethod
    @contextmanager
    def started(cls, folder: Path) -> Iterator[Self]:
        """Servers and a database of one's own, gone afterwards. Durable: what a killed Postgres
        forgets is made twice.
        """
        local = LocalStack(folder / "stack")
        try:
            url = local.up().database_url
            schema.upgrade(url)
            with cls.on(local, url) as made:
                yield made
        finally:
            local.down()

    def environment(self, *, private: bool = False) -> dict[str, str]:
        """Where processes under test find the servers: behind the proxies. `private`: for the one
        that can be cut off alone.
        """
        hop = self.private_hop if private else self.database_hop
        return {
            "DATABASE_URL": hop.url(self.database_url),
            "CELERY_BROKER_URL": self.broker_hop.url(self.broker_url),
        }

    @property
    def passwords(self) -> tuple[str, ...]:
        """What no log, error or table may show."""
        return tuple(
            url.split("@")[0].rsplit(":", 1)[1] for url in (self.database_url, self.broker_url)
        )

    @contextmanager
    def broker(self) -> Iterator[redis.Redis]:
        """A client of the broker itself."""
        client = redis.Redis.from_url(self.broker_url, socket_timeout=10)
        try:
            yield client
        finally:
            client.close()

    @contextmanager
    def administration(self) -> Iterator[Any]:
        """A connection that may write where others may not; `run(statement)` returns its rows."""
        engine = create_engine(self.database_url, isolation_level="AUTOCOMMIT", pool_size=1)
        try:
            with engine.connect() as connection:
                connection.execute(text("SET default_transaction_read_only = off"))
                yield lambda statement: connection.execute(text(statement))
        finally:
            engine.dispose()

    # Deaths

    def kill_broker(self, *, keeps: bool = False) -> None:
        """SIGKILL. `keeps`: what it held is there again after `up`; else nothing is. AssertionError
        in `up` where that is not so.
        """
        state = self._state()
        with self.broker() as client:
            client.set(_MARK, "here")
            if keeps:
                client.save()
        self._keeps = keeps
        os.kill(state.broker_pid, signal.SIGKILL)
        assert wait_until(lambda: self.local.state() is None, PATIENCE_SECONDS)
        if not keeps:
            folder = self.local.data_dir / "valkey"
            shutil.rmtree(folder / "appendonlydir", ignore_errors=True)
            (folder / "dump.rdb").unlink(missing_ok=True)

    def kill_postgres(self, number: signal.Signals = signal.SIGKILL) -> None:
        """SIGKILL; or SIGINT (a fast stop), or SIGQUIT (an immediate one)."""
        os.kill(self._state().postgres_pid, number)
        assert wait_until(lambda: self.local.state() is None, PATIENCE_SECONDS)

    def up(self) -> None:
        """Start what was killed, on the ports it had."""
        self.local.up()
        (self.local.data_dir / "valkey" / "dump.rdb").unlink(missing_ok=True)
        if self._keeps is not None:
            with self.broker() as client:
                assert bool(client.delete(_MARK)) == self._keeps, "a broker killed otherwise"
            self._keeps = None
        self.engine.dispose()

    # Silence

    @contextmanager
    def broker_frozen(self) -> Iterator[None]:
        """The process is stopped: its port still takes connections, and nothing answers."""
        with _stopped([self._state().broker_pid]):
            yield

    @contextmanager
    def postgres_frozen(self) -> Iterator[None]:
        """The same for Postgres and all its backends."""
        postmaster = psutil.Process(self._state().postgres_pid)
        with _stopped(
            [postmaster.pid, *(child.pid for child in postmaster.children(recursive=True))]
        ):
            yield

    # Refusals

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """As after a failover: every transaction of others is read-only."""
        with self.administration() as run:
            run("ALTER SYSTEM SET default_transaction_read_only = on")
            run("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            with self.administration() as run:
                run("ALTER SYSTEM RESET default_transaction_read_only")
                run("SELECT pg_reload_conf()")

    @contextmanager
    def no_connections_left(self) -> Iterator[None]:
        """Somebody else holds every connection Postgres gives; those in use are ended first."""
        with contextlib.ExitStack() as held:
            self.terminate_backends()
            while True:
                engine = held.enter_context(
                    _disposing(create_engine(self.database_url, pool_size=1))
                )
                try:
                    held.enter_context(engine.connect())
                except Exception:  # noqa: BLE001 - whatever Postgres says when it is full
                    break
            yield

    def terminate_backends(self) -> int:
        """End every other connection of this database; returns how many there were."""
        with self.administration() as run:
            rows = run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return len(rows.all())

    def idle_in_transaction(self, *, older_than_seconds: float) -> int:
        """Sessions that hold a transaction open and do nothing in it."""
        with session.transaction(self.engine) as connection:
            return int(
                connection.execute(
                    text(
                        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                        "AND state LIKE 'idle in transaction%' AND state_change < now() - "
                        "make_interval(secs => :age)"
                    ),
                    {"age": older_than_seconds},
                ).scalar_one()
            )

    def _state(self) -> Any:
        state = self.local.state()
        assert state is not None, "both servers run"
        return state


@contextmanager
def _stopped(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def _disposing(engine: Engine) -> Iterator[Engine]:
    try:
        yield engine
    finally:
        engine.dispose()


def _endpoint(url: str) -> str:
    return url.rsplit("@", 1)[-1].split("/", maxsplit=1)[0]
