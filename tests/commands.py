"""Runs the project's commands and workers as processes whose imports are made already: most of a
short command's time, and 3 to 6 s of CPU for each worker.

Two processes have imported the libraries and the commands, none of which reads the environment when
it is imported; they have no thread and have computed nothing. They fork for each command, which
gets its own environment, folder, arguments and standard streams, and runs what the installed script
runs. One of them has no torch: with it, a fork and its end take three times as long.
What a command imports is tested elsewhere, in processes of its own
(`tests/acceptance/test_light.py`).
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

LIBRARIES = (
    "alembic.command", "av", "celery", "celery.app.amqp", "celery.apps.worker", "celery.bin.celery",
    "celery.concurrency.thread", "kombu.transport.redis", "minio", "numpy", "PIL.Image", "prometheus_client",
    "psycopg2", "pydantic_settings", "rich.console", "rich.progress", "rich.table", "sqlalchemy",
    "sqlalchemy.dialects.postgresql.psycopg2", "typer", "urllib3",
)  # fmt: skip
TORCH = (
    "torch", "transformers", "transformers.models.clip.tokenization_clip", "transformers.models.siglip.modeling_siglip",
    "transformers.models.timesformer.modeling_timesformer", "transformers.models.videomae.modeling_videomae",
    "transformers.models.vivit.modeling_vivit", "transformers.models.vjepa2.modeling_vjepa2",
    "transformers.models.x_clip.modeling_x_clip",
)  # fmt: skip
#: The commands that load models or look into their files.
NEED_TORCH = ("celery", "embed", "models", "search", "tag")
#: Memory of tensors is kept for the next ones: taken anew, every page of it is a fault.
KEEP_MEMORY = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(1 << 30))
#: The variable that tells all processes of a run (pytest-xdist's) whom to ask.
ADDRESS = "TESTS_COMMANDS"
#: Their sockets, in the folder that it names.
PLAIN, WITH_TORCH = "plain", "with-torch"
#: What is said of a process: its id, then its exit code.
NUMBER = struct.Struct("i")


class Commands:
    """The processes that fork, for all processes of a run: they import when one is first asked, and
    end with who made them.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="reelvec-commands-"))
        os.environ[ADDRESS] = str(self._folder)
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment |= {"LANG": "C.UTF-8", "OMP_WAIT_POLICY": "PASSIVE"} | KEEP_MEMORY
        with socket.socket(socket.AF_UNIX) as plain, socket.socket(socket.AF_UNIX) as with_torch:
            for name, listening in ((PLAIN, plain), (WITH_TORCH, with_torch)):
                listening.bind(str(self._folder / name))
                listening.listen(100)
            numbers = plain.fileno(), with_torch.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.commands", *map(str, numbers)],
                env=environment,
                cwd=Path(__file__).parents[1],
                stdin=subprocess.PIPE,  # its end is the end of the run
                pass_fds=numbers,
            )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=20)
        shutil.rmtree(self._folder)


def start(
    arguments: Sequence[str], *, env: dict[str, str], cwd: Path, streams: Sequence[IO[bytes]]
) -> Forked:
    """Like `subprocess.Popen` with all three streams given."""
    told = socket.socket(socket.AF_UNIX)
    name = WITH_TORCH if {*arguments[:2]} & {*NEED_TORCH} else PLAIN
    told.connect(str(Path(os.environ[ADDRESS], name)))
    socket.send_fds(told, [b"."], [stream.fileno() for stream in streams])
    asked = {"arguments": list(arguments), "env": env, "cwd": str(cwd)}
    told.sendall(json.dumps(asked).encode() + b"\n")
    return Forked(arguments, told)


