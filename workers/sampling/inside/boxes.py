"""The boxes of an mp4 or QuickTime file: finding them, and whether the file is fragmented.

FFmpeg would read the whole of a fragmented file to find out how long it is.
Source: ISO/IEC 14496-12, 4.2 (boxes) and 8.8.1 (`mvex` announces fragments).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import NamedTuple, Protocol

#: Real files have a handful at the top; a crafted one must not make us read all of it.
MAX_BOXES = 64


class ByteFile(Protocol):
    """What a video is read from. `read` never returns more than it is asked for: FFmpeg's buffer
    has no more room.
    """

    def read(self, count: int, /) -> bytes: ...
    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int: ...
    def tell(self) -> int: ...


class Box(NamedTuple):
    """Kind, and where the content begins and where it ends."""

    kind: bytes
    start: int
    stop: int


def is_fragmented(file: ByteFile) -> bool:
    """False for everything that is not an mp4 or QuickTime file with its index in place, too."""
    index = movie(file)
    return index is not None and any(
        box.kind == b"mvex" for box in boxes(file, index.start, index.stop)
    )


def movie(file: ByteFile) -> Box | None:
    """The index (`moov`) of an mp4 or QuickTime file; None if there is none, or the file is of
    another kind.
    """
    for box in boxes(file, 0, file.seek(0, os.SEEK_END)):
        if box.kind == b"moov":
            return box
        if not box.kind.isalnum():
            return None
    return None


def boxes(file: ByteFile, position: int, end: int) -> Iterator[Box]:
    """Each box in a stretch of the file, at most `MAX_BOXES`."""
    for _ in range(MAX_BOXES):
        if position + 8 > end:
            return
        head = read_at(file, position, 16)
        size, header_bytes = int.from_bytes(head[:4], "big"), 8
        if size == 1:  # the size did not fit into 32 bits
            size, header_bytes = int.from_bytes(head[8:16], "big"), 16
        elif size == 0:  # the last box
            size = end - position
        if size < header_bytes:
            return
        yield Box(head[4:8], position + header_bytes, min(position + size, end))
        position += size


def boxes_in(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each box in `data`."""
    for kind, start, stop in boxes(io.BytesIO(data), 0, len(data)):
        yield kind, data[start:stop]


def read_at(file: ByteFile, position: int, count: int) -> bytes:
    """`count` bytes, fewer only at the end of the file: one `read` may stop early."""
    file.seek(position)
    data = b""
    while len(data) < count and (piece := file.read(count - len(data))):
        data += piece
    return data
