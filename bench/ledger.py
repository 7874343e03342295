"""The ledger: claim + finish from 32 clients, and how fast videos are recorded and published.

    python bench/ledger.py [--seconds 10] [--videos 100000]

Prints the tables of bench/RESULTS.md. Every client is a thread with its own connection, offered a
fixed rate in total; a client that falls behind starts its next pair late and the lateness counts,
so that a stall cannot hide.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
from sqlalchemy import Engine, text

from db import encoders, ledger, schema, session
from db.encoders import Encoder
from db.jobs import catalogue
from db.jobs.catalogue import Counts, Wanted
from db.jobs.outcome import EncoderRows, Outcome
from db.stack.local_stack import LocalStack
from producer.sources.reading import VideoRow
from tests.ledgering import feed

CLIENTS = 32
CHUNK_ROWS = 5_000
#: One video's vectors with all four backbones: pooled and windows, 28 in all.
SHAPES = ((3, 768), (12, 768), (6, 768), (3, 512))


def declare(engine: Engine) -> tuple[int, ...]:
    with session.transaction(engine) as connection:
        return tuple(
            encoders.declare_encoder(
                connection,
                Encoder(f"b{i}", f"b{i}", "none", "none", "pretrained", "MIT", 32, "notebook", "p"),
            )
            for i in range(len(SHAPES))
        )


def record(engine: Engine, wanted: Wanted, first: int, count: int) -> float:
    """Videos recorded per second, in chunks as `enqueue` does it."""
    started = time.perf_counter()
    total = Counts()
    with engine.connect() as connection:
        catalogue.begin(connection)
        for start in range(first, first + count, CHUNK_ROWS):
            rows = [
                VideoRow(f"s3://bucket/videos/{i:09}.mp4", category="films", title=f"video {i}")
                for i in range(start, min(start + CHUNK_ROWS, first + count))
            ]
            total.add(catalogue.record(connection, rows, wanted))
            connection.commit()
    assert total.queued == count
    return count / (time.perf_counter() - started)


def outcome(encoder_ids: tuple[int, ...], *, vectors: bool) -> Outcome:
    if not vectors:
        return Outcome()
    chance = np.random.default_rng(0)
    return Outcome(
        tuple(
            EncoderRows(
                encoder_id,
                chance.standard_normal(dim).astype(np.float32),
                chance.standard_normal((windows, dim)).astype(np.float32),
                np.zeros((windows, 2), np.float32),
                "float32",
            )
            for encoder_id, (windows, dim) in zip(encoder_ids, SHAPES, strict=True)
        )
    )


def offer(
    engine: Engine, made: Outcome, *, rate: float, seconds: float
) -> tuple[float, np.ndarray]:
    """Pairs per second achieved, and the seconds each pair took from when it was due."""
    with session.transaction(engine) as connection:
        video_ids = feed(connection, room=int(rate * seconds))
    assert len(video_ids) == int(rate * seconds)
    workers = [uuid4() for _ in range(CLIENTS)]

    def pair(index: int) -> None:
        with session.transaction(engine) as connection:
            claimed = ledger.claim(
                connection, video_ids[index], workers[index % CLIENTS], job_seconds=60
            )
        assert claimed is not None
        with session.transaction(engine) as connection:
            assert ledger.finish(connection, claimed, made, first_delay_seconds=5)

    return paced(pair, rate=rate, count=len(video_ids))


def rival_table(engine: Engine, rows: int) -> None:
    """As many rows as there are jobs, of their size, with no index but the key."""
    with session.transaction(engine) as connection:
        connection.execute(text("DROP TABLE IF EXISTS rival"))
        connection.execute(
            text(
                "CREATE TABLE rival (id bigint PRIMARY KEY, turns int, filler text) WITH "
                "(fillfactor = 75)"
            )
        )
        connection.execute(
            text(
                "INSERT INTO rival SELECT i, 0, repeat('x', 100) FROM generate_series(1, :rows) i"
            ),
            {"rows": rows},
        )


def offer_bare(
    engine: Engine, rows: int, *, rate: float, seconds: float
) -> tuple[float, np.ndarray]:
    """The least that a pair can cost on this server and disk: two transactions, each of which
    changes one row of `rival_table` by its key. In the same words as `offer`.
    """
    ids = np.random.default_rng().integers(1, rows + 1, int(rate * seconds)).tolist()
    statement = text("UPDATE rival SET turns = turns + 1 WHERE id = :id")

    def pair(index: int) -> None:
        for _ in range(2):
            with session.transaction(engine) as connection:
                connection.execute(statement, {"id": ids[index]})

    return paced(pair, rate=rate, count=len(ids))


def paced(pair: Callable[[int], None], *, rate: float, count: int) -> tuple[float, np.ndarray]:
    """`pair(0)` to `pair(count - 1)` by all clients in turns, `rate` a second: how many a second
    there were, and the seconds each took from when it was due, sorted.
    """
    latencies: list[list[float]] = [[] for _ in range(CLIENTS)]
    begin = time.perf_counter() + 0.2

    def client(slot: int) -> None:
        for index in range(slot, count, CLIENTS):
            due = begin + index / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            pair(index)
            latencies[slot].append(time.perf_counter() - due)

    threads = [threading.Thread(target=client, args=(slot,)) for slot in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count / (time.perf_counter() - begin), np.sort(np.concatenate(latencies))


def publish(engine: Engine, broker_url: str, count: int) -> float:
    """Videos per second from pending to published, while the window has room."""
    from celery import Celery

    from workers import feeder

    app = Celery("bench", broker=broker_url, set_as_current=False)
    with session.transaction(engine) as connection:
        video_ids = feed(connection, room=count)
    started = time.perf_counter()
    feeder.publish(app, video_ids)
    return len(video_ids) / (time.perf_counter() - started)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--videos", type=int, default=100_000)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        stack = LocalStack(Path(folder) / "stack")  # durable, as production is
        state = stack.up()
        try:
            schema.upgrade(state.database_url)
            with session.connect(state.database_url, pool_size=CLIENTS) as engine:
                wanted = Wanted(declare(engine), ())
                print(
                    f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, "
                    f"{platform.python_version()}, Postgres with fsync\n"
                )
                print("| what | figure |\n|---|---|")
                print(
                    f"| videos recorded | {record(engine, wanted, 0, chosen.videos):,.0f}/s |",
                    flush=True,
                )
                sent = publish(engine, state.broker_url, min(20_000, chosen.videos // 4))
                print(f"| videos published | {sent:,.0f}/s |", flush=True)
                for rate, vectors in ((200, False), (200, True), (400, True)):
                    got, times = offer(
                        engine,
                        outcome(wanted.encoders, vectors=vectors),
                        rate=rate,
                        seconds=chosen.seconds,
                    )
                    p50, p99 = (1000 * times[int(len(times) * share)] for share in (0.5, 0.99))
                    kind = "28 vectors" if vectors else "no vectors"
                    print(f"| claim + finish, {kind}, {rate}/s offered, {CLIENTS} clients"
                          f" | {got:.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms |", flush=True)  # fmt: skip
        finally:
            stack.down()


if __name__ == "__main__":
    main()
