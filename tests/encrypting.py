"""Clear videos made encrypted by rewriting their boxes, elements and packets: what is protected
becomes noise.

A decoder without a key cannot tell noise from ciphertext, so no cipher is needed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import av
import numpy as np

from tests.trees import TS_PACKET_BYTES, Ebml, Mp4, Node, walk

KEY = {
    "encryption_key": "00112233445566778899aabbccddeeff",
    "encryption_kid": "0123456789abcdef0123456789abcdef",
}
#: `movflags` of a fragmented file whose fragments can be moved and grow.
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
KEY_ID = bytes(range(16))
PIFF_TRACK = bytes.fromhex("8974dbce7be74c5184f97148f9882554")
PIFF_SAMPLES = bytes.fromhex("a2394f525a9b4f14a2446c427c648df4")
ENTRIES = (b"avc1", b"hev1", b"vp09", b"av01")

#: By number of a picture in file order, whether it becomes noise.
Which = Callable[[int], bool]


def box(kind: bytes, *content: bytes) -> bytes:
    data = b"".join(content)
    return struct.pack(">I4s", 8 + len(data), kind) + data


def everything(number: int) -> bool:
    return True


def nothing(number: int) -> bool:
    return False


def noise(path: Path, data: bytes, which: Which) -> bytes:
    """`data`, what `path` held, with the bytes of these pictures replaced, but for the lengths
    before H.264's units.
    """
    changed, dice = bytearray(data), np.random.default_rng(8)
    with av.open(str(path)) as opened:
        stream = opened.streams.video[0]
        is_h264 = stream.codec_context.name == "h264"
        packets = [(packet.pos, packet.size) for packet in opened.demux(stream) if packet.size]
    for number, (position, size) in enumerate(packets):
        if which(number):
            at, stop = position, position + size
            while at < stop:
                length = int.from_bytes(data[at : at + 4], "big") if is_h264 else stop - at
                first = at + 5 if is_h264 else at
                at = at + 4 + length if is_h264 else stop
                changed[first:at] = dice.bytes(at - first)
    return bytes(changed)


# Boxes


def tenc(is_protected: int = 1, *, constant_iv: bool = False) -> bytes:
    iv = bytes([16]) + bytes(16) if constant_iv else b""
    return box(
        b"tenc",
        bytes([1, 0, 0, 0, 0, 0x19, is_protected, 0 if constant_iv else 8 * is_protected]),
        KEY_ID,
        iv,
    )


def sinf(scheme: bytes, schi: bytes) -> bytes:
    return box(
        b"sinf",
        box(b"frma", b"avc1"),
        box(b"schm", bytes(4), scheme, b"\0\1\0\0"),
        box(b"schi", schi),
    )


def piff_tenc(algorithm: int = 1) -> bytes:
    return box(b"uuid", PIFF_TRACK, bytes(4), algorithm.to_bytes(3, "big"), b"\x08", KEY_ID)


def piff_senc(algorithm: int) -> bytes:
    return box(
        b"uuid", PIFF_SAMPLES, b"\0\0\0\1", algorithm.to_bytes(3, "big"), b"\x08", KEY_ID, bytes(4)
    )


def seig(*protected: int, version: int = 1, default: int = 0) -> bytes:
    """The groups, each protected or not."""
    entries = b"".join(bytes([0, 0, one, 8 * one]) + KEY_ID for one in protected)
    length = struct.pack(">I", 20) if version >= 1 else b""
    length += struct.pack(">I", default) if version >= 2 else b""
    return box(
        b"sgpd",
        bytes([version, 0, 0, 0]),
        b"seig",
        length,
        struct.pack(">I", len(protected)),
        entries,
    )


def in_groups(*runs: tuple[int, int]) -> bytes:
    """So many samples each in which group."""
    return box(
        b"sbgp",
        bytes(4),
        b"seig",
        struct.pack(">I", len(runs)),
        *(struct.pack(">II", *run) for run in runs),
    )


def compact_groups(samples: int, pattern: list[int]) -> bytes:
    """The same as one pattern over all samples, 16-bit numbers throughout."""
    flags = 0b101010
    numbers = struct.pack(f">{2 + len(pattern)}H", len(pattern), samples, *pattern)
    return box(b"csgp", bytes([0, 0, 0, flags]), b"seig", struct.pack(">I", 1), numbers)


def senc(count: int = 0) -> bytes:
    return box(b"senc", bytes(4), struct.pack(">I", count), bytes(8 * count))


class Boxes:
    """An mp4 taken apart: parts are added, the whole is put together with offsets that fit."""

    def __init__(self, data: bytes) -> None:
        self._tree = Mp4().parse(data)
        self._before = len(data)

    def all(self, *kinds: bytes) -> Iterator[Node]:
        return (node for _, node in walk(self._tree) if node.kind in kinds)

    def add(self, kind: bytes, *parts: bytes) -> None:
        """Put parts into the first box of this kind."""
        node = next(self.all(kind))
        node.inside += [Node(b"", part) for part in parts]

    def describe(self, *parts: bytes, kind: bytes = b"encv") -> None:
        """Put parts into the sample entry, and rename it."""
        entry = next(self.all(*ENTRIES))
        entry.inside += [Node(b"", part) for part in parts]
        entry.kind = kind

    def describe_again(self, *parts: bytes) -> None:
        """A second sample description, of protected samples."""
        table = next(self.all(b"stsd"))
        (entry,) = table.inside
        table.head = table.head[:7] + b"\2"
        table.inside.append(
            Node(
                b"encv", entry.head, [*entry.inside, *(Node(b"", part) for part in parts)], width=4
            )
        )

    def add_to_fragments(self, make: Callable[[int], bytes]) -> None:
        """What `make` makes of a fragment's number goes into its `traf`."""
        for number, moof in enumerate(list(self.all(b"moof"))):
            added = make(number)
            for _, node in walk(moof.inside):
                if node.kind == b"traf":
                    node.inside.append(Node(b"", added))
                if (
                    node.kind == b"trun"
                ):  # flags, samples, where their bytes are, from the start of the `moof`
                    offset = int.from_bytes(node.head[8:12], "big") + len(added)
                    node.head = node.head[:8] + struct.pack(">I", offset) + node.head[12:]

    def name_description(self, which: Callable[[int], int]) -> None:
        """Write into each fragment which sample description its samples have."""
        for number, header in enumerate(self.all(b"tfhd")):
            flags = int.from_bytes(header.head[1:4], "big")
            assert not flags & 3
            header.head = (
                struct.pack(">II", flags | 2, int.from_bytes(header.head[4:8], "big"))
                + struct.pack(">I", which(number))
                + header.head[8:]
            )
        for moof in self.all(b"moof"):
            for _, node in walk(moof.inside):
                if node.kind == b"trun":
                    offset = int.from_bytes(node.head[8:12], "big") + 4
                    node.head = node.head[:8] + struct.pack(">I", offset) + node.head[12:]

    def packed(self) -> bytes:
        """Its index lies behind the pictures, or is that of fragments: nothing but what is done
        above has to move.
        """
        return Mp4().pack(self._tree)


