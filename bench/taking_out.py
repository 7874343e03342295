"""Vectors out of the database and into it: one array against psycopg2's cursor, the files of
`reelvec export`, `reelvec db import` against a bare COPY.

    python -m bench.taking_out [--videos 200000] [--dim 768] [--folder DIR]

Prints the table of bench/RESULTS.md. Readers and exports run in processes of their own, the readers in
turn; the peak is that process's highest resident memory over what it had before. With --folder the
database is kept there, so that another run need not fill it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from uuid import uuid4

import numpy as np
from sqlalchemy import Engine, text

import reelvec
from db import copy, encoders, schema, session
from db.encoders import Encoder
from db.results import taking_in, vectors
from db.stack.local_stack import LocalStack
from producer.results import export
from producer.results.taking_in import import_file
from tests.vectors import COLUMNS, bound

CLUSTERS = 1000
BLOCK = 10_000
#: A cursor is slow: some rows tell its speed.
CURSOR_VIDEOS = 20_000
ROUNDS = 3


def fill(database: Engine, encoder: Encoder, videos: int, dim: int) -> None:
    """Clustered vectors of length 1, as those of a real model are."""
    chance = np.random.default_rng(0)
    centres = chance.standard_normal((CLUSTERS, dim), dtype=np.float32)
    uris = text(
        "INSERT INTO reelvec.videos (uri, category, title) SELECT 's3://videos/' || md5(CAST(i AS "
        "text)) || '.mp4', 'films', md5(CAST(i AS text)) FROM generate_series(1, :n) i"
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
    execute(database, "VACUUM ANALYZE reelvec.video_embeddings")
    execute(database, "VACUUM ANALYZE reelvec.videos")


def execute(database: Engine, statement: str) -> None:
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)


def read_array(url: str) -> int:
    with reelvec.connect(url) as catalogue:
        return len(catalogue.vectors("probe").ids)


def read_texts(url: str) -> int:
    """As pgvector's own package does it: each text is split."""
    rows = fetched(url, "embedding")
    return len(np.stack([np.array(row[1][1:-1].split(","), np.float32) for row in rows]))


def read_lists(url: str) -> int:
    """As the first answer to "pgvector psycopg2" does it: lists of floats."""
    return len(np.array([row[1] for row in fetched(url, "embedding::real[]")], np.float32))


def fetched(url: str, what: str) -> list[tuple[int, object]]:
    import psycopg2

    plain = url.replace("postgresql+psycopg2://", "postgresql://")
    with psycopg2.connect(plain) as connection, connection.cursor() as cursor:
        cursor.execute(
            f"SELECT video_id, {what} FROM reelvec.video_embeddings WHERE encoder_id = 1 ORDER BY "
            "video_id LIMIT %s",
            [CURSOR_VIDEOS],
        )
        return cursor.fetchall()


def written(suffix: str, url: str, folder: str) -> int:
    target = Path(folder) / f"x{suffix}"
    with session.connect(url, statement_seconds=float("inf")) as database:
        return export.export(database, "probe", target, windows=False, tell=lambda *_: None)


READERS = {"array": read_array, "texts": read_texts, "lists": read_lists}
WORK = {name: lambda url, _folder, read=read: read(url) for name, read in READERS.items()} | {
    suffix: partial(written, suffix) for suffix in (*export.SUFFIXES, "")
}


def measured(work: str, url: str, folder: Path) -> dict[str, float]:
    """In a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.taking_out", "--work", work, url, str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    return dict(json.loads(done.stdout))


def work_here(name: str, url: str, folder: str) -> None:
    before = peak_bytes()
    started = time.perf_counter()
    rows = WORK[name](url, folder)
    seconds = time.perf_counter() - started
    print(json.dumps({"rows_per_second": rows / seconds, "peak_bytes": peak_bytes() - before}))


def peak_bytes() -> int:
    """The highest resident memory of this process. Not `getrusage`: that begins with its parent's."""
    status = Path("/proc/self/status").read_text("utf-8")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--videos", type=int, default=200_000)
    options.add_argument("--dim", type=int, default=768)
    options.add_argument("--folder", type=Path)
    options.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.work:
        work_here(*chosen.work)
        return
    with ExitStack() as stack:
        folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        local = LocalStack(folder / "stack")
        url = local.up().database_url
        stack.callback(local.down)
        schema.upgrade(url)
        with session.connect(url, statement_seconds=float("inf")) as database:
            with session.transaction(database) as connection:
                filled = "probe" in encoders.names(connection)
            if not filled:
                fill(database, bound(database, "probe", chosen.dim), chosen.videos, chosen.dim)
            print("| what | figure |\n|---|---|")
            reading(url, folder, chosen.videos, chosen.dim)
            writing(url, folder)
            taking(database, folder, chosen.videos)


