"""What people ask with SQL: the nearest videos whatever the session's settings, the best tag, words
for every mistake.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from db import encoders, schema, search, session
from db.dictionary import ENTRIES, writing
from db.encoders import Encoder
from producer.cli import reelvec
from producer.doctor import postgres
from producer.doctor.check import run
from tests import ledgering, logins
from tests.ledgering import execute, one
from tests.vectors import bound, filled, index

VIDEOS, DIM = 3_000, 8


def exact(vectors: np.ndarray, query: np.ndarray, k: int) -> list[int]:
    """Video ids in the order of cosine distance."""
    cosine = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    return [int(place) + 1 for place in np.argsort(-cosine, kind="stable")[:k]]


def ids(connection: Connection, statement: str) -> list[int]:
    return [int(row[0]) for row in connection.exec_driver_sql(statement)]


def prefer_index(connection: Connection) -> None:
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
    connection.exec_driver_sql("SET LOCAL enable_sort = off")


@pytest.fixture
def at_the_desk(database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Commands run in this process find the test's database."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("CELERY_BROKER_URL", broker_url)
    return database_url


@pytest.fixture
def crowd(engine: Engine) -> tuple[Engine, Encoder, np.ndarray]:
    """Many videos with an index."""
    encoder = bound(engine, "vivit", DIM)
    vectors = np.random.default_rng(1).standard_normal((VIDEOS, DIM)).astype(np.float32)
    filled(engine, encoder, vectors)
    index(engine, encoder)
    execute(engine, "ANALYZE reelvec.video_embeddings")
    return engine, encoder, vectors


SETTINGS = (
    "",
    "SET LOCAL search_path = ''",
    "SET LOCAL hnsw.iterative_scan = off; SET LOCAL hnsw.ef_search = 1; SET LOCAL "
    "hnsw.max_scan_tuples = 1",
    "SET LOCAL work_mem = '64kB'",
    "SET LOCAL enable_indexscan = off",
)


def test_nearest_gives_as_many_as_asked_for_in_order_whatever_the_session_says(
    crowd: tuple[Engine, Encoder, np.ndarray],
) -> None:
    engine, encoder, vectors = crowd
    for settings, k in ((settings, k) for settings in SETTINGS for k in (1, 39, 500, VIDEOS - 1)):
        with session.transaction(engine) as connection:
            prefer_index(connection)
            if settings:
                connection.exec_driver_sql(settings)
            rows = connection.exec_driver_sql(
                f"SELECT * FROM reelvec.nearest(7, 'vivit', {k})"
            ).all()
            hits = search.nearest(connection, encoder, vectors[6], limit=k + 1)
            set_here = dict(re.findall(r"(hnsw\S+) = (\w+)", settings))
            after = {name: connection.exec_driver_sql(f"SHOW {name}").scalar() for name in set_here}
        found = [row.video_id for row in rows]
        distances = [row.distance for row in rows]
        assert len(found) == len(set(found)) == k, settings
        assert 7 not in found
        assert distances == sorted(distances)
        assert len(set(found) & set(exact(vectors, vectors[6], k + 1))) >= 0.95 * k
        assert [hit.video_id for hit in hits] == [7, *found], (
            "the desk's search asks the same function"
        )
        assert after == set_here, "the session's own settings are as before"


def test_the_index_is_used(crowd: tuple[Engine, Encoder, np.ndarray]) -> None:
    with session.transaction(crowd[0]) as connection:
        prefer_index(connection)
        assert len(ids(connection, "SELECT * FROM reelvec.nearest(7, 'vivit', 100)")) == 100
        assert (
            connection.exec_driver_sql(
                "SELECT pg_stat_get_xact_numscans('reelvec.by_vector'::regclass)"
            ).scalar()
            == 1
        )


def test_ties_zero_vectors_and_k_beyond_the_table(engine: Engine) -> None:
    encoder = bound(engine, "vivit", 2)
    filled(engine, encoder, np.array([[1, 0], [2, 0], [0, 0], [0, 1], [3, 0]], np.float32))
    index(engine, encoder)
    for prepare in (lambda _: None, prefer_index):
        with session.transaction(engine) as connection:
            prepare(connection)
            # pgvector leaves a vector of zeros out of its index: it is the farthest, and there
            assert ids(connection, "SELECT * FROM reelvec.nearest(1, 'vivit', 100)") == [2, 5, 4, 3]
            assert ids(connection, "SELECT * FROM reelvec.nearest(1, 'vivit', NULL)") == [
                2,
                5,
                4,
                3,
            ]
            assert ids(connection, "SELECT * FROM reelvec.nearest(1, 'vivit', 0)") == []
            assert len(ids(connection, "SELECT * FROM reelvec.nearest(3, 'vivit', 4)")) == 4
            assert ids(connection, "SELECT * FROM reelvec.nearest_to('{0,5}', 'vivit', 1)") == [4]
            assert ids(connection, "SELECT v.video_id FROM reelvec.videos v, reelvec.nearest(v.video_id, 'vivit', 1)") == [
                1, 2, 3, 4, 5]  # fmt: skip


MISTAKES = {
    "nearest(1, 'vivvit')": "there is no encoder 'vivvit'; did you mean vivit? There are vivit, "
    "videomae, x-clip",
    "nearest(1, 'x_clip')": "there is no encoder 'x_clip'; did you mean x-clip? ",
    "nearest(1, NULL)": "there is no encoder NULL; ",
    "nearest(1, 'videomae')": "encoder 'videomae' has no vectors yet: no worker has loaded it",
    "nearest(42, 'vivit')": "there is no video 42",
    "nearest_to('{1,2,3}', 'vivit')": "vectors of vivit have 2 numbers, the one given has 3",
}


def test_a_mistake_is_told_in_words(engine: Engine, at_the_desk: str) -> None:
    filled(engine, bound(engine, "vivit", 2), np.ones((1, 2), np.float32))
    ledgering.declare(engine, "videomae")
    ledgering.declare(engine, "x-clip")
    for asked, told in MISTAKES.items():
        result = CliRunner().invoke(reelvec, ["db", "sql", f"SELECT * FROM {asked}"])
        assert told in str(result.exception)
        assert "PL/pgSQL" not in str(result.exception)


def test_a_database_in_which_nothing_was_asked_for(engine: Engine) -> None:
    with pytest.raises(DBAPIError, match="none has been asked for yet: run enqueue"):
        execute(engine, "SELECT reelvec.nearest(1, 'vivit')")


def test_a_video_without_that_vector_says_why(engine: Engine, at_the_desk: str) -> None:
    vivit = bound(engine, "vivit", 2)
    other = ledgering.declare(engine, "x-clip")
    execute(
        engine,
        "INSERT INTO reelvec.videos (uri) VALUES ('file:///1'), ('file:///2'), ('file:///3')",
    )
    execute(engine, "INSERT INTO reelvec.jobs (video_id, encoders, state, error_code) VALUES"
                    " (1, :vivit, 'failed', 'truncated'), (2, :other, 'done', NULL)",
            vivit=[vivit.encoder_id], other=[other])  # fmt: skip
    for video, why in (
        (1, "its job is failed (truncated)"),
        (2, "enqueue --backbone vivit asks"),
        (3, "never queued"),
    ):
        result = CliRunner().invoke(
            reelvec, ["db", "sql", f"SELECT * FROM nearest({video}, 'vivit')"]
        )
        assert result.exit_code == 0
        assert f"video {video} has no vector of vivit yet: " in result.stderr
        assert why in result.stderr


# Where the extension lies


@pytest.fixture
def hosted(empty_database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a database whose pgvector is where nobody looks."""
    engine = create_engine(empty_database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(
            text('CREATE SCHEMA "my extensions"; CREATE EXTENSION vector SCHEMA "my extensions"')
        )
        connection.execute(
            text(f"ALTER DATABASE {empty_database_url.rpartition('/')[2]} SET search_path = ''")
        )
    engine.dispose()
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    monkeypatch.setenv("CELERY_BROKER_URL", broker_url)
    return empty_database_url


def cli(*arguments: str) -> Any:
    result = CliRunner().invoke(reelvec, list(arguments))
    assert result.exit_code == 0, (arguments, result.output, result.exception)
    return result


def test_it_works_wherever_the_extension_lies(hosted: str) -> None:
    cli("db", "upgrade")
    with session.connect(hosted) as engine:
        life(engine)
        execute(engine, "CREATE SCHEMA elsewhere; ALTER EXTENSION vector SET SCHEMA elsewhere")
        found = {finding.name: finding for finding in run(postgres.checks())}
        assert str(found["pgvector"].status) == "ok"
        assert "elsewhere" in found["pgvector"].fact
        asks(engine)


def life(engine: Engine) -> None:
    """Record, claim, bind, finish as a worker does; then an index as the guide makes it."""
    encoder_id = ledgering.declare(engine, "x-clip")
    ledgering.record(
        engine,
        [ledgering.Row(f"file:///{n}.mp4") for n in range(3)],
        ledgering.Wanted((encoder_id,), ()),
    )
    with session.transaction(engine) as connection:
        known = encoders.fetch_encoders(connection, [encoder_id])[encoder_id]
        encoders.bind(connection, known, weights_digest="aaa", dim=4, pooling="cls")
    me = ledgering.worker(engine)
    for video_id in (1, 2, 3):
        claimed = ledgering.claim(engine, video_id, me)
        assert claimed is not None
        outcome = ledgering.Outcome((ledgering.vectors(encoder_id, float(video_id)),), (), None)
        assert ledgering.finish(engine, claimed, outcome) == "done"
    cli("db", "sql", "--write", "CREATE INDEX ON video_embeddings USING hnsw ((embedding::halfvec(4)) halfvec_cosine_ops)"
                                f" WHERE encoder_id = {encoder_id}")  # fmt: skip
    asks(engine)


def asks(engine: Engine) -> None:
    with session.transaction(engine) as connection:
        assert ids(connection, "SELECT * FROM reelvec.nearest(2, 'x-clip')") == [1, 3]
        known = encoders.fetch_encoder(connection, "x-clip")
        assert known is not None
        assert len(search.nearest(connection, known, [1, 2, 3, 4], limit=5)) == 3
    nearest = (
        "SELECT a.video_id FROM x_clip a, x_clip b WHERE b.video_id = 2 ORDER BY a.embedding <=> "
        "b.embedding, 1"
    )
    assert cli("db", "sql", nearest).stdout.split() == ["video_id", "1", "2", "3"]
    assert cli("db", "check").exit_code == 0


def test_a_role_that_may_not_use_the_extensions_schema_is_told(
    empty_database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_engine(empty_database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE SCHEMA ext; CREATE EXTENSION vector SCHEMA ext"))
    schema.upgrade(empty_database_url)
    filled(engine, bound(engine, "vivit", 2), np.eye(2, dtype=np.float32))
    with logins.made(empty_database_url) as addresses:
        monkeypatch.setenv("CELERY_BROKER_URL", broker_url)
        for name in ("guest", "desk", "node", "boss"):
            monkeypatch.setenv("DATABASE_URL", addresses[name])
            assert cli("db", "sql", "SELECT * FROM nearest(1, 'vivit')").stdout.split()[2] == "2"
            assert (
                cli(
                    "db", "sql", "SELECT video_id FROM vivit ORDER BY embedding <=> '[0,1]' LIMIT 1"
                ).stdout.split()[1]
                == "2"
            )
        execute(engine, "REVOKE USAGE ON SCHEMA ext FROM reelvec_reader")
        monkeypatch.setenv("DATABASE_URL", addresses["guest"])
        found = {finding.name: finding for finding in run(postgres.checks())}
        assert str(found["pgvector"].status) == "fail"
        assert found["pgvector"].advice == "have a DBA run GRANT USAGE ON SCHEMA ext TO guest"
        assert "USAGE on schema ext" in found["rights"].fact
        said = str(CliRunner().invoke(reelvec, ["db", "upgrade"]).exception)
        assert "GRANT USAGE ON SCHEMA ext TO guest" in said
    engine.dispose()


# What there is to read


def test_one_tag_a_video_and_your_own_labels_first(engine: Engine) -> None:
    encoder_id = ledgering.declare(engine, "x-clip")
    with session.transaction(engine) as connection:
        made = {
            name: encoders.declare_tagger(
                connection,
                encoder_id,
                "x-clip",
                ledgering.LabelSet(name, (f"{name} a", f"{name} b"), ("a", "b")),
            )
            for name in ("en", "ru", "names", "mine", "later")
        }
    execute(
        engine,
        "INSERT INTO reelvec.videos (uri) SELECT 'file:///' || i FROM generate_series(1, 4) i",
    )
    for video, taggers in (
        (1, ("ru", "en", "names")),
        (2, ("en", "mine")),
        (3, ("later", "mine", "en")),
    ):
        for tagger in taggers:
            execute(engine, "INSERT INTO reelvec.scores VALUES (:tagger, :video, '{0.1,0.9}', '{{0.1,0.9}}', 'b', 0.9,"
                            " gen_random_uuid())", tagger=made[tagger], video=video)  # fmt: skip
    with session.transaction(engine) as connection:
        rows = connection.exec_driver_sql(
            "SELECT video_id, tagger FROM reelvec.best_tags ORDER BY 1"
        ).all()
    assert [tuple(row) for row in rows] == [
        (1, "x-clip/en"),
        (2, "x-clip/mine"),
        (3, "x-clip/later"),
    ]


def test_tags_are_never_of_random_weights_and_a_models_own_classes_come_last(
    engine: Engine,
) -> None:
    with session.transaction(engine) as connection:
        encoder_ids = {
            kind: encoders.declare_encoder(
                connection, ledgering.encoder(f"e-{kind}", backbone="e", weights=kind)
            )
            for kind in ("pretrained", "random-tiny")
        }
        made = {
            (kind, name): encoders.declare_tagger(
                connection,
                encoder_id,
                f"e-{kind}",
                ledgering.LabelSet(name, (f"{name} a", f"{name} b"), ("a", "b")),
            )
            for kind, encoder_id in encoder_ids.items()
            for name in ("imagenet", "en", "mine")
        }
    execute(
        engine,
        "INSERT INTO reelvec.videos (uri) SELECT 'file:///' || i FROM generate_series(1, 3) i",
    )
    for video, scored in ((1, ["imagenet", "en"]), (2, ["imagenet"]), (3, [])):
        taggers = [made["pretrained", name] for name in scored]
        for tagger in [*taggers, made["random-tiny", "mine"], made["random-tiny", "en"]]:
            execute(engine, "INSERT INTO reelvec.scores VALUES (:tagger, :video, '{0.1,0.9}', '{{0.1,0.9}}', 'b', 0.9,"
                            " gen_random_uuid())", tagger=tagger, video=video)  # fmt: skip
    with session.transaction(engine) as connection:
        best = connection.exec_driver_sql(
            "SELECT video_id, tagger FROM reelvec.best_tags ORDER BY 1"
        ).all()
        every = connection.exec_driver_sql(
            "SELECT DISTINCT video_id, tagger FROM reelvec.tags ORDER BY 1, 2"
        ).all()
    assert [tuple(row) for row in best] == [(1, "e-pretrained/en"), (2, "e-pretrained/imagenet")]
    assert [tuple(row) for row in every] == [
        (1, "e-pretrained/en"),
        (1, "e-pretrained/imagenet"),
        (2, "e-pretrained/imagenet"),
    ]


ADDRESSES = {
    "file:///v/%D0%BA%D0%BE%D1%82%201.mp4": "file:///v/кот 1.mp4",
    "file:///v/100%25.mp4": "file:///v/100%.mp4",
    "https://h/a%20b.mp4": "https://h/a b.mp4",
    "s3://b/a%20b.mp4": "s3://b/a%20b.mp4",
    "file:///v/plain.mp4": "file:///v/plain.mp4",
    "file:///v/%FF%FE.mp4": "file:///v/%FF%FE.mp4",
    "file:///v/a%00b": "file:///v/a%00b",
    "https://h/%zz%4": "https://h/%zz%4",
}


def test_an_address_can_be_read(engine: Engine) -> None:
    assert {
        uri: one(engine, "SELECT reelvec.readable(:uri)", uri=uri) for uri in ADDRESSES
    } == ADDRESSES


SAID = """
SELECT CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind, relname::text AS name, '' AS type, obj_description(oid, 'pg_class') AS words
FROM pg_class WHERE relnamespace = 'reelvec'::regnamespace AND relkind IN ('r', 'v', 'm', 'p', 'f')
UNION ALL
SELECT 'COLUMN', relname || '.' || attname, replace(format_type(atttypid, NULL), 'timestamp with time zone', 'timestamptz'),
  col_description(c.oid, attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped
WHERE relnamespace = 'reelvec'::regnamespace AND relkind IN ('r', 'v', 'm', 'p', 'f')
UNION ALL
SELECT 'FUNCTION', oid::regprocedure::text, '', obj_description(oid, 'pg_proc')
FROM pg_proc WHERE pronamespace = 'reelvec'::regnamespace
"""


def test_everything_in_the_schema_says_what_it_is_and_the_dictionary_has_nothing_else(
    engine: Engine,
) -> None:
    bound(engine, "x-clip", 4)
    with session.transaction(engine) as connection:
        connection.exec_driver_sql("SET LOCAL search_path = public")
        found = {
            (row.kind, row.name.replace("reelvec.", "").replace(" ", ""), row.type): row.words
            for row in connection.exec_driver_sql(SAID)
        }
        again = writing.write(connection)
    assert [thing for thing, words in found.items() if not words] == []
    of_view = {thing for thing in found if thing[1].split(".")[0] == "x_clip"}
    assert len(of_view) == 5, "a view of an encoder has comments on its columns, too"
    ours = {
        (entry.kind, entry.name.replace("reelvec.", "").replace(" ", ""), entry.type): entry.words
        for entry in ENTRIES
        if entry.kind != "SCHEMA"
    }
    assert {thing: found[thing] for thing in found.keys() - of_view} == ours
    assert again == 0, "what is written already is left alone"
