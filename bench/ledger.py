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
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sqlalchemy import Engine

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
    from uuid import uuid4

    latencies: list[list[float]] = [[] for _ in range(CLIENTS)]
    begin = time.perf_counter() + 0.2

    def client(slot: int) -> None:
        me = uuid4()
        for index in range(slot, len(video_ids), CLIENTS):
            due = begin + index / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            with session.transaction(engine) as connection:
                claimed = ledger.claim(connection, video_ids[index], me, job_seconds=60)
            assert claimed is not None
            with session.transaction(engine) as connection:
                assert ledger.finish(connection, claimed, made, first_delay_seconds=5)
            latencies[slot].append(time.perf_counter() - due)

    threads = [threading.Thread(target=client, args=(slot,)) for slot in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(video_ids) / (time.perf_counter() - begin), np.sort(np.concatenate(latencies))


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
