"""The signals that tell a worker, and the supervisor of several, to end. All mean the same: drain,
and exit code 0.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


class EndSignals:
    """Calls `told` with a signal's name, in the main thread between any two steps of it: `told` may
    only make a note.

    A signal that was ignored from the start, as nohup has it for SIGHUP, stays ignored.
    """

    def __init__(self, told: Callable[[str], None]) -> None:
        self._told = told
        self._ignored = {number for number in SIGNALS if signal.getsignal(number) is signal.SIG_IGN}
        self.install()

    def install(self) -> None:
        """In the main thread; again after somebody has put other handlers there."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN if number in self._ignored else self._handle)

    def _handle(self, number: int, _frame: object) -> None:
        self._told(signal.Signals(number).name)
