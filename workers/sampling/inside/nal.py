"""What a packet of H.264 or HEVC says in the clear: where decoding can start anew, and the
picture's temporal layer.

The container's key frame flag does not say it: it also marks pictures of a gradual refresh, which
need those before. Sources: ITU-T H.264 table 7-1, H.265 table 7-1, ISO/IEC 14496-15 (avcC, hvcC).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from av.packet import Packet
from av.stream import Stream

from workers.sampling.inside.bits import BitReader

_H264_SLICES = range(1, 6)
_H264_IDR = 5
_H264_INTRA = (2, 7)  # slice_type; as 7, of all slices of the picture
_HEVC_SLICES = range(32)
_HEVC_RANDOM_ACCESS = range(16, 22)  # BLA, IDR, CRA
_HEVC_WITHOUT_LEADING = (18, 20)  # BLA and IDR, each without leading pictures
_START_CODE = b"\0\0\1"
#: Holds the two numbers that a slice begins with.
_SLICE_HEAD_BYTES = 10


class Slice(NamedTuple):
    """The first slice of a picture. `is_closed`: it starts anew, and what follows in the file is
    shown later.
    """

    starts_anew: bool
    is_closed: bool
    temporal_layer: int


class NalReader:
    """Reads slice headers of one stream; `extradata` is its configuration record, none for byte
    streams (mpegts).
    """

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._hevc = codec == "hevc"
        record, offset = extradata or b"", 21 if self._hevc else 4
        #: bytes of the length before each unit; 0: units follow start codes
        self._length_bytes = (
            (record[offset] & 3) + 1 if len(record) > offset and record[0] == 1 else 0
        )

    def first_slice(self, packet: Packet[Stream]) -> Slice | None:
        """None if the packet holds no slice (parameter sets alone, damage)."""
        data = memoryview(packet)
        for start in self._units(data):
            if self._hevc:
                kind = data[start] >> 1 & 0x3F
                if kind in _HEVC_SLICES and start + 1 < len(data):
                    return Slice(
                        kind in _HEVC_RANDOM_ACCESS,
                        kind in _HEVC_WITHOUT_LEADING,
                        (data[start + 1] & 7) - 1,
                    )
            elif data[start] & 0x1F in _H264_SLICES:
                is_idr = data[start] & 0x1F == _H264_IDR
                return Slice(is_idr, is_idr, 0)
        return None

    def is_intra(self, packet: Packet[Stream]) -> bool:
        """Whether an H.264 picture is made of intra slices alone, so that it refers to no other."""
        data = memoryview(packet)
        kinds = {
            _h264_slice_type(data[start + 1 : start + 1 + _SLICE_HEAD_BYTES])
            for start in self._units(data)
            if not self._hevc and data[start] & 0x1F in _H264_SLICES
        }
        return bool(kinds) and kinds.issubset(_H264_INTRA)

    def _units(self, data: memoryview) -> Iterator[int]:
        """Where each unit's first byte is."""
        if self._length_bytes:
            start = self._length_bytes
            while start < len(data):
                yield start
                start += (
                    int.from_bytes(data[start - self._length_bytes : start], "big")
                    + self._length_bytes
                )
            return
        stream = data.tobytes()
        start = stream.find(_START_CODE)
        while start != -1 and start + len(_START_CODE) < len(stream):
            yield start + len(_START_CODE)
            start = stream.find(_START_CODE, start + len(_START_CODE))


def _h264_slice_type(head: memoryview) -> int | None:
    """The second number of a slice; the first is where in the picture it begins. None: damage."""
    bits = BitReader(head)
    try:
        _exp_golomb(bits)
        return _exp_golomb(bits)
    except EOFError:
        return None


def _exp_golomb(bits: BitReader) -> int:
    """ue(v) of ITU-T H.264, 9.1."""
    zeros = 0
    while not bits.take(1):
        zeros += 1
    return (1 << zeros) - 1 + bits.take(zeros)