# mkv and webm


def element(name: int, *content: bytes) -> bytes:
    data = b"".join(content)
    return (
        name.to_bytes((name.bit_length() + 7) // 8, "big")
        + (1 << 56 | len(data)).to_bytes(8, "big")
        + data
    )


def encodings(*, kind: int = 1, algorithm: int | None = 5, per_frame: bool = False) -> bytes:
    settings = element(0x47E7, element(0x47E8, b"\1")) if per_frame else b""
    inner = (
        (element(0x47E1, bytes([algorithm])) if algorithm is not None else b"")
        + element(0x47E2, KEY_ID)
        + settings
    )
    return element(0x6D80, element(0x6240, element(0x5033, bytes([kind])), element(0x5035, inner)))


def into_track(data: bytes, part: bytes) -> bytes:
    """Put a part into the first track."""
    tree = Ebml().parse(data)
    track = next(node for _, node in walk(tree) if node.kind == b"\xae")
    track.inside.append(Node(b"", part))
    return Ebml().pack(tree)


def with_signal_bytes(source: Path, path: Path, which: Which) -> None:
    """Copy a webm with the byte before each frame that says whether it is encrypted."""
    with av.open(str(source)) as original, av.open(path, "w") as copy:
        video = original.streams.video[0]
        stream = copy.add_stream_from_template(video)
        for number, packet in enumerate(original.demux(video)):
            if packet.size:
                data = bytes(packet)
                framed = av.Packet(b"\1" + bytes(8) + data[::-1] if which(number) else b"\0" + data)
                framed.pts, framed.dts, framed.time_base = packet.pts, packet.dts, packet.time_base
                framed.is_keyframe, framed.stream = packet.is_keyframe, stream
                copy.mux(framed)
    path.write_bytes(into_track(path.read_bytes(), encodings(per_frame=True)))


# Streams of packets


def scrambled_ts(data: bytes, which: Which, pid: int = 0x100) -> bytes:
    """Scramble the payload of these packets of a stream, counted among its own."""
    changed, dice, number = bytearray(data), np.random.default_rng(8), 0
    for at in range(0, len(data), TS_PACKET_BYTES):
        if int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF == pid and data[at + 3] & 0x10:
            if which(number):
                first = at + 5 + data[at + 4] if data[at + 3] & 0x20 else at + 4
                changed[at + 3] |= 0x80
                changed[first : at + TS_PACKET_BYTES] = dice.bytes(at + TS_PACKET_BYTES - first)
            number += 1
    return bytes(changed)


def sample_aes(data: bytes) -> bytes:
    """Give the stream of H.264 the type of SAMPLE-AES, and its program table a checksum that
    fits.
    """
    changed = bytearray(data)
    for at in range(0, len(data), TS_PACKET_BYTES):
        start = at + 5 + data[at + 4]
        if data[at + 1] & 0x40 and data[start] == 2:
            stop = start + 3 + (int.from_bytes(data[start + 1 : start + 3], "big") & 0xFFF) - 4
            place = data.index(b"\x1b\xe1\x00", start, stop)
            changed[place] = 0xDB
            changed[stop : stop + 4] = struct.pack(">I", _checksum(changed[start:stop]))
    return bytes(changed)


def _checksum(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value


def scrambled_ps(data: bytes, which: Which) -> bytes:
    """Scramble these packets of pictures of a program stream, counted among their own."""
    changed, dice, number, at = bytearray(data), np.random.default_rng(8), 0, 0
    while (at := data.find(b"\0\0\1", at)) >= 0 and at + 9 < len(data):
        if data[at + 3] == 0xBA:
            at += 14 + (data[at + 13] & 7)
            continue
        stop = at + 6 + int.from_bytes(data[at + 4 : at + 6], "big")
        if data[at + 3] == 0xE0:
            if which(number):
                first = at + 9 + data[at + 8]
                changed[at + 6] |= 0x10
                changed[first:stop] = dice.bytes(stop - first)
            number += 1
        at = stop
    return bytes(changed)


def protected_wmv(data: bytes) -> bytes:
    """Set the flag of encrypted content on the stream of pictures; no player looks further."""
    stream = UUID("b7dc0791-a9b7-11cf-8ee6-00c00c205365").bytes_le
    at = data.index(stream) + 24 + 48
    (flags,) = struct.unpack_from("<H", data, at)
    return data[:at] + struct.pack("<H", flags | 0x8000) + data[at + 2 :]
