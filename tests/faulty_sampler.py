"""A sampler process for tests: the shipped one, except that a video can name the fault its decoder
ends in.

Run by the programs that `tests.samplers.faulty` writes. Nothing can be imported or opened once a
video is there.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from db.errors import VideoError
from workers.sampling.inside import decode, lockdown, process, seccomp
from workers.sampling.inside.boxes import ByteFile

MARK = b"fault: "
BLOCK = 1 << 20

libc = ctypes.CDLL(None, use_errno=True)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
machine = os.uname().machine

#: By name: called with the file, the policy and the memory for the frames.
FAULTS: dict[str, Callable[..., object]] = {}


def fault(made: Callable[..., object]) -> Callable[..., object]:
    FAULTS[made.__name__] = made
    return made


def say(words: str) -> NoReturn:
    """End the video with a message for the test; the process goes on."""
    raise VideoError("undecodable", words, stage="sample")


def attempt(**attempts: Callable[[], object]) -> NoReturn:
    """Try each and say which did not fail."""
    worked = []
    for name, made in attempts.items():
        try:
            if made() != -1:
                worked.append(name)
        except (OSError, RuntimeError, ValueError):
            continue
    say(f"{len(attempts)} tried, worked: {worked}")


# It dies


@fault
def segfault(*_: object) -> None:
    ctypes.string_at(1)


@fault
def abort(*_: object) -> None:
    os.abort()


@fault
def leave(*_: object) -> None:
    os._exit(3)


@fault
def defect(*_: object) -> None:
    raise KeyError("a defect of ours")


@fault
def no_memory_and_abort(*_: object) -> None:
    """As a decoder that cannot go on without memory."""
    while libc.malloc(100_000):
        pass
    os.abort()


# It does not end


@fault
def python_loop(*_: object) -> None:
    while True:
        pass


@fault
def c_loop(*_: object) -> None:
    re.fullmatch("(a|aa)+b", "a" * 200)


@fault
def hang(*_: object) -> None:
    time.sleep(3600)


@fault
def deaf_hang(*_: object) -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(3600)


@fault
def locked(*_: object) -> None:
    lock = threading.Lock()
    with lock:
        lock.acquire()


# It takes memory


@fault
def small_pieces(*_: object) -> None:
    kept = []
    while True:
        kept.append(bytes(10_000))


@fault
def one_big_piece(*_: object) -> None:
    bytearray(1 << 40)


@fault
def touched_pages(*_: object) -> None:
    kept = []
    while True:
        kept.append(b"x" * (8 << 20))


@fault
def shared_pages(*_: object) -> None:
    """Raises `OSError`, not `MemoryError`."""
    kept = []
    while True:
        kept.append(mmap.mmap(-1, 8 << 20))
        kept[-1].write(b"x" * (8 << 20))


# It wants more than it has


@fault
def descriptors(*_: object) -> None:
    attempt(
        open=lambda: os.open("/dev/null", os.O_RDONLY),
        dup=lambda: os.dup(0),
        pipe=os.pipe,
        memory=lambda: os.memfd_create("x"),
        pair=socket.socketpair,
        timer=lambda: libc.timerfd_create(1, 0),
        more=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (99, 99)),
    )


@fault
def processes(*_: object) -> None:
    attempt(
        fork=os.fork,
        thread=threading.Thread(target=print).start,
        execute=lambda: os.execv("/bin/true", ["true"]),
        run=lambda: subprocess.run(["/bin/true"], check=False),
        more=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (99, 99)),
    )


@fault
def files(*_: object) -> None:
    attempt(
        read=lambda: Path("/etc/passwd").read_bytes(),
        write=lambda: Path("canary").write_bytes(b""),
        folder=lambda: Path("canary").mkdir(),
        link=lambda: Path("canary").symlink_to("/"),
        remove=lambda: Path("canary").unlink(),
        look=lambda: Path("/").stat(),
        walk=lambda: os.chdir("etc"),
        own=lambda: os.fstat(0),
        random=lambda: Path("/dev/urandom").read_bytes(),
    )


@fault
def network(*_: object) -> None:
    attempt(
        tcp=socket.socket,
        udp=lambda: socket.socket(type=socket.SOCK_DGRAM),
        unix=lambda: socket.socket(socket.AF_UNIX),
        netlink=lambda: socket.socket(socket.AF_NETLINK),
        name=lambda: socket.getaddrinfo(b"localhost", 80),
        descriptors_passed=lambda: libc.sendmsg(
            int(sys.argv[4]), ctypes.create_string_buffer(56), 0
        ),
    )


@fault
def others(*_: object) -> None:
    parent = int(sys.argv[7])
    attempt(
        parent=lambda: os.kill(parent, 0),
        group=lambda: os.kill(0, 0),
        everybody=lambda: os.kill(-1, 0),
        thread_of_parent=lambda: libc.tgkill(parent, parent, 0),
        limits_of_parent=lambda: resource.prlimit(parent, resource.RLIMIT_CPU),
        trace=lambda: libc.ptrace(16, parent, None, None),
        look_in=lambda: libc.process_vm_readv(parent, None, 0, None, 0, 0),
        dumpable=lambda: libc.prctl(4, 1, 0, 0, 0),
        machine_code=lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    )


@fault
def every_other_call(*_: object) -> None:
    """Each number that is not on the list, and every number of x32: say which answered anything but
    EPERM.
    """
    column = seccomp.MACHINES[machine].column
    allowed = {numbers[column] for numbers in seccomp.CALLS.values()}
    if machine == "x86_64":
        allowed |= {
            335,
            336,
        }  # uretprobe, uprobe: SIGILL from anywhere but a probe, and Linux asks no filter
    numbers = [number for number in range(1024) if number not in allowed]
    if machine == "x86_64":
        numbers += [number | 1 << 30 for number in range(1024)]
    odd = {}
    for number in numbers:
        answer = libc.syscall(number, 0, 0, 0, 0, 0, 0), ctypes.get_errno()
        if answer != (-1, errno.EPERM):
            odd[number] = answer
    say(f"{len(numbers)} asked, answered: {odd}")


if machine == "x86_64":  # made before executable memory is refused: mov eax, 24; int 0x80; ret
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x18\x00\x00\x00\xcd\x80\xc3")
    by_interrupt = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))

    @fault
    def table_of_32_bits(*_: object) -> None:
        """getuid by its number in the table of i386, which is sched_yield's in the other.

        A kernel without that table ends the process instead.
        """
        say(f"answer {by_interrupt()}")


@fault
def what_it_needs(*_: object) -> None:
    os.kill(os.getpid(), 0)
    time.sleep(0.001)
    os.urandom(8)
    os.write(2, b"to nobody")
    grown = bytearray()
    for _ in range(40):
        grown += bytes(1 << 20)
    kept = [bytearray(10_000) for _ in range(4_000)]
    mmap.mmap(-1, 1 << 20).close()
    lockdown.limit_cpu(30)
    say(f"{len(grown) >> 20} MiB and {len(kept)} pieces")


# It goes on when it is told to


@fault
def half_written(file: ByteFile, _: str, out: np.ndarray) -> None:
    """Stands at the block after this one, half of the frames written."""
    out[:48] = 255
    file.seek(BLOCK)
    file.read(1)


def sample(file: ByteFile, policy: str, out: np.ndarray) -> Any:
    head = file.read(64)
    if head.startswith(MARK):
        return FAULTS[head.split(b"\n")[0].removeprefix(MARK).decode()](file, policy, out)
    file.seek(0)
    return real_sample(file, policy, out)


real_sample = decode.sample


def main(arguments: list[str]) -> None:
    decode.sample = sample
    process.main(arguments)
