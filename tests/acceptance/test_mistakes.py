"""Wrong addresses, wrong databases, wrong variables: a sentence and an exit code, never a
traceback, never a secret.
"""

from __future__ import annotations

import dataclasses

import pytest
from sqlalchemy import make_url

from db import schema
from tests.conftest import Desk

NOWHERE_DATABASE = "postgresql://user:hunter2@127.0.0.1:9/none"
NOWHERE_BROKER = "redis://:hunter2@127.0.0.1:9/0"
COMMANDS = (
    ("reelvec", "status"),
    ("enqueue", "a.mp4", "--backbone", "probe"),
    ("celery", "-A", "workers.app", "worker"),
)


def without(desk: Desk, *names: str) -> Desk:
    return dataclasses.replace(
        desk, environment={k: v for k, v in desk.environment.items() if k not in names}
    )


@pytest.fixture(autouse=True)
def _a_file(desk: Desk) -> None:
    (desk.folder / "a.mp4").write_bytes(b"x")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_database_is_69_without_the_password(desk: Desk, command: tuple[str, ...]) -> None:
    done = desk.run(*command, expect=69, DATABASE_URL=NOWHERE_DATABASE)
    assert "127.0.0.1:9" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_password_is_69_and_said_to_be_one(desk: Desk, command: tuple[str, ...]) -> None:
    right = make_url(desk.environment["DATABASE_URL"])
    wrong = right.set(password="hunter2").render_as_string(hide_password=False)
    told = desk.run(*command, expect=69, DATABASE_URL=wrong).stderr
    assert "refuses the login" in told
    assert "user and password" in told
    assert "that the server runs" not in told


def test_no_broker_is_69_and_nothing_is_lost(desk: Desk) -> None:
    done = desk.run(
        "enqueue", "a.mp4", "--backbone", "probe", expect=69, CELERY_BROKER_URL=NOWHERE_BROKER
    )
    assert "broker" in done.stderr
    assert "hunter2" not in done.stderr
    assert desk.run("reelvec", "db", "sql", "SELECT state FROM jobs").stdout.split()[1] in (
        "pending",
        "queued",
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_one_address_without_the_other_is_2(desk: Desk, command: tuple[str, ...]) -> None:
    assert "CELERY_BROKER_URL" in without(desk, "CELERY_BROKER_URL").run(*command, expect=2).stderr
    assert "DATABASE_URL" in without(desk, "DATABASE_URL").run(*command, expect=2).stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_no_address_and_no_stack_is_4(desk: Desk, command: tuple[str, ...]) -> None:
    variables = {"REELVEC_DATA_DIR": str(desk.folder / "never-made")}
    told = (
        without(desk, "CELERY_BROKER_URL", "DATABASE_URL")
        .run(*command, expect=4, **variables)
        .stderr
    )
    assert "reelvec up" in told


@pytest.mark.parametrize("command", COMMANDS)
def test_two_different_brokers_are_78(desk: Desk, command: tuple[str, ...]) -> None:
    assert (
        "REELVEC_BROKER_URL"
        in desk.run(*command, expect=78, REELVEC_BROKER_URL=NOWHERE_BROKER).stderr
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mistyped_variable_is_2(desk: Desk, command: tuple[str, ...]) -> None:
    assert "REELVEC_SAMPLERS" in desk.run(*command, expect=2, REELVEC_SAMPLER="1").stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_database_nobody_upgraded_is_78(
    desk: Desk, command: tuple[str, ...], empty_database_url: str
) -> None:
    assert (
        "reelvec db upgrade"
        in desk.run(*command, expect=78, DATABASE_URL=empty_database_url).stderr
    )


def test_a_device_that_does_not_work_is_78_before_any_work(desk: Desk) -> None:
    told = desk.run(
        "celery", "-A", "workers.app", "worker", expect=78, REELVEC_DEVICE="cuda:7"
    ).stderr
    assert "cuda:7" in told
    assert "REELVEC_DEVICE" in told


def test_sql_is_read_only_unless_told(desk: Desk) -> None:
    delete = "DELETE FROM videos"
    for statement in (delete, f"COMMIT; {delete}"):
        assert "--write" in desk.run("reelvec", "db", "sql", statement, expect=2).stderr
    desk.run("reelvec", "db", "sql", "--write", delete)
    assert "nonsense" in desk.run("reelvec", "db", "sql", "SELECT nonsense", expect=2).stderr
    assert desk.run("reelvec", "db", "sql", "SELECT '50%' AS share").stdout.split() == [
        "share",
        "50%",
    ]


def test_the_first_line_says_where(desk: Desk) -> None:
    first = desk.run("reelvec", "status").stderr.splitlines()[0]
    assert first.startswith("database postgresql")
    assert "redis://" in first
    assert "***" in first


def test_url_is_for_psql(desk: Desk, database_url: str) -> None:
    assert desk.run("reelvec", "db", "url").stdout.strip() == database_url.replace("+psycopg2", "")


def test_check_and_upgrade(desk: Desk, empty_database_url: str) -> None:
    desk.run("reelvec", "db", "check", expect=78, DATABASE_URL=empty_database_url)
    desk.run("reelvec", "db", "upgrade", DATABASE_URL=empty_database_url)
    assert schema.HEAD in desk.run("reelvec", "db", "check", DATABASE_URL=empty_database_url).stdout
