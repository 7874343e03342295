"""The local stack: a Postgres and a Valkey of one's own in one folder, shared by every process that
asks for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from db.errors import UsageError
from db.settings import DatabaseSettings, load
from db.stack.binaries import Program, find_broker, find_postgres, first_closed, reachable
from db.stack.broker import Broker
from db.stack.postgres import DATABASE, ROLE, Postgres
from db.stack.server import HOST, Server, port_is_free
from db.stack.server_process import Account, server_account

# Below the ports that systems give to outgoing connections (from 32768 on): a kept port must still
# be free tomorrow.
_PORTS = range(15_000, 32_000)
_PRIVATE = 0o600


@dataclass(frozen=True)
class StackState:
    """A running stack. The URLs hold passwords."""

    database_url: str
    broker_url: str
    postgres_pid: int
    broker_pid: int
    postgres_port: int
    broker_port: int


def default_data_dir(name: str = "default") -> Path:
    """REELVEC_DATA_DIR; else the folder `name` below /var/lib/reelvec (root) or below the user's
    data folder.

    Raises `UsageError` for a user without a home folder.
    """
    settings = load(DatabaseSettings)
    if settings.data_dir is not None:
        return settings.data_dir.expanduser().absolute()
    if os.geteuid() == 0:  # below /root the servers' own user could not reach it
        return Path("/var/lib/reelvec") / name
    configured = Path(os.environ.get("XDG_DATA_HOME", ""))
    try:
        base = configured if configured.is_absolute() else Path.home() / ".local" / "share"
    except RuntimeError as error:
        raise UsageError(
            f"no folder for the local stack ({error}): set REELVEC_DATA_DIR."
        ) from error
    return base / "reelvec" / name


class LocalStack:
    """The stack of one folder. `disposable` is for tests: nothing is made durable, and it dies with
    its starter.

    The folder holds `postgres/`, `valkey/`, their logs, `passwords.json`, `ports.json` (both chosen
    once) and, while it runs, `stack.json`.
    """

    def __init__(self, data_dir: Path, *, disposable: bool = False) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self.disposable = disposable
        #: Whether `up` of this object has started a server that did not run.
        self.launched = False
        self._postgres_folder = self.data_dir / "postgres"

    def exists(self) -> bool:
        """Whether it was ever made, running or not."""
        return (
            self._read("passwords.json") is not None
            and (self._postgres_folder / "PG_VERSION").is_file()
        )

    def state(self) -> StackState | None:
        """The running stack; None unless both servers run. Looks at processes and asks no
        server.
        """
        try:
            state = StackState(**self._read("stack.json") or {})
        except TypeError:  # no such file, or one of another version
            return None
        postgres, broker = self._servers(
            {"postgres": state.postgres_port, "broker": state.broker_port}
        )
        return (
            state
            if postgres.is_ours(state.postgres_pid) and broker.is_ours(state.broker_pid)
            else None
        )

    def urls(self) -> tuple[str, str]:
        """Database and broker URL, running or not. Raises `UsageError` for a stack that was never
        made.
        """
        passwords, ports = self._read("passwords.json"), self._ports()
        if passwords is None or ports is None:
            raise UsageError(f"there is no local stack in {self.data_dir}: run `reelvec up`.")
        return (
            f"postgresql+psycopg2://{ROLE}:{passwords['postgres']}@{HOST}:{ports['postgres']}/{DATABASE}",
            f"redis://:{passwords['broker']}@{HOST}:{ports['broker']}/0",
        )

    def up(self) -> StackState:
        """Start what does not run and return when both servers answer. Two callers at once share
        one pair.

        A start that fails stops what it started. Raises `UsageError` (folder or programs unusable),
        `RefusedConfigurationError` (data of another Postgres) or `UnavailableError` (port taken,
        server fails).
        """
        running = self.state()
        if running and all(server.probe() is None for server in self._servers(self._ports() or {})):
            return running
        try:
            account = self._account()
            self._make_folder()
            with self._locked():
                return self._start(account)
        except OSError as error:
            raise UsageError(
                f"the local stack in {self.data_dir} cannot be started: {error}. Should the folder "
                "be another user's, set REELVEC_DATA_DIR to one of yours."
            ) from error

    def down(self) -> bool:
        """Stop what runs; the data stay. True when something was stopped."""
        if self._ports() is None:
            return False
        with self._locked():
            return self._stop()

    def _start(self, account: Account | None) -> StackState:
        self._choose_once()
        servers = self._servers(self._ports() or {}, account)
        try:
            for server in servers:
                server.start()
            pids = [server.wait_ready() for server in servers]
            state = StackState(*self.urls(), pids[0], pids[1], servers[0].port, servers[1].port)
            self._write("stack.json", asdict(state))
            self.launched |= any(server.launched for server in servers)
        except BaseException:  # Ctrl-C too
            for server in servers:
                if server.launched:
                    server.stop()
            raise
        return state

    def _stop(self) -> bool:
        stopped = [server.stop() for server in self._servers(self._ports() or {})]
        (self.data_dir / "stack.json").unlink(missing_ok=True)
        return any(stopped)

    def _servers(
        self, ports: dict[str, int], account: Account | None = None
    ) -> tuple[Server, Server]:
        passwords = self._read("passwords.json") or {"postgres": "", "broker": ""}
        copies = self.data_dir / "programs"

        def program(find: Callable[[DatabaseSettings], Program]) -> Callable[[], Path]:
            return lambda: reachable(find(load(DatabaseSettings)), account, copies)

        return (
            Postgres(
                self._postgres_folder,
                ports["postgres"],
                passwords["postgres"],
                program(find_postgres),
                account,
                self.disposable,
            ),
            Broker(
                self.data_dir / "valkey",
                ports["broker"],
                passwords["broker"],
                program(find_broker),
                account,
                self.disposable,
            ),
        )

    def _account(self) -> Account | None:
        """Whom the servers run as. Raises `UsageError` when that user cannot get at the folder."""
        try:
            account = server_account(self._postgres_folder)
        except LookupError as error:
            raise UsageError(
                f"root cannot run the local stack: {error}. Use a normal user."
            ) from error
        if account and (closed := first_closed(self.data_dir, account)):
            raise UsageError(
                f"Postgres does not run as root, and the user {account.name} that would run it "
                f"cannot enter {closed}: set REELVEC_DATA_DIR to a folder open to everybody, like "
                "/var/lib/reelvec/default."
            )
        return account

    def _make_folder(self) -> None:
        if os.geteuid() != 0:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            return
        # The servers' user has to pass. Only folders made here are opened; a closed one of
        # somebody's stays closed.
        for folder in (*reversed(self.data_dir.parents), self.data_dir):
            if not folder.exists():
                folder.mkdir(exist_ok=True)
                folder.chmod(0o755)

    def _choose_once(self) -> None:
        """Passwords and ports, kept for good: addresses copied elsewhere hold over restarts."""
        if self._read("passwords.json") is None:
            if self._postgres_folder.exists():
                raise UsageError(
                    f"{self.data_dir / 'passwords.json'} is missing or broken, and the database "
                    "beside it opens with no other password: restore that file, or set "
                    "REELVEC_DATA_DIR to a new folder."
                )
            self._write(
                "passwords.json",
                {name: secrets.token_urlsafe(24) for name in ("postgres", "broker")},
            )
        if self._read("ports.json") is None:
            if self._ports() is not None:  # somebody deleted the file to get new ports
                self._stop()
            free = [
                port for port in secrets.SystemRandom().sample(_PORTS, 20) if port_is_free(port)
            ]
            self._write("ports.json", {"postgres": free[0], "broker": free[1]})

    def _ports(self) -> dict[str, int] | None:
        """The kept ports, else those of a stack that was started with ports forgotten since."""
        if kept := self._read("ports.json"):
            return kept
        state = self._read("stack.json")
        return {name: state[f"{name}_port"] for name in ("postgres", "broker")} if state else None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder's lock. The kernel lets go of it when its holder dies."""
        lock = os.open(self.data_dir / "stack.lock", os.O_RDWR | os.O_CREAT, _PRIVATE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _read(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the folder; None when missing or broken. Raises `UsageError` for another
        user's.
        """
        try:
            content = json.loads((self.data_dir / name).read_text())
        except PermissionError as error:
            raise UsageError(
                f"the local stack in {self.data_dir} is another user's: {error}."
            ) from error
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def _write(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file whole or not at all, readable by nobody else."""
        unfinished = self.data_dir / f"{name}.new"
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(descriptor)
        unfinished.replace(self.data_dir / name)
