"""The page over a million jobs: how long each view takes to make, what it costs to leave it open, and
what ten open pages cost Postgres beside one.

    python -m bench.pages [--jobs 1000000] [--vectors 100000] [--folder DIR] [--only fill]

Prints the table of bench/RESULTS.md. Every address is asked `ROUNDS` times, one after the other, as
a person would; Postgres and the page share the machine. With --folder the database is kept there,
and `--only fill` makes it beforehand. Vectors have 64 numbers: with 768, looking for neighbours
without an index takes longer (`bench.nearest`), and nothing else changes.
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
from urllib.parse import urlencode
from uuid import uuid4

import numpy as np
import psutil
from sqlalchemy import Engine, text

from db import copy, encoders, schema, session
from db.labels import LabelSet
from db.stack.local_stack import LocalStack
from producer.categories import load_shipped
from producer.results import mapping
from tests.exhibition import picture
from tests.exhibition_judged import learn
from tests.ledgering import execute, one
from tests.vectors import bound, index, written

DIM, ROUNDS = 64, 20
#: Numbers of a million jobs are made every 15 s or so while somebody looks, and for 25 s after that.
IDLE_SECONDS, FOLLOWED_SECONDS, QUIET_SECONDS = 15.0, 45.0, 25.0
#: With vectors, of which the first has an index.
ENCODERS = ("vivit", "x-clip", "efficientnet")
MAPPED = ENCODERS[0]
#: Every so many videos one is uploaded again.
COPIED = 50
SCORES = {"tagger_id": copy.smallint, "video_id": copy.bigint, "probabilities": copy.real_array,
          "window_probabilities": copy.real_array, "tag": copy.text, "probability": copy.real, "worker_id": copy.uuid}  # fmt: skip

_VIDEOS = """
INSERT INTO reelvec.videos (uri, category, title, duration_seconds, external_id, group_key, size_bytes, width_px, height_px)
SELECT 's3://archive/' || md5(CAST(i AS text)) || '.mp4', (CAST(:categories AS text[]))[1 + i % 47],
  'video ' || i, i % 5000, 'rt-' || i, 'channel ' || i % 20000, 1e7 + i, 1280, 720 FROM generate_series(1, :jobs) i;
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


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def fill(database: Engine, jobs: int, vectors: int) -> None:
    names = tuple(category.slug for category in load_shipped().all)
    made = [bound(database, name, DIM) for name in ENCODERS]
    ids = [encoder.encoder_id for encoder in made]
    with session.transaction(database) as connection:
        labels = LabelSet("en", names, names)
        tagger = encoders.declare_tagger(connection, ids[1] or 0, "x-clip", labels)
    facts = {"jobs": jobs, "vectors": vectors, "encoders": ids, "taggers": [tagger], "categories": list(names)}  # fmt: skip
    execute(database, "ALTER TABLE reelvec.jobs DISABLE TRIGGER USER")
    for statement in _VIDEOS.split(";"):
        execute(database, statement, **{k: v for k, v in facts.items() if f":{k}" in statement})
    execute(database, "ALTER TABLE reelvec.jobs ENABLE TRIGGER USER")
    chance = np.random.default_rng(0)
    for encoder in made:
        values = chance.standard_normal((vectors, DIM), np.float32)
        values[COPIED::COPIED] = values[COPIED - 1 : -1 : COPIED]
        written(database, encoder, values)
    index(database, made[0])
    mapping.make(database, MAPPED, mapping.PCA, anew=True, who="bench", tell=lambda *_: None)
    score(database, tagger, names, vectors, chance)
    strips = text(
        "INSERT INTO reelvec.strips (video_id, strip) SELECT i, :strip FROM generate_series(1, 2000) i"
    )
    with session.transaction(database) as connection:
        connection.execute(strips, {"strip": picture(1, 0.5)})
    learn(database)
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


def score(
    database: Engine,
    tagger: int,
    names: tuple[str, ...],
    vectors: int,
    chance: np.random.Generator,
) -> None:
    """What a tagger says that is right half of the time."""

    def rows() -> Iterator[tuple[object, ...]]:
        for video_id in range(1, vectors + 1):
            windows = chance.random((3, len(names)), np.float32)
            windows[:, video_id % 47] += 0.9
            windows /= windows.sum(axis=1, keepdims=True)
            mean = windows.mean(axis=0)
            best = int(mean.argmax())
            yield tagger, video_id, mean, windows, names[best], float(mean[best]), uuid4()

    with session.transaction(database) as connection:
        copy.copy_rows(connection, "reelvec.scores", SCORES, rows())


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