def reading(url: str, folder: Path, videos: int, dim: int) -> None:
    rounds = [{name: measured(name, url, folder) for name in READERS} for _ in range(ROUNDS)]
    for name, what in (
        ("array", f"`vectors()`, {videos:,} x {dim}"),
        ("texts", f"psycopg2's cursor, texts split ({CURSOR_VIDEOS:,} of them)"),
        ("lists", f"psycopg2's cursor, `::real[]` ({CURSOR_VIDEOS:,} of them)"),
    ):
        rates = sorted(one[name]["rows_per_second"] for one in rounds)
        print(f"| {what} | {rates[0]:,.0f} to {rates[-1]:,.0f} rows/s |")
    for name, what in (("texts", "texts"), ("lists", "`::real[]`")):
        ratios = [one["array"]["rows_per_second"] / one[name]["rows_per_second"] for one in rounds]
        print(f"| against {what}, same round | {min(ratios):.1f} to {max(ratios):.1f} x |")
    peak = max(one["array"]["peak_bytes"] for one in rounds)
    print(
        f"| peak memory of `vectors()`, in arrays of that size | {peak / (videos * dim * 4):.2f} |"
    )


def seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def writing(url: str, folder: Path) -> None:
    for suffix in (*export.SUFFIXES, ""):
        found = measured(suffix, url, folder)
        target = folder / f"x{suffix}"
        files = [target] if suffix else list(target.iterdir())
        size = sum(path.stat().st_size for path in files) / 1e6
        what = f"to {suffix}" if suffix else f"to a folder, {len(files)} parts"
        print(
            f"| export {what} | {found['rows_per_second']:,.0f} rows/s, {size:,.0f} MB, peak memory "
            f"{found['peak_bytes'] / 1e6:,.0f} MB |"
        )
        for path in files:
            path.unlink()


def taking(database: Engine, folder: Path, rows: int) -> None:
    """`db import` of a file by its filenames, in turn with a bare COPY of the same rows."""
    with vectors.snapshot(database) as connection:
        encoder = encoders.known_encoder(connection, "probe")
        made = vectors.pooled(connection, encoder)
        names = connection.execute(
            text("SELECT uri FROM reelvec.videos ORDER BY video_id")
        ).scalars()
        file_names = np.array([uri.rpartition("/")[2] for uri in names])
    path = folder / "old.npz"
    np.savez(path, labels=np.full(rows, 48), filenames=file_names, embeddings=made.vectors)
    bare = folder / "bare"
    ratios, rates = [], []
    for number in range(ROUNDS):
        with session.transaction(database) as connection:
            name = f"bare-{number}-{int(time.time())}"
            empty = encoders.declare_imported(connection, name, made.vectors.shape[1])
            sent = taking_in.stream(empty, made)
            bare.write_bytes(sent.getvalue())
        ways: dict[str, Callable[[], object]] = {
            "bare": lambda: copied(database, bare),
            "import": lambda name=name: import_file(database, path, f"i{name}", lambda *_: None),
        }
        took = {}
        for way in sorted(ways, reverse=number % 2 == 1):
            execute(database, "CHECKPOINT")  # nobody pays for what the other one wrote
            took[way] = seconds_of(ways[way])
        if number == 0:
            again = import_file(database, path, f"i{name}", lambda *_: None)
            assert (again.written, again.already) == (0, rows), "twice changes nothing"
        ratios.append(took["bare"] / took["import"])
        rates.append(rows / took["import"])
        execute(database, "DELETE FROM reelvec.video_embeddings WHERE encoder_id <> 1")
        execute(database, "VACUUM reelvec.video_embeddings")
    print(f"| `db import` of {rows:,} rows | {min(rates):,.0f} to {max(rates):,.0f} rows/s |")
    print(f"| against a bare binary COPY, same round | {min(ratios):.2f} to {max(ratios):.2f} x |")
    for what in ("video_embeddings", "videos"):
        with vectors.snapshot(database) as connection:
            size = connection.execute(
                text("SELECT pg_total_relation_size(CAST(:t AS regclass))"),
                {"t": f"reelvec.{what}"},
            ).scalar_one()
        print(f"| table {what}, with indexes | {size / 1e6:,.0f} MB |")
    path.unlink()
    bare.unlink()


def copied(database: Engine, path: Path) -> None:
    with session.transaction(database) as connection, path.open("rb") as file:
        copy.run(connection, taking_in.STORE, file)


if __name__ == "__main__":
    main()
