"""Postgres of the local stack: a cluster with role and database `reelvec`, on loopback TCP,
passwords by SCRAM.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import ClassVar

from db.errors import RefusedConfigurationError, UnavailableError
from db.machine import memory_bytes
from db.stack.binaries import postgres_major
from db.stack.server import HOST, Server
from db.stack.server_process import command_line, exists, pipe, popen, send, wait_until, working_in

ROLE = "reelvec"
DATABASE = "reelvec"
_INITDB_SECONDS = 120.0
_ORPHAN_SECONDS = 2.0
_NOBODY = 99_999_999  # above any pid a kernel gives


def sizes(memory_bytes: int) -> dict[str, str]:
    """What Postgres' manual advises for a machine of its own: a quarter for its cache, which is
    taken as it fills. Out of the 128 MB that it has otherwise, ten nearest vectors of 100,000 took
    twice the CPU (`bench.nearest`).
    """
    return {
        "shared_buffers": f"{max(128, min(8 << 10, memory_bytes >> 22))}MB",
        "effective_cache_size": f"{max(256, memory_bytes >> 21)}MB",
    }


class Postgres(Server):
    """See `Server`. Its folder is made by initdb at the first start."""

    name: ClassVar[str] = "Postgres"
    stop_signal: ClassVar[signal.Signals] = (
        signal.SIGINT
    )  # "fast"; SIGTERM would wait for every client

    def is_ours(self, pid: int) -> bool:
        """The postmaster of our folder; its backends have other command lines."""
        return f" -D {self.folder} -c " in (command_line(pid) or "")

    def launch(self) -> None:
        """See `Server.launch`. Raises `RefusedConfigurationError` for the data of another major
        version.
        """
        program = self.program()
        self._make_cluster(program)
        self._remove_leftovers()
        options = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
        }
        if self.disposable:
            # A commit still outlives `kill -9` of the server: its WAL is written, if not to the disk.
            options |= {"fsync": "off", "full_page_writes": "off"}
        else:
            options |= sizes(memory_bytes())
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        self.run([str(program), "-D", str(self.folder), *words])

    def probe(self) -> str | None:
        """See `Server.probe`. Also makes the database where it is missing."""
        import psycopg2  # type: ignore[import-untyped]

        address = {
            "host": HOST,
            "port": self.port,
            "user": ROLE,
            "password": self.password,
            "dbname": "postgres",
        }
        try:
            connection = psycopg2.connect(**address, sslmode="disable", connect_timeout=5)
        except psycopg2.OperationalError as error:
            if "password authentication failed" in str(error):
                raise self.wrong_password() from error
            return str(error).strip()
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(f'CREATE DATABASE "{DATABASE}"')
        except psycopg2.OperationalError as error:
            return str(error).strip()
        finally:
            connection.close()
        return None

    def _make_cluster(self, program: Path) -> None:
        """Run initdb beside the folder and move the result there: broken off, it never looks like a
        cluster.
        """
        major = postgres_major(program)
        if (version := self.folder / "PG_VERSION").is_file():
            if (found := version.read_text().strip()) != str(major):
                raise RefusedConfigurationError(
                    f"{self.folder} holds data of Postgres {found}, but {program} is Postgres "
                    f"{major}. Point REELVEC_PG_BIN at the programs of Postgres {found} (to go on, "
                    "or to take the data out with pg_dump), or set REELVEC_DATA_DIR to a new "
                    "folder."
                )
            return
        for leftover in self.folder.parent.glob("initdb-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        unfinished = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.folder.parent))
        try:
            self.own(unfinished)
            self._initdb(program.with_name("initdb"), unfinished, major)
            unfinished.rename(self.folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _initdb(self, initdb: Path, folder: Path, major: int) -> None:
        # Postgres 17 brought a C.UTF-8 of its own; before, the C library's has to do.
        locale = (
            ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
            if major >= 17
            else ["--locale=C.UTF-8"]
        )
        words = ["-D", str(folder), "-U", ROLE, "-E", "UTF8", *locale, "--auth=scram-sha-256"]
        if self.disposable:
            words.append("--no-sync")
            if major >= 16:  # a password that is thrown away need not be slow to guess
                words += ["-c", "scram_iterations=1"]
        # The password goes in by standard input: on no command line, in no file to forget.
        with pipe() as (read, write), tempfile.TemporaryFile() as output:
            os.write(write, f"{self.password}\n".encode())
            if self.account is not None:
                os.fchown(read, self.account.uid, self.account.gid)  # it opens /dev/stdin anew
            child = popen(
                [str(initdb), *words, "--pwfile=/dev/stdin"],
                self.account,
                stdin=read,
                output=output.fileno(),
                folder=folder,
            )
            try:
                child.wait(_INITDB_SECONDS)
            except subprocess.TimeoutExpired:
                pass
            finally:
                child.kill()  # does nothing to one that has ended
            if child.wait() != 0:
                output.seek(0)
                raise UnavailableError(
                    f"{initdb} failed:\n{output.read().decode(errors='replace')[-2000:]}"
                )

    def _remove_leftovers(self) -> None:
        """Clear what a killed postmaster left: busy backends, and a lock file that names a zombie
        or a stranger.

        A postmaster that somebody else runs on the folder is left to Postgres, which refuses to
        start beside it.
        """
        lock_file = self.folder / "postmaster.pid"
        if not lock_file.exists():
            return
        named, _, rest = lock_file.read_text().partition("\n")
        if not named.isdigit():
            lock_file.unlink()  # cut off by a power failure: nobody is left
            return
        if "postgres" in (command_line(int(named)) or ""):
            return
        if not wait_until(lambda: not self._orphans(), _ORPHAN_SECONDS):
            for pid in self._orphans():
                send(pid, signal.SIGKILL)
            wait_until(lambda: not self._orphans(), 10)
        if exists(int(named)):
            # The other lines stay: by them Postgres sees whether a backend still holds the old
            # shared memory.
            lock_file.write_text(f"{_NOBODY}\n{rest}")

    def _orphans(self) -> list[int]:
        """Backends of a dead postmaster; one that is computing does not notice that it is alone."""
        return [
            pid
            for pid in working_in(self.folder)
            if (command_line(pid) or "").startswith("postgres: ")
        ]
