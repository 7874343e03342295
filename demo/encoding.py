"""What an encoder leaves behind in the process that called it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def priority_kept() -> Iterator[None]:
    """The calling thread keeps its scheduling policy, whatever is encoded meanwhile.

    SVT-AV1, called by root, makes the calling thread a real-time one (`SCHED_FIFO`, 99), which
    every thread and process started afterwards inherits: two busy ones leave nothing of two cores
    to anything else on the machine, and the kernel gives its other work 5 %.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)
