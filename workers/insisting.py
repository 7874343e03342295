"""Asking again and again while the database or the frame store is away: what was computed is held
meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from db.errors import UnavailableError, VideoError
from workers.frames.store import STAGE as STORE
from workers.runtime import Runtime

log = logging.getLogger(__name__)
T = TypeVar("T")

#: What is away is asked again after so long at most.
MAX_PAUSE_SECONDS = 5.0


def insist(
    runtime: Runtime, what: str, attempt: Callable[[], T], *, gives_up: Callable[[], bool]
) -> T:
    """What `attempt` returns, asked again and again while what it needs is away. Raises its
    `UnavailableError` once `gives_up()`.
    """
    pause_seconds = 0.5
    while True:
        try:
            return attempt()
        except UnavailableError as error:
            if gives_up():
                raise
            log.warning("cannot %s yet: %s", what, error)
        # a drain wakes whoever waits, but does not make him ask without a pause
        time.sleep(0.1)
        runtime.draining.wait(pause_seconds)
        pause_seconds = min(MAX_PAUSE_SECONDS, pause_seconds * 2)


def of_store(attempt: Callable[[], T]) -> T:
    """What `attempt` returns, which uses the frame store. One that is away is `UnavailableError`,
    like a database: it costs no video an attempt.
    """
    try:
        return attempt()
    except VideoError as error:
        if error.stage != STORE:
            raise
        raise UnavailableError(str(error)) from error
