"""The system calls a sampler may still make: for memory, clocks, its socket and its own end. All
others answer EPERM.

An answer and not a signal: libraries try a file or the number of cores and go on without. Numbers
of the calls: `asm/unistd_64.h` for x86_64, `asm-generic/unistd.h` for aarch64. How a filter is
written: Linux, Documentation/userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
import struct
import sys
from typing import NamedTuple

#: name: number on x86_64, on aarch64; those that are made most often first.
CALLS = {
    "recvfrom": (45, 207),
    "sendto": (44, 206),
    "madvise": (28, 233),
    "brk": (12, 214),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "mprotect": (10, 226),
    "futex": (202, 98),
    "clock_gettime": (228, 113),
    "gettimeofday": (96, 169),
    "read": (0, 63),
    "write": (1, 64),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "sched_yield": (24, 124),
    "restart_syscall": (219, 128),
    "getrandom": (318, 278),
    "prlimit64": (302, 261),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "exit": (60, 93),
    "exit_group": (231, 94),
    # a library's thread that has not run yet begins with it, and glibc aborts if it fails
    "rseq": (334, 293),
}


class Machine(NamedTuple):
    """What differs between processors. `audit`: AUDIT_ARCH_*, which table of calls a number belongs
    to.
    """

    column: int
    audit: int
    seccomp: int


MACHINES = {"x86_64": Machine(0, 0xC000003E, 317), "aarch64": Machine(1, 0xC00000B7, 277)}


class Condition(NamedTuple):
    """`arguments[argument] & mask == value`, of the lower 32 bits: the kernel reads no more of
    these arguments.
    """

    argument: int
    mask: int
    value: int


_WHOLE = 0xFFFFFFFF
_NOT_EXECUTABLE = (Condition(2, mmap.PROT_EXEC, 0),)
_ITS_CPU_LIMIT = (Condition(0, _WHOLE, 0), Condition(1, _WHOLE, resource.RLIMIT_CPU))

# classic BPF: load a word of `struct seccomp_data`, and it with a mask, compare and skip, return
_LOAD, _AND, _IF_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_NUMBER, _AUDIT, _ARGUMENTS = 0, 4, 16  # where in it
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM

_SET_MODE_FILTER = 1
_ALL_THREADS = 1 << 0
#: Otherwise Linux before 5.16 takes speculation from a filtered process, and decoding becomes
#: slower. What that would protect are secrets of the same process, and this one has none.
_KEEP_SPECULATION = 1 << 2


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("count", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def install() -> bool:
    """Filter this process's system calls, for good. False: this system cannot do that, and nothing
    is filtered.

    Needs `PR_SET_NO_NEW_PRIVS`.
    """
    machine = MACHINES.get(os.uname().machine)
    # a 32-bit Python has other calls
    if sys.platform != "linux" or machine is None or sys.maxsize < 2**32:
        return False
    steps = program(machine, os.getpid())
    filters = _Program(len(steps) // 8, steps)
    flags = _ALL_THREADS | _KEEP_SPECULATION
    return not ctypes.CDLL(None).syscall(
        machine.seccomp, _SET_MODE_FILTER, flags, ctypes.byref(filters)
    )


def program(machine: Machine, pid: int) -> bytes:
    """The filter for process `pid`: an array of `struct sock_filter`."""
    conditions = {
        "mmap": _NOT_EXECUTABLE,
        "mprotect": _NOT_EXECUTABLE,
        "prlimit64": _ITS_CPU_LIMIT,
        **dict.fromkeys(("kill", "tkill", "tgkill"), (Condition(0, _WHOLE, pid),)),
    }
    refuse = _step(_RETURN, _REFUSE)
    code = [
        _step(_LOAD, _AUDIT),
        _step(_IF_EQUAL, machine.audit, yes=1),
        refuse,
        _step(_LOAD, _NUMBER),
    ]
    for name, numbers in CALLS.items():
        block = []
        for argument, mask, value in conditions.get(name, ()):
            block += [_step(_LOAD, _ARGUMENTS + 8 * argument), _step(_AND, mask)]
            block += [_step(_IF_EQUAL, value, yes=1), refuse]
        block.append(_step(_RETURN, _ALLOW))
        # x32 is no machine of its own but a bit in the number: none of these is equal then
        code += [_step(_IF_EQUAL, numbers[machine.column], no=len(block)), *block]
    return b"".join([*code, refuse])


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """One `struct sock_filter`; `yes` and `no`: how many steps are skipped after a comparison."""
    return struct.pack("HBBI", code, yes, no, value)
