"""Starting, recognising and ending one server process that outlives whoever started it."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")

# Becomes the server once a first line has come in; what follows is the server's own standard input.
# A starter killed before it wrote the pid down sends none, and so leaves nothing behind that nobody
# knows of.
_GATE = ["/bin/sh", "-c", 'read -r go || exit 1; exec "$@"', "sh"]

#: Servers this process started. A dead child stays a zombie until its parent asks, so we have to
#: keep asking.
_children: dict[int, subprocess.Popen[bytes]] = {}

# Asks the kernel for a signal when the starter dies, becomes the server's user, then becomes the
# server. A program of its own and not `preexec_fn`, which is unsafe beside threads. `getppid`: the
# starter may be dead already.
_TIED = """
import ctypes, os, sys
number, parent, uid, gid, *command = sys.argv[1:]
if int(uid) >= 0:
    os.setgroups([]); os.setgid(int(gid)); os.setuid(int(uid))
ctypes.CDLL(None).prctl(1, int(number))
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""


@dataclass(frozen=True)
class Account:
    """The unprivileged user that servers run as when the starter is root."""

    name: str
    uid: int
    gid: int


def server_account(owner_of: Path) -> Account | None:
    """Whom servers run as: None (as ourselves) unless we are root.

    For root it is the owner of `owner_of` where that exists, so that old data stay usable after a
    user `postgres` appears. Raises `LookupError` on a machine that has none of the usual users.
    """
    if os.geteuid() != 0:
        return None
    if owner_of.exists() and (status := owner_of.stat()).st_uid != 0:
        return Account(f"number {status.st_uid}", status.st_uid, status.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise LookupError("neither a user postgres nor a user nobody exists")


def server_environment() -> dict[str, str]:
    """What servers see of our environment: no secrets to hold for days, no PG* or LC_* that change
    how they work.
    """
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "LC_ALL": "C",
        "TZ": "UTC",
    }


def popen(
    command: list[str], account: Account | None, *, stdin: int, output: int, folder: Path
) -> subprocess.Popen[bytes]:
    """Start `command` as `account` in a session of its own."""
    return subprocess.Popen(
        command,
        cwd=folder,
        stdin=stdin,
        stdout=output,
        stderr=output,
        env=server_environment(),
        start_new_session=True,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def spawn(
    command: list[str],
    account: Account | None,
    *,
    text: str,
    log: Path,
    pid_file: Path,
    folder: Path,
    tie: signal.Signals | None,
) -> None:
    """Start a server that reads `text` (below 4 KiB), its output appended to `log`, its pid written
    to `pid_file`.

    With `tie` the server gets that signal when this process ends, however it ends (Linux; elsewhere
    nothing is tied).
    """
    with (
        os.fdopen(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as output,
        pipe() as (read, write),
    ):
        start = functools.partial(popen, stdin=read, output=output.fileno(), folder=folder)
        if tie is None or not sys.platform.startswith("linux"):
            child = start([*_GATE, *command], account)
        else:
            uid, gid = (account.uid, account.gid) if account else (-1, -1)
            facts = [str(number) for number in (int(tie), os.getpid(), uid, gid)]
            tied = [sys.executable, "-I", "-S", "-c", _TIED, *facts, *_GATE, *command]
            # To the kernel the starter is a thread: it must be one that lives as long as the
            # process.
            child = _starter_thread(os.getpid()).submit(start, tied, None).result()
        _children[child.pid] = child
        pid_file.write_text(f"{child.pid}\n")
        os.write(
            write, f"go\n{text}".encode(errors="surrogateescape")
        )  # one write: all of it or nothing


@functools.cache
def _starter_thread(_pid: int) -> ThreadPoolExecutor:
    """One thread per process; keyed by pid because a forked child inherits the cache but not the
    thread.
    """
    return ThreadPoolExecutor(1, thread_name_prefix="local-stack-starter")


def command_line(pid: int) -> str | None:
    """The words of a running process joined by spaces; None when it is gone or a zombie."""
    if pid in _children:
        _children[pid].poll()  # reaps it, should it be dead
    look = _command_line_by_proc if _PROC.is_dir() else _command_line_by_ps
    seen = look(pid)

    def is_settled() -> bool:
        nonlocal seen
        seen = look(pid) if seen == "" else seen
        return seen != ""

    # Empty for the moment in which it becomes another program or ends: only a later look tells
    # which.
    wait_until(is_settled, 5)
    return seen


def _command_line_by_proc(pid: int) -> str | None:
    try:
        state = (_PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0]
        words = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return None
    return None if state in "ZX" else os.fsdecode(words).replace("\0", " ")


def _command_line_by_ps(pid: int) -> str | None:
    """`command_line` where there is no /proc (macOS)."""
    shown = subprocess.run(
        ["ps", "-o", "stat=,command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, words = shown.stdout.strip().partition(" ")
    return None if not words or state.startswith("Z") else words


def working_in(folder: Path) -> list[int]:
    """Pids of the processes whose working directory is `folder` (Linux; elsewhere none is seen)."""
    found = []
    for entry in _PROC.glob("[0-9]*/cwd"):
        try:
            if entry.readlink() == folder:
                found.append(int(entry.parent.name))
        except OSError:
            continue  # gone meanwhile, a zombie, or another user's
    return found


def exists(pid: int) -> bool:
    """Whether the kernel still knows `pid`: running, a zombie, or somebody else's."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """The reading and the writing end of a pipe."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for descriptor in ends:
            os.close(descriptor)


def end(pid: int, gentle: signal.Signals, *, patience_seconds: float) -> None:
    """Ask a process to stop, kill it after `patience_seconds`, and return when it is gone."""
    send(pid, gentle)
    if not wait_until(lambda: command_line(pid) is None, patience_seconds):
        send(pid, signal.SIGKILL)
        wait_until(lambda: command_line(pid) is None, 10)
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        del _children[pid]


def send(pid: int, number: signal.Signals) -> None:
    """Signal a process that may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def wait_until(condition: Callable[[], object], seconds: float) -> bool:
    """Ask `condition` every 20 ms until it is true or `seconds` have passed; returns its last
    answer.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
