"""A million jobs at 10^5 places: upgraded while workers of an earlier commit run, then claimed,
finished and fed.

    python -m bench.scale [--jobs 1000000] [--places 100000] [--base 90cb42d] [--files 4000]
                          [--dim 0]

Half of the rows are of one bucket; with `--dim` each has a vector of so many numbers. The base is
checked out beside; its own code makes its schema and its workers embed `--files` real clips while
this commit's migrations run, with the packages installed here (`90cb42d` needs pgvector's as well).
Prints the table of bench/RESULTS.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from sqlalchemy import Engine, text

from bench import ledger as ledger_bench
from bench.pipeline_worker import REELVEC
from db import schema, session
from db.jobs import places
from db.stack.local_stack import LocalStack, StackState
from tests.golden_run import small_clips
from tests.ledgering import feed

ROOT = Path(__file__).parents[1]
BIG = "s3://big"
FEEDS = 20
#: Claims and bare commits take turns, so that both meet the same machine.
TURNS = 3

_FILL = """
INSERT INTO reelvec.videos (uri, category)
SELECT CASE WHEN i % 2 = 0 THEN '{big}/' || i || '.mp4' ELSE 'https://host' || (i / 2) % {places} || '/' || i || '.mp4' END,
  'films' FROM generate_series(1, {jobs}) i;
INSERT INTO reelvec.jobs (video_id, encoders, not_before)
SELECT video_id, ARRAY[(SELECT encoder_id FROM reelvec.encoders WHERE encoder = 'probe')],
  now() + interval '1 day' FROM reelvec.videos
ON CONFLICT DO NOTHING;
ANALYZE;
"""
# A thousand different ones, as the base stores them; `dtype` tells them from those of its workers.
_FILL_VECTORS = """
INSERT INTO reelvec.embeddings (encoder_id, video_id, embedding, dtype, worker_id)
SELECT (SELECT encoder_id FROM reelvec.encoders WHERE encoder = 'probe'), video_id, made.vector, 'filled', gen_random_uuid()
FROM reelvec.videos JOIN (
  SELECT n, ARRAY(SELECT (random() + 0 * n)::real FROM generate_series(1, {dim}))::vector AS vector
  FROM generate_series(0, 999) n) made ON n = video_id % 1000 WHERE uri NOT LIKE 'file:%';
ANALYZE reelvec.embeddings;
"""


def row(what: str, figure: str) -> None:
    print(f"| {what} | {figure} |", flush=True)


@contextmanager
def base_tree(folder: Path, commit: str) -> Iterator[Path]:
    tree = folder / "base"
    subprocess.run(
        ["git", "worktree", "add", "--detach", str(tree), commit],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    # samplers are started without PYTHONPATH: an environment of its own leads them to the base's
    # modules, too
    venv.create(tree / ".venv", with_pip=False)
    packages = next((tree / ".venv" / "lib").glob("python*/site-packages"))
    shared = (path for path in sys.path if "site-packages" in path)
    (packages / "base.pth").write_text("\n".join([str(tree), *shared]), encoding="utf-8")
    try:
        yield tree
    finally:
        subprocess.run(
            ["git", "worktree", "remove", "--force", str(tree)],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )


def run_python(
    code: str, tree: Path, environment: dict[str, str], *arguments: str
) -> subprocess.Popen[bytes]:
    """A child whose modules are those of `tree`."""
    return subprocess.Popen(
        [tree / ".venv" / "bin" / "python", "-c", code, *arguments],
        cwd=tree,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


class LongestWait:
    """The longest that any session waited for a lock, and the longest of a small write by us, while
    it is open.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stop = threading.Event()
        self.lock_seconds = 0.0
        #: The statement of who was in the way.
        self.lock_of = ""
        self.write_seconds = 0.0
        self._threads = [threading.Thread(target=step) for step in (self._watch, self._write)]

    def __enter__(self) -> LongestWait:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _watch(self) -> None:
        # migrations wait for others as long as they like; what counts is who waits for them
        waiting = text(
            "SELECT extract(epoch FROM clock_timestamp() - l.waitstart), (SELECT max(left(b.query, "
            "80)) FROM pg_stat_activity b WHERE b.pid = ANY (pg_blocking_pids(l.pid))) FROM "
            "pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND l.locktype <> "
            "'virtualxid' AND a.query NOT LIKE 'ALTER%' AND a.query NOT LIKE '%pg_try_advisory%' "
            "AND l.waitstart IS NOT NULL ORDER BY 1 DESC LIMIT 1"
        )
        while not self._stop.wait(0.02):
            with session.transaction(self._engine) as connection:
                found = connection.execute(waiting).first()
            if found and found[0] > self.lock_seconds:
                self.lock_seconds, self.lock_of = float(found[0]), " ".join(str(found[1]).split())

    def _write(self) -> None:
        """A video is claimed as the base's workers do it, every 20 ms."""
        claim = text(
            "UPDATE reelvec.jobs SET token = token + 1 WHERE video_id = :id AND state = 'pending'"
        )
        chance = np.random.default_rng(0)
        while not self._stop.wait(0.02):
            started = time.perf_counter()
            with session.transaction(self._engine) as connection:
                connection.execute(claim, {"id": int(chance.integers(1, 1_000_000))})
            self.write_seconds = max(self.write_seconds, time.perf_counter() - started)


