"""Whether an mp4 is fragmented, from its boxes: FFmpeg would read the whole file to find out how long such a one is.

Source: ISO/IEC 14496-12, 4.2 (boxes) and 8.8.1 (`mvex` announces fragments).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Protocol

#: Real files have a handful at the top; a crafted one must not make us read all of it.
MAX_BOXES = 64


class ByteFile(Protocol):
    """What a video is read from. `read` never returns more than it is asked for: FFmpeg's buffer has no more room."""

    def read(self, count: int, /) -> bytes: ...
    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int: ...
    def tell(self) -> int: ...


def is_fragmented(file: ByteFile) -> bool:
    """False for everything that is not an mp4 or QuickTime file with its index in place, too."""
    end = file.seek(0, os.SEEK_END)
    for kind, start, stop in _boxes(file, 0, end):
        if kind == b"moov":
            return any(child == b"mvex" for child, _, _ in _boxes(file, start, stop))
        if not kind.isalnum():
            return False
    return False


def _boxes(file: ByteFile, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of each box in a stretch of the file."""
    for _ in range(MAX_BOXES):
        if position + 8 > end:
            return
        file.seek(position)
        head = _read(file, 16)
        size, header_bytes = int.from_bytes(head[:4], "big"), 8
        if size == 1:  # the size did not fit into 32 bits
            size, header_bytes = int.from_bytes(head[8:16], "big"), 16
        elif size == 0:  # the last box
            size = end - position
        if size < header_bytes:
            return
        yield head[4:8], position + header_bytes, min(position + size, end)
        position += size


def _read(file: ByteFile, count: int) -> bytes:
    """`read` until there is enough or the file ends: one read may stop early."""
    data = b""
    while len(data) < count and (piece := file.read(count - len(data))):
        data += piece
    return data
