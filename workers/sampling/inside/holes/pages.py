"""The pages of an ogg, each with a checksum and a number in its stream.

FFmpeg leaves out a page whose checksum is wrong, and does not look at the numbers. Source: RFC
3533, 6.
"""

from __future__ import annotations

import struct
import zlib

from workers.sampling.inside.holes.stretch import Stretch, counted

CAPTURE = b"OggS"
#: Version, flags, time, serial number of the stream, number of the page, checksum, and how many
#: lengths follow, of which each is a byte.
_HEAD = struct.Struct("<4xBBqIIIB")
_CHECKSUM = slice(22, 26)
_FIRST_OF_STREAM = 0x02
#: More streams than this are damage.
_MOST_STREAMS = 64
#: Nor is a file looked at any longer that has so many wrong pages: each costs a checksum.
_MOST_WRONG = 1000
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Pages(Stretch):
    """Numbers that are passed over are pages that are missing, each of the usual size."""

    def __init__(self, start: int | None) -> None:
        super().__init__(start)
        #: by stream that has begun to show something: the number of the page to come
        self._numbers: dict[int, int] = {}
        self._pages = 0
        self._page_bytes = 0
        self._wrong = 0
        #: how many are missing, and the bytes of the file that are where some of them were to be
        self._missing = 0
        self._in_their_place = 0

    def _walk(self, data: bytes, position: int, at: int) -> int:
        while at + _HEAD.size <= len(data):
            size_bytes = _size(data, at)
            if at + size_bytes > len(data) and self._wrong < _MOST_WRONG:
                return at
            page = data[at : at + size_bytes]
            if size_bytes and checksum(page) == int.from_bytes(page[_CHECKSUM], "little"):
                self._note(page, position + at)
                self._keep(position + at, position + at + size_bytes)
                at += size_bytes
            else:
                self._lose(position + at)
                self._wrong += bool(size_bytes)
                found = data.find(CAPTURE, at + 1) if self._wrong < _MOST_WRONG else -1
                at = found if found >= 0 else max(at, len(data) - len(CAPTURE) + 1)
        return at

    def _note(self, page: bytes, place: int) -> None:
        _, flags, time, stream, number, _, _ = _HEAD.unpack_from(page)
        self._pages += 1
        self._page_bytes += len(page)
        # headers have no time; behind them the recording of a broadcast begins with any number
        if flags & _FIRST_OF_STREAM or not time:
            self._numbers.pop(stream, None)
            return
        missing = number - self._numbers.get(stream, number)
        if missing > 0:
            self._missing += missing
            self._in_their_place += 0 if self._lost_from is None else place - self._lost_from
            self._break(place)
        if stream in self._numbers or len(self._numbers) < _MOST_STREAMS:
            self._numbers[stream] = number + 1

    @property
    def missing_bytes(self) -> int:
        usual_bytes = self._page_bytes / max(1, self._pages)
        return counted(int(self._missing * usual_bytes) - self._in_their_place)


def _size(data: bytes, at: int) -> int:
    """Bytes of the page that begins there, of which not all lengths may be in `data`; 0: none
    does.
    """
    if not data.startswith(CAPTURE, at):
        return 0
    count = data[at + _HEAD.size - 1]
    return _HEAD.size + count + sum(data[at + _HEAD.size : at + _HEAD.size + count])


def checksum(page: bytes) -> int:
    """What the page is to have in its four bytes for it, which count as zeros.

    It is zlib's, with the bits of each byte and of the result the other way round, and nothing
    inverted.
    """
    bare = page[: _CHECKSUM.start] + bytes(4) + page[_CHECKSUM.stop :]
    value = zlib.crc32(bare.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(value.to_bytes(4, "big").translate(_REVERSED), "little")
