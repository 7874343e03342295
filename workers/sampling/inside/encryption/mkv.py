"""Which pictures of a mkv or webm are encrypted: by the encodings of its tracks, and in webm frame
by frame.

Sources: RFC 9559, 5.1.4.1.31 (ContentEncodings); the WebM project's "WebM Encryption" (signal
byte).
"""

from __future__ import annotations

import os
from enum import Enum

from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from workers.sampling.inside.boxes import ByteFile, read_at
from workers.sampling.inside.ebml import HEAD_BYTES, MOST_ELEMENTS, SEGMENT, elements, head
from workers.sampling.inside.encryption.base import Encryption

_TRACKS, _CLUSTER = 0x1654AE6B, 0x1F43B675
_TRACK, _TRACK_TYPE, _PICTURES = 0xAE, 0x83, 1
_ENCODINGS, _ENCODING, _ENCODING_TYPE, _IS_ENCRYPTION = 0x6D80, 0x6240, 0x5033, 1
_ENCRYPTION, _ALGORITHM, _AES_SETTINGS, _CIPHER_MODE, _CTR = 0x5035, 0x47E1, 0x47E7, 0x47E8, 1
#: Bytes of the tracks that are read.
_MOST_BYTES = 1 << 20


class Kind(Enum):
    """What a track says of its frames."""

    CLEAR = 0
    ENCRYPTED = 1
    #: a byte before each frame says whether it is
    PER_FRAME = 2


def picture_tracks(tracks: bytes) -> list[Kind]:
    """What each track of pictures says, in the file's order."""
    entries = [list(elements(content)) for name, content in elements(tracks) if name == _TRACK]
    return [_kind(entry) for entry in entries if _number(entry, _TRACK_TYPE) == _PICTURES]


def _kind(track: list[tuple[int, bytes]]) -> Kind:
    encodings = [one for name, content in track if name == _ENCODINGS for one in elements(content)]
    for name, content in encodings:
        encoding = list(elements(content)) if name == _ENCODING else []
        if _number(encoding, _ENCODING_TYPE) != _IS_ENCRYPTION:
            continue
        encryption = [
            one for inner, data in encoding if inner == _ENCRYPTION for one in elements(data)
        ]
        if _number(encryption, _ALGORITHM) == 0:  # signed only
            continue
        settings = [
            one for inner, data in encryption if inner == _AES_SETTINGS for one in elements(data)
        ]
        return Kind.PER_FRAME if _number(settings, _CIPHER_MODE) == _CTR else Kind.ENCRYPTED
    return Kind.CLEAR


def _number(content: list[tuple[int, bytes]], name: int) -> int | None:
    return next((int.from_bytes(data[:8], "big") for known, data in content if known == name), None)


class MkvEncryption(Encryption):
    """Of the track that `begin` names by its place among those of pictures."""

    def __init__(self, file: ByteFile) -> None:
        super().__init__(file)
        self._kinds = picture_tracks(_tracks(file))
        self._place = 0

    def begin(self, stream: VideoStream, /) -> None:
        self._place = stream.container.streams.video.index(stream)

    def covers(self, packet: Packet[Stream], /) -> bool:
        kind = self._kind()
        return kind is Kind.ENCRYPTED or (
            kind is Kind.PER_FRAME and bool(memoryview(packet)[0] & 1)
        )

    def unwrapped(self, packet: Packet[Stream], /) -> Packet[Stream]:
        """A clear packet without the byte that says so."""
        if self._kind() is not Kind.PER_FRAME or packet.size < 2:
            return packet
        bare: Packet[Stream] = Packet(bytes(memoryview(packet)[1:]))
        bare.pts, bare.dts, bare.time_base, bare.duration = (
            packet.pts,
            packet.dts,
            packet.time_base,
            packet.duration,
        )
        bare.is_keyframe = packet.is_keyframe
        return bare

    def explains_failure(self) -> bool:
        return self._kind() is Kind.ENCRYPTED

    def _kind(self) -> Kind:
        return self._kinds[self._place] if self._place < len(self._kinds) else Kind.CLEAR


def _tracks(file: ByteFile) -> bytes:
    """The content of the element that describes the tracks; it lies before the first cluster."""
    position, end = 0, file.seek(0, os.SEEK_END)
    for _ in range(MOST_ELEMENTS):
        found = head(read_at(file, position, HEAD_BYTES))
        if found is None or position >= end or found.name == _CLUSTER:
            return b""
        position += found.bytes
        if found.name == _TRACKS:
            return read_at(file, position, min(found.size or _MOST_BYTES, _MOST_BYTES))
        if found.name != SEGMENT:
            position += end if found.size is None else found.size
    return b""
