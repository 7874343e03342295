"""Encoders with vectors and an index, without a worker."""

from __future__ import annotations

from uuid import uuid4

import numpy as np
from sqlalchemy import Engine

from db import copy, encoders, session
from db.encoders import Encoder
from tests.ledgering import declare, execute

COLUMNS = {"encoder_id": copy.smallint, "video_id": copy.bigint, "embedding": copy.halfvec, "dtype": copy.text,
           "worker_id": copy.uuid}  # fmt: skip
WINDOW_COLUMNS = {"encoder_id": copy.smallint, "video_id": copy.bigint, "window_index": copy.smallint,
                  "start_seconds": copy.real, "end_seconds": copy.real, "embedding": copy.halfvec}  # fmt: skip


def as_stored(vectors: np.ndarray) -> np.ndarray:
    """float32, rounded as the database rounds them."""
    return vectors.astype(np.float16).astype(np.float32)


def bound(engine: Engine, name: str, dim: int) -> Encoder:
    """The encoder as the first worker leaves it."""
    encoder_id = declare(engine, name)
    with session.transaction(engine) as connection:
        declared = encoders.fetch_encoders(connection, [encoder_id])[encoder_id]
        encoders.bind(connection, declared, weights_digest="aaa", dim=dim, pooling="cls")
        return encoders.fetch_encoders(connection, [encoder_id])[encoder_id]


def filled(engine: Engine, encoder: Encoder, vectors: np.ndarray) -> np.ndarray:
    """Videos 1, 2, ... with these vectors, float32 [videos, dim]."""
    execute(
        engine,
        "INSERT INTO reelvec.videos (uri) SELECT 'file:///' || i FROM generate_series(1, "
        f"{len(vectors)}) i",
    )
    written(engine, encoder, vectors)
    return vectors


def written(engine: Engine, encoder: Encoder, vectors: np.ndarray) -> None:
    """The same of videos that are there."""
    rows = (
        (encoder.encoder_id, number, vector, "f32", uuid4())
        for number, vector in enumerate(vectors, 1)
    )
    with session.transaction(engine) as connection:
        copy.copy_rows(connection, "reelvec.video_embeddings", COLUMNS, rows)


def index(engine: Engine, encoder: Encoder) -> None:
    """As the guide makes it."""
    kind, which = (
        f"hnsw ((embedding::halfvec({encoder.dim})) halfvec_cosine_ops)",
        f"encoder_id = {encoder.encoder_id}",
    )
    execute(
        engine, f"CREATE INDEX by_vector ON reelvec.video_embeddings USING {kind} WHERE {which}"
    )


def filled_windows(
    engine: Engine, encoder: Encoder, windows: np.ndarray, *, seconds: float = 10.0
) -> None:
    """Windows of videos 1, 2, ...: float32 [videos, windows, dim], each of `seconds`."""
    rows = (
        (encoder.encoder_id, video, at, seconds * at, seconds * (at + 1), vector)
        for video, of_video in enumerate(windows, 1)
        for at, vector in enumerate(of_video)
    )
    with session.transaction(engine) as connection:
        copy.copy_rows(connection, "reelvec.window_embeddings", WINDOW_COLUMNS, rows)
