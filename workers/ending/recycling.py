"""When a process has done enough: threads cannot be replaced one by one, so the process is, at a
time of its own choosing.
"""

from __future__ import annotations

import itertools
import os
import resource
import sys
from pathlib import Path

from db.errors import UsageError


class Recycling:
    """`videos`: so many are one process's lot; `resident_bytes`: more memory it may not hold. None:
    no limit.
    """

    def __init__(self, videos: int | None, resident_bytes: int | None) -> None:
        self._videos = videos
        self._resident_bytes = resident_bytes
        self._numbers = itertools.count(1)  # safe from any thread

    def refuse_if_reached(self) -> None:
        """To be called before the first video. Raises `UsageError`: it would do nothing but
        start.
        """
        held = held_bytes()
        if self._resident_bytes is not None and held >= self._resident_bytes:
            raise UsageError(
                f"REELVEC_RECYCLE_BYTES is {self._resident_bytes}, but this worker holds {held} "
                "before its first video; allow it twice that"
            )

    def count_video(self) -> str | None:
        """To be called after every video; why this process should end now, or None."""
        number = next(self._numbers)
        if self._videos is not None and number >= self._videos:
            return f"{number} videos"
        if self._resident_bytes is not None and (held := held_bytes()) >= self._resident_bytes:
            return f"{held} bytes of memory after {number} videos"
        return None


def held_bytes() -> int:
    """Memory of this process that is in the machine's, on systems other than Linux the most it ever
    was.
    """
    if sys.platform == "linux":
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS
