"""What of a file is no media, by what the readers of containers say of the bytes that FFmpeg
reads.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable

from workers.sampling.inside.boxes import ByteFile
from workers.sampling.inside.encryption.base import WatchedFile
from workers.sampling.inside.holes.stretch import Stretch, counted

#: Makes the reader of a stretch that begins with a packet at this place, or, if it is None,
#: anywhere.
Begin = Callable[[int | None], Stretch]


class Holes:
    """A file that is watched while FFmpeg reads it, from its first packet (`start`, in bytes) to
    where it says that its last one ends (`stop`; None: its end), and apart from that at its end,
    where FFmpeg looks for the last times.

    `file` is what FFmpeg is to read. `demuxer`: FFmpeg's name of the format that `begin` is for.
    Without `begin` nothing is watched.
    """

    def __init__(
        self,
        file: ByteFile,
        demuxer: str = "",
        begin: Begin | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        self.demuxer = demuxer
        self._start = start
        size_bytes = file.seek(0, os.SEEK_END)
        self._stop = size_bytes if stop is None else stop
        self._end = min(self._stop, size_bytes)
        self._begin = begin
        self._front = begin(start) if begin else None
        self._seen_to = start
        #: what FFmpeg has looked at apart from what it read in a row, and where packets end there
        self._apart_from = self._end
        self._apart_kept_to = 0
        self.file = WatchedFile(file, self._see, self._see_apart) if begin else file

    def _see(self, position: int, data: bytes) -> None:
        first = max(0, self._start - position)
        data = data[first : max(0, self._stop - position)]
        if data and self._front:
            self._front.see(position + first, data)
            self._seen_to = position + first + len(data)

    def _see_apart(self, position: int, data: bytes) -> None:
        if self._begin and position < self._end:
            stretch = self._begin(None)
            stretch.see(position, data)
            self._apart_from = min(self._apart_from, position)
            self._apart_kept_to = max(self._apart_kept_to, stretch.kept_to or 0)

    def between(self, position: int, later: int) -> bool:
        """Whether packets are missing behind `position` and up to `later`, in bytes."""
        breaks = self._front.breaks if self._front else []
        return bisect_right(breaks, position) < bisect_right(breaks, later)

    def lost_share(self, *, at_end: bool) -> float:
        """The part of the bytes, of those that FFmpeg has passed or of all of them, that was to be
        media and is none. `at_end`: FFmpeg finds no more packets.
        """
        front = self._front
        if not front:
            return 0.0
        # what it has not read behind bytes that are no media, or behind the end, is lost, too
        is_over = at_end and (front.is_lost or self._seen_to >= self._end)
        passed_to = self._stop if is_over else self._seen_to
        lost_bytes = front.lost_bytes + front.missing_bytes + counted(passed_to - self._seen_to)
        end_bytes = counted(self._end - max(self._apart_from, self._apart_kept_to))
        return max(
            lost_bytes / max(1, passed_to + front.missing_bytes - self._start),
            end_bytes / max(1, self._end - self._start),
        )
