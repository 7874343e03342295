"""What both servers of the local stack have in common: found, started, ready, stopped."""

from __future__ import annotations

import os
import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from db.errors import UnavailableError
from db.stack.server_process import Account, end, spawn, wait_until

HOST = "127.0.0.1"
_READY_SECONDS = 120.0  # a dead process is seen at once; only crash recovery and a long append-only file take long
_PORT_SECONDS = 2.0
_MISSES = 3  # a process that is not to be seen so many looks in a row is dead
_STOP_SECONDS = 60.0


@dataclass
class Server(ABC):
    """One server on one folder and one port. `program` is asked only when something has to be
    started.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    folder: Path
    port: int
    password: str
    program: Callable[[], Path]
    account: Account | None
    disposable: bool
    launched: bool = False  # by this object
    _log_start: int = 0

    @abstractmethod
    def is_ours(self, pid: int) -> bool:
        """Whether process `pid` is this very server: a number may have been given to another
        program meanwhile.
        """

    @abstractmethod
    def probe(self) -> str | None:
        """None when the server answers to our password, else what is wrong. `UnavailableError` for
        a wrong password.
        """

    @abstractmethod
    def launch(self) -> None:
        """Prepare the folder and call `run`."""

    @property
    def log(self) -> Path:
        """Everything the server says, over all its starts."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def pid_file(self) -> Path:
        """Written by whoever starts the server, before it does anything."""
        return self.folder.with_name(f"{self.folder.name}.pid")

    def run(self, command: list[str], text: str = "") -> None:
        """Start the process in the server's folder; `text` is its standard input."""
        spawn(
            command,
            self.account,
            text=text,
            log=self.log,
            pid_file=self.pid_file,
            folder=self.folder,
            tie=self.stop_signal if self.disposable else None,
        )

    def find(self) -> int | None:
        """Pid of this server where it runs, whoever started it."""
        try:
            pid = int(self.pid_file.read_text())
        except (OSError, ValueError):
            return None
        return pid if self.is_ours(pid) else None

    def start(self) -> None:
        """Start the server unless it runs. `wait_ready` comes next.

        Raises `UnavailableError` when the port is taken, and what `launch` raises.
        """
        # One that is just dying may hold its port a moment longer.
        wait_until(lambda: self.find() or port_is_free(self.port), _PORT_SECONDS)
        if self.find() is not None:
            return
        if not port_is_free(self.port):
            stack = self.folder.parent
            raise UnavailableError(
                f"port {self.port} of {HOST}, kept for {self.name} of the local stack in {stack}, "
                f"is taken by another program. Stop that program, or delete {stack / 'ports.json'} "
                "to have new ports chosen (addresses copied elsewhere then no longer hold)."
            )
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self.launched = True
        self.launch()

    def wait_ready(self) -> int:
        """Return the pid when the server answers. Raises `UnavailableError` with the end of its log
        otherwise.
        """
        problem = self._answer()
        if problem is not None and not self.launched and self.find() is None:
            self.start()  # it was dying when we found it
            problem = self._answer()
        found = self.find()
        if problem is not None or found is None:
            raise UnavailableError(
                f"{self.name} of the local stack is not ready: {problem}.\n{self._log_tail()}"
            )
        return found

    def _answer(self) -> str | None:
        """Wait until the server answers, dies or has had its time; what is wrong, or None."""
        problem: str | None = None
        misses = 0

        def settled() -> bool:
            nonlocal problem, misses
            problem = self.probe()
            misses = misses + 1 if self.find() is None else 0
            return problem is None or misses > _MISSES

        if wait_until(settled, _READY_SECONDS):
            return problem
        return f"after {_READY_SECONDS:.0f} s still {problem}"

    def stop(self) -> bool:
        """Stop the server, whoever started it; the data stay. True when it ran."""
        pid = self.find()
        if pid is None:
            return False
        end(pid, self.stop_signal, patience_seconds=_STOP_SECONDS)
        return True

    def own(self, folder: Path) -> None:
        """Hand a folder that we just made to the server's user."""
        if self.account is not None:
            os.chown(folder, self.account.uid, self.account.gid)

    def wrong_password(self) -> UnavailableError:
        """The error for a server that runs but does not know our password."""
        return UnavailableError(
            f"{self.name} in {self.folder} refuses the password kept in "
            f"{self.folder.with_name('passwords.json')}: one of the two was changed. Set that "
            "password again, or set REELVEC_DATA_DIR to a new folder."
        )

    def _log_tail(self) -> str:
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            lines = file.read().decode(errors="replace").strip().splitlines()
        return "\n".join([f"The end of {self.log}:", *lines[-20:]])


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
