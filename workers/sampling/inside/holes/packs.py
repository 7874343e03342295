"""The packets of an MPEG program stream, each with its length, and the heads of its packs.

Sources: ISO/IEC 13818-1, 2.5.3 and 2.4.3.6; ISO/IEC 11172-1, 2.4.3 (MPEG-1).
"""

from __future__ import annotations

import re

from workers.sampling.inside.holes.stretch import Stretch

#: A start code of the system layer; lower ones are those of the pictures within packets.
_START = re.compile(rb"\x00\x00\x01[\xb9-\xff]")
_START_BYTES = 4
_END, _PACK = 0xB9, 0xBA
#: What is looked at of a packet.
_HEAD_BYTES = 14


class Packs(Stretch):
    """Padding packets are packets like others."""

    def _walk(self, data: bytes, position: int, at: int) -> int:
        while at + _HEAD_BYTES <= len(data):
            if _START.match(data, at):
                size_bytes = _size(data, at)
                self._keep(position + at, position + at + size_bytes)
                at += size_bytes
            else:
                self._lose(position + at)
                found = _START.search(data, at)
                at = found.start() if found else len(data) - _START_BYTES + 1
        return at


def _size(data: bytes, at: int) -> int:
    """Bytes of the packet, or the head of a pack, that begins there."""
    code = data[at + 3]
    if code == _END:
        return _START_BYTES
    if code == _PACK:
        is_mpeg2 = data[at + 4] & 0xC0 == 0x40
        return 14 + (data[at + 13] & 7) if is_mpeg2 else 12
    return 6 + int.from_bytes(data[at + 4 : at + 6], "big")
