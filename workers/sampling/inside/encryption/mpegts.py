"""Which pictures of an mpegts are encrypted: by the scrambling bits of its packets, or by the type
of the stream.

Sources: ISO/IEC 13818-1, 2.4.3.2 (packets), 2.4.4 (program tables); Apple's "MPEG-2 Stream
Encryption Format for HTTP Live Streaming", 2.1 (stream type 0xdb, the descriptor `zavc`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from workers.sampling.inside.boxes import ByteFile
from workers.sampling.inside.encryption.base import Encryption, WatchedFile

SYNC = 0x47
#: Bare, with a time before each (m2ts), with a checksum behind each.
PACKET_BYTES = (188, 192, 204)
#: So many packets of a stream in a row are scrambled, or all there are: a flipped bit is no
#: scrambling.
RUN = 8
_PICTURE_TYPES = (0x01, 0x02, 0x10, 0x1B, 0x20, 0x24, 0x33, 0x42, 0xD1, 0xEA)
_SAMPLE_AES = 0xDB
_PRIVATE_DATA_INDICATOR = 0x0F
#: Packet ids have 13 bits.
_NUMBERS = 1 << 13
#: More streams than this are damage.
_MOST_STREAMS = 64


def layout(head: bytes) -> tuple[int, int] | None:
    """Where the first packet begins and how far its successor is behind it; None: this is no
    mpegts.
    """
    for size in PACKET_BYTES:
        for first in range(min(size, max(0, len(head) - 4 * size))):
            if all(head[first + number * size] == SYNC for number in range(5)):
                return first, size
    return None


def program(section: bytes) -> Iterator[int]:
    """The packet ids of the tables of programs that a program association section lists."""
    for at in range(8, min(len(section), 3 + _length(section)) - 4, 4):
        if section[at : at + 2] != b"\0\0":
            yield _id(section, at + 2)


def streams(section: bytes) -> Iterator[tuple[int, int, bool]]:
    """Packet id and type of each stream in a program map section, and whether it says that its
    pictures are encrypted.
    """
    at = 12 + _length(section, 10)
    while at + 5 <= min(len(section), 3 + _length(section) - 4):
        kind, stop = section[at], at + 5 + _length(section, at + 3)
        descriptors, is_encrypted = section[at + 5 : stop], kind == _SAMPLE_AES
        while len(descriptors) >= 2:
            content, descriptors_left = (
                descriptors[2 : 2 + descriptors[1]],
                descriptors[2 + descriptors[1] :],
            )
            is_encrypted |= descriptors[0] == _PRIVATE_DATA_INDICATOR and content[:4] == b"zavc"
            descriptors = descriptors_left
        yield _id(section, at + 1), kind, is_encrypted
        at = stop


def _section(packet: bytes) -> bytes:
    """What of a section lies in the packet that it begins in: all of it, unless a program has
    dozens of streams.
    """
    start = 5 + packet[4] if packet[3] & 0x20 else 4
    return packet[start + 1 + packet[start] :] if start < len(packet) else b""


def _id(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big") & 0x1FFF


def _length(data: bytes, at: int = 1) -> int:
    return int.from_bytes(data[at : at + 2], "big") & 0xFFF


class TsEncryption(Encryption):
    """Looks at the headers of all packets that are read, and at the tables among them."""

    def __init__(self, file: ByteFile, head: bytes) -> None:
        super().__init__(WatchedFile(file, self.see))
        self._first, self._step = layout(head) or (0, PACKET_BYTES[0])
        # lookup tables, not `np.isin` and `np.unique`: these import more when no file can be opened
        # any more
        self._is_table = np.zeros(_NUMBERS, bool)
        self._pictures: set[int] = set()
        #: by packet id: where its pictures begin to be encrypted
        self._encrypted_from: dict[int, int] = {}
        self._runs: dict[
            int, tuple[int, int]
        ] = {}  # by packet id: scrambled packets in a row, where they begin
        self._clear: set[int] = set()  # packet ids that had a clear packet
        self._wanted: int | None = None
        self._rest = b""

    def begin(self, stream: VideoStream, /) -> None:
        self._wanted = stream.id

    def covers(self, packet: Packet[Stream], /) -> bool:
        start = self._encrypted_from.get(self._wanted or 0)
        return start is not None and packet.pos is not None and packet.pos >= start

    def explains_failure(self) -> bool:
        wanted = self._pictures if self._wanted is None else {self._wanted}
        return any(
            number in self._encrypted_from or (number in self._runs and number not in self._clear)
            for number in wanted
        )

    def see(self, position: int, data: bytes) -> None:
        """`data` lies at `position`, right behind what was seen before."""
        position, data = position - len(self._rest), self._rest + data
        begin = (self._first - position) % self._step
        whole = max(0, len(data) - begin) // self._step
        self._rest = data[begin + whole * self._step :]
        if not whole:
            return
        packets = np.frombuffer(data, np.uint8, whole * self._step, begin).reshape(
            whole, self._step
        )[:, :188]
        places = position + begin + self._step * np.arange(whole)
        in_step = packets[:, 0] == SYNC
        packets, places = packets[in_step], places[in_step]
        numbers = (packets[:, 1].astype(np.int32) & 0x1F) << 8 | packets[:, 2]
        self._see_tables(packets, numbers, places)
        carries = (packets[:, 3] & 0x10) != 0
        self._see_scrambling(numbers[carries], packets[carries, 3] >= 0x80, places[carries])

    def _see_tables(self, packets: np.ndarray, numbers: np.ndarray, places: np.ndarray) -> None:
        begins = (packets[:, 1] & 0x40) != 0
        for of_tables in (True, False):  # the table of tables first
            wanted = numbers == 0 if of_tables else self._is_table[numbers]
            for at in np.flatnonzero(begins & wanted).tolist():
                section = _section(packets[at].tobytes())
                if of_tables and section[:1] == b"\0":
                    self._is_table[list(islice(program(section), _MOST_STREAMS))] = True
                elif not of_tables and section[:1] == b"\2":
                    self._note_streams(section, int(places[at]))

    def _note_streams(self, section: bytes, place: int) -> None:
        for number, kind, is_encrypted in streams(section):
            if len(self._pictures) < _MOST_STREAMS and (is_encrypted or kind in _PICTURE_TYPES):
                self._pictures.add(number)
            if is_encrypted:
                self._encrypted_from.setdefault(number, place)

    def _see_scrambling(
        self, numbers: np.ndarray, scrambled: np.ndarray, places: np.ndarray
    ) -> None:
        if not scrambled.any():
            for number in set(numbers.tolist()):
                self._runs.pop(number, None)
                self._clear.add(number)
            return
        for number, is_scrambled, place in zip(
            numbers.tolist(), scrambled.tolist(), places.tolist(), strict=True
        ):
            if not is_scrambled:
                self._runs.pop(number, None)
                self._clear.add(number)
                continue
            count, start = self._runs.get(number, (0, place))
            self._runs[number] = count + 1, start
            if count + 1 >= RUN:
                self._encrypted_from.setdefault(number, start)
