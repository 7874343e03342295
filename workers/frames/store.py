"""The frame store: objects named by the digest of their bytes, in a bucket or in a folder that all
nodes see.

An object is there whole or not at all, and what is read is compared with its name.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from workers.settings import WorkerSettings

#: The stage of every error that the store raises as a `VideoError`.
STAGE = "store"


@dataclass(frozen=True)
class Stored:
    """One object of the store. `age_seconds`: since it was written, by the store's clock."""

    digest: str
    size_bytes: int
    age_seconds: float


class FrameStore(Protocol):
    """Thread-safe. Every function raises `VideoError` (stage `store`) with a code of class infra or
    transient where the store does not answer, refuses, or is full: no video is to blame for it.
    """

    def put(self, digest: str, data: bytes) -> None:
        """Write an object, whole or not at all; writing it again changes nothing."""
        ...

    def get(self, digest: str) -> bytes:
        """Raises `PackError`, too: pack_missing, pack_damaged for bytes that do not have this
        digest.
        """
        ...

    def delete(self, digest: str) -> None:
        """Afterwards there is no such object, nor a part of one; it need not have been there."""
        ...

    def list(self) -> Iterator[Stored]:
        """All objects, and what is left of those whose writing was broken off."""
        ...

    def close(self) -> None: ...


def open_store(
    settings: WorkerSettings, *, stop: threading.Event | None = None
) -> FrameStore | None:
    """The store that `REELVEC_FRAMES` names; None: it names none. Once `stop` is set nothing is
    tried again.

    Raises `UsageError` for what is neither a bucket nor an absolute folder,
    `RefusedConfigurationError` for half a pair of keys.
    """
    raise NotImplementedError