def upgrade(
    engine: Engine, state: StackState, tree: Path, folder: Path, chosen: argparse.Namespace
) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "REELVEC_FILE_ROOTS": str(folder),
        "DATABASE_URL": state.database_url,
        "CELERY_BROKER_URL": state.broker_url,
        "REELVEC_SAMPLERS": "1",
    }
    made = run_python(
        "import sys; from db import schema; schema.upgrade(sys.argv[1])",
        tree,
        environment,
        state.database_url,
    )
    assert made.wait() == 0, made.stderr and made.stderr.read()
    videos = folder / "videos"
    clip = small_clips(folder / "clip", 1)[0]
    videos.mkdir()
    for index in range(chosen.files):
        shutil.copy(clip, videos / f"{index}.mp4")
    enqueue = "from producer.cli import enqueue_main; enqueue_main()"
    assert run_python(enqueue, tree, environment, str(videos), "--backbone", "probe").wait() == 0
    with session.transaction(engine) as connection:
        connection.execute(text(_FILL.format(big=BIG, places=chosen.places, jobs=chosen.jobs)))
        if chosen.dim:
            connection.execute(text(_FILL_VECTORS.format(dim=chosen.dim)))
    worker = (
        "import sys; from celery.__main__ import main; sys.argv = ['celery', *sys.argv[1:]]; main()"
    )
    workers = [
        run_python(
            worker,
            tree,
            environment,
            "-A",
            "workers.app",
            "worker",
            "-n",
            f"base{i}@h",
            "--without-mingle",
        )
        for i in range(2)
    ]
    try:
        done = text("SELECT count(*) FROM reelvec.jobs WHERE state = 'done'")
        while number(engine, done) < 50:
            time.sleep(0.2)
        before, started = number(engine, done), time.monotonic()
        with LongestWait(engine) as longest:
            schema.upgrade(state.database_url)
            took = time.monotonic() - started
        row(
            f"{chosen.base} upgraded to {schema.HEAD} with {chosen.jobs:,} rows while its two "
            "workers run",
            f"{took:.1f} s",
        )
        row(
            "longest wait of anybody for a lock meanwhile",
            f"{1000 * longest.lock_seconds:.0f} ms, for {longest.lock_of}",
        )
        row("longest small write meanwhile", f"{1000 * longest.write_seconds:.0f} ms")
        row("videos those workers finished meanwhile", f"{number(engine, done) - before:,}")
        after = number(engine, done)
        while number(engine, done) < min(after + 50, chosen.files):
            time.sleep(0.2)
    finally:
        for child in workers:
            child.terminate()
        for child in workers:
            child.wait(timeout=60)
    row(
        "rows lost",
        str(chosen.jobs + chosen.files - number(engine, text("SELECT count(*) FROM reelvec.jobs"))),
    )
    row(
        "rows without a place",
        str(number(engine, text("SELECT count(*) FROM reelvec.jobs WHERE place_id IS NULL"))),
    )
    if chosen.dim:
        vectors_kept(engine, chosen.jobs)
    row("places", f"{number(engine, text('SELECT count(*) FROM reelvec.places')):,}")


def vectors_kept(engine: Engine, jobs: int) -> None:
    filled = text("SELECT count(*) FROM reelvec.video_embeddings WHERE dtype = 'filled'")
    without = text(
        "SELECT count(*) FROM reelvec.jobs j WHERE state = 'done' AND NOT EXISTS (SELECT FROM "
        "reelvec.video_embeddings m WHERE m.video_id = j.video_id)"
    )
    row("vectors lost", str(jobs - number(engine, filled)))
    row("done videos without a vector", str(number(engine, without)))


def number(engine: Engine, statement: object) -> int:
    with session.transaction(engine) as connection:
        return int(connection.execute(statement).scalar_one())  # type: ignore[call-overload]


