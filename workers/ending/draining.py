"""An orderly end: nothing new is started, what is in hand is finished or handed back, and the
process is gone in time.

It begins with a signal, a spot notice, the end of the supervisor, a refusal, or when it is time to
recycle.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import NoReturn

from db.errors import ReelvecError
from db.exit_codes import ExitCode
from workers.ending.at_once import end_process

log = logging.getLogger(__name__)

#: So long threads may take to hand back what they hold; then it is done for them and nobody is
#: waited for. A name server, a file system or a driver that does not answer cannot be interrupted.
PATIENCE_SECONDS = 8.0
RETRY_SECONDS = 1.0


class Drain:
    """Waits, in a thread of its own, to be asked for; sees to it that the process ends.

    `stop_consuming` makes Celery leave its loop; `hard_seconds` is REELVEC_DRAIN_SECONDS. `begun`
    is set as soon as nothing new is to be started.
    """

    def __init__(self, hard_seconds: float, stop_consuming: Callable[[], None]) -> None:
        self.begun = threading.Event()
        self.exit_code = ExitCode.OK
        self._hard_seconds = hard_seconds
        self._stop_consuming = stop_consuming
        self._give_back: Callable[[], None] | None = None
        self._asked: SimpleQueue[tuple[ExitCode, str]] = SimpleQueue()
        threading.Thread(target=self._see_through, name="drain", daemon=True).start()

    def ask(self, why: str, exit_code: ExitCode = ExitCode.OK) -> None:
        """End this process, at last with `exit_code`. The first call counts. Safe in a signal
        handler.
        """
        self._asked.put((exit_code, why))

    def ready(self, give_back: Callable[[], None]) -> None:
        """From now on videos may be in hand: `give_back` hands all of them back, or raises
        `ReelvecError`.
        """
        self._give_back = give_back

    def _see_through(self) -> None:
        self.exit_code, why = self._asked.get()
        started = time.monotonic()
        log.info("draining: %s", why)
        self.begun.set()
        if (give_back := self._give_back) is None:
            self._leave()
        self._stop_consuming()
        time.sleep(
            min(PATIENCE_SECONDS, self._hard_seconds / 2)
        )  # the process usually ends in here
        while time.monotonic() - started < self._hard_seconds:
            try:
                give_back()
            except ReelvecError as error:
                log.warning("cannot hand back what is in hand yet: %s", error)
                time.sleep(RETRY_SECONDS)
            else:
                self._leave()
        end_process(
            ExitCode.DRAIN_TOO_LONG, f"it was told to end {self._hard_seconds:g} s ago ({why})"
        )

    def _leave(self) -> NoReturn:
        sys.stderr.flush()
        os._exit(self.exit_code)
