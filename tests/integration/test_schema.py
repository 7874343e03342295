"""Migrations, models and what a wrong database is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from db import encoders, schema, session
from db.errors import RefusedConfigurationError, UnavailableError
from tests.ledgering import declare, encoder, execute, one


def test_upgrading_twice_and_two_at_once_is_upgrading_once(empty_database_url: str) -> None:
    command = [
        sys.executable,
        "-c",
        "import sys; from db import schema; print(schema.upgrade(sys.argv[1]))",
    ]
    both = [
        subprocess.Popen(
            [*command, empty_database_url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for one_of_them in both:
        out, errors = one_of_them.communicate(timeout=60)
        assert out.strip() == schema.HEAD, errors
    assert schema.upgrade(empty_database_url) == schema.HEAD


def test_alembic_typed_by_hand_does_the_same(
    empty_database_url: str, broker_url: str, desk: object
) -> None:
    root = Path(schema.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=root,
        env={
            "PATH": "/usr/bin:/bin",
            "DATABASE_URL": empty_database_url,
            "CELERY_BROKER_URL": broker_url,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with session.connect(empty_database_url) as engine, session.transaction(engine) as connection:
        assert schema.check(connection) == schema.HEAD


def test_the_newest_revision_is_known_without_loading_them() -> None:
    migrations = Path(schema.__file__).parent / "migrations"
    assert ScriptDirectory(str(migrations)).get_current_head() == schema.HEAD


def check(engine: Engine) -> str:
    with session.transaction(engine) as connection:
        return schema.check(connection)


def test_a_database_at_another_revision_names_the_command(
    engine: Engine, empty_database_url: str
) -> None:
    with (
        session.connect(empty_database_url) as empty,
        pytest.raises(RefusedConfigurationError, match="reelvec db upgrade"),
    ):
        check(empty)
    execute(engine, "UPDATE reelvec.alembic_version SET version_num = '9999'")
    with pytest.raises(RefusedConfigurationError, match="9999"):
        check(engine)
    execute(engine, "INSERT INTO reelvec.schema_revisions VALUES ('9999', '9000')")
    with pytest.raises(RefusedConfigurationError, match="9000 or newer"):
        check(engine)
    execute(
        engine,
        "UPDATE reelvec.schema_revisions SET compatible_from = '0001' WHERE revision = '9999'",
    )
    assert check(engine) == "9999"


def test_nobody_at_home_is_unavailable_without_the_password() -> None:
    with (
        pytest.raises(UnavailableError) as caught,
        session.connect("postgresql+psycopg2://u:hunter2@127.0.0.1:9/x"),
    ):
        pass
    message = str(caught.value)
    assert "hunter2" not in message
    assert message.startswith(
        "Postgres at postgresql://u:***@127.0.0.1:9/x does not answer: "
    )  # no driver in it
    assert message.endswith("Check REELVEC_DATABASE_URL (or DATABASE_URL) and that the server runs")


def test_an_encoder_is_declared_once(engine: Engine) -> None:
    assert declare(engine) == declare(engine)
    with (
        session.transaction(engine) as connection,
        pytest.raises(RefusedConfigurationError, match="may not be mixed"),
    ):
        encoders.declare_encoder(connection, encoder(preprocessing="another"))


def test_the_first_worker_binds_and_another_digest_is_refused(engine: Engine) -> None:
    encoder_id = declare(engine, "x-clip")
    with session.transaction(engine) as connection:
        known = encoders.fetch_encoders(connection, [encoder_id])[encoder_id]
        for origin in (None, "a hub", "a folder"):  # a worker of an older version says nothing
            encoders.bind(
                connection, known, weights_digest="aaa", dim=4, pooling="cls", origin=origin
            )
        with pytest.raises(RefusedConfigurationError, match=r"aaa.*bbb"):
            encoders.bind(connection, known, weights_digest="bbb", dim=4, pooling="cls", origin="x")
    assert one(engine, "SELECT origin FROM reelvec.encoders") == "a hub", "the first who knows"
    assert one(engine, "SELECT count(*) FROM reelvec.x_clip") == 0, "binding makes the view"


def test_nearest_orders_by_cosine_and_leaves_the_video_out(engine: Engine) -> None:
    encoder_id = declare(engine)
    with session.transaction(engine) as connection:
        known = encoders.fetch_encoders(connection, [encoder_id])[encoder_id]
        encoders.bind(connection, known, weights_digest="aaa", dim=2, pooling="mean")
        for index, value in enumerate(("[1,0]", "[1,1]", "[0,1]"), 1):
            connection.execute(
                text("INSERT INTO reelvec.videos (uri) VALUES (:uri)"), {"uri": f"file:///{index}"}
            )
            connection.execute(
                text(
                    "INSERT INTO reelvec.video_embeddings VALUES (:e, :v, :value, 'float32', "
                    "gen_random_uuid())"
                ),
                {"e": encoder_id, "v": index, "value": value},
            )
        found = (
            connection.execute(text("SELECT video_id FROM reelvec.nearest(1, 'probe', 5)"))
            .scalars()
            .all()
        )
    assert found == [2, 3]


def test_an_id_that_two_videos_have_is_looked_up_by_an_ordinary_index(engine: Engine) -> None:
    """An index that a broken-off upgrade left invalid would slow down every write and serve
    nobody.
    """
    sql = (
        "SELECT concat_ws(' ', indisunique, indisvalid) FROM pg_index WHERE indrelid = "
        "'reelvec.videos'::regclass AND pg_get_indexdef(indexrelid) LIKE '%(external_id)'"
    )
    assert one(engine, sql) == "f t"
