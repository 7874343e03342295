"""The frame store: objects named by the digest of their bytes, in a bucket or in a folder that all
nodes see.

An object is there whole or not at all, and what is read is compared with its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from blake3 import blake3

from db.errors import PackError, VideoError

#: The stage of every `VideoError` that the store raises; its code is store_unavailable.
STAGE = "store"
#: How many objects a process deletes at the same time, beside those it reads and writes.
AT_ONCE = 16
#: No object is larger: 96 frames as they are have 14.45 MB.
MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class Stored:
    """One object of the store, or what is left of one whose writing was broken off. `name`: the
    digest of a whole one. `age_seconds`: since it was written; 0 where the store does not say.
    """

    name: str
    size_bytes: int
    age_seconds: float


class FrameStore(Protocol):
    """Thread-safe. Every function raises `VideoError` (store_unavailable) where the store does not
    answer, refuses or is full: no video is to blame for that.
    """

    def put(self, digest: str, data: bytes) -> None:
        """Write an object, whole or not at all; writing it again changes nothing."""
        ...

    def get(self, digest: str) -> bytes:
        """Raises `PackError`, too: pack_missing, pack_damaged for bytes that do not have this
        digest.
        """
        ...

    def delete(self, name: str) -> None:
        """Afterwards there is nothing of this name; there need not have been."""
        ...

    def list(self) -> Iterator[Stored]:
        """Everything of ours that the store holds, and nothing else that lies there."""
        ...

    def close(self) -> None: ...


def digest(data: bytes) -> str:
    """The name of an object: the BLAKE3 of all its bytes, 64 hexadecimal digits."""
    return blake3(data).hexdigest()


def missing(name: str, where: str) -> PackError:
    return PackError("pack_missing", f"the frame store {where} has no object {name}")


def unavailable(why: str) -> VideoError:
    return VideoError("store_unavailable", f"the frame store (REELVEC_FRAMES): {why}", stage=STAGE)


def verified(name: str, data: bytes) -> bytes:
    """`data`, if it is what was written. Raises `PackError` (pack_damaged)."""
    if len(data) > MAX_BYTES or digest(data) != name:
        raise PackError(
            "pack_damaged",
            f"the object {name} of the frame store holds {len(data)} other bytes than were written",
        )
    return data
