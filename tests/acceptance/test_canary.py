"""No secret is shown or stored, in whatever form it was given: every secret here holds one word
that is then looked for.
"""

from __future__ import annotations

import base64
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from sqlalchemy import Engine, text

from db import session
from producer import cli
from tests import logins, media
from tests.acceptance.test_doctor import BASE_INSTALL
from tests.conftest import Desk, WorkerProcess
from tests.http_server import serving
from tests.ledgering import execute, one
from workers.contract import BROKER_RIGHTS

WORD = "c4n4ry"
PG, REDIS = f"{WORD}-pg/@#1:x", f"{WORD}-redis/@?#1"
KEYS = {
    # put together here, so that no scanner takes this file for a leak
    "AWS_ACCESS_KEY_ID": "AKIA" + f"{WORD}000000000".upper(),
    "AWS_SECRET_ACCESS_KEY": f"{WORD}/aws+secret=",
    "AWS_SESSION_TOKEN": f"{WORD}+session/token==",
    "HF_TOKEN": f"hf_{WORD}token",
}
NOWHERE = "127.0.0.1:9"


def shown(told: str) -> list[str]:
    """Where a secret stands in a text, also in its base64 form."""
    logins_in_base64 = (
        base64.b64encode(f"{user}:{secret}".encode()).decode()
        for user in ("", "ann")
        for secret in (PG, REDIS)
    )
    return [
        *re.findall(f".*{WORD}.*", told, re.IGNORECASE),
        *(code for code in logins_in_base64 if code in told),
    ]


def everything_in(engine: Engine) -> str:
    """All rows of all tables and views, and what the server knows of our sessions and roles."""
    with session.transaction(engine) as connection:
        names = connection.execute(text("SELECT relname FROM pg_class WHERE relnamespace = 'reelvec'::regnamespace"
                                        " AND relkind IN ('r', 'v')")).scalars().all()  # fmt: skip
        assert len(names) > 15
        found = [
            connection.execute(text(f'SELECT t::text FROM reelvec."{name}" t')).scalars().all()
            for name in names
        ]
        sessions = (
            connection.execute(text("SELECT query || application_name FROM pg_stat_activity"))
            .scalars()
            .all()
        )
    return "\n".join(str(row) for rows in (*found, sessions) for row in rows)


def everything_of(client: redis.Redis) -> str:
    kinds = {
        b"list": lambda key: client.lrange(key, 0, -1),
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"string": client.get,
    }
    return "\n".join(f"{key!r} {kinds[client.type(key)](key)!r}" for key in client.scan_iter())


def until(condition: Callable[[], bool], worker: WorkerProcess) -> None:
    while not condition():
        assert worker.process.poll() is None, worker.log()
        time.sleep(0.1)


