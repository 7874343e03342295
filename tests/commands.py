"""Runs the project's commands as child processes whose imports are made already: most of a short
command's time.

One process has imported the libraries (none of this project's modules) and forks for each command,
which gets its own environment, folder, arguments and standard streams, and runs what the installed
script runs. What a command imports is tested elsewhere, in processes of its own
(`tests/acceptance/test_light.py`).
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

LIBRARIES = (
    "alembic.command", "av", "celery", "celery.app.amqp", "kombu.transport.redis", "minio", "numpy", "PIL.Image",
    "prometheus_client", "psycopg2", "pydantic_settings", "rich.console", "rich.progress", "rich.table", "sqlalchemy",
    "sqlalchemy.dialects.postgresql.psycopg2", "torch", "transformers", "typer", "urllib3",
)  # fmt: skip


class Commands:
    """The process that forks, started at once and ended by `close`."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment |= {"LANG": "C.UTF-8", "OMP_WAIT_POLICY": "PASSIVE"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.commands", str(theirs.fileno())],
            env=environment,
            cwd=Path(__file__).parents[1],  # a test may have gone elsewhere
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._socket = ours

    def run(
        self,
        arguments: Sequence[str],
        *,
        env: dict[str, str],
        cwd: Path,
        stdin: str | None,
        timeout_seconds: float,
    ) -> subprocess.CompletedProcess[str]:
        """Like `subprocess.run` with both streams captured. Raises `subprocess.TimeoutExpired`, the
        command killed.
        """
        ours, theirs = socket.socketpair()
        with (
            tempfile.TemporaryFile() as given,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            ours,
        ):
            given.write((stdin or "").encode())
            given.seek(0)
            with theirs:
                socket.send_fds(
                    self._socket,
                    [b"."],
                    [theirs.fileno(), given.fileno(), out.fileno(), err.fileno()],
                )
            ours.sendall(
                json.dumps({"arguments": list(arguments), "env": env, "cwd": str(cwd)}).encode()
                + b"\n"
            )
            ours.settimeout(timeout_seconds)
            with ours.makefile() as told:
                pid = int(told.readline())
                try:
                    code = int(told.readline())
                except TimeoutError:
                    os.kill(pid, signal.SIGKILL)
                    raise subprocess.TimeoutExpired(list(arguments), timeout_seconds) from None
            return subprocess.CompletedProcess(list(arguments), code, _text(out), _text(err))

    def close(self) -> None:
        self._socket.close()
        self._process.wait(timeout=20)


@functools.cache
def shared() -> Commands:
    """The one of this run, made when it is first needed."""
    return Commands()


def close() -> None:
    """To be called at the end of the run."""
    if shared.cache_info().currsize:
        shared().close()


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode()).replace("\r\n", "\n")


def _serve(requests: socket.socket) -> None:
    """Fork for each request, until the other end is closed."""
    signal.signal(
        signal.SIGCHLD, signal.SIG_IGN
    )  # those that wait for a command are nobody's to wait for
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, 1, 4)
        if not message:
            return
        if os.fork() == 0:
            requests.close()
            _attend(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _attend(answers: int, *streams: int) -> NoReturn:
    """Fork the command itself, say its process id, wait, say its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(fileno=answers) as told:
        asked = json.loads(told.makefile().readline())
        pid = os.fork()
        if pid == 0:
            told.close()
            _become(asked["arguments"], asked["env"], asked["cwd"], streams)
        told.sendall(b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        told.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(
    arguments: list[str], env: dict[str, str], cwd: str, streams: Sequence[int]
) -> NoReturn:
    """Run the command in this process and end as Python ends, but for taking the libraries apart:
    that takes a second.
    """
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = arguments
    code: object = 0
    try:
        _entry(arguments[0])()
    except SystemExit as ended:
        code = ended.code or 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
    os._exit(code if isinstance(code, int) else 1)


def _entry(script: str) -> Callable[[], object]:
    from producer import cli

    return {"reelvec": cli.main, "enqueue": cli.enqueue_main}[Path(script).name]


if __name__ == "__main__":
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is never looked at again is never copied
    _serve(socket.socket(fileno=int(sys.argv[1])))
