"""Which pictures of an MPEG program stream (.mpg, .vob) are encrypted: by the scrambling bits of
its packets.

A DVD's CSS sets them, too, in the sectors that it scrambles. Source: ISO/IEC 13818-1, 2.4.3.6 and
2.5.3.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from workers.sampling.inside.boxes import ByteFile
from workers.sampling.inside.encryption.base import Encryption, WatchedFile

#: So many packets of a stream in a hundred are scrambled, and at least so many: flipped bits are no
#: scrambling.
LEAST_PERCENT, LEAST = 5, 4
PACK = b"\0\0\1\xba"
_START = PACK[:3]
_PACK, _FIRST_STREAM = 0xBA, 0xBC
_PICTURES = range(0xE0, 0xF0)
#: What is looked at of a packet.
_HEAD_BYTES = 14


class Pes(NamedTuple):
    """The head of a packet of pictures: its stream, whether it is scrambled, where it is."""

    stream_id: int
    is_scrambled: bool
    position: int


def picture_packets(data: bytes, position: int) -> tuple[list[Pes], int]:
    """Heads of the packets of pictures in `data`, which lies at `position` of the file, and where
    the next packet begins.

    That may lie beyond `data`, or so near its end that it has to be looked at again with what
    follows.
    """
    found: list[Pes] = []
    at = 0
    while at + _HEAD_BYTES <= len(data):
        # damage, or the middle of a packet: go on at the next start
        if not data.startswith(_START, at):
            next_at = data.find(_START, at + 1)
            at = next_at if next_at >= 0 else len(data) - 2
            continue
        code = data[at + 3]
        if code == _PACK:
            # MPEG-2 or MPEG-1
            at += 14 + (data[at + 13] & 7) if data[at + 4] & 0xC0 == 0x40 else 12
        elif code < _FIRST_STREAM - 1:
            at += 4
        else:
            if code in _PICTURES:
                is_mpeg2 = data[at + 6] & 0xC0 == 0x80
                found.append(Pes(code, is_mpeg2 and bool(data[at + 6] & 0x30), position + at))
            at += 6 + int.from_bytes(data[at + 4 : at + 6], "big")
    return found, position + at


class PsEncryption(Encryption):
    """Follows the packets from one to the next while the file is read."""

    def __init__(self, file: ByteFile) -> None:
        super().__init__(WatchedFile(file, self.see))
        self._rest = b""
        self._next = 0  # where the next packet begins
        self._scrambled: dict[int, list[int]] = {}  # by stream: where its scrambled packets are
        self._packets: Counter[int] = Counter()
        #: by stream: where its pictures begin to be encrypted
        self._encrypted_from: dict[int, int] = {}
        self._wanted: int | None = None

    def begin(self, stream: VideoStream, /) -> None:
        self._wanted = stream.id & 0xFF  # FFmpeg's is the whole start code

    def covers(self, packet: Packet[Stream], /) -> bool:
        start = self._encrypted_from.get(self._wanted or 0)
        return start is not None and packet.pos is not None and packet.pos >= start

    def explains_failure(self) -> bool:
        return (
            bool(self._encrypted_from)
            if self._wanted is None
            else self._wanted in self._encrypted_from
        )

    def see(self, position: int, data: bytes) -> None:
        """`data` lies at `position`, right behind what was seen before."""
        position, data = position - len(self._rest), self._rest + data
        skipped = self._next - position
        if skipped < len(data):
            heads, self._next = picture_packets(data[skipped:], self._next)
            for head in heads:
                self._note(head)
        self._rest = data[max(0, self._next - position) :]

    def _note(self, head: Pes) -> None:
        self._packets[head.stream_id] += 1
        if head.is_scrambled and head.stream_id not in self._encrypted_from:
            places = self._scrambled.setdefault(head.stream_id, [])
            places.append(head.position)
            if len(places) >= max(LEAST, LEAST_PERCENT * self._packets[head.stream_id] / 100):
                self._encrypted_from[head.stream_id] = places[0]
