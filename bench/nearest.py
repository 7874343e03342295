"""The nearest vectors by SQL: how long an index takes, what it finds, and how soon.

    python -m bench.nearest [--videos 100000] [--dim 768] [--queries 200] [--folder DIR]

Prints the table of bench/RESULTS.md. With --folder the database is kept there with its indexes, so
that another run only asks. What is asked are the functions that users call; recall is against numpy
over the same numbers of 16 bits. A tenth of the videos have windows, three each.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import numpy as np
from sqlalchemy import Connection, Engine, text

from bench.taking_out import execute
from db import copy, encoders, schema, session
from db.encoders import Encoder
from db.results import vectors
from db.stack.local_stack import LocalStack
from producer import indexing
from tests.vectors import COLUMNS, WINDOW_COLUMNS, bound

CLUSTERS, DIRECTIONS = 1_000, 32
BLOCK = 10_000
K = 10
WINDOWS = 3
#: Searches before any is timed: then the server's cache holds what it holds where people search.
WARMING = 1_500
#: A thousandth and a twentieth of the videos, of any cluster.
CATEGORIES = {"rare": 0.001, "some": 0.05}
SET_CATEGORIES = """
UPDATE reelvec.videos SET category = CASE
  WHEN mod(video_id * 7919, 1000) = 0 THEN 'rare' WHEN mod(video_id * 7919, 1000) <= 50 THEN 'some' ELSE 'rest' END
"""


def made(videos: int, dim: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ids int64 [n] and clustered vectors of length 1, float32 [n, dim]. Members of a cluster differ in
    32 directions of its own: in all 768 they would all be as far from each other, and none near.
    """
    chance = np.random.default_rng(0)
    centres = chance.standard_normal((CLUSTERS, dim), dtype=np.float32)
    ways = chance.standard_normal((CLUSTERS, DIRECTIONS, dim), dtype=np.float32) / DIRECTIONS**0.5
    for first in range(1, videos + 1, BLOCK):
        ids = np.arange(first, min(first + BLOCK, videos + 1))
        of = chance.integers(CLUSTERS, size=len(ids))
        found = centres[of] + 0.05 * chance.standard_normal((len(ids), dim), dtype=np.float32)
        for cluster in np.unique(of):
            members = np.flatnonzero(of == cluster)
            steps = chance.standard_normal((len(members), DIRECTIONS), dtype=np.float32)
            found[members] += 0.7 * steps @ ways[cluster]
        yield ids, found / np.linalg.norm(found, axis=1, keepdims=True)


def fill(database: Engine, encoder: Encoder, videos: int, dim: int) -> None:
    uris = "INSERT INTO reelvec.videos (uri) SELECT 's3://b/' || i FROM generate_series(1, :n) i"
    with session.transaction(database) as connection:
        connection.execute(text(uris), {"n": videos})
    execute(database, SET_CATEGORIES)
    chance, nobody = np.random.default_rng(1), uuid4()
    for ids, pooled in made(videos, dim):
        rows = ((encoder.encoder_id, i, v, "f32", nobody) for i, v in zip(ids, pooled, strict=True))
        windows = (
            (encoder.encoder_id, i, w, 10 * w, 10 * w + 10, v + 0.02 * chance.standard_normal(dim))
            for i, v in zip(ids, pooled, strict=True)
            for w in range(WINDOWS)
            if i <= videos // 10
        )
        with session.transaction(database) as connection:
            copy.copy_rows(connection, "reelvec.video_embeddings", COLUMNS, rows)
            copy.copy_rows(connection, "reelvec.window_embeddings", WINDOW_COLUMNS, windows)
    execute(database, "VACUUM ANALYZE")


def halved(found: np.ndarray) -> np.ndarray:
    """As the index has them: 16 bits a number. Of length 1 again, so that a product is a cosine."""
    rounded = found.astype(np.float16).astype(np.float32)
    rounded /= np.linalg.norm(rounded, axis=1, keepdims=True)
    return rounded


def expected(all_of: np.ndarray, query: np.ndarray, without: np.ndarray) -> set[int]:
    """The places of the K nearest of `all_of`, [n, dim], leaving out those of `without` [n] bool."""
    cosine = all_of @ query
    cosine[without] = -2
    return {int(place) for place in np.argpartition(-cosine, K)[:K] if cosine[place] > -2}


