"""Ways to lose the broker while every place of every worker is taken, and how long the way back takes."""

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

from db.local_stack import LocalStack
from tests.http_server import Handler

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
    """Holds every request of a web server (its `bend`) until it is let through: whoever asks keeps a place taken."""

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
        until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        until(lambda: self.local.state() is None)

    def pid(self) -> int:
        state = self.local.state()
        assert state is not None
        return state.broker_pid

    def save(self) -> Path:
        """Keep the data over a restart (the tests' broker keeps none by itself); returns the file."""
        with self.client() as client:
            client.save()
            return Path(client.config_get("dir")["dir"]) / client.config_get("dbfilename")["dbfilename"]


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


def strike(
    fault: Fault, broker: Broker, gate: Gate, *, places: int, finished: Callable[[], int], away: Callable[[], None]
) -> float:
    """One fault with all places taken: the videos in hand finish while the broker is away, `away` returns when it has been
    away for long enough, and then every place must be taken anew. Returns the seconds from its return to that.
    """
    until(lambda: len(gate.held) == places)
    before = finished()
    with fault(broker):
        gate.let_through()
        until(lambda: finished() == before + places)
        away()
    return until(lambda: len(gate.held) == places)
