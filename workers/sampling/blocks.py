"""The blocks of a source that a sampler asks for: few are kept, the next one is read ahead, all is
counted.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict

from db.errors import VideoError
from workers.sampling.wire import BLOCK_BYTES
from workers.sources.storage import STAGE, ByteSource

#: Enough for an index at the end, sound lying apart, and what FFmpeg probed and reads again.
KEPT_BLOCKS = 8
#: So many times its size may be read of a video, and this much more: FFmpeg probes, and files
#: without usable times are read again from the start. More is a file made to be read for ever.
MOST_READINGS = 4
SPARE_BYTES = 64 << 20


class Blocks:
    """One source while one video is sampled."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.size_bytes = source.size_bytes
        self.count = -(-source.size_bytes // BLOCK_BYTES)
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._last: int | None = None
        self.bytes_read = 0
        self.fetch_seconds = source.open_seconds

    def get(self, index: int) -> bytes:
        """Block `index`, below `count`, from memory or from the source. Raises `VideoError`: the
        source's, over_limits.
        """
        if index not in self._kept:
            if self.bytes_read > MOST_READINGS * self.size_bytes + SPARE_BYTES:
                message = (
                    f"{self.bytes_read} bytes were read of a video of {self.size_bytes}; its index "
                    "leads in circles"
                )
                raise VideoError("over_limits", message, stage=STAGE)
            self._kept[index] = self._fetch(index)
            if len(self._kept) > KEPT_BLOCKS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(index)
        return self._kept[index]

    def read_ahead(self, index: int) -> None:
        """Fetch the block after `index` if the sampler is reading on: that is, if it had the one
        before `index`, too.
        """
        reads_on, self._last = self._last == index - 1, index
        if reads_on and index + 1 < self.count:
            # not needed yet: if it is asked for, it fails then; if not, no harm was done
            with contextlib.suppress(VideoError):
                self.get(index + 1)

    def _fetch(self, index: int) -> bytes:
        offset = index * BLOCK_BYTES
        expected = min(BLOCK_BYTES, self._source.size_bytes - offset)
        started = time.monotonic()
        try:
            block = self._source.read(offset, expected)
        finally:
            self.fetch_seconds += time.monotonic() - started
        self.bytes_read += len(block)
        if len(block) != expected:
            message = f"{len(block)} bytes came instead of {expected} at {offset}"
            raise VideoError("source_changed", message, stage=STAGE)
        return block
