"""How much of a video's memory a sampler keeps for the next one: asking the system for the same
pages again costs time.
"""

from __future__ import annotations

import ctypes
import gc

#: A heap up to this size stays: more than a 1080p video needs. What a larger one took goes back
#: after it.
KEPT_HEAP_BYTES = 128 << 20

# mallopt(3) of glibc. Left alone, it gives memory back and asks for it again with every picture
_M_TRIM_THRESHOLD, _NEVER = -1, 1 << 30
_M_MMAP_THRESHOLD, _HIGHEST = -3, 32 << 20


class Heap:
    """Of this process; where the C library is not glibc, its own rules hold."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._trim = getattr(library, "malloc_trim", None)
        if self._trim:
            library.mallopt(_M_TRIM_THRESHOLD, _NEVER)
            library.mallopt(_M_MMAP_THRESHOLD, _HIGHEST)
            self._end = library.sbrk
            self._end.restype = ctypes.c_void_p
            self._start_bytes = self._end(0)

    def tidy(self) -> None:
        """After a video: free what it left, and give the system what is more than a sampler
        keeps.
        """
        gc.collect()
        if self._trim and self._end(0) - self._start_bytes > KEPT_HEAP_BYTES:
            self._trim(0)