QUERIES = {
    "nearest": "SELECT video_id FROM reelvec.nearest(:video, 'probe', :k, :category)",
    "nearest_windows": "SELECT 3 * (video_id - 1) + window_index + 1 FROM reelvec.nearest_windows(:video, 1, 'probe', :k)",
}


def asked(
    connection: Connection, what: str, video: int, category: str | None
) -> tuple[list[int], float]:
    """Places from 0, and how long the answer took, in ms."""
    facts = {"video": video, "k": K, "category": category}
    started = time.perf_counter()
    found = connection.execute(text(QUERIES[what]), facts).scalars().all()
    return [int(one) - 1 for one in found], 1000 * (time.perf_counter() - started)


def row(
    database: Engine,
    what: str,
    all_of: np.ndarray,
    queries: np.ndarray,
    category: str | None = None,
) -> None:
    """One line of the table. `queries`: places of videos; in `all_of` are their vectors or windows."""
    times, right, there = [], 0, 0
    places = np.arange(len(all_of))
    video_of = places // (WINDOWS if what == "nearest_windows" else 1)
    number = (video_of + 1) * 7919 % 1000
    outside = {"rare": number != 0, "some": (number == 0) | (number > 50)}.get(category or "")
    with session.transaction(database) as connection:
        asked(connection, what, int(queries[0]) + 1, category)  # what a session does once
        for place in queries:
            found, took = asked(connection, what, int(place) + 1, category)
            times.append(took)
            own = video_of == place
            query = all_of[place * WINDOWS + 1 if what == "nearest_windows" else place]
            wanted = expected(all_of, query, own if outside is None else own | outside)
            right, there = right + len(wanted & set(found)), there + len(wanted)
    within = "" if category is None else f" of {CATEGORIES[category]:.1%} of the videos"
    print(
        f"| `{what}`, 10{within} | {right / there:.3f} | {np.percentile(times, 50):.1f} ms"
        f" | {np.percentile(times, 95):.1f} ms |"
    )


def warm(database: Engine, places: np.ndarray) -> None:
    with session.transaction(database) as connection:
        for place in places:
            asked(connection, "nearest", int(place) + 1, None)
            asked(connection, "nearest_windows", int(place) // 10 + 1, None)


def table(url: str, videos: int, dim: int, queries: int) -> None:
    schema.upgrade(url)
    with session.connect(url, statement_seconds=float("inf")) as database:
        with session.transaction(database) as connection:
            known = encoders.fetch_encoder(connection, "probe")
        encoder = known or bound(database, "probe", dim)
        if known is None:
            started = time.perf_counter()
            fill(database, encoder, videos, dim)
            say(f"filled in {time.perf_counter() - started:,.0f} s")
        for index in indexing.make(database, (), windows=True, say=say, tell=lambda *_: None):
            took = "" if index.seconds is None else f", built in {index.seconds:,.0f} s"
            print(
                f"{index.name}: {index.vectors:,} x {dim}, {index.size_bytes / 1e6:,.0f} MB{took}"
            )
        with vectors.snapshot(database) as connection:
            pooled = halved(vectors.pooled(connection, encoder).vectors)
            windows = halved(
                np.concatenate([b.vectors for b in vectors.window_blocks(connection, encoder)])
            )
        chance = np.random.default_rng(2)
        warm(database, chance.choice(len(pooled), min(WARMING, len(pooled)), replace=False))
        print("\n| what | recall@10 | p50 | p95 |\n|---|---|---|---|")
        chosen = chance.choice(len(pooled), queries, replace=False)
        for category in (None, *CATEGORIES):
            row(database, "nearest", pooled, chosen, category)
        row(database, "nearest_windows", windows, chance.choice(len(windows) // WINDOWS, queries))


def say(line: str) -> None:
    print(line, file=sys.stderr)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--videos", type=int, default=100_000)
    options.add_argument("--dim", type=int, default=768)
    options.add_argument("--queries", type=int, default=200)
    options.add_argument("--folder", type=Path, help="keep the database here")
    chosen = options.parse_args()
    with ExitStack() as stack:
        folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        servers = LocalStack(folder / "stack")
        url = servers.up().database_url
        stack.callback(servers.down)
        table(url, chosen.videos, chosen.dim, chosen.queries)


if __name__ == "__main__":
    main()