def run(
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
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        given.write((stdin or "").encode())
        given.seek(0)
        process = start(arguments, env=env, cwd=cwd, streams=(given, out, err))
        try:
            code = process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        return subprocess.CompletedProcess(list(arguments), code, _text(out), _text(err))


class Forked:
    """A process that was forked for us, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, arguments: Sequence[str], told: socket.socket) -> None:
        self._arguments = list(arguments)
        self._told = told
        self._waiting = threading.Lock()
        self.pid = self._number(None)
        self.returncode: int | None = None

    def _number(self, timeout_seconds: float | None) -> int:
        self._told.settimeout(timeout_seconds)
        return int(NUMBER.unpack(self._told.recv(NUMBER.size))[0])

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(timeout=0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, negative if a signal ended it. Raises `subprocess.TimeoutExpired`."""
        with self._waiting:
            if self.returncode is None:
                try:
                    self.returncode = self._number(timeout)
                except (TimeoutError, BlockingIOError):
                    raise subprocess.TimeoutExpired(self._arguments, timeout or 0.0) from None
                self._told.close()
            return self.returncode

    def send_signal(self, number: int) -> None:
        """Nothing happens to a process that has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode()).replace("\r\n", "\n")


def _draw_known_frames() -> None:
    """Once for all workers: each draws the same 96 pictures when it starts, in 0.2 s of CPU."""
    import numpy as np

    from workers.canary import pictures
    from workers.sampling.plan import SHAPE

    drawn = pictures.fill(np.empty(SHAPE, np.uint8))

    def fill(frames: np.ndarray) -> np.ndarray:
        frames[:] = drawn
        return frames

    pictures.fill = fill


def _serve(listening: socket.socket) -> None:
    """Fork for each request and say of each process when it has ended, until there is nobody any
    more who could ask.
    """
    told: dict[int, socket.socket] = {}
    ended, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # it wakes the `select`
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    while True:
        ready, _, _ = select.select([listening, ended, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        if ended in ready:
            ended.recv(4096)
            _say_who_ended(told)
        if listening in ready:
            asking, _ = listening.accept()
            if (pid := os.fork()) == 0:
                for mine in (listening, ended, wake, *told.values()):
                    mine.close()
                _attend(asking)
            told[pid] = asking
            _say(asking, pid)


def _say_who_ended(told: dict[int, socket.socket]) -> None:
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            if found[0] in told:  # and is not the process with torch, at the end of the run
                with told.pop(found[0]) as asking:
                    _say(asking, os.waitstatus_to_exitcode(found[1]))


def _say(asking: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # who asked has ended
        asking.sendall(NUMBER.pack(number))


def _attend(asking: socket.socket) -> NoReturn:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with asking:
        _, streams, _, _ = socket.recv_fds(asking, 1, 3)
        asked = json.loads(asking.makefile().readline())
    _become(asked["arguments"], asked["env"], asked["cwd"], streams)


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
    _forget("huggingface_hub")
    if "PYTHONPATH" in env:
        sys.path[:0] = env["PYTHONPATH"].split(os.pathsep)
        _forget("sitecustomize")
        importlib.import_module("sitecustomize")
    sys.argv = arguments
    code: object = 0
    try:
        _entry(arguments[0], cwd)()
    except SystemExit as ended:
        code = ended.code or 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
    os._exit(code if isinstance(code, int) else 1)


def _forget(library: str) -> None:
    """It reads the environment when it is imported, which costs little."""
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        del sys.modules[name]


def _entry(script: str, cwd: str) -> Callable[[], object]:
    if script == "celery":  # what `python -m celery` runs
        from celery.__main__ import main

        sys.path[0] = cwd
        return main
    from producer import cli

    return {"reelvec": cli.main, "enqueue": cli.enqueue_main}[script]


def _import(libraries: Sequence[str]) -> None:
    for name in libraries:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is never looked at again is never copied


def _import_commands() -> None:
    import producer

    found = pkgutil.walk_packages(producer.__path__, "producer.")
    _import([*LIBRARIES, *(module.name for module in found)])


def _is_asked(*sockets: socket.socket) -> bool:
    """Waits; whether it was not the end of the run that came."""
    return sys.stdin not in select.select([*sockets, sys.stdin], [], [])[0]


if __name__ == "__main__":
    plain, with_torch = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
    if _is_asked(plain, with_torch):
        _import_commands()
        if os.fork():
            with_torch.close()
            _serve(plain)
        else:
            plain.close()
            if _is_asked(with_torch):
                _import(TORCH)
                _draw_known_frames()
                _serve(with_torch)
