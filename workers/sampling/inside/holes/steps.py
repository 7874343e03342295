"""Packets of one size that begin with one mark: mpegts (ISO/IEC 13818-1, 2.4.3.2) and asf (Advanced
Systems Format specification 1.2, 5.2.1).
"""

from __future__ import annotations

import numpy as np

from workers.sampling.inside.holes.stretch import Stretch


class Steps(Stretch):
    """`mark`: of a byte or more. `step`: bytes from one packet to the next. `run`: so many marks in
    a row are no accident.
    """

    def __init__(self, start: int | None, *, mark: bytes, step: int, run: int) -> None:
        super().__init__(start)
        self._mark = mark
        self._step = step
        self._run = run

    def _walk(self, data: bytes, position: int, at: int) -> int:
        marks = self._marks(data)
        # where runs begin: looked for once, however often the form is broken
        runs: np.ndarray | None = None
        while at < marks.size:
            if self._lost_from is None:
                here = marks[at :: self._step]
                right = here.size if here.all() else int(here.argmin())
                if right:
                    self._keep(position + at, position + at + right * self._step)
                    at += right * self._step
                if right < here.size:
                    self._lose(position + at)
                continue
            if runs is None:
                runs = np.flatnonzero(self._in_a_row(marks))
            ahead = int(np.searchsorted(runs, at))
            if ahead == runs.size:
                return max(at, marks.size - (self._run - 1) * self._step)
            at = int(runs[ahead])
            self._keep(position + at, position + at)
        return at

    def _marks(self, data: bytes) -> np.ndarray:
        """Of each byte, whether a mark begins there, bool; those that no whole mark fits behind are
        left out.
        """
        values = np.frombuffer(data, np.uint8)
        count = max(0, len(data) - len(self._mark) + 1)
        found = np.ones(count, bool)
        for offset, byte in enumerate(self._mark):
            found &= values[offset : offset + count] == byte
        return found

    def _in_a_row(self, marks: np.ndarray) -> np.ndarray:
        """Of each byte, whether a run begins there, bool."""
        count = max(0, marks.size - (self._run - 1) * self._step)
        found = marks[:count].copy()
        for number in range(1, self._run):
            found &= marks[number * self._step : number * self._step + count]
        return found
