"""The doctor's checks against real servers and real packages, without the command around them."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import redis
from sqlalchemy import Engine, create_engine, text

from db.errors import UnavailableError
from db.stack.local_stack import LocalStack, StackState
from producer.doctor import broker, child, configuration, fleet, packages, postgres, storage
from producer.doctor.check import Check, Finding, run
from producer.status.broker import ask
from tests import media
from tests.ledgering import execute, worker
from tests.s3_server import SECRET, S3Server
from workers import feeder
from workers.contract import BROKER_RIGHTS

NOWHERE = "127.0.0.1:9"


def look(checks: list[Check]) -> dict[str, Finding]:
    return {finding.name: finding for finding in run(checks)}


def statuses(found: dict[str, Finding]) -> dict[str, str]:
    return {name: str(finding.status) for name, finding in found.items()}


@pytest.fixture
def addresses(
    database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("CELERY_BROKER_URL", broker_url)
    return monkeypatch


class TestPostgres:
    GOOD: ClassVar = {
        "server": "ok",
        "pgvector": "ok",
        "connections": "ok",
        "rights": "ok",
        "schema": "ok",
    }

    def test_a_good_one(self, addresses: pytest.MonkeyPatch) -> None:
        assert statuses(look(postgres.checks())) == self.GOOD

    def test_a_database_nobody_upgraded(
        self, addresses: pytest.MonkeyPatch, empty_database_url: str
    ) -> None:
        addresses.setenv("DATABASE_URL", empty_database_url)
        found = look(postgres.checks())
        assert statuses(found) == {**self.GOOD, "schema": "fail"}
        assert found["schema"].advice == "run reelvec db upgrade"
        assert "reelvec db upgrade installs it" in found["pgvector"].fact

    def test_a_dead_one_and_a_wrong_password(
        self, addresses: pytest.MonkeyPatch, database_url: str
    ) -> None:
        addresses.setenv("DATABASE_URL", f"postgresql://u:hunter2@{NOWHERE}/none")
        found = look(postgres.checks())
        assert statuses(found) == {"server": "fail"}
        assert "refused" in found["server"].fact
        assert "DATABASE_URL" in found["server"].advice
        login, _, rest = database_url.rpartition("@")
        addresses.setenv("DATABASE_URL", f"{login.rpartition(':')[0]}:hunter2@{rest}")
        found = look(postgres.checks())
        assert "refuses the login" in found["server"].fact
        assert found["server"].advice.startswith("Check user and password in REELVEC_DATABASE_URL")
        assert "hunter2" not in str(found)

    @pytest.fixture
    def role(self, database_url: str, stack: StackState) -> Iterator[str]:
        """A role with nothing but a login; its address."""
        engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(
                text(
                    "REVOKE TEMPORARY ON DATABASE "
                    + database_url.rpartition("/")[2]
                    + " FROM PUBLIC"
                )
            )
            connection.execute(text("CREATE ROLE visitor LOGIN PASSWORD 'visiting'"))
            yield f"postgresql://visitor:visiting@127.0.0.1:{stack.postgres_port}/{database_url.rpartition('/')[2]}"
            connection.execute(text("DROP OWNED BY visitor"))
            connection.execute(text("DROP ROLE visitor"))
        engine.dispose()

    def test_a_role_that_may_do_nothing(
        self, addresses: pytest.MonkeyPatch, engine: Engine, role: str
    ) -> None:
        addresses.setenv("DATABASE_URL", role)
        found = look(postgres.checks())
        assert statuses(found) == {**self.GOOD, "rights": "fail", "schema": "skipped"}
        assert (
            "role visitor may not read: to read it lacks SELECT on actions, "
            in found["rights"].fact
        )
        execute(
            engine,
            "GRANT USAGE ON SCHEMA reelvec TO visitor; GRANT SELECT ON ALL TABLES IN SCHEMA "
            "reelvec TO visitor",
        )
        found = look(postgres.checks())
        assert statuses(found) == {**self.GOOD, "rights": "warn"}
        assert (
            "to enqueue it lacks DELETE on maps, INSERT on actions, INSERT on census, "
            in found["rights"].fact
        )
        assert "to work it lacks DELETE on packs, DELETE on place_workers, " in found["rights"].fact
        execute(
            engine,
            "GRANT ALL ON ALL TABLES IN SCHEMA reelvec TO visitor; GRANT EXECUTE ON ALL FUNCTIONS "
            "IN SCHEMA reelvec TO visitor",
        )
        found = look(postgres.checks())
        assert found["rights"].fact.endswith(
            "may read and work; to enqueue it lacks TEMPORARY on the database"
        )
        execute(engine, f"GRANT TEMPORARY ON DATABASE {role.rpartition('/')[2]} TO visitor")
        assert statuses(look(postgres.checks())) == self.GOOD
        execute(
            engine,
            "ALTER ROLE visitor CONNECTION LIMIT 1; ALTER ROLE visitor SET "
            "default_transaction_read_only = on",
        )
        found = look(postgres.checks())
        assert found["connections"].status == "warn"
        assert found["writing"].status == "fail"


class TestBroker:
    def test_a_good_one(self, addresses: pytest.MonkeyPatch) -> None:
        found = look(broker.checks())
        assert statuses(found) == {"server": "ok", "memory": "ok", "queue": "ok"}
        assert found["server"].fact.startswith("Valkey ")
        assert found["queue"].fact == "0 messages wait in 'reelvec'"

    def test_a_dead_one_and_a_wrong_password(
        self, addresses: pytest.MonkeyPatch, broker_url: str
    ) -> None:
        addresses.setenv("CELERY_BROKER_URL", f"redis://:hunter2@{NOWHERE}/0")
        found = look(broker.checks())
        assert statuses(found) == {"server": "fail"}
        assert "does not answer" in found["server"].fact
        addresses.setenv("CELERY_BROKER_URL", "redis://:hunter2@" + broker_url.rpartition("@")[2])
        found = look(broker.checks())
        assert "refuses the login" in found["server"].fact
        assert "hunter2" not in str(found)
        addresses.setenv("CELERY_BROKER_URL", f"redis://{broker_url.rpartition('@')[2]}")
        found = look(broker.checks())
        assert found["server"].fact.endswith(" refuses the login: it asks for a password")
        assert found["server"].advice.startswith("check user and password in REELVEC_BROKER_URL")

    def test_users_of_the_broker_with_few_rights_and_with_just_enough(
        self, addresses: pytest.MonkeyPatch, broker_url: str
    ) -> None:
        with redis.Redis.from_url(broker_url) as client:
            client.execute_command(
                "ACL", "SETUSER", "other", "on", ">hunter22", "~theirs:*", "+@all"
            )
            client.execute_command(
                "ACL", "SETUSER", "ours", "on", ">hunter22", *BROKER_RIGHTS.split()
            )
            place = broker_url.rpartition("@")[2]
            addresses.setenv("CELERY_BROKER_URL", f"redis://other:hunter22@{place}")
            found = look(broker.checks())["queue"]
            assert found.status == "fail"
            assert "this user lacks a right: " in found.fact
            assert "~reelvec:*" in found.advice
            for password, told in (
                ("hunter22", f"ACL SETUSER that_user {BROKER_RIGHTS}"),
                ("wrong", "user and password"),
            ):
                theirs = redis.Redis.from_url(f"redis://other:{password}@{place}")
                with pytest.raises(UnavailableError, match=re.escape(told)), feeder.broker_errors():
                    theirs.llen("reelvec:reelvec")
                theirs.close()
            assert (
                "refuses: No permissions to access a key. Its user lacks a right: ACL SETUSER "
                f"that_user {BROKER_RIGHTS}" in ask(f"redis://other:hunter22@{place}").problem
            )
            addresses.setenv("CELERY_BROKER_URL", f"redis://ours:hunter22@{place}")
            assert statuses(look(broker.checks())) == {
                "server": "ok",
                "memory": "ok",
                "queue": "ok",
            }
            client.execute_command("ACL", "DELUSER", "other", "ours")


def test_a_broker_that_accepts_and_says_nothing(addresses: pytest.MonkeyPatch) -> None:
    addresses.setattr(broker, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        addresses.setenv("CELERY_BROKER_URL", f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        found = look(broker.checks())
    assert "does not answer" in found["server"].fact


class TestLocalStack:
    def test_a_running_one_is_asked(
        self, local: LocalStack, stack: StackState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REELVEC_DATA_DIR", str(local.data_dir))
        found = look(configuration.checks())
        assert statuses(found) == {"variables": "ok", "addresses": "ok"}
        assert "(local stack), in " in found["addresses"].fact
        assert look(postgres.checks())["server"].status == "ok"
        assert "every folder" in look(storage.checks(None))["file roots"].fact

    def test_one_that_is_down_is_not_started(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REELVEC_DATA_DIR", str(tmp_path))
        (tmp_path / "postgres").mkdir()
        (tmp_path / "postgres" / "PG_VERSION").write_text("16")
        (tmp_path / "passwords.json").write_text('{"postgres": "a", "broker": "b"}')
        (tmp_path / "ports.json").write_text('{"postgres": 15001, "broker": 15002}')
        before = sorted(tmp_path.rglob("*"))
        found = look(configuration.checks())
        assert (found["addresses"].status, "reelvec up" in found["addresses"].advice) == (
            "warn",
            True,
        )
        assert statuses(look([*postgres.checks(), *broker.checks()])) == {"server": "skipped"}
        assert sorted(tmp_path.rglob("*")) == before


def test_workers_alive_silent_and_of_another_version(
    addresses: pytest.MonkeyPatch, engine: Engine
) -> None:
    assert statuses(look(fleet.checks())) == {"workers": "ok"}
    worker(engine)
    silent = worker(engine)
    execute(
        engine,
        "UPDATE reelvec.workers SET beat_at = now() - interval '1 hour' WHERE worker_id = :id",
        id=silent,
    )
    execute(
        engine,
        "INSERT INTO reelvec.control (name, paused, reason) VALUES ('operator', true, 'lunch')",
    )
    found = look(fleet.checks())
    assert statuses(found) == {
        "workers": "ok",
        "silent workers": "warn",
        "versions": "warn",
        "pause": "warn",
    }
    assert "3600 s ago" in found["silent workers"].fact
    assert found["pause"].fact == "paused: lunch: no worker takes a video"


class TestSources:
    def test_a_bucket_is_listed_and_its_first_video_opened(
        self, s3: S3Server, addresses: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for name, value in s3.environment.items():
            addresses.setenv(name, value)
        bucket = s3.bucket()
        s3.put(bucket, "in/readme.txt", b"not a video")
        found = look(storage.checks(f"s3://{bucket}/in"))
        assert statuses(found) == {"s3": "ok", "source": "warn", "file roots": "skipped"}
        s3.put(bucket, "in/ä b.mp4", b"bytes")
        found = look(storage.checks(f"s3://{bucket}/in"))
        assert statuses(found) == {
            "s3": "ok",
            "source": "ok",
            "first video": "ok",
            "file roots": "skipped",
        }
        assert "credentials: environment" in found["s3"].fact
        assert "1 of its first 2 objects" in found["source"].fact
        assert found["first video"].fact == f"s3://{bucket}/in/ä b.mp4 opens, 5 bytes"
        (tmp_path / "list.txt").write_text(f"s3://{bucket}/gone.mp4\n")
        assert "not_found" in look(storage.checks(str(tmp_path / "list.txt")))["first video"].fact
        assert SECRET not in str(found)

    def test_what_is_wrong_with_an_account_is_told(
        self, s3: S3Server, addresses: pytest.MonkeyPatch
    ) -> None:
        bucket = s3.bucket()
        for name, value in s3.environment.items():
            addresses.setenv(name, value)
        missing = look(storage.checks("s3://no-such-bucket-here/x"))["source"]
        assert (missing.status, "no_bucket" in missing.fact) == ("fail", True)
        addresses.setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
        found = look(storage.checks(f"s3://{bucket}"))
        assert "bad_credentials" in found["source"].fact
        assert "check the keys" in found["source"].advice
        addresses.setenv("AWS_ENDPOINT_URL_S3", f"http://{NOWHERE}")
        assert "unreachable" in look(storage.checks(f"s3://{bucket}"))["source"].fact
        addresses.delenv("AWS_ACCESS_KEY_ID")
        assert look(storage.checks(f"s3://{bucket}"))["s3"].status == "fail"
        addresses.delenv("AWS_SECRET_ACCESS_KEY")
        anonymous = look(storage.checks(f"s3://{bucket}"))["s3"]
        assert (anonymous.status, "anonymous" in anonymous.fact) == ("warn", True)
        assert "hunter2" not in str(found)

    def test_folders_and_what_workers_may_read(
        self, addresses: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        media.empty(tmp_path / "a.mp4")
        (tmp_path / "b.mp4").write_bytes(b"bytes")
        found = look(storage.checks(str(tmp_path)))
        assert statuses(found) == {
            "s3": "skipped",
            "source": "ok",
            "first video": "fail",
            "file roots": "skipped",
        }
        assert "REELVEC_FILE_ROOTS" in found["first video"].advice
        addresses.setenv("REELVEC_FILE_ROOTS", f"{tmp_path}:{tmp_path}/gone")
        found = look(storage.checks(str(tmp_path)))
        assert statuses(found) == {
            "s3": "skipped",
            "source": "ok",
            "first video": "ok",
            "file roots": "fail",
        }
        told = f"file://{tmp_path}/b.mp4 opens, 5 bytes; before it 1 of 0 bytes"
        assert found["first video"].fact == told
        assert look(storage.checks(f"{tmp_path}/gone"))["source"].status == "fail"
        media.empty(tmp_path / "b.mp4")
        found = look(storage.checks(str(tmp_path)))
        assert found["first video"].status == "warn"
        assert found["first video"].fact.endswith("a.mp4 has 0 bytes, and so have the 1 after it")
        assert "empty_file" in found["first video"].advice


def test_a_package_that_crashes_or_is_broken_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "av.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.py").write_text(
        "raise ImportError('libjpeg.so.8: cannot open shared object file')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    wanted = [check for check in packages.checks() if check.name in ("av", "pillow")]
    found = look(wanted)
    assert statuses(found) == {"av": "fail", "pillow": "fail"}
    assert "SIGSEGV" in found["av"].fact
    assert "libjpeg.so.8" in found["pillow"].fact


def test_a_torchvision_that_does_not_fit_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    (tmp_path / "torchvision-0.28.0.dist-info").mkdir()
    (tmp_path / "torchvision-0.28.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    found = look(
        [check for check in packages.checks() if check.name in ("torchvision", "transformers")]
    )
    assert statuses(found) == {"torchvision": "fail", "transformers": "fail"}
    for finding in found.values():
        assert "torchvision::nms" in finding.fact
        assert finding.advice.startswith("pip uninstall torchvision")


def test_a_folder_that_shadows_reelvec_misleads_no_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "producer" / "doctor").mkdir(parents=True)
    (tmp_path / "producer" / "doctor" / "probes.py").write_text(
        'print(\'{"error": "the wrong code"}\')\n'
    )
    monkeypatch.chdir(tmp_path)
    assert child.probe("pillow")["version"]


def test_where_celery_would_find_modules(tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()
    (tmp_path / "av.py").touch()
    found = child.origins_in(tmp_path, ("workers", "db", "av", "no_such_module"))
    assert found["workers"] == str(tmp_path / "workers"), "also without an __init__.py"
    assert found["av"] == str(tmp_path / "av.py")
    assert str(found["db"]).endswith("/db")
    assert found["no_such_module"] is None
