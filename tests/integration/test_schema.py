"""Migrations, models and what a wrong database is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg2  # type: ignore[import-untyped]
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import OperationalError

from db import driver_errors, encoders, schema, session
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


@pytest.mark.parametrize(
    ("wrong", "said", "advice"),
    [
        (
            {"password": "hunter2"},
            " refuses the login: .*password authentication failed for user",
            "Check user and password in REELVEC_DATABASE_URL (or DATABASE_URL)",
        ),
        (
            {"database": "never_made"},
            ' has no such database: .*database "never_made" does not exist',
            "Check the name of the database in REELVEC_DATABASE_URL (or DATABASE_URL), or have it "
            "created",
        ),
        (
            {"username": "mute", "password": "x"},
            ' refuses the login: .*role "mute" is not permitted to log in',
            "have that role given LOGIN",
        ),
        (
            {"username": "shut_out", "password": "x"},
            ' refuses the login: .*permission denied for database "',
            "have that role given CONNECT on the database",
        ),
        (
            {"username": "crowded", "password": "x"},
            ' has no free connection for this role: .*too many connections for role "crowded"',
            "run fewer workers, or have its limit raised: ALTER ROLE ... CONNECTION LIMIT",
        ),
        (
            {"username": "late", "password": "x"},
            " has no free connection for this database: .*too many connections for database",
            "run fewer workers, or have its limit raised: ALTER DATABASE ... CONNECTION LIMIT",
        ),
    ],
    ids=["password", "database", "no login", "no right", "full role", "full database"],
)
def test_who_is_refused_is_not_told_that_nobody_answers(
    database_url: str, engine: Engine, wrong: dict[str, str], said: str, advice: str
) -> None:
    url = make_url(database_url)
    execute(
        engine,
        f"REVOKE CONNECT ON DATABASE {url.database} FROM PUBLIC; "
        "CREATE ROLE mute PASSWORD 'x'; CREATE ROLE shut_out LOGIN PASSWORD 'x'; "
        "CREATE ROLE crowded LOGIN CONNECTION LIMIT 0 PASSWORD 'x'; "
        "CREATE ROLE late LOGIN PASSWORD 'x'; "
        f"GRANT CONNECT ON DATABASE {url.database} TO crowded, late; "
        f"ALTER DATABASE {url.database} CONNECTION LIMIT 0",
    )
    try:
        with (
            pytest.raises(UnavailableError, match=said) as caught,
            session.connect(url.set(**wrong).render_as_string(hide_password=False)),
        ):
            pass
    finally:
        execute(
            engine,
            f"REVOKE CONNECT ON DATABASE {url.database} FROM crowded, late; "
            "DROP ROLE mute, shut_out, crowded, late",
        )
    message = str(caught.value)
    assert message.endswith(advice)
    assert "does not answer" not in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("words", "said", "advice"),
    [
        ('no pg_hba.conf entry for host "10.0.0.7", user "u"', "refuses the login", "pg_hba.conf"),
        ('role "u" does not exist', "it has no such role", "have that role created"),
        ("no such database: x", "has no such database", "the name of the database"),  # a pooler
        ("sorry, too many clients already", "has no free connection", "max_connections"),
        (
            "remaining connection slots are reserved for roles with the SUPERUSER attribute",
            "has no free connection",
            "max_connections",
        ),
        ("no more connections allowed (max_client_conn)", "has no free connection", "of a pooler"),
    ],
)
def test_refusals_of_other_servers(words: str, said: str, advice: str) -> None:
    """What a server with other rules for its logins says."""
    fatal = f'connection to server at "10.0.0.1", port 5432 failed: FATAL:  {words}'
    error = OperationalError(None, None, psycopg2.OperationalError(fatal))
    message = str(driver_errors.translated("postgresql://h/x", error))
    assert said in message.partition(": ")[0]
    assert advice in message.partition(". Check ")[2]


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
