"""The move of pooled vectors into `video_embeddings`, beside programs that write them as before."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from uuid import UUID, uuid4

import numpy as np
import pytest
from sqlalchemy import Engine, text

from db import copy, schema, session
from db.encoders import Encoder
from db.results import vectors
from tests.ledgering import execute, one
from tests.vectors import as_stored, bound

BEFORE = "0016"
VIDEOS, DIM = 30, 4
NOBODY = UUID(int=0)
_READ = "SELECT array_agg(video_id ORDER BY video_id) FROM reelvec.{}"


@pytest.fixture
def old(empty_database_url: str) -> Iterator[Engine]:
    schema.upgrade(empty_database_url, to=BEFORE)
    with session.connect(empty_database_url) as engine:
        execute(
            engine,
            "INSERT INTO reelvec.videos (uri) SELECT 'file:///' || i FROM generate_series(1, "
            f"{VIDEOS}) i",
        )
        yield engine


@pytest.fixture
def encoder(old: Engine) -> Encoder:
    made = bound(old, "probe", DIM)
    write(old, made, range(1, VIDEOS))
    return made


def vector(video_id: int) -> np.ndarray:
    """float32 `[DIM]` that float16 cannot hold exactly."""
    return np.array([1, video_id / 3, 0.1, -0.7], np.float32)


def write(engine: Engine, encoder: Encoder, video_ids: range) -> None:
    """As workers before 0017 write: float32 by binary COPY into `embeddings`."""
    columns = {
        "encoder_id": copy.smallint,
        "video_id": copy.bigint,
        "embedding": lambda v: struct.pack(">HH", len(v), 0) + v.astype(">f4").tobytes(),
        "dtype": copy.text,
        "worker_id": copy.uuid,
    }
    rows = [(encoder.encoder_id, id, vector(id), "float32", NOBODY) for id in video_ids]
    with session.transaction(engine) as connection:
        copy.copy_rows(connection, "reelvec.embeddings", columns, rows)


def stored(engine: Engine, encoder: Encoder) -> dict[int, list[float]]:
    with vectors.snapshot(engine) as connection:
        found = vectors.pooled(connection, encoder)
    return dict(zip(found.video_ids.tolist(), found.vectors.tolist(), strict=True))


def expected(video_ids: range) -> dict[int, list[float]]:
    return {id: as_stored(vector(id)).tolist() for id in video_ids}


def test_a_database_of_before_keeps_its_vectors_indexes_views_and_rights(
    old: Engine, encoder: Encoder
) -> None:
    role = f"old_worker_{uuid4().hex}"
    execute(old, f"CREATE ROLE {role}")
    try:
        execute(old, f"GRANT INSERT, DELETE ON reelvec.embeddings TO {role}")
        execute(old, "CREATE SCHEMA mine")
        execute(old, "CREATE VIEW mine.whole AS SELECT video_id, embedding FROM reelvec.embeddings")
        execute(
            old,
            f"CREATE INDEX by_angle ON reelvec.embeddings USING hnsw ((embedding::halfvec({DIM})) "
            f"halfvec_cosine_ops) WHERE encoder_id = {encoder.encoder_id}",
        )
        execute(
            old,
            "CREATE TABLE mine.notes (encoder_id smallint, video_id bigint, FOREIGN KEY (encoder_id, "
            "video_id) REFERENCES reelvec.embeddings ON DELETE CASCADE)",
        )
        execute(old, f"INSERT INTO mine.notes VALUES ({encoder.encoder_id}, 1), (NULL, NULL)")
        nearest_sql = "SELECT array_agg(video_id) FROM reelvec.nearest(1, 'probe', 5)"
        nearest = one(old, nearest_sql)
        schema.upgrade(old.url.render_as_string(hide_password=False))
        assert stored(old, encoder) == expected(range(1, VIDEOS))
        assert one(old, nearest_sql) == nearest
        assert one(old, "SELECT max(embedded) FROM reelvec.coverage") == VIDEOS - 1
        assert one(old, "SELECT count(*) FROM reelvec.probe") == VIDEOS - 1
        assert one(old, "SELECT pg_typeof(embedding)::text FROM mine.whole LIMIT 1") == "vector"
        assert str(one(old, "SELECT pg_get_indexdef('reelvec.by_angle'::regclass)")).startswith(
            "CREATE INDEX by_angle ON reelvec.video_embeddings USING hnsw"
        )
        with session.transaction(old) as connection:
            connection.execute(text("SET LOCAL enable_seqscan = off"))
            connection.execute(text("SET LOCAL enable_bitmapscan = off"))
            plan = connection.execute(
                text("EXPLAIN SELECT video_id FROM reelvec.probe ORDER BY embedding <=> '[1,0,0,0]' LIMIT 5")
            ).scalars()  # fmt: skip
            assert "by_angle" in " ".join(plan), "the encoder's view uses the index"
        for name in ("embeddings", "video_embeddings"):
            for right in ("INSERT", "DELETE"):
                asked = f"SELECT has_table_privilege('{role}', 'reelvec.{name}', '{right}')"
                assert one(old, asked), (name, right)
        assert one(old, "SELECT to_regclass('reelvec.embeddings_before') IS NULL")
        assert one(old, "SELECT to_regproc('reelvec.keep_in_step') IS NULL")
        left = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'reelvec'::regnamespace AND prosrc ~ '\\membeddings\\M'"
        assert one(old, left) == 0, "no function of ours goes through the view"
        execute(old, "DELETE FROM reelvec.embeddings WHERE video_id = 1")
        assert one(old, "SELECT count(*) FROM mine.notes") == 1, (
            "what refers to a vector goes with it"
        )
        assert one(
            old,
            "SELECT array_agg(conname::text) FROM pg_constraint WHERE conrelid = 'mine.notes'::regclass",
        ) == ["notes_encoder_id_video_id_fkey"]
    finally:
        execute(old, f"DROP OWNED BY {role}")
        execute(old, f"DROP ROLE {role}")


def test_what_old_workers_write_during_the_move_and_after_it_is_kept(
    old: Engine, encoder: Encoder
) -> None:
    upgrade = threading.Thread(
        target=schema.upgrade, args=(old.url.render_as_string(hide_password=False),)
    )
    with session.transaction(old) as reader:
        # a reader that stays: the name cannot be taken before it is gone
        reader.execute(text("SELECT 1 FROM reelvec.embeddings LIMIT 1"))
        upgrade.start()
        here = "SELECT to_regclass('reelvec.video_embeddings') IS NOT NULL"
        while (
            not one(old, here)
            or one(old, "SELECT count(*) FROM reelvec.video_embeddings") < VIDEOS - 1
        ):
            assert upgrade.is_alive()
        write(old, encoder, range(VIDEOS, VIDEOS + 1))
        execute(old, "DELETE FROM reelvec.embeddings WHERE video_id = 2")
        execute(old, "DELETE FROM reelvec.videos WHERE video_id = 3")
        execute(old, "UPDATE reelvec.embeddings SET embedding = '[9,9,9,9]' WHERE video_id = 4")
        assert (
            one(
                old, "SELECT relkind::text FROM pg_class WHERE oid = 'reelvec.embeddings'::regclass"
            )
            == "r"
        )
    upgrade.join(timeout=60)
    assert not upgrade.is_alive()
    after = expected(range(4, VIDEOS + 1)) | expected(range(1, 2)) | {4: [9.0] * DIM}
    assert stored(old, encoder) == after
    execute(old, "DELETE FROM reelvec.embeddings WHERE video_id IN (4, 5)")
    write(old, encoder, range(5, 6))
    del after[4]
    assert stored(old, encoder) == after, "an old worker goes on through the view"
    assert one(old, "SELECT count(*) FROM reelvec.video_embeddings WHERE created_at IS NULL") == 0
    assert one(old, _READ.format("embeddings")) == one(old, _READ.format("video_embeddings"))
    execute(old, "DELETE FROM reelvec.videos WHERE video_id = 6")
    del after[6]
    assert stored(old, encoder) == after, "what is taken down takes its vectors along"
