"""The page over a million jobs: how long each view takes to make, what it costs to leave it open, and
what ten open pages cost Postgres beside one.

    python -m bench.pages [--jobs 1000000] [--vectors 100000] [--folder DIR]

Prints the table of bench/RESULTS.md. Every address is asked `ROUNDS` times, one after the other, as
a person would; Postgres and the page share the machine. With --folder the database is kept there.
"""

from __future__ import annotations

import argparse
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from sqlalchemy import Engine, text

from db import encoders, schema, session
from db.stack.local_stack import LocalStack
from tests.exhibition import picture
from tests.ledgering import LABELS, execute
from tests.vectors import bound

DIM, ROUNDS, WATCHED_SECONDS = 64, 20, 20.0
ENCODERS = ("vivit", "x-clip", "efficientnet")

_VIDEOS = """
INSERT INTO reelvec.videos (uri, category, title, duration_seconds, external_id)
SELECT 's3://archive/' || md5(CAST(i AS text)) || '.mp4', (ARRAY['films', 'animals', 'design', 'travel'])[1 + i % 4],
  'video ' || i, i % 5000, 'rt-' || i FROM generate_series(1, :jobs) i;
INSERT INTO reelvec.places (place) VALUES ('s3://archive') ON CONFLICT DO NOTHING;
INSERT INTO reelvec.jobs (video_id, encoders, taggers, state, error_code, error, started_at, finished_at, bytes_read, fetch_seconds,
  decode_seconds, wait_seconds, device_seconds)
SELECT i, CAST(:encoders AS smallint[]), CAST(:taggers AS smallint[]),
  CASE WHEN i <= :vectors THEN 'done' WHEN i <= :vectors + 2000 THEN 'failed' ELSE 'pending' END,
  CASE WHEN i > :vectors AND i <= :vectors + 2000 THEN CASE WHEN i % 400 = 0 THEN 'poison' ELSE 'truncated' END END,
  CASE WHEN i > :vectors AND i <= :vectors + 2000 THEN 'the file ends early' END,
  CASE WHEN i <= :vectors + 2000 THEN now() - i * interval '0.1 s' END, CASE WHEN i <= :vectors + 2000 THEN now() - i * interval '0.1 s' END,
  1e7, 1, 1, 1, 1 FROM generate_series(1, :jobs) i
"""
_VECTORS = """
INSERT INTO reelvec.video_embeddings (encoder_id, video_id, embedding, dtype, worker_id)
SELECT :encoder, i, (SELECT array_agg(random() - 0.5 + i * 0) FROM generate_series(1, :dim))::vector, 'bf16', gen_random_uuid()
FROM generate_series(1, :vectors) i
"""
_SCORES = """
INSERT INTO reelvec.scores (tagger_id, video_id, probabilities, window_probabilities, tag, probability, worker_id)
SELECT :tagger, i, '{0.6,0.4}', '{{0.6,0.4}}', CASE WHEN i % 9973 = 0 THEN 'dogs' ELSE 'cats' END, 0.6, gen_random_uuid()
FROM generate_series(1, :vectors) i
"""


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def fill(database: Engine, jobs: int, vectors: int) -> None:
    made = [bound(database, name, DIM).encoder_id for name in ENCODERS]
    with session.transaction(database) as connection:
        tagger = encoders.declare_tagger(connection, made[1] or 0, "x-clip", LABELS)
    facts = {"jobs": jobs, "vectors": vectors, "encoders": made, "taggers": [tagger]}
    execute(database, "ALTER TABLE reelvec.jobs DISABLE TRIGGER USER")
    for statement in _VIDEOS.split(";"):
        execute(database, statement, **{k: v for k, v in facts.items() if f":{k}" in statement})
    execute(database, "ALTER TABLE reelvec.jobs ENABLE TRIGGER USER")
    for encoder in made:
        execute(database, _VECTORS, encoder=encoder, vectors=vectors, dim=DIM)
    execute(database, _SCORES, tagger=tagger, vectors=vectors)
    strips = text(
        "INSERT INTO reelvec.strips (video_id, strip) SELECT i, :strip FROM generate_series(1, 2000) i"
    )
    with session.transaction(database) as connection:
        connection.execute(strips, {"strip": picture(1, 0.5)})
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


