"""A fleet of real workers that never runs out of work, to be struck; and what must hold of it
afterwards.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db import encoders, session
from db.errors import ReelvecError
from db.jobs import catalogue
from db.jobs.catalogue import Wanted
from producer.request import declared_encoder
from tests.conftest import FAST, WorkerProcess, clean_environment
from tests.footage import Footage
from tests.servers import PATIENCE_SECONDS, Servers

log = logging.getLogger(__name__)

#: A video takes about this long besides its computing, so that every place of a worker is taken
#: while there is work.
SOURCE_SECONDS = 0.1
#: Unfinished videos per worker that are kept in store: more than it can finish while one look at
#: the ledger is on its way, and few, as all are worked off after each strike.
STORE = 12
#: At the default intervals the broker is filled every 10 s only; three workers on two cores finish
#: fewer in that time.
STORE_AT_DEFAULTS = 120
#: The worker that can be cut off from Postgres while the others are not.
CUT_OFF = 0


def until(condition: Callable[[], object], what: str, *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for an event. AssertionError naming `what` if it never comes."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


@dataclass
class Fleet:
    """Workers on one ledger. `ended`: exit codes of workers that were not told to end, in the order
    they were seen.

    The last `sampling` workers are sampler nodes; then `frames` is the store that all of them use.
    """

    servers: Servers
    footage: Footage
    folder: Path
    size: int = 2
    fast: bool = True
    forked: bool = False
    sampling: int = 0
    frames: Path | None = None
    variables: dict[str, str] = field(default_factory=dict)
    ended: list[int] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)
    workers: dict[int, WorkerProcess] = field(default_factory=dict)
    started: dict[int, float] = field(default_factory=dict)
    _wanted: Wanted | None = None
    _supplying: threading.Event = field(default_factory=threading.Event)
    _ids: dict[int, str] = field(default_factory=dict)
    _changing: threading.RLock = field(default_factory=threading.RLock)

    # Workers

    def start(self, index: int) -> WorkerProcess:
        """Start worker `index`, again if it was there before."""
        temporary = self.folder / f"temporary{index}"
        temporary.mkdir(exist_ok=True)
        log = self.folder / f"worker{index}-{len(self.logs)}.log"
        self.logs.append(log)
        environment = {
            **clean_environment(),
            **self.servers.environment(private=index == CUT_OFF),
            **(FAST if self.fast else {}),
            "REELVEC_HTTP_ALLOW_PRIVATE": "true",
            "REELVEC_SAMPLERS": "1",
            "REELVEC_DATA_DIR": str(self.folder / "no-stack-of-its-own"),
            "TMPDIR": str(temporary),
            **({} if self.frames is None else {"REELVEC_FRAMES": str(self.frames)}),
            **({"REELVEC_STAGE": "sample"} if index >= self.size - self.sampling else {}),
            **self.variables,
        }
        self.workers[index] = self._process(index, environment, log)
        self.started[index] = time.time()
        return self.workers[index]

    def _process(self, index: int, environment: dict[str, str], log: Path) -> WorkerProcess:
        """On this machine; some fleets have a host for each worker."""
        return WorkerProcess(environment, self.folder, log, forked=self.forked)

    def kill(self, *indexes: int) -> None:
        """SIGKILL to these workers at once, and start them again as a supervisor would."""
        with self._changing:
            for index in indexes:
                self.workers[index].process.kill()
            for index in indexes:
                self.workers[index].kill()
                self.start(index)

    def drain(self, index: int) -> int:
        """SIGTERM to one worker, and start it again; its exit code."""
        with self._changing:
            code = self.workers[index].stop()
            self.start(index)
        return code

    def revive(self) -> None:
        """Start again what has ended by itself, and keep its exit code."""
        with self._changing:
            for index, worker in self.workers.items():
                if (code := worker.process.poll()) is not None:
                    self.ended.append(code)
                    self.start(index)

    def stop(self) -> list[int]:
        """SIGTERM to all, once; their exit codes."""
        for worker in self.workers.values():
            if worker.process.poll() is None:
                worker.process.terminate()
        return [worker.process.wait(timeout=40) for worker in self.workers.values()]

    def samplers(self, index: int) -> list[psutil.Process]:
        """The sampler processes of one worker."""
        return list(psutil.Process(self.workers[index].process.pid).children())

    def id_of(self, index: int) -> str | None:
        """The worker's id in the ledger; None before it is ready."""
        pid = self.workers[index].process.pid
        if pid not in self._ids:
            query = (
                "SELECT worker_id::text FROM reelvec.workers WHERE pid = :pid ORDER BY started_at "
                "DESC LIMIT 1"
            )
            if found := self._rows(query, pid=pid):
                self._ids[pid] = str(found[0][0])
        return self._ids.get(pid)

    # Work

    def supply(self) -> None:
        """Keep unfinished videos in store until `dry`."""
        self._supplying.set()
        threading.Thread(target=self._keep_supplied, daemon=True).start()

    def dry(self) -> None:
        """No new videos from now on."""
        self._supplying.clear()

    def add(self, count: int) -> None:
        """Record `count` new videos; the workers feed them to the broker."""
        rows = self.footage.more(count)
        with session.transaction(self.servers.engine) as connection:
            if self._wanted is None:
                wanted = encoders.declare_encoder(
                    connection, declared_encoder("probe", "pretrained", "notebook")
                )
                self._wanted = Wanted((wanted,), ())
            catalogue.begin(connection)
            catalogue.record(connection, rows, self._wanted)

    def _keep_supplied(self) -> None:
        store = (STORE if self.fast else STORE_AT_DEFAULTS) * self.size
        while self._supplying.is_set():
            try:
                if (missing := store - self.unfinished()) > 0:
                    self.add(missing)
            except (ReelvecError, DBAPIError):
                log.debug("no videos could be added: the database is being struck")
            time.sleep(0.2)

    # What the ledger says

    def _rows(self, query: str, **facts: object) -> list[tuple[object, ...]]:
        with session.transaction(self.servers.engine) as connection:
            return [tuple(row) for row in connection.execute(text(query), facts)]

    def unfinished(self) -> int:
        """Videos that are neither done nor failed."""
        query = (
            "SELECT count(*) FROM reelvec.jobs WHERE state NOT IN ('done', 'failed', 'cancelled')"
        )
        return int(str(self._rows(query)[0][0]))

    def is_at_work(self, index: int) -> bool:
        """Whether this worker has a video in hand."""
        return bool(self.in_hand(index))

    def in_hand(self, index: int) -> list[int]:
        """Videos this worker works on."""
        query = (
            "SELECT video_id FROM reelvec.jobs WHERE state = 'running' AND worker_id::text = "
            ":worker"
        )
        return [int(str(row[0])) for row in self._rows(query, worker=self.id_of(index) or "")]

    def are_done(self, video_ids: list[int]) -> bool:
        """Whether each of these videos is done."""
        query = "SELECT bool_and(state = 'done') FROM reelvec.jobs WHERE video_id = ANY(:video_ids)"
        return bool(self._rows(query, video_ids=video_ids)[0][0])

    def is_busy(self, index: int) -> bool:
        """Whether every place of this worker is taken."""
        query = (
            "SELECT count(*) >= in_flight FROM reelvec.workers JOIN reelvec.jobs USING (worker_id)"
            " WHERE state = 'running' AND worker_id::text = :worker GROUP BY in_flight"
        )
        found = self._rows(query, worker=self.id_of(index) or "")
        return bool(found and found[0][0])

    def served_since(self, moment: float) -> set[str]:
        """Ids of the workers that have taken and finished a video after `moment` (seconds since
        1970).

        What they had in hand already says nothing: a worker that takes no work any more finishes
        that, too. Of a sampler node no more is known than that it takes videos.
        """
        query = (
            "SELECT DISTINCT m.worker_id::text FROM reelvec.video_embeddings m JOIN reelvec.jobs USING "
            "(video_id) WHERE started_at > to_timestamp(:moment) UNION SELECT worker_id::text FROM "
            "reelvec.workers WHERE stage = 'sample' AND claimed_at > to_timestamp(:moment)"
        )
        return {str(row[0]) for row in self._rows(query, moment=moment)}

    def behind(self, moment: float) -> list[int]:
        """Workers that have taken and finished nothing since `moment`."""
        try:
            served = self.served_since(moment)
            return [index for index in self.workers if self.id_of(index) not in served]
        except (ReelvecError, DBAPIError):  # the database is not back yet
            return list(self.workers)

    def wait_until_busy(self) -> None:
        """Every place of every worker is taken."""
        for index in self.workers:
            until(lambda index=index: self.is_busy(index), f"worker {index} has all places taken")  # type: ignore[misc]

    def recover(self, since: float, *, seconds: float) -> tuple[float, list[int]]:
        """Wait until every worker has taken and finished a video since; how long that took, and
        those that did not in `seconds`.

        One that has ended is started again, and counts as the same; the seconds are counted from
        its last start.
        """
        left = set(self.workers)
        while left := left & set(self.behind(since)):
            if any(time.time() - max(since, self.started[index]) > seconds for index in left):
                break
            self.revive()
            time.sleep(0.05)
        return time.time() - since, sorted(left)

    def said(self) -> str:
        """Everything the workers have logged."""
        return "\n".join(log.read_text(errors="replace") for log in self.logs)

    def commits(self) -> Counter[str]:
        """How often workers have said of a video that its results are committed."""
        return Counter(re.findall(r"video (\d+): done", self.said()))


@contextmanager
def running(
    servers: Servers,
    footage: Footage,
    folder: Path,
    *,
    size: int = 2,
    fast: bool = True,
    forked: bool = False,
    source_seconds: float = SOURCE_SECONDS,
    sampling: int = 0,
    **variables: str,
) -> Iterator[Fleet]:
    """A fleet at work: every worker has finished a video. Its processes are gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = folder / "frames" if sampling else None
    if frames is not None:
        frames.mkdir()
    fleet = Fleet(
        servers,
        footage,
        folder,
        size=size,
        fast=fast,
        forked=forked,
        sampling=sampling,
        frames=frames,
        variables=variables,
    )
    footage.hop.slow(delay_seconds=source_seconds / 2)
    try:
        for index in range(size):
            fleet.start(index)
        fleet.supply()
        until(lambda: not fleet.behind(0), "every worker has finished its first video", seconds=90)
        yield fleet
    finally:
        fleet.dry()
        for worker in fleet.workers.values():
            worker.kill()
