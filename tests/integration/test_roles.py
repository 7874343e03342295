"""Each role can do its work on a real Postgres, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import psycopg2
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner, Result

from db import encoders, ledger, schema, session
from db.administration import rights, roles
from db.canary import accepting, references
from db.canary.references import Canary, Verdict
from db.errors import ErrorClass, RefusedConfigurationError
from db.jobs import backbone_breaker, liveness, lost_messages, places
from db.jobs.outcome import Failure, Outcome
from db.media import Media, MediaFacts
from db.progress import shared_census
from db.stack.local_stack import StackState
from producer.cli import reelvec
from producer.doctor import data, fleet, postgres
from producer.doctor.check import run
from tests import ledgering, logins
from tests.ledgering import execute, one
from workers import launch


@pytest.fixture
def url_of(database_url: str) -> Iterator[Callable[[str], str]]:
    """The address of a login that has one role."""
    with logins.made(database_url) as addresses:
        yield addresses.__getitem__


@pytest.fixture
def login(url_of: Callable[[str], str]) -> Iterator[Callable[[str], Engine]]:
    """An engine of that login."""
    made: dict[str, Engine] = {}

    def engine_of(name: str) -> Engine:
        return made.setdefault(name, create_engine(url_of(name)))

    yield engine_of
    for engine in made.values():
        engine.dispose()


@pytest.fixture
def command(
    url_of: Callable[[str], str],
    broker_url: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Result]:
    """Runs a command of the desk in this process, as one of the logins."""
    monkeypatch.setenv("CELERY_BROKER_URL", broker_url)

    def invoke(name: str, *arguments: str) -> Result:
        monkeypatch.setenv("DATABASE_URL", url_of(name))
        return CliRunner().invoke(reelvec, list(arguments))

    return invoke


def test_every_command_of_the_desk_works_as_enqueuer(
    command: Callable[..., Result], login: Callable[[str], Engine], engine: Engine, tmp_path
) -> None:
    for number in range(3):
        (tmp_path / f"{number}.mp4").write_bytes(b"x")
    for arguments in (
        ["enqueue", str(tmp_path), "--backbone", "x-clip"],
        ["enqueue", str(tmp_path), "--backbone", "x-clip", "--backbone", "vivit", "--force"],
        ["status"],
        ["pause"],
        ["pause", "--resume"],
        ["status", "--failed", "--json"],
        ["db", "check"],
        ["cancel", "--source", str(tmp_path / "0.mp4")],
    ):
        result = command("desk", *arguments)
        assert result.exit_code in ((0, 1) if arguments[0] == "status" else (0,)), (
            arguments,
            result.output,
            result.exception,
        )
    execute(
        engine,
        "UPDATE reelvec.jobs SET state = 'failed', error_code = 'io_error' WHERE state = 'queued'",
    )
    assert command("desk", "retry").exit_code == 0
    assert (
        one(engine, "SELECT count(*) FROM reelvec.jobs WHERE state IN ('pending', 'queued')") == 2
    )


def test_a_whole_life_of_a_worker_works_as_worker(login: Callable[[str], Engine]) -> None:
    desk, node = login("desk"), login("node")
    with session.transaction(node) as connection:
        rights.require(connection, rights.WORKER)
    encoder_id = ledgering.declare(desk, "x-clip")
    with session.transaction(desk) as connection:
        tagger_id = encoders.declare_tagger(connection, encoder_id, "x-clip", ledgering.LABELS)
    wanted = ledgering.Wanted((encoder_id,), (tagger_id,))
    ledgering.record(desk, [ledgering.Row(uri=f"file:///{n}.mp4") for n in range(4)], wanted)
    me = ledgering.worker(node)
    with session.transaction(node) as connection:
        (known,) = encoders.wanted_encoders(connection)
        encoders.bind(connection, known, weights_digest="aaa", dim=4, pooling="cls")
        canary = Canary(
            encoder_id, me, "cpu@a", "a", "cpu", "torch", "float32", 0.0, np.ones(4, np.float32)
        )
        assert references.meet(connection, canary).verdict is Verdict.FINE
        assert encoders.fetch_taggers(connection, [tagger_id])
        video_ids = ledgering.feed(connection, room=10)
    with session.transaction(desk) as connection:
        accepting.accept(connection, "x-clip", "cpu@a", who="ann@desk", reason=None)
    first, second, third, fourth = [ledgering.claim(node, video_id, me) for video_id in video_ids]
    assert first is not None
    assert second is not None
    assert third is not None
    assert fourth is not None
    rows = Outcome(
        encoder_rows=(ledgering.vectors(encoder_id),),
        tagger_rows=(ledgering.scores(tagger_id),),
        media=Media("v1", 5, MediaFacts("h264", 2, 2, fps=1.0, duration_seconds=1.0)),
    )
    assert ledgering.finish(node, first, rows) == "done"
    failure = Failure("fetch", "io_error", ErrorClass.TRANSIENT, "no")
    assert ledgering.finish(node, second, Outcome(failure=failure)) == "pending"
    outage = Failure("fetch", "unreachable", ErrorClass.INFRA, "no")
    assert ledgering.finish(node, third, Outcome(failure=outage)) == "pending"
    with session.transaction(node) as connection:
        assert ledger.release(connection, fourth)
        assert first.place_id is not None
        assert places.say_failing(connection, first.place_id, me, code="unreachable", error="no")
        assert places.close_failing(connection, stale_seconds=45, beat_seconds=10)
        places.hand_out_probes(connection, beat_seconds=0)
        assert places.open_again(connection, first.place_id)
        places.say_reading(connection, me, [first.place_id])
        backbone_breaker.pause_failing(connection)
        connection.execute(backbone_breaker._PAUSE, {"backbone": "vivit", "reason": "x"})
        connection.execute(backbone_breaker._PAUSE_ALL, {"control": "samplers", "reason": "x"})
        lost_messages.requeue_all(connection, older_than_seconds=0)
        lost_messages.requeue_overtaken(connection, older_than_seconds=0)
        assert liveness.reap(connection, me, stale_seconds=0, gap_seconds=20) == []
        liveness.give_back_unheld(connection, me, in_hand=[], older_than_seconds=0)
        liveness.leave(connection, me)
    for role in (desk, node):
        with session.transaction(role) as connection:
            connection.execute(
                shared_census._STORE, {"groups": [], "categories": [], "looked": True}
            )
            connection.execute(shared_census._LOOKED)
    assert one(login("guest"), "SELECT count(*) FROM reelvec.x_clip") == 1, (
        "the view is a reader's, too"
    )


FORBIDDEN = {
    "node": [
        "DELETE FROM reelvec.videos",
        "DELETE FROM reelvec.jobs",
        "DELETE FROM reelvec.attempts",
        "INSERT INTO reelvec.videos (uri) VALUES ('file:///x')",
        "INSERT INTO reelvec.jobs (video_id, encoders) VALUES (1, '{}')",
        "UPDATE reelvec.videos SET uri = 'file:///etc/passwd'",
        "UPDATE reelvec.encoders SET checkpoint = 'other'",
        "DELETE FROM reelvec.control",
        "INSERT INTO reelvec.actions (action, who) VALUES ('retry', 'somebody')",
        "UPDATE reelvec.video_embeddings SET dtype = 'x'",
        "TRUNCATE reelvec.scores",
        "DROP TABLE reelvec.scores",
        "DROP VIEW reelvec.tags",
        "ALTER TABLE reelvec.jobs ADD COLUMN x int",
        "CREATE TABLE reelvec.mine (x int)",
        "CREATE VIEW reelvec.mine AS SELECT 1",
        "UPDATE reelvec.alembic_version SET version_num = '0001'",
        "SET ROLE reelvec_admin",
    ],
    "desk": [
        "INSERT INTO reelvec.video_embeddings SELECT 1, 1, '[1]', 'x', gen_random_uuid()",
        "UPDATE reelvec.video_embeddings SET dtype = 'x'",
        "DELETE FROM reelvec.video_embeddings",
        "DELETE FROM reelvec.scores",
        "DELETE FROM reelvec.videos",
        "DELETE FROM reelvec.jobs",
        "DELETE FROM reelvec.actions",
        "UPDATE reelvec.actions SET who = 'somebody else'",
        "UPDATE reelvec.encoders SET weights_digest = 'x'",
        "INSERT INTO reelvec.attempts SELECT 1, 1, 'x', 'x', 'x', 'x', gen_random_uuid()",
        "DELETE FROM reelvec.workers",
        "SELECT reelvec.make_encoder_view('x-clip')",
        "CREATE TABLE reelvec.mine (x int)",
    ],
    "guest": ["UPDATE reelvec.control SET paused = true", "INSERT INTO reelvec.census (groups) VALUES ('[]')"],
    "nobody": ["SELECT * FROM reelvec.progress"],
}  # fmt: skip


def test_nothing_else_is_allowed(login: Callable[[str], Engine], engine: Engine) -> None:
    ledgering.declare(engine, "x-clip")
    for name, statements in FORBIDDEN.items():
        for statement in statements:
            with pytest.raises((RefusedConfigurationError, DBAPIError)) as caught:
                execute(login(name), statement)
            error = caught.value
            code = getattr(
                getattr(error if isinstance(error, DBAPIError) else error.__cause__, "orig", None),
                "pgcode",
                None,
            )
            assert code == "42501", (name, statement, error)


def test_the_view_function_makes_views_of_its_own_shape_and_replaces_none(
    login: Callable[[str], Engine], engine: Engine
) -> None:
    node = login("node")
    for name in ("jobs", "progress", "unbound"):
        ledgering.declare(engine, name)
    ledgering.declare(engine, 'odd"; DROP TABLE reelvec.scores; --')
    execute(
        engine,
        "UPDATE reelvec.encoders SET weights_digest = 'a', dim = 4, pooling = 'cls' WHERE encoder "
        "<> 'unbound'",
    )
    make = "SELECT reelvec.make_encoder_view(:name)"
    for name, told in (
        ("jobs", "already exists"),
        ("progress", "already exists"),
        ("unbound", "is not bound"),
    ):
        with pytest.raises(DBAPIError, match=told):
            execute(node, make, name=name)
    # neither a type nor a table of the caller's own session comes in between
    with session.transaction(node) as connection:
        connection.exec_driver_sql(
            "CREATE TEMP TABLE pg_extension (extname text, extnamespace oid)"
        )
        connection.execute(text(make), {"name": 'odd"; DROP TABLE reelvec.scores; --'})
    definition = one(
        engine,
        "SELECT definition FROM pg_views WHERE schemaname = 'reelvec' AND viewname LIKE 'odd%'",
    )
    assert "halfvec(4)" in str(definition)
    assert one(engine, "SELECT count(*) FROM reelvec.scores") == 0
    owner = one(engine, "SELECT viewowner FROM pg_views WHERE viewname LIKE 'odd%'")
    assert owner == rights.ADMIN, "no superuser's view"


def test_a_missing_right_is_one_line_in_every_command(
    command: Callable[..., Result], tmp_path
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    for name, arguments, lacks in (
        ("guest", ["enqueue", str(tmp_path)], "INSERT on encoders"),
        ("guest", ["pause"], "INSERT on control"),
        ("guest", ["db", "roles"], ""),
        ("nobody", ["status"], "schema reelvec"),
        ("nobody", ["retry"], "schema reelvec"),
        ("nobody", ["db", "upgrade"], "schema reelvec"),
        ("nobody", ["db", "dump", str(tmp_path / "dump")], "schema reelvec"),
        ("nobody", ["db", "sql", "SELECT * FROM progress"], ""),
    ):
        error = command(name, *arguments).exception
        if arguments[:2] != ["db", "sql"]:  # that tells Postgres' own words of the user's own SQL
            assert isinstance(error, RefusedConfigurationError), (arguments, error)
        assert "permission denied" in str(error), (arguments, error)
        assert lacks in str(error)
        assert "\n" not in str(error)
        assert f"pw-of-{name}" not in str(error)


def test_the_doctor_says_which_role_lacks_what(
    command: Callable[..., Result],
    url_of: Callable[[str], str],
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def judged(name: str) -> tuple[str, str]:
        monkeypatch.setenv("DATABASE_URL", url_of(name))
        (found,) = [finding for finding in run(postgres.checks()) if finding.name == "rights"]
        return str(found.status), found.fact

    assert judged("desk")[0] == judged("node")[0] == "ok"
    assert judged("boss") == ("ok", "role boss may read, enqueue and work")
    assert (
        "role desk may read and enqueue; to work it lacks DELETE on packs, DELETE on place_workers"
        in judged("desk")[1]
    )
    assert judged("guest")[0] == "warn"
    assert judged("nobody")[0] == "fail"
    for finding in run([*postgres.checks(), *fleet.checks(), *data.checks()]):
        assert "this check failed unexpectedly" not in finding.fact
        assert finding.status != "fail" or "lack" in finding.fact + finding.advice, finding
    execute(engine, f"REVOKE UPDATE ON reelvec.jobs FROM {rights.WORKER}")
    assert judged("node")[1].endswith("to work it lacks UPDATE on jobs")
    node = create_engine(url_of("node"))
    with (
        session.transaction(node) as connection,
        pytest.raises(RefusedConfigurationError) as caught,
    ):
        rights.require(connection, rights.WORKER)
    node.dispose()
    assert "role node lacks UPDATE on jobs: " in str(caught.value)


def test_a_worker_that_may_not_work_refuses_before_its_first_video(
    url_of: Callable[[str], str], broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", broker_url)
    monkeypatch.setenv("DATABASE_URL", url_of("guest"))
    with pytest.raises(
        RefusedConfigurationError,
        match=r"role guest lacks DELETE on packs, .* GRANT reelvec_worker",
    ):
        launch.prepare(None)


ALL_RIGHTS = """
SELECT string_agg(relname || array(SELECT unnest(relacl)::text ORDER BY 1)::text || pg_get_userbyid(relowner), ' ' ORDER BY relname)
FROM pg_class WHERE relnamespace = 'reelvec'::regnamespace AND relkind IN ('r', 'v')
"""


def test_making_them_again_changes_nothing_and_the_printed_sql_does_the_same(
    url_of: Callable[[str], str], engine: Engine
) -> None:
    before = one(engine, ALL_RIGHTS)
    with session.transaction(engine) as connection:
        roles.make(connection)
        printed = roles.script(connection)
    assert one(engine, ALL_RIGHTS) == before
    execute(engine, f"REVOKE ALL ON ALL TABLES IN SCHEMA reelvec FROM {rights.WORKER}")
    execute(engine, f"GRANT DELETE ON reelvec.videos TO {rights.ENQUEUER}")
    assert one(engine, ALL_RIGHTS) != before
    raw = psycopg2.connect(
        engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    )
    with raw.cursor() as cursor:
        cursor.execute(printed)
    raw.close()
    assert one(engine, ALL_RIGHTS) == before


def test_an_administrator_migrates_and_what_is_new_is_within_reach(
    login: Callable[[str], Engine], url_of: Callable[[str], str]
) -> None:
    assert schema.upgrade(url_of("boss")) == schema.HEAD
    with session.transaction(login("boss")) as connection:
        roles.become_owner(connection)
        connection.exec_driver_sql("CREATE TABLE reelvec.future (x int)")
    assert one(login("guest"), "SELECT count(*) FROM reelvec.future") == 0
    assert one(login("node"), "SELECT count(*) FROM reelvec.future") == 0


def test_one_who_is_no_superuser_may_make_them(empty_database_url: str, stack: StackState) -> None:
    engine = create_engine(empty_database_url, isolation_level="AUTOCOMMIT")
    name = empty_database_url.rpartition("/")[2]
    every = (*logins.ROLES, "dba")
    with engine.connect() as connection:
        connection.execute(text("CREATE ROLE dba LOGIN CREATEROLE PASSWORD 'pw-of-dba'"))
        connection.execute(text(f"ALTER DATABASE {name} OWNER TO dba"))
        connection.execute(text("CREATE EXTENSION vector"))
        dba = f"postgresql+psycopg2://dba:pw-of-dba@{empty_database_url.partition('@')[2]}"
        try:
            schema.upgrade(dba)
            for _ in range(2):
                with session.connect(dba) as made, session.transaction(made) as inside:
                    roles.make(inside)
            # what a later migration makes belongs to the role, whoever of its members runs it
            connection.execute(text("DROP SCHEMA reelvec CASCADE"))
            connection.execute(text(f"CREATE SCHEMA reelvec AUTHORIZATION {rights.ADMIN}"))
            assert schema.upgrade(dba) == schema.HEAD
            owners = "SELECT string_agg(DISTINCT pg_get_userbyid(relowner), ' ') FROM pg_class"
            assert (
                one(engine, f"{owners} WHERE relnamespace = 'reelvec'::regnamespace")
                == rights.ADMIN
            )
        finally:
            for role in every:
                connection.execute(text(f"DROP OWNED BY {role} CASCADE"))
            connection.execute(text(f"ALTER DATABASE {name} OWNER TO CURRENT_USER"))
            for role in every:
                connection.execute(text(f"DROP ROLE {role}"))
    engine.dispose()
