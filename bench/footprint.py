"""What a video takes on the disk of Postgres, table by table: the real statements on a private
Postgres, with rows as two models write them.

    python -m bench.footprint [--videos 3000]

Prints the table of bench/RESULTS.md: bytes of a video with indexes, before and after a VACUUM FULL.
"Before" is how a table looks that a fleet has filled, "after" is the least. Vectors are random, and
addresses have 60 characters.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from sqlalchemy import Engine, text

from bench.taking_out import execute
from db import encoders, schema, session
from db.jobs.catalogue import Wanted
from db.jobs.outcome import EncoderRows, Outcome, TaggerRows
from db.labels import LabelSet
from db.media import Media, MediaFacts
from db.stack.local_stack import LocalStack
from tests.ledgering import Row, claim, finish, record, worker
from tests.vectors import bound

#: Name and length of a vector of each model, both with three windows.
MODELS = {"vivit": 768, "x-clip": 512}
#: X-CLIP's three label sets of the notebook's 47 categories.
SETS, CATEGORIES, WINDOWS = 3, 47, 3
STRIP_BYTES = 6_000
TABLES = ("videos", "jobs", "video_embeddings", "window_embeddings", "scores", "strips")
_BYTES = text("SELECT pg_total_relation_size(CAST(:table AS regclass))")


def fill(database: Engine, videos: int) -> None:
    chance = np.random.default_rng(0)
    models = [bound(database, name, dim) for name, dim in MODELS.items()]
    encoder_ids = [int(model.encoder_id or 0) for model in models]
    names = tuple(f"category number {number}" for number in range(CATEGORIES))
    with session.transaction(database) as connection:
        taggers = [
            encoders.declare_tagger(
                connection,
                encoder_ids[1],
                "x-clip",
                LabelSet(f"set-{one}", names, tuple(f"{one}: {name}" for name in names)),
            )
            for one in range(SETS)
        ]
    rows = [
        Row(f"s3://a-bucket-of-videos/categories/films/{number:020d}_360p.mp4", category="films")
        for number in range(videos)
    ]
    record(database, rows, Wanted(tuple(encoder_ids), tuple(taggers)))
    me = worker(database)
    spans = np.array([[20 * at, 20 * at + 20] for at in range(WINDOWS)], np.float32)
    media = Media("0123456789abcdef" * 2, 12_345_678)
    media = replace(media, facts=MediaFacts("h264", 640, 360, 25.0, 1800.0))
    for video_id in range(1, videos + 1):
        claimed = claim(database, video_id, me)
        assert claimed is not None
        vectors = []
        for encoder_id, dim in zip(encoder_ids, MODELS.values(), strict=True):
            windows = chance.standard_normal((WINDOWS, dim), dtype=np.float32)
            vectors.append(
                EncoderRows(encoder_id, windows.mean(axis=0), windows, spans, "bfloat16")
            )
        given = chance.dirichlet(np.ones(CATEGORIES), (SETS, WINDOWS)).astype(np.float32)
        scores = [
            TaggerRows(tagger, names, one) for tagger, one in zip(taggers, given, strict=True)
        ]
        outcome = Outcome(
            tuple(vectors), tuple(scores), media=media, strip=chance.bytes(STRIP_BYTES),
            bytes_read=16_000_000, fetch_seconds=1.0, decode_seconds=2.0, wait_seconds=1.0, device_seconds=0.05,
        )  # fmt: skip
        assert finish(database, claimed, outcome) == "done"


def sizes(database: Engine) -> dict[str, int]:
    with session.transaction(database) as connection:
        return {
            table: int(connection.execute(_BYTES, {"table": f"reelvec.{table}"}).scalar_one())
            for table in TABLES
        }


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--videos", type=int, default=3000)
    videos = options.parse_args().videos
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        stack = LocalStack(Path(name) / "stack")
        try:
            url = stack.up().database_url
            schema.upgrade(url)
            with session.connect(url, statement_seconds=float("inf")) as database:
                fill(database, videos)
                as_filled = sizes(database)
                for table in TABLES:
                    execute(database, f"VACUUM FULL reelvec.{table}")
                least = sizes(database)
        finally:
            stack.down()
    print("| table, with its indexes | bytes a video | at least |\n|---|--:|--:|")
    for table in TABLES:
        print(f"| {table} | {as_filled[table] / videos:,.0f} | {least[table] / videos:,.0f} |")
    print(
        f"| all | {sum(as_filled.values()) / videos:,.0f} | {sum(least.values()) / videos:,.0f} |"
    )


if __name__ == "__main__":
    main()
