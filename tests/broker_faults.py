"""Ways to lose the broker while every place of every worker is taken, and how long the way back
takes.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import redis
from sqlalchemy import Engine

from db.stack.local_stack import LocalStack
from tests.conftest import Desk, WorkerProcess
from tests.golden_run import assert_nothing_lost_nothing_doubled, probe_vectors
from tests.http_server import Handler, WebServer
from tests.ledgering import one

#: Of one worker with one sampler.
PLACES = 3
ALLOWED = {"REELVEC_HTTP_ALLOW_PRIVATE": "true", "REELVEC_FETCH_SECONDS": "300"}

#: A fault that lasts is over when the block ends.
Fault = Callable[["Broker"], AbstractContextManager[None]]


def until(condition: Callable[[], bool], *, seconds: float = 90.0) -> float:
    """Wait for it; returns how many seconds that took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "this should have happened by now"
        time.sleep(0.02)
    return time.monotonic() - start


@dataclass
class Gate:
    """Holds every request of a web server (its `bend`) until it is let through: whoever asks keeps
    a place taken.
    """

    held: set[int] = field(default_factory=set)
    _let_through: set[int] = field(default_factory=set)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _count: int = 0
    _open: bool = False

    def bend(self, _: Handler) -> bool:
        with self._changed:
            self._count += 1
            mine = self._count
            self.held.add(mine)
            self._changed.wait_for(lambda: self._open or mine in self._let_through)
            self.held.discard(mine)
        return False

    def let_through(self) -> None:
        """Those that are held now; whoever comes later is held again."""
        with self._changed:
            self._let_through |= self.held
            self._changed.notify_all()

    def open(self) -> None:
        with self._changed:
            self._open = True
            self._changed.notify_all()


@dataclass(frozen=True)
class Broker:
    """The broker of a local stack, as its nemesis sees it."""

    local: LocalStack
    url: str

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def end(self, signal_number: signal.Signals) -> None:
        pid = self.pid()
        os.kill(pid, signal_number)
        until(
            lambda: (
                not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
            )
        )
        until(lambda: self.local.state() is None)

    def pid(self) -> int:
        state = self.local.state()
        assert state is not None
        return state.broker_pid

    def save(self) -> Path:
        """Keep the data over a restart (the tests' broker keeps none by itself); returns the
        file.
        """
        with self.client() as client:
            client.save()
            return (
                Path(client.config_get("dir")["dir"])
                / client.config_get("dbfilename")["dbfilename"]
            )


@contextmanager
def killed_and_wiped(broker: Broker) -> Iterator[None]:
    broker.end(signal.SIGKILL)
    try:
        yield
    finally:
        broker.local.up()


@contextmanager
def killed_with_its_data_kept(broker: Broker) -> Iterator[None]:
    data = broker.save()
    broker.end(signal.SIGKILL)
    try:
        yield
    finally:
        broker.local.up()
        data.unlink()


@contextmanager
def restarted(broker: Broker) -> Iterator[None]:
    data = broker.save()
    broker.end(signal.SIGTERM)
    try:
        yield
    finally:
        broker.local.up()
        data.unlink()


@contextmanager
def frozen(broker: Broker) -> Iterator[None]:
    pid = broker.pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def clients_killed(broker: Broker) -> Iterator[None]:
    with broker.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    yield


@contextmanager
def flushed(broker: Broker) -> Iterator[None]:
    with broker.client() as client:
        client.flushall()
    yield


@contextmanager
def full(broker: Broker) -> Iterator[None]:
    """At its memory's limit: what writes is refused."""
    with broker.client() as client:
        client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            client.config_set("maxmemory", 0)


class FullHouse:
    """Workers whose every place is taken by a video that waits for the gate, and messages for many
    more rounds.
    """

    def __init__(
        self,
        desk: Desk,
        workers: list[WorkerProcess],
        engine: Engine,
        broker: Broker,
        gate: Gate,
        web: WebServer,
    ) -> None:
        self.desk, self.workers, self.engine, self.broker = desk, workers, engine, broker
        self.gate, self.web = gate, web
        self.places = PLACES * len(workers)
        self.rounds = 0

    def enqueue(self, clips: list[Path], *options: str) -> None:
        self.web.files = {f"/{clip.name}": clip.read_bytes() for clip in clips}
        addresses = "".join(f"{self.web.url(path)}\n" for path in self.web.files)
        (self.desk.folder / "list.txt").write_text(addresses)
        self.desk.run("enqueue", "list.txt", "--backbone", "probe", *options, **ALLOWED)

    def finished(self) -> int:
        return int(str(one(self.engine, "SELECT count(*) FROM reelvec.jobs WHERE state = 'done'")))

    def strike(self, fault: Fault, away: Callable[[], object] = lambda: None) -> float:
        """One fault: what is in hand finishes while the broker is away, `away` waits until that was
        long enough, and then every place of every worker has to be taken anew. Returns the seconds
        from the broker's return to that.
        """
        until(lambda: len(self.gate.held) == self.places)
        self.rounds += 1
        with fault(self.broker):
            self.gate.let_through()
            until(lambda: self.finished() == self.rounds * self.places)
            away()
        seconds = until(lambda: len(self.gate.held) == self.places)
        assert all(worker.process.poll() is None for worker in self.workers), "none ended"
        return seconds

    def finish(self, clips: list[Path]) -> None:
        """Let everything through: all is done, once, with its own vectors, and nobody met anything
        unexpected.
        """
        self.gate.open()
        self.enqueue(clips, "--wait")
        assert [worker.stop() for worker in self.workers] == [0] * len(self.workers)
        vectors = probe_vectors(clips).values()
        golden = {
            self.web.url(f"/{clip.name}"): vector
            for clip, vector in zip(clips, vectors, strict=True)
        }
        assert_nothing_lost_nothing_doubled(self.engine, self.broker.url, golden)
        assert one(self.engine, "SELECT max(token) FROM reelvec.jobs") == 1, "nothing was run twice"
        assert not any("Traceback" in worker.log() for worker in self.workers)
