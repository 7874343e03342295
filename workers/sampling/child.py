"""The worker's end of one sampler process: start it, talk with it, end it and say what it died
of.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from workers.sampling.answers import Aborted, Answer, NonsenseError, Ready, parse
from workers.sampling.plan import SHAPE
from workers.sampling.wire import BLOCK_BYTES, FRAMES_START, LENGTH, MAX_JSON_BYTES, pack

#: What a sampler process runs.
PROGRAM = "workers.sampling.inside.process"
#: How often a wait looks up.
LOOK_SECONDS = 0.1
#: A process that closed its socket may take this long to be gone; then the signal it died of is not
#: known any more.
DYING_SECONDS = 5.0
#: A sampler told to drop its video answers within this, or is not used again.
ABORT_SECONDS = 5.0

#: Called while waiting; raises what should end the wait.
Check = Callable[[], None]


class ChildGoneError(Exception):
    """The sampler process closed its end."""


class DeadlineError(Exception):
    """Waiting took too long."""


def deadline_check(seconds: float) -> Check:
    """A check that raises `DeadlineError` once `seconds` are over."""
    deadline = time.monotonic() + seconds

    def check() -> None:
        if time.monotonic() > deadline:
            raise DeadlineError

    return check


class Child:
    """One process, used by one thread at a time. Raises `OSError` if it cannot be started."""

    def __init__(self, cpu_seconds: int) -> None:
        self._memory_fd = _shared_memory()
        try:
            self._socket, theirs = socket.socketpair()
        except OSError:
            os.close(self._memory_fd)
            raise
        descriptors = (theirs.fileno(), self._memory_fd)
        try:
            arguments = map(str, (*descriptors, cpu_seconds, os.getpid()))
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", PROGRAM, *arguments],
                env={},
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except BaseException:
            self._close()
            raise
        finally:
            theirs.close()
        self._socket.setblocking(False)
        self.pid = self._process.pid
        #: whether its system calls are filtered; None before it was ready
        self.has_seccomp: bool | None = None
        self._died_of: str | None = None

    def wait_ready(self, check: Check) -> None:
        """Return once it may be given a video, at once if it has had one. Raises like `receive`."""
        if self.has_started:
            if _poll(self._socket, select.POLLIN, 0):  # it died idle, or talks out of turn
                raise ChildGoneError
            return
        answer = self.receive(check)
        if not isinstance(answer, Ready):
            raise NonsenseError("it did not begin with ready")
        self.has_seccomp = answer.seccomp

    @property
    def has_started(self) -> bool:
        return self.has_seccomp is not None

    def give_block(self, block: bytes, slot: int, check: Check) -> None:
        """Answer a read. Raises like `send`."""
        os.pwrite(self._memory_fd, block, slot * BLOCK_BYTES)
        self.send({"kind": "block"}, check)

    def send(self, message: dict[str, Any], check: Check) -> None:
        """Raises `ChildGoneError` and whatever `check` raises."""
        view = memoryview(pack(message))
        while view:
            self._wait(select.POLLOUT, check)
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise ChildGoneError from error

    def receive(self, check: Check) -> Answer:
        """Raises `ChildGoneError`, `NonsenseError`, and whatever `check` raises."""
        (json_bytes,) = LENGTH.unpack(self._exactly(LENGTH.size, check))
        if json_bytes > MAX_JSON_BYTES:
            raise NonsenseError(f"a message of {json_bytes} bytes")
        return parse(self._exactly(json_bytes, check))

    def abort(self) -> bool:
        """Have it drop its video; only while it waits for a block. False: it did not, and must not
        be used again.
        """
        check = deadline_check(ABORT_SECONDS)
        try:
            self.send({"kind": "abort"}, check)
            return isinstance(self.receive(check), Aborted)
        except (ChildGoneError, NonsenseError, DeadlineError):
            return False

    def copy_frames(self, frames: np.ndarray) -> np.ndarray:
        """The frames, copied into uint8 `[96, 224, 224, 3]`. Raises `NonsenseError` if the process
        cut their memory short.
        """
        # read, not mapped: a mapping that the other side cut short would kill this process
        if os.preadv(self._memory_fd, [frames.data], FRAMES_START) != frames.nbytes:
            raise NonsenseError("the frames' memory is shorter than it was made")
        return frames

    def kill(self) -> None:
        """Safe from any thread, any number of times."""
        self._process.kill()

    def bury(self) -> str:
        """End it, free everything, and say what it died of: a signal's name or an exit code. May be
        called again.
        """
        if self._died_of is not None:
            return self._died_of
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(
                DYING_SECONDS if _poll(self._socket, select.POLLIN, 0) & select.POLLHUP else 0
            )
        self._process.kill()
        code = self._process.wait()
        self._close()
        self._died_of = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return self._died_of

    def _close(self) -> None:
        self._socket.close()
        os.close(self._memory_fd)

    def _exactly(self, count: int, check: Check) -> bytes:
        data = bytearray()
        while len(data) < count:
            self._wait(select.POLLIN, check)
            try:
                piece = self._socket.recv(count - len(data))
            except BlockingIOError:
                continue
            except OSError as error:
                raise ChildGoneError from error
            if not piece:
                raise ChildGoneError
            data += piece
        return bytes(data)

    def _wait(self, event: int, check: Check) -> None:
        check()
        while not _poll(self._socket, event, LOOK_SECONDS):
            check()


def _poll(connection: socket.socket, event: int, seconds: float) -> int:
    """What happened to a socket: `event`, POLLHUP, POLLERR, or 0 for nothing. Works for descriptors
    above 1023, too.
    """
    poll = select.poll()
    poll.register(connection, event)
    return next((what for _, what in poll.poll(seconds * 1000)), 0)


def _shared_memory() -> int:
    """A descriptor of memory for frames and blocks that no path leads to."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("sampler")
    else:
        fd, name = tempfile.mkstemp()
        Path(name).unlink()
    os.ftruncate(fd, FRAMES_START + math.prod(SHAPE))  # none of it is taken before it is written
    return fd