@contextmanager
def page(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """`reelvec ui` on the database in this folder: its host and its process."""
    command = [Path(sys.executable).with_name("reelvec"), "ui", "--no-browser", "--port", "0"]
    environment = {**os.environ, "REELVEC_DATA_DIR": str(folder)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split("/")[2], psutil.Process(process.pid)
        process.terminate()


def seconds(host: str, path: str) -> float:
    started = time.perf_counter()
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, body[:300]
    connection.close()
    return time.perf_counter() - started


def views(host: str, vectors: int) -> None:
    for what, path in {
        "Now": "/",
        "Look": "/look",
        "Look, category": "/look?category=animals",
        "Look, a tag of 10 videos": "/look?tag=dogs",
        "Look, an error of 5 videos": "/look?error=poison",
        "Look, model": "/look?model=vivit",
        "Look, duration": "/look?duration=10s",
        "Look, all filters": "/look?category=animals&tag=cats&model=vivit&duration=1h",
        f"one video, neighbours by {len(ENCODERS)} models, no index": f"/look/{vectors // 2}",
        "Search by an id": "/search?words=rt-77",
        "a picture": "/strips/77",
    }.items():
        took = sorted(seconds(host, path) for _ in range(ROUNDS))
        p50, p95 = (1000 * float(np.percentile(took, q)) for q in (50, 95))
        row(what, f"p50 {p50:.0f} ms, p95 {p95:.0f} ms", "1,000 ms" if what == "Now" else "300 ms")


def followed(
    host: str, process: psutil.Process, database: Engine, pages: int
) -> tuple[float, float]:
    """Cores that the page takes, and seconds of Postgres' work per minute, while so many follow."""
    followers = []
    for _ in range(pages):
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request("GET", "/events")
        followers.append(connection.getresponse())
    if followers:
        followers[-1].readline()
    before, cpu, started = _transactions(database), _cpu(process), time.monotonic()
    time.sleep(WATCHED_SECONDS)
    passed = time.monotonic() - started
    used = (_cpu(process) - cpu) / passed, (_transactions(database) - before) * 60 / passed
    for follower in followers:
        follower.close()
    time.sleep(12)  # until nobody wants numbers any more
    return used


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _transactions(database: Engine) -> int:
    with session.transaction(database) as connection:
        connection.execute(text("SELECT pg_stat_clear_snapshot()"))
        return int(
            connection.execute(
                text(
                    "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
                )
            ).scalar_one()
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reelvec-bench-") as temporary:
        folder = asked.folder or Path(temporary)
        stack = LocalStack(folder)
        url = stack.up().database_url
        schema.upgrade(url)
        try:
            with session.connect(url, statement_seconds=3600) as database:
                with session.transaction(database) as connection:
                    is_empty = not connection.execute(
                        text("SELECT EXISTS (SELECT FROM reelvec.jobs)")
                    ).scalar()
                if is_empty:
                    fill(database, asked.jobs, asked.vectors)
                row("what", "figure", "bar")
                row("---", "---", "---")
                with page(folder) as (host, process):
                    views(host, asked.vectors)
                    for pages in (0, 1, 10):
                        cores, transactions = followed(host, process, database, pages)
                        row(
                            f"{pages} open pages",
                            f"{cores:.1%} of a core, {transactions:.0f} transactions a minute",
                            "< 1 %" if not pages else "",
                        )
                    row(
                        "resident memory of the page",
                        f"{process.memory_info().rss / 1e6:.0f} MB",
                        "",
                    )
        finally:
            stack.down()


if __name__ == "__main__":
    main()
