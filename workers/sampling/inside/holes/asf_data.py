"""Where the packets of an asf or wmv lie.

Source: Microsoft's Advanced Systems Format specification 1.2, 3.1, 3.2 and 5.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from workers.sampling.inside.boxes import ByteFile, read_at

#: What a packet begins with: the length of its error correction data, and these.
MARK = b"\x82\0\0"
_FILE = UUID("8cabdca1-a947-11cf-8ee4-00c00c205365").bytes_le
_DATA = UUID("75b22636-668e-11cf-a6d9-00aa0062ce6c").bytes_le
_OBJECT_BYTES, _HEADER_BYTES, _DATA_BYTES = 24, 30, 50
_MOST_BYTES = 1 << 20
_MOST_PACKET_BYTES = 1 << 16
_IS_LIVE = 1


class AsfData(NamedTuple):
    """In bytes: where the first packet begins, where the last one is to end (None: the file does
    not say, as in a live recording), and the size of each.
    """

    start: int
    stop: int | None
    packet_bytes: int


def asf_data(file: ByteFile) -> AsfData | None:
    """None if packets differ in size, are huge or begin otherwise, or the header is damaged."""
    header_bytes = int.from_bytes(read_at(file, 16, 8), "little")
    if header_bytes > _MOST_BYTES:
        return None
    header = read_at(file, 0, header_bytes)
    facts = header[header.find(_FILE, _HEADER_BYTES) :][_OBJECT_BYTES : _OBJECT_BYTES + 80]
    data = read_at(file, header_bytes, _DATA_BYTES + len(MARK))
    if _FILE not in header or not data.startswith(_DATA) or not data.endswith(MARK):
        return None
    flags, least, most = (int.from_bytes(facts[at : at + 4], "little") for at in (64, 68, 72))
    if not len(MARK) < least == most <= _MOST_PACKET_BYTES:
        return None
    # both tell where packets end: one alone may be wrong
    data_bytes, file_bytes = (
        int.from_bytes(size, "little") for size in (data[16:24], facts[16:24])
    )
    is_stated = data_bytes > _DATA_BYTES and file_bytes and not flags & _IS_LIVE
    stop = min(header_bytes + data_bytes, file_bytes) if is_stated else None
    return AsfData(header_bytes + _DATA_BYTES, stop, least)
