"""Which database and broker a command uses, and what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from db import session
from db.errors import NoStackError, RefusedConfigurationError, UsageError
from db.settings import DatabaseSettings
from db.stack import local_stack
from db.stack.addresses import Addresses, configured_variables, describe, resolve

DATABASE = "postgresql://ann:s3cret@db:5432/videos"
BROKER = "redis://:s3cret@broker:6379/0"


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("REELVEC_") or name in ("DATABASE_URL", "CELERY_BROKER_URL"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("REELVEC_DATA_DIR", str(tmp_path / "stack"))


def configure(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def make_stopped_stack(folder: Path) -> None:
    (folder / "postgres").mkdir(parents=True)
    (folder / "postgres" / "PG_VERSION").write_text("18\n")
    (folder / "passwords.json").write_text(json.dumps({"postgres": "s3cret", "broker": "s3cret"}))
    (folder / "ports.json").write_text(json.dumps({"postgres": 15001, "broker": 15002}))


@pytest.mark.parametrize("database", ["DATABASE_URL", "REELVEC_DATABASE_URL"])
@pytest.mark.parametrize("broker", ["CELERY_BROKER_URL", "REELVEC_BROKER_URL"])
def test_either_name_of_each_address_is_read(
    monkeypatch: pytest.MonkeyPatch, database: str, broker: str
) -> None:
    configure(monkeypatch, **{database: DATABASE, broker: BROKER})
    assert resolve() == Addresses(
        "postgresql+psycopg2://ann:s3cret@db:5432/videos", BROKER, local=False
    )


def test_our_own_database_variable_wins_and_an_empty_one_counts_as_unset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure(
        monkeypatch,
        DATABASE_URL="mysql://other/app",
        REELVEC_DATABASE_URL=DATABASE,
        CELERY_BROKER_URL=BROKER,
    )
    assert resolve().database_url.endswith("@db:5432/videos")
    configure(monkeypatch, DATABASE_URL=DATABASE, REELVEC_DATABASE_URL=" ")
    assert resolve().database_url.endswith("@db:5432/videos")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_the_driver_is_spelled_out_and_the_query_kept(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    configure(
        monkeypatch,
        DATABASE_URL=f"{scheme}://ann@[::1]/v?sslmode=require&options=-c%20x%3D1",
        CELERY_BROKER_URL=BROKER,
    )
    assert (
        resolve().database_url
        == "postgresql+psycopg2://ann@[::1]/v?sslmode=require&options=-c%20x%3D1"
    )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://ann:s3cret@db/v",
        "mysql://ann:s3cret@db/v",
        "postgresql://ann:s3cret@db:port/v",
        "postgresql://ann:p@s3cret/w0rd#1@host",
        "postgresql://ann:s3cret/x@host/v",
        "postgresql://ann:12?s3cret@host/v",
        "postgresql://ann:12/x?s3cret=1@host/v",
        "postgresql://ann:my s3cret@host/v",
        "postgresql://ann:[s3cret@host/v",
        "host=db password=s3cret",
    ],
)
def test_another_database_address_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    configure(monkeypatch, DATABASE_URL=url, CELERY_BROKER_URL=BROKER)
    with pytest.raises(UsageError, match="database address") as caught:
        resolve()
    assert "s3cret" not in str(caught.value)


def test_a_password_in_want_of_encoding_is_told_how(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, DATABASE_URL="postgresql://u:p@ss/w0rd#1@host", CELERY_BROKER_URL=BROKER)
    with pytest.raises(
        UsageError, match=r"postgresql://u:\*\*\*@host has .* percent-encode .* @ as %40"
    ) as caught:
        resolve()
    assert "ss/w0rd" not in str(caught.value)
    configure(monkeypatch, DATABASE_URL="postgresql://u:p%40ss%2Fw0rd%231@host")
    assert resolve().database_url.endswith("//u:p%40ss%2Fw0rd%231@host")


def test_parameters_libpq_does_not_know_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(
        monkeypatch,
        DATABASE_URL=f"{DATABASE}?pgbouncer=true&sslmode=require&schema=x",
        CELERY_BROKER_URL=BROKER,
    )
    with pytest.raises(
        UsageError, match="has pgbouncer, schema, which libpq does not know"
    ) as caught:
        resolve()
    assert caught.value.exit_code == 2
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"{DATABASE}?sslmode", "has sslmode without a value"),
        (f"{DATABASE}?=s3cret", "= without a name, which libpq"),
        (f"{DATABASE}?sslmode=require&sslmode=disable", "has sslmode more than once"),
        (f"{DATABASE}?port=x", "cannot be taken apart: .*non-integer port"),
        (f"{DATABASE}%00", "cannot be taken apart: .*null character"),
        ("postgresql://ann:s3cret@http://x/v", "no valid host|cannot be taken apart"),
        ("postgresql://ann:s3cret@h:99999/v", "a number up to 65535"),
        ("postgresql://ann:s3cret@h:0/v", "a number up to 65535"),
        ("postgresql://ann:s3cret@%2Ftmp/v", r"as \?host=/folder"),
        ("mysql://ann:s3cret@h/v", r"write postgresql://user:password@host:5432/name"),
    ],
)
def test_what_a_driver_would_answer_with_a_traceback_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, url: str, told: str
) -> None:
    configure(monkeypatch, DATABASE_URL=url, CELERY_BROKER_URL=BROKER)
    with pytest.raises(UsageError, match=told) as caught:
        resolve()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://:s3cret@h:1/0?foo=bar", "has foo, which Celery does not know there"),
        ("redis://:s3cret@h:1/0?socket_timeout=5", "has socket_timeout"),
        ("redis://:s3cret@h:1/0?=s3cret", "has = without a name"),
        (
            "redis://h:1/0?password=s3cret",
            "has password, .* login and database go before the question mark",
        ),
        (
            "rediss://:s3cret@h:1/0?ssl_cert_reqs=foo",
            "ssl_cert_reqs='foo': it must be one of required",
        ),
        ("rediss://:s3cret@h:1/0?ssl_ca_certs=", "ssl_ca_certs='': it must be not empty"),
        ("redis://:s3cret@h:1/abc", "names no database of Redis: .*redis://host:6379/0"),
        ("redis://:s3cret@h:1/-1", "names no database"),
        ("redis://:s3cret@h:1/0/1", "names no database"),
        ("redis://:s3cret@h:1/0#1", "names no database"),
        (
            "redis+socket:///run/v.sock?virtual_host=a",
            "names no database of Redis: .*virtual_host=0",
        ),
        ("redis+socket://", "names no socket"),
        ("redis+socket:///run/v.sock?ssl_cert_reqs=none", "It knows virtual_host"),
        ("redis://:s3cret@h:0/0", "a number up to 65535"),
    ],
)
def test_what_celery_would_answer_with_a_traceback_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, url: str, told: str
) -> None:
    configure(monkeypatch, DATABASE_URL=DATABASE, REELVEC_BROKER_URL=url)
    with pytest.raises(UsageError, match=told) as caught:
        resolve()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["sslmode=foo", "target_session_attrs=foo", "service=nowhere", "gssencmode=maybe"]
)
def test_a_value_that_libpq_refuses_is_no_outage(value: str) -> None:
    with pytest.raises(UsageError, match=r"database address .* cannot be used: ") as caught:  # noqa: SIM117
        with session.connect(f"postgresql+psycopg2://ann:s3cret@127.0.0.1:1/v?{value}"):
            pass
    assert caught.value.exit_code == 2
    assert "s3cret" not in str(caught.value)


def test_addresses_are_shown_by_describe_alone() -> None:
    assert "s3cret" not in repr(Addresses(DATABASE, BROKER, local=False))


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://:pw@h:1?ssl_cert_reqs=none",
        "rediss://h:1/2?ssl_cert_reqs=required",
        "redis+socket:///run/v.sock",
        "redis://:pw@a:1/0;redis://:pw@b:2/0",
    ],
)
def test_the_three_ways_to_a_redis_are_taken_as_they_are(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    configure(monkeypatch, DATABASE_URL=DATABASE, REELVEC_BROKER_URL=url)
    assert resolve().broker_url == url


@pytest.mark.parametrize(
    "url",
    [
        "amqp://ann:s3cret@h//",
        "unix:///run/v.sock",
        "valkey://:s3cret@h",
        "s3cret@h:6379",
        "redis://:s3cret/x@h",
        "redis://:p@s3cret/w0rd#1@h",
        "redis://:s3cret;x@h:1/0",
    ],
)
def test_another_broker_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    configure(monkeypatch, DATABASE_URL=DATABASE, REELVEC_BROKER_URL=url)
    with pytest.raises(UsageError, match="broker address") as caught:
        resolve()
    assert "s3cret" not in str(caught.value).replace("unix:///run/v.sock", "")


def test_two_different_brokers_are_refused_and_two_equal_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure(
        monkeypatch, DATABASE_URL=DATABASE, REELVEC_BROKER_URL=BROKER, CELERY_BROKER_URL=BROKER
    )
    assert resolve().broker_url == BROKER
    configure(monkeypatch, CELERY_BROKER_URL="redis://:s3cret@elsewhere/0")
    with pytest.raises(
        RefusedConfigurationError,
        match=r"REELVEC_BROKER_URL .*broker:6379.*CELERY_BROKER_URL .*elsewhere",
    ) as caught:
        resolve()
    assert caught.value.exit_code == 78
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "value", "missing"),
    [
        ("DATABASE_URL", DATABASE, "REELVEC_BROKER_URL"),
        ("REELVEC_DATABASE_URL", DATABASE, "REELVEC_BROKER_URL"),
        ("CELERY_BROKER_URL", BROKER, "REELVEC_DATABASE_URL"),
        ("REELVEC_BROKER_URL", BROKER, "REELVEC_DATABASE_URL"),
    ],
)
def test_one_address_alone_names_the_missing_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, value: str, missing: str
) -> None:
    make_stopped_stack(tmp_path / "stack")  # never half from here and half from there
    configure(monkeypatch, **{given: value})
    with pytest.raises(UsageError, match=f"set {missing}"):
        resolve()
    assert configured_variables() == [given]


def test_nothing_configured_and_never_made_names_both_ways_on(tmp_path: Path) -> None:
    with pytest.raises(
        NoStackError, match=r"`reelvec up`.*REELVEC_DATABASE_URL and REELVEC_BROKER_URL"
    ) as caught:
        resolve()
    assert caught.value.exit_code == 4
    assert not (tmp_path / "stack").exists()


def test_a_stopped_local_stack_is_started_unless_only_described(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_stopped_stack(tmp_path / "stack")
    started: list[Path] = []

    def up(stack: local_stack.LocalStack) -> None:
        started.append(stack.data_dir)
        stack.launched = len(started) == 1  # the second time somebody else was faster

    monkeypatch.setattr(local_stack.LocalStack, "up", up)
    found = resolve(start=False)
    assert started == []
    assert found.database_url == "postgresql+psycopg2://reelvec:s3cret@127.0.0.1:15001/reelvec"
    assert found.broker_url == "redis://:s3cret@127.0.0.1:15002/0"
    assert capsys.readouterr() == ("", "")
    assert resolve() == found
    assert started == [tmp_path / "stack"]
    line = f"started the local servers in {started[0]}; reelvec up --stop stops them\n"
    assert capsys.readouterr() == ("", line)
    resolve()
    assert capsys.readouterr() == ("", "")


def test_the_line_for_people_names_both_services_and_no_secret() -> None:
    local = Addresses(
        "postgresql+psycopg2://ann:s3cret@h:5432/v", "redis://:s3cret@h:6379/0", local=True
    )
    assert (
        describe(local)
        == "database postgresql://ann:***@h:5432/v · broker redis://***@h:6379/0 (local stack)"
    )
    assert describe(Addresses(local.database_url, local.broker_url, local=False)).endswith("6379/0")


def test_the_folder_of_the_local_stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert local_stack.default_data_dir() == tmp_path / "stack"
    monkeypatch.delenv("REELVEC_DATA_DIR")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert local_stack.default_data_dir("demo") == Path("/var/lib/reelvec/demo")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", "not/absolute")
    assert local_stack.default_data_dir() == tmp_path / ".local/share/reelvec/default"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert local_stack.default_data_dir() == tmp_path / "data/reelvec/default"
    told = str(DatabaseSettings.model_fields["data_dir"].description)
    assert "~/.local/share/reelvec/default" in told
    assert "for root /var/lib/reelvec/default" in told
