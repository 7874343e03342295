"""What is lost, doubled or stuck: a fleet of ours and one of plain Celery under the same faults;
and what delivery costs.

    python -m bench.delivery [--kills 20] [--tables faults costs]

Prints the tables of bench/RESULTS.md. Both fleets read the same clips from the same slow web
server; the plain one (`bench.delivery_plain`) decodes nothing and writes one row a video. Its
settings are those that Celery's documentation advises for work that must not be lost. What is not
done when nothing has moved for a minute is looked for in the broker: what waits there needs a
worker that still takes work, what a dead one held comes back after an hour; what is nowhere is
lost.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median

import redis
from kombu.exceptions import OperationalError
from sqlalchemy import text

from bench.faults import commit
from db import session
from tests import fleet as fleets
from tests import verdict
from tests.fleet import SOURCE_SECONDS, Fleet, until
from tests.footage import Footage
from tests.servers import QUEUE, Servers
from tests.strikes import STRIKES

WORKERS = 2
PLACES = 3
#: Messages that wait while a strike falls.
STORE = 100
#: Nothing has been finished for so long: nothing more will be.
STILL_SECONDS = 60.0
STRIKE_SEED = 1
#: Messages go on coming for so long after the last strike: a worker that can take any does.
SUPPLY_SECONDS = 30.0
DUPLICATES = 1000
REPEATS = 3


@dataclass
class Plain:
    """A fleet of `bench.delivery_plain`, with as much of `Fleet` as the strikes use."""

    servers: Servers
    footage: Footage
    folder: Path
    workers: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    fast: bool = True
    published: list[str] = field(default_factory=list)
    _supplying: threading.Event = field(default_factory=threading.Event)

    def start(self, index: int) -> None:
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "bench.delivery_plain",
            "worker",
            "-P",
            "threads",
            "-c",
            f"{PLACES}",
        ]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            **self.servers.environment(),
        }
        with (self.folder / f"plain{index}.log").open("ab") as log:
            self.workers[index] = subprocess.Popen(
                [*command, "-n", f"plain{index}@%h", "-l", "WARNING"],
                env=environment,
                stdout=log,
                stderr=log,
            )

    def kill(self, *indexes: int) -> None:
        for index in indexes:
            self.workers[index].kill()
            self.workers[index].wait()
            self.start(index)

    def supply(self) -> None:
        """Keep messages waiting until `dry`."""
        self._supplying.set()
        threading.Thread(target=self._keep_supplied, daemon=True).start()

    def dry(self) -> None:
        self._supplying.clear()

    def _keep_supplied(self) -> None:
        from bench.delivery_plain import app, embed

        while self._supplying.is_set():
            try:
                with self.servers.broker() as client:
                    missing = STORE - client.llen("plain")
                with app.connection(self.servers.broker_url) as connection:
                    for row in self.footage.more(max(0, missing)):
                        embed.apply_async((row.uri,), connection=connection, retry=False)
                        self.published.append(row.uri)
            except (OperationalError, redis.RedisError):
                print("a message was refused: it does not count", file=sys.stderr)
            time.sleep(0.2)

    def rows(self) -> list[str]:
        """The uri of every row that was written."""
        with session.transaction(self.servers.engine) as connection:
            return [
                str(row[0]) for row in connection.execute(text("SELECT uri FROM plain_results"))
            ]

    def is_busy(self) -> bool:
        with self.servers.broker() as client:
            return int(client.hlen("unacked")) >= PLACES * len(self.workers)

    def served_since(self, moment: float) -> int:
        """How many workers have taken and finished a task since."""
        with session.transaction(self.servers.engine) as connection:
            query = text(
                "SELECT count(DISTINCT pid) FROM plain_results WHERE started_at > "
                "to_timestamp(:moment)"
            )
            return int(connection.execute(query, {"moment": moment}).scalar_one())

    def in_broker(self) -> int:
        """Messages that are waiting or held by somebody, dead or alive."""
        with self.servers.broker() as client:
            return int(client.llen("plain")) + int(client.hlen("unacked"))


@contextmanager
def ground() -> Iterator[tuple[Path, Servers, Footage]]:
    """A folder, servers and videos of their own; the folder is open to the servers' user."""
    with tempfile.TemporaryDirectory(prefix="reelvec-delivery-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with Servers.started(folder) as servers, Footage.made(folder) as footage:
            yield folder, servers, footage


@contextmanager
def ours(*, direct: bool = False) -> Iterator[Fleet]:
    """A fleet of ours, at the intervals users have. `direct`: without the proxies, which cost time
    of their own.
    """
    with ground() as (folder, servers, footage):
        straight = (
            {"DATABASE_URL": servers.database_url, "CELERY_BROKER_URL": servers.broker_url}
            if direct
            else {}
        )
        with fleets.running(
            servers, footage, folder / "ours", size=WORKERS, fast=False, **straight
        ) as fleet:
            yield fleet


@contextmanager
def plain() -> Iterator[Plain]:
    """A fleet of plain Celery."""
    with ground() as (folder, servers, footage):
        with session.transaction(servers.engine) as connection:
            connection.execute(
                text(
                    "CREATE TABLE plain_results (uri text, size_bytes int, pid int, started_at "
                    "timestamptz)"
                )
            )
        made = Plain(servers, footage, folder)
        footage.hop.slow(delay_seconds=SOURCE_SECONDS / 2)
        for index in range(WORKERS):
            made.start(index)
        try:
            yield made
        finally:
            for worker in made.workers.values():
                worker.kill()
                worker.wait()


def struck_plain(name: str, times: int) -> dict[str, int]:
    """Plain Celery under a strike."""
    with plain() as fleet:
        fleet.supply()
        for number in range(times):
            _wait(fleet.is_busy)
            STRIKES[name].hit(fleet, Random(STRIKE_SEED + number))  # type: ignore[arg-type]
        back = time.time()
        time.sleep(SUPPLY_SECONDS)
        fleet.dry()
        _until_still(lambda: len(fleet.rows()))
        rows = fleet.rows()
        missing = len(set(fleet.published) - set(rows))
        left = min(missing, fleet.in_broker())
        return {
            "done": len(set(rows)),
            "lost": missing - left,
            "left": left,
            "doubled": len(rows) - len(set(rows)),
            "stuck": max(0, WORKERS - fleet.served_since(back)),
        }


def struck_ours(name: str, times: int) -> dict[str, int]:
    """The same for a fleet of ours."""
    with ours() as fleet:
        for number in range(times):
            _wait(lambda: all(fleet.is_at_work(index) for index in fleet.workers))
            STRIKES[name].hit(fleet, Random(STRIKE_SEED + number))
        _, stuck = fleet.recover(time.time(), seconds=180)
        found = verdict.judge(fleet, seconds=600)
        return {
            "done": found.videos - found.lost,
            "lost": found.lost,
            "left": 0,
            "doubled": found.doubled,
            "stuck": len(stuck),
        }


def _wait(condition: Callable[[], bool]) -> None:
    """Strikes fall on workers that work; where they will not any more, that is what the table
    says.
    """
    try:
        until(condition, "workers are busy", seconds=20)
    except AssertionError:
        print("the fleet is not at work; striking all the same", file=sys.stderr)


def _until_still(count: Callable[[], int]) -> None:
    last, since = count(), time.monotonic()
    while time.monotonic() - since < STILL_SECONDS:
        time.sleep(1)
        if (now := count()) != last:
            last, since = now, time.monotonic()


def faults(kills: int) -> None:
    strikes = (
        ("worker-kill", kills),
        ("broker-kill-wiped", 1),
        ("broker-client-kill", 3),
        ("broker-half-open", 3),
        ("broker-black-hole", 3),
    )
    print(
        "| strike | times | fleet | done | lost | left in the broker | done twice | workers stuck "
        f"|\n{'|---' * 8}|"
    )
    for name, times in strikes:
        for fleet, struck in (("plain Celery", struck_plain), ("reelvec", struck_ours)):
            found = struck(name, times)
            cells = [
                name,
                times,
                fleet,
                *(found[what] for what in ("done", "lost", "left", "doubled", "stuck")),
            ]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


def costs() -> None:
    """Of a duplicate, a death and a drain, at the intervals users have."""
    print("| what | bar | median | worst |\n|---|--:|--:|--:|")
    with ours(direct=True) as fleet:
        _line(
            "a duplicate message",
            "< 10 ms",
            [1000 * duplicate(fleet) for _ in range(REPEATS)],
            "ms",
        )
        _line(
            "drain of a busy worker",
            "<= 10 s",
            [drained(fleet, stalled=False) for _ in range(REPEATS)],
            "s",
        )
        _line(
            "drain with stalled fetches",
            "<= 10 s",
            [drained(fleet, stalled=True) for _ in range(REPEATS)],
            "s",
        )
        _line(
            "kill -9 until its videos are done",
            "<= 90 s",
            [reclaimed(fleet) for _ in range(REPEATS)],
            "s",
        )


def duplicate(fleet: Fleet) -> float:
    """Seconds of one worker that one of many duplicates of a finished video takes, with nothing
    else to do.
    """
    fleet.supply()
    with fleet.servers.broker() as client:
        until(lambda: client.llen(QUEUE) > 0, "a message waits")
        message = client.lrange(QUEUE, 0, 0)[0]
        assert verdict.judge(fleet, seconds=600).holds
        started = time.monotonic()
        client.lpush(QUEUE, *[message] * DUPLICATES)
        until(
            lambda: client.llen(QUEUE) == 0 and client.hlen("reelvec:unacked") == 0,
            "all are dropped",
        )
    return (time.monotonic() - started) / DUPLICATES * len(fleet.workers)


def drained(fleet: Fleet, *, stalled: bool) -> float:
    """Seconds from SIGTERM to the end of a worker whose places are all taken."""
    fleet.supply()
    fleet.wait_until_busy()
    if stalled:
        fleet.footage.hop.freeze()
        time.sleep(1)
    process = fleet.workers[0].process
    started = time.monotonic()
    process.terminate()
    assert process.wait(40) == 0
    seconds = time.monotonic() - started
    fleet.footage.hop.forward()
    fleet.footage.hop.slow(delay_seconds=SOURCE_SECONDS / 2)
    fleet.start(0)
    until(lambda: not fleet.behind(0), "it works again", seconds=120)
    return seconds


def reclaimed(fleet: Fleet) -> float:
    """Seconds from `kill -9` of a busy worker, not started again, until all it had in hand is
    done.
    """
    fleet.supply()
    fleet.wait_until_busy()
    hand = fleet.in_hand(0)
    fleet.workers[0].kill()
    started = time.monotonic()
    until(lambda: fleet.are_done(hand), "another worker has done them", seconds=300)
    seconds = time.monotonic() - started
    fleet.start(0)
    until(lambda: not fleet.behind(0), "it works again", seconds=120)
    return seconds


def _line(what: str, bar: str, found: list[float], unit: str) -> None:
    print(f"| {what} | {bar} | {median(found):.1f} {unit} | {max(found):.1f} {unit} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument(
        "--tables", nargs="+", choices=("faults", "costs"), default=["faults", "costs"]
    )
    chosen = parser.parse_args()
    print(f"{os.cpu_count()} cores, commit {commit()}, {WORKERS} workers of {PLACES} places\n")
    if "faults" in chosen.tables:
        faults(chosen.kills)
        print()
    if "costs" in chosen.tables:
        costs()


if __name__ == "__main__":
    main()
