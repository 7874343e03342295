"""Real servers for every level: one private Postgres and Valkey per run, a fresh database per
test.
"""

from __future__ import annotations

import os

# as in a sampler process and in a worker; numpy and torch read them when they are imported
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import gc
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg2
import pytest
import redis
from celery import Celery
from sqlalchemy import Engine

from db import schema, session
from db.stack.local_stack import LocalStack, StackState
from tests import commands
from tests.commands import Commands, Forked
from tests.s3_server import S3Server, running

TEMPLATE = "reelvec_template"
#: Each took 5 s of CPU or 20 s and more. Those that wait stand beside those that compute.
LONGEST = (
    "fault/test_strikes.py", "acceptance/test_ui.py", "integration/test_sampling_decode.py",
    "acceptance/test_main_job.py", "acceptance/test_status.py", "acceptance/test_enqueue.py",
    "integration/test_drift.py", "acceptance/test_models.py", "fault/test_lifecycle.py",
    "integration/test_engine_batches.py", "fault/test_models.py", "fault/test_sampler_pool.py",
    "fault/test_places.py", "acceptance/test_doctor.py", "integration/test_labelling.py",
    "integration/test_parity_notebook.py", "acceptance/test_two_stages.py",
    "integration/test_invariants.py", "fault/test_isolation.py",
    "integration/test_sample_command.py", "integration/test_ui_safe.py",
    "integration/test_sampling_bytes.py", "integration/test_models_fetch.py",
    "acceptance/test_bucket.py", "acceptance/test_canary.py", "integration/test_local_stack.py",
    "integration/test_tagging.py", "fault/test_broker.py", "acceptance/test_mistakes.py",
    "integration/test_sampling_hostile.py", "fault/test_storage.py", "integration/test_ledger.py",
    "integration/test_roles.py", "fault/test_health.py", "fault/test_database.py",
)  # fmt: skip
#: Files in memory, as Linux has them; a container may have little of it.
MEMORY, ROOM_BYTES = Path("/dev/shm"), 4 << 30
#: No command of a test takes longer than this.
COMMAND_SECONDS = 110
SCHEDULING = os.sched_getscheduler(0)


def pytest_configure(config: pytest.Config) -> None:
    """No variable of the developer's own shell reaches a test, nor that it was started with nohup
    or in the background.
    """
    for number in (
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
    ):  # processes inherit what is ignored, and would not hear it
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(
                number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            )
    for name in list(os.environ):
        if name.startswith(("REELVEC_", "AWS_")) or name in (
            "DATABASE_URL",
            "CELERY_BROKER_URL",
            "SSL_CERT_FILE",
        ):
            del os.environ[name]
    if commands.ADDRESS not in os.environ:  # the first process of the run
        config.add_cleanup(Commands().close)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, or one of them would be the last and alone."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(
        key=lambda item: places.get("/".join(item.path.parts[-2:]), len(places))  # the rest stays
    )


@pytest.hookimpl(trylast=True)  # what the test has taken is given back first
def pytest_runtest_teardown() -> None:
    """Whoever becomes a real-time process leaves nothing of the machine to the tests behind it
    (`demo/encoding.py`).
    """
    if os.sched_getscheduler(0) != SCHEDULING:
        os.sched_setscheduler(0, SCHEDULING, os.sched_param(0))
        pytest.fail("this test left another scheduling policy: encode below priority_kept()")


def pytest_collection_finish() -> None:
    """Tests and libraries stay to the end: no collection of garbage looks through them again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def reachable() -> Iterator[Path]:
    """A folder an unprivileged server process can enter, unlike pytest's own when run as root. In
    memory where there is room: copying a database for a test takes 0.03 s there, and up to 0.15 s
    on a disk whose file system steps around what was deleted just now.
    """
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES
    folder = Path(tempfile.mkdtemp(prefix="reelvec-test-", dir=MEMORY if roomy else None))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def s3(reachable: Path) -> Iterator[S3Server]:
    """The run's S3 service; a test makes its own buckets."""
    if sys.platform != "linux":
        pytest.skip("the S3 server of the tests has wheels for Linux only")
    with running(reachable / "s3") as server:
        yield server


@pytest.fixture(scope="session")
def local(reachable: Path) -> Iterator[LocalStack]:
    """Disposable servers: gone with the run, also when it is killed."""
    made = LocalStack(reachable / "stack", disposable=True)
    yield made
    made.down()


@pytest.fixture(scope="session")
def stack(local: LocalStack) -> StackState:
    return local.up()


def _administer(stack: StackState, statement: str) -> None:
    connection = psycopg2.connect(stack.database_url.replace("+psycopg2", "", 1))
    with closing(connection), connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(statement)


@pytest.fixture(scope="session")
def template(stack: StackState) -> str:
    """A migrated database, made once and copied for each test (20 ms)."""
    _administer(stack, f"CREATE DATABASE {TEMPLATE}")
    schema.upgrade(_url(stack, TEMPLATE))
    return TEMPLATE


