"""Pooled vectors stored as pgvector's `vector` (float32) and as its `halfvec` (float16), side by
side in one database: disk, writing, reading all, and looking at every vector.

    python -m bench.storage [--videos 100000] [--dim 768]

Prints the table of bench/RESULTS.md. The two tables are like the one that workers write to. Both
are written in turns, a video a transaction for what a worker pays, then in blocks.
"""

from __future__ import annotations

import argparse
import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
from sqlalchemy import Engine, text

from db import copy, session
from db.stack.local_stack import LocalStack


def float32_vector(values: np.ndarray) -> bytes:
    """pgvector `vector`, as workers before revision 0017 wrote it: dimension, unused, big-endian
    float32.
    """
    return struct.pack(">HH", len(values), 0) + values.astype(">f4").tobytes()


#: Of the table of each form, how long a row may be before its vector is kept beside it.
KEPT = {"vector": "", "halfvec": "WITH (toast_tuple_target = 8160)"}
#: Table and how its vectors are written.
FORMS = {"vector": float32_vector, "halfvec": copy.halfvec}
BLOCK = 5_000
SINGLE, READS, SCANS = 500, 3, 5

_TABLE = """
CREATE TABLE as_{form} (
  encoder_id smallint NOT NULL, video_id bigint NOT NULL, embedding {form} NOT NULL, dtype text NOT NULL,
  worker_id uuid NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (encoder_id, video_id)) {kept};
CREATE INDEX ON as_{form} (video_id);
"""
_BYTES = "SELECT pg_total_relation_size('as_{form}')"
_READ = "COPY (SELECT video_id, embedding FROM as_{form} WHERE encoder_id = 1 ORDER BY video_id) TO STDOUT BINARY"
_SCAN = """
SELECT video_id FROM as_{form} WHERE encoder_id = 1
ORDER BY embedding::halfvec({dim}) <=> CAST(CAST(:query AS real[]) AS vector)::halfvec({dim}) LIMIT 10
"""


class Nowhere:
    """What COPY writes to where only its duration counts."""

    def write(self, piece: bytes) -> int:
        return len(piece)


def vectors(count: int, dim: int, seed: int) -> np.ndarray:
    """float32 `[count, dim]`, length 1."""
    found = np.random.default_rng(seed).standard_normal((count, dim), dtype=np.float32)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def write(database: Engine, form: str, first: int, made: np.ndarray) -> float:
    """Milliseconds of one transaction that writes them."""
    columns = {
        "encoder_id": copy.smallint,
        "video_id": copy.bigint,
        "embedding": FORMS[form],
        "dtype": copy.text,
        "worker_id": copy.uuid,
    }
    rows = [(1, first + at, vector, "bfloat16", uuid4()) for at, vector in enumerate(made)]
    started = time.perf_counter()
    with session.transaction(database) as connection:
        copy.copy_rows(connection, f"as_{form}", columns, rows)
    return 1000 * (time.perf_counter() - started)


def in_turns(rounds: int, one: Callable[[str], float]) -> dict[str, float]:
    """The median of each form."""
    took: dict[str, list[float]] = {form: [] for form in FORMS}
    for _ in range(rounds):
        for form in FORMS:
            took[form].append(one(form))
    return {form: statistics.median(times) for form, times in took.items()}


def measured(database: Engine, videos: int, dim: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Rows of the table: what, and the figure of each form."""
    counts = iter(range(2 * SINGLE))
    made = vectors(SINGLE, dim, 0)
    yield (
        "one vector, a transaction, ms",
        in_turns(
            SINGLE,
            lambda form: write(database, form, 1 + (at := next(counts) // 2), made[at : at + 1]),
        ),
    )
    spent = dict.fromkeys(FORMS, 0.0)
    for first in range(SINGLE + 1, videos + 1, BLOCK):
        block = vectors(min(BLOCK, videos + 1 - first), dim, first)
        for form in FORMS:
            spent[form] += write(database, form, first, block)
    yield (
        f"written in blocks of {BLOCK:,}, rows/s",
        {form: 1000 * videos / spent[form] for form in FORMS},
    )
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
        sizes = {
            form: connection.execute(text(_BYTES.format(form=form))).scalar_one() for form in FORMS
        }
    yield "bytes on disk, a row", {form: size / videos for form, size in sizes.items()}

    def read(form: str) -> float:
        started = time.perf_counter()
        with session.transaction(database) as connection:
            copy.run(connection, _READ.format(form=form), Nowhere())
        return videos / (time.perf_counter() - started)

    def scan(form: str) -> float:
        statement, query = text(_SCAN.format(form=form, dim=dim)), vectors(1, dim, 7)[0].tolist()
        started = time.perf_counter()
        with session.transaction(database) as connection:
            connection.execute(statement, {"query": query}).all()
        return 1000 * (time.perf_counter() - started)

    in_turns(1, read)
    yield "all read by COPY, rows/s", in_turns(READS, read)
    yield "ten nearest, every vector looked at, ms", in_turns(SCANS, scan)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--videos", type=int, default=100_000)
    options.add_argument("--dim", type=int, default=768)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        stack = LocalStack(folder / "stack")
        state = stack.up()
        try:
            with session.connect(state.database_url, statement_seconds=600.0) as database:
                with session.transaction(database) as connection:
                    connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
                    for form in FORMS:
                        connection.execute(text(_TABLE.format(form=form, kept=KEPT[form])))
                print("| what | vector | halfvec | ratio |\n|---|--:|--:|--:|")
                for what, figures in measured(database, chosen.videos, chosen.dim):
                    one, other = (figures[form] for form in FORMS)
                    print(f"| {what} | {one:,.1f} | {other:,.1f} | {other / one:.2f} |", flush=True)
        finally:
            stack.down()


if __name__ == "__main__":
    main()
