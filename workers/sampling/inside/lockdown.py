"""What a sampler process gives up before it sees a video, and the limits it works under."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import resource
import signal
import struct
import sys
import time
from pathlib import Path

from workers.sampling.inside import seccomp

#: Memory beside the libraries. The largest pictures that are let in, 36 megapixels with 10 bits,
#: are 108 MB each, a fifth more with what a decoder notes about them, and a stream may ask for 17:
#: 2.1 GiB. Then 128 MiB of packets and two pictures being converted. Measured at 7680 x 4320 with
#: 10 bits: H.264 with 16 references 1.6 GiB, HEVC 1.2, AV1 0.9.
MEMORY_BYTES = 2560 << 20
#: The worker's own threads come first.
NICENESS = 5

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522


def die_with(parent_pid: int) -> None:
    """Have the kernel end this process with the thread that started it, a thread of
    `parent_pid`.
    """
    if sys.platform == "linux":
        _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it was gone before it could be asked for
        os._exit(0)


def lock_down(socket_fd: int) -> bool:
    """Give up everything that decoding does not need. Whatever is imported or mapped must be so by
    now.

    `socket_fd` is kept open, and 0, 1, 2. Returns whether system calls are filtered.
    """
    os.chdir("/")
    os.nice(NICENESS)
    # an operator's Ctrl-C or a supervisor's SIGTERM is for the worker, which ends its samplers
    # itself
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(ignored, signal.SIG_IGN)
    if sys.platform == "linux":
        # a machine that runs out of memory ends this process first
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
        mapped_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        _limit(resource.RLIMIT_AS, mapped_pages * resource.getpagesize() + MEMORY_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    # the frames are written through a mapping, which it does not touch
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NPROC, 0)
    for fd in map(int, os.listdir("/dev/fd")):  # noqa: PTH208 - numbers. A mapping keeps a descriptor of its own open
        if fd not in (0, 1, 2, socket_fd):
            with contextlib.suppress(OSError):  # the listing's own is closed by now
                os.close(fd)
    _limit(resource.RLIMIT_NOFILE, 3)  # 0, 1, 2 are taken: no descriptor can be opened any more
    if sys.platform != "linux":
        return False
    # no other process of this user may look inside, and no core goes to a program of the system's:
    # RLIMIT_CORE lets it
    _call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)
    # what makes root more than others
    _call("capset", struct.pack("Ii", _CAPABILITY_VERSION_3, 0), bytes(24))
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return seccomp.install()


def limit_cpu(seconds: int) -> None:
    """From now on `seconds` of CPU time, then SIGXCPU ends the process."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + seconds, hard))


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:  # the worker's own may be stricter
        value = min(value, hard)
    resource.setrlimit(what, (value, value))


def _call(name: str, *arguments: int | bytes) -> None:
    """One of libc's functions that return 0 or say why not."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{arguments}: {os.strerror(number)}")
