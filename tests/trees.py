"""Video files as trees of named parts: mp4 boxes, EBML elements (mkv, webm), RIFF chunks (avi),
packets of mpegts.

`pack(parse(data))` is `data` again, whatever `data` is, so a file differs from another only by what
was done to its tree.

Sources: ISO/IEC 14496-12, 4.2; RFC 8794, 4 to 6 and RFC 9559, 5; Microsoft's AVI RIFF file
reference; ISO/IEC 13818-1, 2.4.3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

#: Deeper than any real file, and little enough for recursion.
MAX_DEPTH = 12
TS_PACKET_BYTES = 188


@dataclass
class Node:
    """A part of a file: `head`, then the parts within. `kind` is empty for bytes that are no
    part.
    """

    kind: bytes
    head: bytes = b""
    inside: list[Node] = field(default_factory=list)
    #: bytes that the size takes; 0: it has none
    width: int = 0
    #: what the size says where that is not the truth
    claimed: int | None = None


class Format(ABC):
    """How a kind of file is taken apart and put together."""

    @abstractmethod
    def parse(self, data: bytes, depth: int = 0) -> list[Node]: ...

    @abstractmethod
    def framed(self, node: Node, content: bytes) -> bytes:
        """A part with its kind and size around its content."""

    def pack(self, nodes: Iterable[Node]) -> bytes:
        return b"".join(self._packed(node) for node in nodes)

    def _packed(self, node: Node) -> bytes:
        content = node.head + self.pack(node.inside)
        return self.framed(node, content) if node.kind else content


def format_of(data: bytes) -> Format | None:
    """By the first bytes; None for what is none of the four."""
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide"):
        return Mp4()
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return Ebml()
    if data[:4] == b"RIFF":
        return Riff()
    return (
        Ts() if data[:1] == b"G" and data[TS_PACKET_BYTES : TS_PACKET_BYTES + 1] == b"G" else None
    )


def walk(nodes: list[Node]) -> Iterator[tuple[list[Node], Node]]:
    """Each part with the list it is in, outer ones first; bytes that are no part are left out."""
    for node in nodes:
        if node.kind:
            yield nodes, node
        yield from walk(node.inside)


class Mp4(Format):
    """Boxes: 32-bit size, kind; size 1: a 64-bit one follows; size 0: to the end of the file."""

    #: kinds that hold boxes, and the bytes before those
    HOLDING: ClassVar = {
        **dict.fromkeys(
            (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts", b"udta"), 0
        ),
        **dict.fromkeys((b"mvex", b"moof", b"traf", b"mfra"), 0),
        **{b"stsd": 8, b"dref": 8, b"meta": 4},
        **dict.fromkeys(
            (b"avc1", b"hev1", b"hvc1", b"av01", b"vp09", b"vp08", b"mp4v", b"apch", b"jpeg"), 78
        ),
        b"mp4a": 28,
    }

    def parse(self, data: bytes, depth: int = 0) -> list[Node]:
        nodes, at = [], 0
        while at + 8 <= len(data):
            size, kind, header, width = (
                int.from_bytes(data[at : at + 4], "big"),
                data[at + 4 : at + 8],
                8,
                4,
            )
            if size == 1:
                size, header, width = int.from_bytes(data[at + 8 : at + 16], "big"), 16, 8
            if not header <= size <= len(data) - at:
                break
            content = data[at + header : at + size]
            first = self.HOLDING.get(kind, len(content)) if depth < MAX_DEPTH else len(content)
            nodes.append(
                Node(kind, content[:first], self.parse(content[first:], depth + 1), width=width)
            )
            at += size
        return [*nodes, Node(b"", data[at:])] if at < len(data) else nodes

    def framed(self, node: Node, content: bytes) -> bytes:
        if node.width == 8:
            size = len(content) + 16 if node.claimed is None else node.claimed
            return b"\0\0\0\1" + node.kind + _cut(size, 8, "big") + content
        size = len(content) + 8 if node.claimed is None else node.claimed
        return _cut(size, 4, "big") + node.kind + content


class Ebml(Format):
    """Elements: id and size, each as long as its first byte says by the place of its first 1; all
    ones: size unknown.
    """

    HOLDING: ClassVar = (
        *(
            0x1A45DFA3,
            0x18538067,
            0x114D9B74,
            0x4DBB,
            0x1549A966,
            0x1654AE6B,
            0xAE,
            0xE0,
            0xE1,
            0x55B0,
        ),
        *(0x1F43B675, 0xA0, 0x1C53BB6B, 0xBB, 0xB7, 0x1254C367, 0x7373, 0x63C0, 0x67C8),
    )

    def parse(self, data: bytes, depth: int = 0) -> list[Node]:
        nodes, at = [], 0
        while at < len(data):
            id_bytes = 9 - data[at].bit_length()
            size_at = at + id_bytes
            if id_bytes > 4 or size_at >= len(data):
                break
            width = 9 - data[size_at].bit_length()
            start = size_at + width
            size = int.from_bytes(data[size_at:start], "big") & (1 << 7 * width) - 1
            unknown = size == (1 << 7 * width) - 1
            end = len(data) if unknown else start + size
            if width > 8 or start > len(data) or end > len(data):
                break
            kind, content = data[at:size_at], data[start:end]
            node = Node(kind, width=width, claimed=size if unknown else None)
            if int.from_bytes(kind, "big") in self.HOLDING and depth < MAX_DEPTH:
                node.inside = self.parse(content, depth + 1)
            else:
                node.head = content
            nodes.append(node)
            at = end
        return [*nodes, Node(b"", data[at:])] if at < len(data) else nodes

    def framed(self, node: Node, content: bytes) -> bytes:
        width, size = node.width, len(content) if node.claimed is None else node.claimed
        if node.claimed is None and size >= (1 << 7 * width) - 1:
            width = 8  # it grew
        return (
            node.kind + _cut(1 << 7 * width | size & (1 << 7 * width) - 1, width, "big") + content
        )


class Riff(Format):
    """Chunks: kind, 32-bit size, content, a byte if that is odd; RIFF and LIST hold chunks after a
    name of four letters.
    """

    def parse(self, data: bytes, depth: int = 0) -> list[Node]:
        nodes, at = [], 0
        while at + 8 <= len(data):
            kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
            end = at + 8 + size
            if end > len(data):
                break
            content, pad = data[at + 8 : end], data[end : end + size % 2]
            first = 4 if kind in (b"RIFF", b"LIST") and depth < MAX_DEPTH else len(content)
            nodes.append(
                Node(kind, content[:first], self.parse(content[first:], depth + 1), width=4)
            )
            if pad:
                nodes.append(Node(b"", pad))
            at = end + len(pad)
        return [*nodes, Node(b"", data[at:])] if at < len(data) else nodes

    def framed(self, node: Node, content: bytes) -> bytes:
        size = len(content) if node.claimed is None else node.claimed
        return node.kind + _cut(size, 4, "little") + content


class Ts(Format):
    """Packets of 188 bytes that begin with G; three more bytes hold, among flags, the number of
    their stream (PID).
    """

    def parse(self, data: bytes, depth: int = 0) -> list[Node]:
        whole = len(data) // TS_PACKET_BYTES * TS_PACKET_BYTES
        nodes = [
            Node(data[at : at + 4], data[at + 4 : at + TS_PACKET_BYTES])
            for at in range(0, whole, TS_PACKET_BYTES)
        ]
        return [*nodes, Node(b"", data[whole:])] if whole < len(data) else nodes

    def framed(self, node: Node, content: bytes) -> bytes:  # a packet has room for no other
        return node.kind + node.head


def _cut(number: int, width: int, order: str) -> bytes:
    """As many low bytes as there is room for, of negative numbers, too."""
    return (number & (1 << 8 * width) - 1).to_bytes(width, order)  # type: ignore[arg-type]
