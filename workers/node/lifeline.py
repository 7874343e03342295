"""A pipe between supervisor and worker: it closes with the supervisor, however that ended, and then
its workers drain.

PR_SET_PDEATHSIG would say the same, but only on Linux, only of the thread that started the process,
and not of one that was gone before it was asked for.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from db.errors import UsageError


class Lifeline:
    """The supervisor's side. Nothing is ever written: `worker_end` reads as ended once this process
    is no more.
    """

    def __init__(self) -> None:
        self.worker_end, self._own_end = (
            os.pipe()
        )  # our end is closed in every process that is started

    def cut(self) -> None:
        os.close(self._own_end)
        os.close(self.worker_end)


def watch(worker_end: int, gone: Callable[[], None]) -> None:
    """In a worker: call `gone`, in a thread of its own, when the supervisor is no more. Raises
    `UsageError`.
    """
    try:
        os.fstat(worker_end)
    except OSError as error:
        raise UsageError(
            f"REELVEC_LIFELINE_FD is {worker_end}, which is no open descriptor; only `reelvec "
            "worker` sets it: unset it"
        ) from error

    def wait() -> None:
        os.read(worker_end, 1)
        gone()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