def body(host: str, path: str) -> bytes:
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    found = answer.read()
    assert answer.status == 200, found[:300]
    connection.close()
    return found


def seconds(host: str, path: str) -> float:
    started = time.perf_counter()
    body(host, path)
    return time.perf_counter() - started


def views(host: str, vectors: int) -> None:
    names = [category.slug for category in load_shipped().all]
    rare = {"category": names[1], "tag": names[9]}
    for what, path in {
        "Now": "/",
        "Look": "/look",
        "Look, category": f"/look?category={names[1]}",
        "Look, a tag": f"/look?tag={names[9]}",
        "Look, a tagger": "/look?tagger=x-clip/en",
        "Look, an error of 5 videos": "/look?error=poison",
        "Look, model": "/look?model=vivit",
        "Look, duration": "/look?duration=10s",
        "Look, five filters": "/look?"
        + urlencode({**rare, "tagger": "x-clip/en", "model": "vivit", "duration": "1h"}),
        "Look, a square of a tagger": "/look?" + urlencode({**rare, "tagger": "x-clip/en"}),
        "Look, a square of a head": "/look?" + urlencode({**rare, "held_out": "genres@1"}),
        f"one video, neighbours by {len(ENCODERS)} models, two without an index": f"/look/{vectors // 2}",
        "Search by an id": "/search?words=rt-77",
        "a picture": "/strips/77",
        "Map": f"/map?model={MAPPED}",
        "Map, its points": f"/map/points?model={MAPPED}&tagger=x-clip/en",
        "Map, 24 cards": f"/map/cards?ids={','.join(map(str, range(1, 25)))}",
        "Judge, once it is made": "/judge?tagger=x-clip/en",
    }.items():
        took = sorted(seconds(host, path) for _ in range(ROUNDS))
        p50, p95 = (1000 * float(np.percentile(took, q)) for q in (50, 95))
        row(what, f"p50 {p50:.0f} ms, p95 {p95:.0f} ms", "1,000 ms" if what == "Now" else "300 ms")


def first_judgement(host: str) -> float:
    """Seconds from the first request until the page has its figures."""
    started = time.perf_counter()
    while b"Judging" in body(host, "/judge"):
        time.sleep(0.5)
    return time.perf_counter() - started


def followed(
    host: str, process: psutil.Process, postgres: psutil.Process, database: Engine, pages: int
) -> tuple[float, float, float]:
    """Cores that the page and Postgres take, and transactions per minute, while so many follow."""
    followers = []
    for _ in range(pages):
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request("GET", "/events")
        followers.append(connection.getresponse())
    if followers:
        followers[-1].readline()
    before, cpu, served = _transactions(database), _cpu(process), _served(postgres)
    started = time.monotonic()
    time.sleep(FOLLOWED_SECONDS if pages else IDLE_SECONDS)
    passed = time.monotonic() - started
    used = (
        (_cpu(process) - cpu) / passed,
        (_served(postgres) - served) / passed,
        (_transactions(database) - before) * 60 / passed,
    )
    for follower in followers:
        follower.close()
    return used


def _served(postgres: psutil.Process) -> float:
    """CPU seconds of all of Postgres' processes that are there."""
    return sum(_cpu(child) for child in [postgres, *postgres.children()])


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


def measure(folder: Path, database: Engine, postgres: psutil.Process, vectors: int) -> None:
    row("what", "figure", "bar")
    row("---", "---", "---")
    with page(folder) as (host, process):
        row("Judge, made for the first time", f"{first_judgement(host):.1f} s, in a thread", "")
        views(host, vectors)
        time.sleep(QUIET_SECONDS)
        for pages in (0, 1, 10):
            cores, served, transactions = followed(host, process, postgres, database, pages)
            row(
                f"{pages} open page{'s' if pages != 1 else ''}",
                f"{cores:.1%} of a core, Postgres {served:.1%}, {transactions:.0f} transactions a minute",
                "" if pages else "< 1 %",
            )
        row("resident memory of the page", f"{process.memory_info().rss / 1e6:.0f} MB", "")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", choices=["fill"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reelvec-bench-") as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)  # Postgres does not run as root
        stack = LocalStack(folder)
        state = stack.up()
        schema.upgrade(state.database_url)
        try:
            with session.connect(state.database_url, statement_seconds=3600) as database:
                if not one(database, "SELECT EXISTS (SELECT FROM reelvec.jobs)"):
                    fill(database, asked.jobs, asked.vectors)
                if asked.only is None:
                    postgres = psutil.Process(state.postgres_pid)
                    measure(folder, database, postgres, asked.vectors)
        finally:
            stack.down()


if __name__ == "__main__":
    main()
