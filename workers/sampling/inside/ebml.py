"""The elements that a mkv or webm consists of. Source: RFC 8794, 4 to 6 (EBML)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

#: What every mkv and webm begins with.
EBML = b"\x1a\x45\xdf\xa3"
SEGMENT = 0x18538067
#: As long as an id and a size can be.
HEAD_BYTES = 12
#: Elements of one parent that are looked at.
MOST_ELEMENTS = 256


class Head(NamedTuple):
    """Id and size of an element, and the bytes that these two take. A size of None is not known."""

    name: int
    size: int | None
    bytes: int


def head(data: bytes) -> Head | None:
    """Of the element that `data` begins with; None for what is none."""
    if not data or not data[0]:
        return None
    id_bytes = 9 - data[0].bit_length()
    if id_bytes > 4 or len(data) <= id_bytes or not data[id_bytes]:
        return None
    size_bytes = 9 - data[id_bytes].bit_length()
    unknown = (1 << 7 * size_bytes) - 1
    size = int.from_bytes(data[id_bytes : id_bytes + size_bytes], "big") & unknown
    return Head(
        int.from_bytes(data[:id_bytes], "big"),
        None if size == unknown else size,
        id_bytes + size_bytes,
    )


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Id and content of each element."""
    at = 0
    for _ in range(MOST_ELEMENTS):
        found = head(data[at : at + HEAD_BYTES])
        if found is None:
            return
        at += found.bytes
        end = len(data) if found.size is None else at + found.size
        yield found.name, data[at:end]
        at = end
