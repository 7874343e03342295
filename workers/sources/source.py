"""What every open source is."""

from __future__ import annotations

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