@pytest.fixture
def here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Callable[..., str]]:
    """Runs a command in this process with such variables; returns all it prints, tracebacks
    included.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.chdir(tmp_path)
    good = {
        "DATABASE_URL": f"postgresql://ann@{NOWHERE}/v",
        "CELERY_BROKER_URL": f"redis://{NOWHERE}/0",
    }

    def run(*arguments: str, **variables: str) -> str:
        for name, value in {**good, **variables}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["reelvec", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return f"{ended.value.code} {out}{err}"

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


def test_no_log_error_table_or_broker_shows_a_secret(
    desk: Desk,
    engine: Engine,
    database_url: str,
    broker_url: str,
    start_worker: Callable[..., WorkerProcess],
    here: Callable[..., str],
) -> None:
    media.make_clip(desk.folder / "good.mp4", seconds=1)
    client = redis.Redis.from_url(broker_url)
    client.execute_command("ACL", "SETUSER", "ann", "on", f">{REDIS}", *BROKER_RIGHTS.split())
    broker = f"redis://ann:{quote(REDIS, safe='')}@{broker_url.rpartition('@')[2]}"
    told = []
    with logins.made(database_url, PG) as urls, serving() as server:
        signed = f"{server.url('/x.mp4')}?X-Amz-Signature={WORD}&X-Amz-Security-Token={WORD}%2F&token={WORD}&part=1"
        videos = ["good.mp4", signed, f"https://ann:{WORD}@example.org/x.mp4", "s3://bucket/x.mp4",
                  f"https://bucket.s3.amazonaws.com/k.mp4?X-Amz-Credential={WORD}"]  # fmt: skip
        secrets = {**KEYS, "AWS_ENDPOINT_URL_S3": f"http://{NOWHERE}", "CELERY_BROKER_URL": broker}
        desk.environment.update(
            secrets, DATABASE_URL=urls["desk"], REELVEC_HTTP_ALLOW_PRIVATE="true"
        )
        enqueued = desk.run(
            "enqueue", "-", "--backbone", "probe", "--json", stdin="\n".join(videos)
        )
        assert "a user name or password in an address is refused" in enqueued.stderr
        assert "dropped from the address: X-Amz-Signature" in enqueued.stderr
        told += [enqueued.stdout, enqueued.stderr, everything_of(client)]
        worker = start_worker(DATABASE_URL=urls["node"])
        tried = "SELECT count(*) FROM reelvec.jobs WHERE state = 'done' OR error_code IS NOT NULL"
        until(lambda: one(engine, tried) == 4, worker)
        assert one(engine, "SELECT count(*) FROM reelvec.jobs WHERE state = 'done'") == 1
        # both servers refuse what they accepted before
        client.execute_command("ACL", "SETUSER", "ann", "resetpass", ">another1")
        client.execute_command("CLIENT", "KILL", "USER", "ann")
        execute(engine, "ALTER ROLE node PASSWORD 'another'")
        execute(
            engine, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'node'"
        )
        until(
            lambda: (
                "password authentication failed" in worker.log()
                and "invalid username" in worker.log()
            ),
            worker,
        )
        told += [
            here("status", form, DATABASE_URL=urls["desk"], CELERY_BROKER_URL=broker)
            for form in ("--json", "--failed")
        ]
        (desk.folder / "sitecustomize.py").write_text(BASE_INSTALL)
        for arguments in (["retry"], ["doctor", "--json", "--source", "s3://bucket/x"]):
            ran = desk.run("reelvec", *arguments, expect=None, PYTHONPATH=str(desk.folder))
            told += [ran.stdout, ran.stderr]
        told += [worker.log(), everything_in(engine), everything_of(client)]
        worker.kill()
    client.execute_command("ACL", "DELUSER", "ann")
    client.close()
    assert shown("\n".join(told)) == []
    assert shown(f"x {quote(PG, safe='')} {KEYS['AWS_ACCESS_KEY_ID']}"), "the search finds one"


@pytest.mark.parametrize(
    "secret",
    [f"{WORD}x", f"{WORD}@x/y#z", f"x@{WORD}/{WORD}", f"12/{WORD}", f"12?{WORD}", f"1 {WORD}"],
)
@pytest.mark.parametrize("form", ["{}", "{encoded}"])
def test_no_command_shows_what_an_address_holds(
    here: Callable[..., str], secret: str, form: str
) -> None:
    written = form.format(secret, encoded=quote(secret, safe=""))
    for variables in (
        {"DATABASE_URL": f"postgresql://ann:{written}@{NOWHERE}/v"},
        {"DATABASE_URL": f"postgres://ann:{written}@no.such.host.invalid/v?connect_timeout=2"},
        {"DATABASE_URL": f"postgresql://{NOWHERE}/v?user=ann&password={written}"},
        {"DATABASE_URL": f"postgresql://ann:{written}@{NOWHERE}/v?pgbouncer=true"},
        {"DATABASE_URL": f"postgresql://ann:{written}@{NOWHERE}/v?sslmode=odd"},
        {"DATABASE_URL": f"mysql://ann:{written}@{NOWHERE}/v"},
        {"DATABASE_URL": f"host=db password={written}"},
        {"CELERY_BROKER_URL": f"redis://:{written}@{NOWHERE}/0"},
        {
            "CELERY_BROKER_URL": f"redis://{NOWHERE}/0",
            "REELVEC_BROKER_URL": f"rediss://ann:{written}@{NOWHERE}/1",
        },
        {"CELERY_BROKER_URL": f"amqp://ann:{written}@{NOWHERE}//"},
    ):
        told = here("status", **variables)
        assert told[:2] in ("2 ", "69", "78"), told
        assert "Traceback" not in told
        assert shown(told) == [], variables


@pytest.mark.parametrize(
    "value", ["http://ann:{}@host", "ann:{}@host", "http://ann:{}/x@host", "https://host/{}"]
)
def test_no_command_shows_what_an_endpoint_holds(here: Callable[..., str], value: str) -> None:
    told = here("sample", "s3://bucket/x.mp4", AWS_ENDPOINT_URL_S3=value.format(WORD))
    assert "AWS_ENDPOINT_URL_S3" in told
    assert shown(told) == [] or "@" not in value


@pytest.mark.parametrize(
    "source",
    [
        "https://ann:{}@host.invalid/x.mp4",
        "https://host.invalid/x.mp4?token={}",
        "https://ann:{}@host.invalid/list.csv",
    ],
)
def test_no_command_shows_what_a_video_is_read_with(here: Callable[..., str], source: str) -> None:
    told = here("sample", source.format(WORD))
    assert shown(told) == []
    assert "Traceback" not in told


def test_an_error_nobody_foresaw_is_masked_too(
    here: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError(f"dividing by postgresql://ann:{WORD}@host/v")

    monkeypatch.setattr("db.stack.addresses.resolve", fails)
    told = here("status")
    assert told.startswith("1 Traceback")
    assert "ZeroDivisionError: dividing by postgresql://ann:***@host/v" in told
