"""Valkey (or Redis) of the local stack: on loopback with a password, messages kept in an
append-only file.
"""

from __future__ import annotations

import signal
import socket
from typing import ClassVar

from db.stack.server import HOST, Server
from db.stack.server_process import command_line


class Broker(Server):
    """See `Server`."""

    name: ClassVar[str] = "Valkey"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def is_ours(self, pid: int) -> bool:
        """The server of our folder."""
        return f" --dir {self.folder} -" in (command_line(pid) or "")

    def launch(self) -> None:
        """See `Server.launch`."""
        program = self.program()
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.own(self.folder)
        lines = [
            f"bind {HOST}",
            f"port {self.port}",
            f"requirepass {self.password}",
            "set-proc-title no",  # the command line is how `is_ours` knows it
            'save ""',
            f"appendonly {'no' if self.disposable else 'yes'}",
            "appendfsync everysec",
            "maxmemory-policy noeviction",
        ]
        # By standard input, so that the password is on no command line.
        self.run([str(program), "--dir", str(self.folder), "-"], "\n".join(lines) + "\n")

    def probe(self) -> str | None:
        """See `Server.probe`. Spoken by hand: a client library would retry and wait where we
        look.
        """
        try:
            with socket.create_connection((HOST, self.port), timeout=5) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                with connection.makefile("r", encoding="utf-8") as replies:
                    login, ping = replies.readline().strip(), replies.readline().strip()
        except OSError as error:
            return str(error)
        if login.startswith("-WRONGPASS"):
            raise self.wrong_password()
        return (
            None
            if (login, ping) == ("+OK", "+PONG")
            else f"{login} {ping}".strip() or "the connection was closed"
        )