def _url(stack: StackState, name: str) -> str:
    return stack.database_url.rsplit("/", 1)[0] + f"/{name}"


@pytest.fixture
def database_url(stack: StackState, template: str) -> Iterator[str]:
    name = f"test_{uuid4().hex[:12]}"
    # the default strategy writes the whole database to the log: four times the work
    _administer(stack, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    yield _url(stack, name)
    _administer(stack, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_database_url(stack: StackState) -> Iterator[str]:
    """A database nobody has migrated."""
    name = f"test_{uuid4().hex[:12]}"
    _administer(stack, f"CREATE DATABASE {name}")
    yield _url(stack, name)
    _administer(stack, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    with session.connect(database_url, pool_size=8) as made:
        yield made


@pytest.fixture
def broker_url(stack: StackState) -> Iterator[str]:
    """The run's broker, emptied before each test."""
    client = redis.Redis.from_url(stack.broker_url)
    client.flushall()
    yield stack.broker_url
    client.close()


@pytest.fixture
def app(database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Celery:
    """A Celery app like the workers', in this process."""
    from workers import app as workers_app

    monkeypatch.setenv("REELVEC_DATABASE_URL", database_url)
    monkeypatch.setenv(
        "REELVEC_BROKER_URL", broker_url
    )  # CELERY_BROKER_URL would override the app's own setting
    made = Celery("test", amqp=workers_app.app.amqp_cls, set_as_current=False)
    made.conf.update(workers_app.configuration())
    return made


SCRIPTS = ("enqueue", "reelvec")
#: What the process that has the libraries can become.
FORKED = (*SCRIPTS, "celery")


@dataclass(frozen=True)
class Desk:
    """Runs the project's commands as a user would: child processes with nothing but the addresses
    in their environment.
    """

    environment: dict[str, str]
    folder: Path

    def run(
        self,
        *arguments: str,
        expect: int | None = 0,
        stdin: str | None = None,
        anew: bool = False,
        **variables: str,
    ) -> subprocess.CompletedProcess[str]:
        """`run("enqueue", "videos")`. Asserts the exit code unless `expect` is None. `anew`: in a
        process that imports the libraries itself.
        """
        environment = {**self.environment, **variables}
        if arguments[0] in FORKED and not anew:
            done = commands.run(
                arguments,
                env=environment,
                cwd=self.folder,
                stdin=stdin,
                timeout_seconds=COMMAND_SECONDS,
            )
        else:
            script = (
                Path(sys.executable).with_name(arguments[0])
                if arguments[0] in SCRIPTS
                else arguments[0]
            )
            module = [sys.executable, "-m", "celery"] if arguments[0] == "celery" else [script]
            done = subprocess.run(
                [*module, *arguments[1:]],
                env=environment,
                cwd=self.folder,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        if expect is not None:
            assert done.returncode == expect, (
                f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
            assert "Traceback" not in done.stderr, done.stderr
        return done


def clean_environment() -> dict[str, str]:
    """What a child process gets: a PATH and a home, none of the developer's settings."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
    }


@pytest.fixture
def desk(database_url: str, broker_url: str, tmp_path: Path) -> Desk:
    environment = {
        **clean_environment(),
        "DATABASE_URL": database_url,
        "CELERY_BROKER_URL": broker_url,
    }
    folders = {
        "REELVEC_FILE_ROOTS": str(tmp_path),
        "REELVEC_DATA_DIR": str(tmp_path / "reelvec-data"),
    }
    return Desk({**environment, **folders}, tmp_path)


#: Settings of a worker whose every interval is 1/20 of the default.
FAST = {
    "REELVEC_BEAT_SECONDS": "0.5",
    "REELVEC_RETRY_SECONDS": "0.25",
}


class WorkerProcess:
    """A real `celery -A workers.app worker` process; its log is a file until asked for.

    `forked`: from a process that has the libraries, which takes a fifth of the time to start.
    """

    process: subprocess.Popen[bytes] | Forked

    def __init__(
        self,
        environment: dict[str, str],
        folder: Path,
        log: Path,
        app: str = "workers.app",
        *,
        forked: bool = True,
    ) -> None:
        self._log = log
        command = ["celery", "-A", app, "worker", "-n", f"{log.stem}@%h"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        with log.open("wb") as out:
            if forked:
                with Path(os.devnull).open("rb") as given:
                    self.process = commands.start(
                        command, env=environment, cwd=folder, streams=(given, out, out)
                    )
            else:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", *command],
                    env=environment,
                    cwd=folder,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self) -> int:
        """SIGTERM and wait; returns the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start_worker(desk: Desk, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts workers on the test's own database and broker; all of them are gone afterwards."""
    started: list[WorkerProcess] = []

    def start(*, app: str = "workers.app", **variables: str) -> WorkerProcess:
        environment = {**desk.environment, **FAST, "REELVEC_SAMPLERS": "1", **variables}
        worker = WorkerProcess(environment, tmp_path, tmp_path / f"worker{len(started)}.log", app)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.kill()
