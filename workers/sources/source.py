"""What every open source is, and every store that opens some."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, Self

#: The stage of every error that reading a source raises.
STAGE = "fetch"
#: No store holds so large an object; a sampler counts blocks of 1 MiB in 31 bits.
MAX_BYTES = 1 << 50


class ByteSource(Protocol):
    """An open source. `etag` names the version of the bytes; a change between two reads is
    `source_changed`.

    `open_seconds`: what opening it took, which for an object or address includes its first block.
    """

    size_bytes: int
    open_seconds: float

    @property
    def etag(self) -> str | None: ...

    def read(self, offset: int, length: int) -> bytes:
        """Bytes `[offset, offset + length)`, cut at the end of the source. Raises `VideoError`
        (stage fetch).
        """
        ...

    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


@dataclass(frozen=True)
class Listed:
    """One object of a bucket. None: the service did not say. `etag` without quotes."""

    key: str
    size_bytes: int | None
    etag: str | None
    modified_at: datetime | None = None


class Store(Protocol):
    """Opens the uris of one kind. Thread-safe."""

    def open(self, uri: str) -> ByteSource:
        """Raises `VideoError` (stage fetch)."""
        ...

    def close(self) -> None: ...


class BucketStore(Store, Protocol):
    """The store of a scheme that names keys."""

    def list(self, folder: str) -> Iterator[Listed]:
        """The objects whose uri begins with `folder`. Raises `VideoError`, while it is read."""
        ...

    def upload(self, path: Path, uri: str) -> None:
        """A file into an object. Raises `VideoError`."""
        ...
