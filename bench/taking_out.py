"""Vectors out of the database: one array against psycopg2's cursor, and the files of
`reelvec export`.

    python -m bench.taking_out [--videos 200000] [--dim 768]

Prints the table of bench/RESULTS.md. Each reader runs in a process of its own, the two in turn;
`peak` is that process's highest resident memory over what it had before it read.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import numpy as np
from sqlalchemy import Engine, text

from db import copy, session
from db.encoders import Encoder
from db.results import vectors
from db.stack.local_stack import LocalStack
from producer.results import export
from tests.vectors import COLUMNS, bound

CLUSTERS = 1000
BLOCK = 10_000
CURSOR_VIDEOS = 20_000


def fill(database: Engine, encoder: Encoder, videos: int, dim: int) -> None:
    """Clustered vectors of length 1, as those of a real model are."""
    chance = np.random.default_rng(0)
    centres = chance.standard_normal((CLUSTERS, dim), dtype=np.float32)
    uris = text(
        "INSERT INTO reelvec.videos (uri) SELECT 's3://b/' || i FROM generate_series(1, :n) i"
    )
    with session.transaction(database) as connection:
        connection.execute(uris, {"n": videos})
    nobody = uuid4()
    for first in range(1, videos + 1, BLOCK):
        ids = range(first, min(first + BLOCK, videos + 1))
        of = centres[chance.integers(CLUSTERS, size=len(ids))]
        found = of + 0.5 * chance.standard_normal(of.shape, dtype=np.float32)
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        rows = ((encoder.encoder_id, i, v, "f32", nobody) for i, v in zip(ids, found, strict=True))
        with session.transaction(database) as connection:
            copy.copy_rows(connection, "reelvec.video_embeddings", COLUMNS, rows)


def read_array(url: str) -> int:
    import reelvec

    with reelvec.connect(url) as catalogue:
        return len(catalogue.vectors("probe").ids)


def read_cursor(url: str) -> int:
    """As the first answer to "pgvector psycopg2" does it: texts to floats, row by row."""
    import psycopg2

    plain = url.replace("postgresql+psycopg2://", "postgresql://")
    with psycopg2.connect(plain) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT video_id, embedding::real[] FROM reelvec.video_embeddings ORDER BY video_id LIMIT %s",
            [CURSOR_VIDEOS],
        )
        return len(np.array([row[1] for row in cursor.fetchall()], np.float32))


READERS = {"array": read_array, "cursor": read_cursor}


def measured(reader: str, url: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.taking_out", "--reader", reader, url],
        check=True,
        capture_output=True,
        text=True,
    )
    return dict(json.loads(done.stdout))


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--videos", type=int, default=200_000)
    options.add_argument("--dim", type=int, default=768)
    options.add_argument("--reader", nargs=2, metavar=("NAME", "URL"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.reader:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        rows = READERS[chosen.reader[0]](chosen.reader[1])
        seconds = time.perf_counter() - started
        peak = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        print(json.dumps({"rows": rows, "seconds": seconds, "peak_bytes": peak}))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        stack = LocalStack(folder / "stack")
        state = stack.up()
        try:
            table(state.database_url, folder, chosen.videos, chosen.dim)
        finally:
            stack.down()


def table(url: str, folder: Path, videos: int, dim: int) -> None:
    from db import schema

    schema.upgrade(url)
    print("| what | figure |\n|---|---|")
    with session.connect(url, statement_seconds=600.0) as database:
        fill(database, bound(database, "probe", dim), videos, dim)
        rounds = [(measured("array", url), measured("cursor", url)) for _ in range(3)]
        ratios = [(a["rows"] / a["seconds"]) / (c["rows"] / c["seconds"]) for a, c in rounds]
        best = rounds[0][0]
        array_bytes = videos * dim * 4
        print(f"| `vectors()`, {videos:,} x {dim} | {best['rows'] / best['seconds']:,.0f} rows/s |")
        print(
            f"| against psycopg2's cursor, same run, 3 rounds | {min(ratios):.1f} to {max(ratios):.1f} x |"
        )
        peaks = [a["peak_bytes"] / array_bytes for a, _ in rounds]
        print(f"| peak memory, in arrays of that size | {max(peaks):.2f} |")
        for suffix in export.SUFFIXES:
            started = time.perf_counter()
            target = folder / f"x{suffix}"
            export.export(database, "probe", target, windows=False, tell=lambda *_: None)
            seconds = time.perf_counter() - started
            size = target.stat().st_size / 1e6
            print(f"| export to {suffix} | {videos / seconds:,.0f} rows/s, {size:,.0f} MB |")
            target.unlink()
        for what in ("video_embeddings", "videos"):
            with vectors.snapshot(database) as connection:
                size = connection.execute(
                    text("SELECT pg_total_relation_size(CAST(:t AS regclass))"),
                    {"t": f"reelvec.{what}"},
                ).scalar_one()
            print(f"| table {what} | {size / videos:,.0f} bytes a row |")


if __name__ == "__main__":
    main()