def claims_and_feeds(engine: Engine, seconds: float) -> None:
    with session.transaction(engine) as connection:
        connection.execute(text("DELETE FROM reelvec.workers"))
        connection.execute(
            text(
                "UPDATE reelvec.jobs SET state = 'pending', not_before = NULL WHERE state <> 'done'"
            )
        )
        connection.execute(text("DELETE FROM reelvec.place_workers"))
    without_place = text(
        "SELECT count(*) FROM reelvec.jobs WHERE state = 'pending' AND place_id IS NULL"
    )
    while number(engine, without_place):
        with session.transaction(engine) as connection:
            places.adopt(connection)
    vacuum(engine)
    with session.transaction(engine) as connection:
        jobs = connection.execute(text("SELECT max(video_id) FROM reelvec.jobs")).scalar_one()
    ledger_bench.rival_table(engine, int(jobs))
    ledger_bench.offer_bare(engine, int(jobs), rate=200, seconds=1)  # every client connects
    beside_bare_commits(engine, int(jobs), seconds, "right after all rows were written anew")
    beside_bare_commits(engine, int(jobs), seconds, "after that")
    feeds(engine, "all places open")
    with session.transaction(engine) as connection:
        connection.execute(
            text(
                "UPDATE reelvec.places SET closed_at = now(), probe_at = now() WHERE place = :big"
            ),
            {"big": BIG},
        )
    feeds(engine, "the place of half of the rows closed")


def vacuum(engine: Engine) -> None:
    """As Postgres does by itself, a little later."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE reelvec.jobs"))


def beside_bare_commits(engine: Engine, jobs: int, seconds: float, what: str) -> None:
    """Claims and finishes in turns with the least that two commits cost on this machine."""
    ours, bare = [], []
    for _ in range(TURNS):
        bare.append(ledger_bench.offer_bare(engine, jobs, rate=200, seconds=seconds / TURNS)[1])
        made = ledger_bench.outcome((), vectors=False)
        ours.append(ledger_bench.offer(engine, made, rate=200, seconds=seconds / TURNS)[1])
    for name, parts in (("claim + finish, no vectors", ours), ("two bare commits", bare)):
        times = np.sort(1000 * np.concatenate(parts))
        p50, p99 = (times[int(len(times) * share)] for share in (0.5, 0.99))
        row(
            f"{name}, 200/s offered, {ledger_bench.CLIENTS} clients, {what}",
            f"p50 {p50:.1f} ms, p99 {p99:.1f} ms",
        )


def feeds(engine: Engine, what: str) -> None:
    for room in (200, 2000):
        times = []
        for _ in range(FEEDS):
            started = time.perf_counter()
            with session.transaction(engine) as connection:
                fed = feed(connection, room=room)
                places.hand_out_probes(connection, beat_seconds=10)
            times.append(1000 * (time.perf_counter() - started))
            assert len(fed) == room
        row(
            f"feed of {room}, {what}",
            f"median {np.median(times):.1f} ms, longest {max(times):.1f} ms",
        )


def looks(engine: Engine, state: StackState) -> None:
    """`reelvec status` as an operator types it; the broker and a census are behind it. It takes
    longest where no state is much commoner than the others.
    """
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": str(ROOT),
    }
    servers = {"DATABASE_URL": state.database_url, "CELERY_BROKER_URL": state.broker_url}
    half = """
    UPDATE reelvec.jobs SET state = 'done', finished_at = now() - interval '1 day'
    WHERE mod(video_id, 2) = 0;
    DELETE FROM reelvec.census"""
    vacuum(engine)
    for what in ("first look", "second look", "third look", "first look, half of all done"):
        if "half" in what:
            with session.transaction(engine) as connection:
                connection.execute(text(half))
            vacuum(engine)
        started = time.perf_counter()
        subprocess.run(
            [*REELVEC, "status", "--json"],
            env={**environment, **servers},
            check=False,
            capture_output=True,
        )
        row(f"reelvec status, {what}", f"{time.perf_counter() - started:.2f} s")


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--jobs", type=int, default=1_000_000)
    options.add_argument("--places", type=int, default=100_000)
    options.add_argument("--files", type=int, default=4_000)
    options.add_argument("--dim", type=int, default=0)
    options.add_argument("--base", default="90cb42d")
    options.add_argument("--seconds", type=float, default=10.0)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        stack = LocalStack(folder / "stack")
        state = stack.up()
        try:
            with (
                session.connect(
                    state.database_url, pool_size=ledger_bench.CLIENTS, statement_seconds=600.0
                ) as engine,
                base_tree(folder, chosen.base) as tree,
            ):
                print("| what | figure |\n|---|---|")
                upgrade(engine, state, tree, folder, chosen)
                claims_and_feeds(engine, chosen.seconds)
                looks(engine, state)
        finally:
            stack.down()


if __name__ == "__main__":
    main()
