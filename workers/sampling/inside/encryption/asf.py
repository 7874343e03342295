"""Whether a wmv or asf is encrypted: its header holds an object with keys, or the stream of
pictures says so.

Source: Microsoft's Advanced Systems Format specification 1.2, 3.1, 3.3 (flags), 3.14 to 3.16.
"""

from __future__ import annotations

from uuid import UUID

from workers.sampling.inside.boxes import ByteFile, read_at
from workers.sampling.inside.encryption.base import Encryption

HEADER = UUID("75b22630-668e-11cf-a6d9-00aa0062ce6c").bytes_le
_STREAM = UUID("b7dc0791-a9b7-11cf-8ee6-00c00c205365").bytes_le
_PICTURES = UUID("bc19efc0-5b4d-11cf-a8fd-00805f5c442b").bytes_le
_KEYS = (
    UUID("2211b3fb-bd23-11d2-b4b7-00a0c955fc6e").bytes_le,
    UUID("298ae614-2622-4c17-b935-dae07ee9289c").bytes_le,
)
_ENCRYPTED_FLAG = 0x8000
_MOST_BYTES = 1 << 20
_MOST_OBJECTS = 256


def is_encrypted(header: bytes) -> bool:
    """`header`: the file's first object."""
    at = 30
    for _ in range(_MOST_OBJECTS):
        name, size = header[at : at + 16], int.from_bytes(header[at + 16 : at + 24], "little")
        content = header[at + 24 : at + size]
        if name in _KEYS:
            return True
        flags = int.from_bytes(content[48:50], "little")
        if name == _STREAM and content[:16] == _PICTURES and flags & _ENCRYPTED_FLAG:
            return True
        if size < 24:
            return False
        at += size
    return False


class AsfEncryption(Encryption):
    """All of the file or nothing of it."""

    def __init__(self, file: ByteFile) -> None:
        super().__init__(file)
        size = int.from_bytes(read_at(file, 16, 8), "little")
        self._is_encrypted = is_encrypted(read_at(file, 0, min(size, _MOST_BYTES)))

    def covers(self, _packet: object, /) -> bool:
        return self._is_encrypted

    def explains_failure(self) -> bool:
        return self._is_encrypted
