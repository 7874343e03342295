"""The other way a process ends: at once, because it makes no progress and waiting is no use."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys

log = logging.getLogger(__name__)


def end_process(code: int, reason: str) -> None:
    """Leave at once, saying where every thread stands: redelivery and the reaper take over."""
    log.error("ending this process: %s", reason)
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    sys.stderr.flush()
    os._exit(code)
