"""Whether what has to be decoded of a file is encrypted: what each container says, read beside
FFmpeg.
"""

from __future__ import annotations

from workers.sampling.inside.boxes import ByteFile, movie, read_at
from workers.sampling.inside.ebml import EBML
from workers.sampling.inside.encryption import asf, mkv, mpegps, mpegts
from workers.sampling.inside.encryption.base import Encryption
from workers.sampling.inside.encryption.mp4 import Mp4Encryption

_HEAD_BYTES = 2048


def encryption_of(file: ByteFile) -> Encryption:
    """The reader for this file's container, by its first bytes."""
    head = read_at(file, 0, _HEAD_BYTES)
    if head.startswith(EBML):
        return mkv.MkvEncryption(file)
    if head.startswith(asf.HEADER):
        return asf.AsfEncryption(file)
    if head.startswith(mpegps.PACK):
        return mpegps.PsEncryption(file)
    if mpegts.layout(head):
        return mpegts.TsEncryption(file, head)
    return Mp4Encryption(file) if movie(file) else Encryption(file)


__all__ = ["Encryption", "encryption_of"]
