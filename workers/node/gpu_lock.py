"""One worker process per GPU: two would share its memory and be slower than one.

The lock is a name of the kernel's (an abstract socket): it goes with the process that holds it,
needs no folder that both can write to, and says who holds it. Containers with a network of their
own do not see each other's.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
import sys
import time

from db.errors import UnavailableError

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2


def take(gpu: str, *, wait_seconds: float) -> socket.socket | None:
    """Hold a GPU, by its uuid, until the returned socket is closed, at the latest by the end of
    this process.

    While another process has it, for example one that drains because its supervisor was killed,
    wait for it. Raises `UnavailableError` if it has it still after `wait_seconds`. None where the
    system has no such names (CUDA runs on Linux) or allows none.
    """
    if sys.platform != "linux":
        return None
    name = f"\0reelvec-gpu-{gpu}"
    deadline = time.monotonic() + wait_seconds
    holder: int | None = None
    try:
        lock = _bound(name)
    except OSError as error:
        log.warning(
            "GPU %s cannot be locked (%s): a second worker on it would not be noticed", gpu, error
        )
        return None
    while lock is None:
        if holder != (holder := _holder(name)) and holder is not None:
            log.warning(
                "GPU %s is in use by process %d: waiting up to %.0f s for its end",
                gpu,
                holder,
                wait_seconds,
            )
        if time.monotonic() >= deadline:
            raise UnavailableError(
                f"GPU {gpu} is in use by process {holder or 'unknown'}, another worker; stop that "
                "one, or give this one another GPU by CUDA_VISIBLE_DEVICES or --gpus"
            )
        time.sleep(LOOK_SECONDS)
        lock = _bound(name)
    return lock


def _bound(name: str) -> socket.socket | None:
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(name)
        lock.listen()  # from here on the kernel tells our process id to who asks
    except OSError as error:
        lock.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return lock


def _holder(name: str) -> int | None:
    """The process that holds the name; None if it has just let go of it, or is about to listen."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.setblocking(
            False
        )  # nobody accepts; a full queue of others who asked is no reason to hang
        try:
            asking.connect(name)
        except OSError:
            return None
        said = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", said)[0])
