"""Lists as streams of text: unpacked, decoded where the encoding is certain, and read in lines of
bounded length.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from db.errors import UsageError

MAX_LINE_CHARACTERS = 4 << 20
_HEAD_BYTES = 4_096
#: What reading a damaged file can raise.
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)
#: By their first bytes, whatever the name says: browsers unpack files and keep the name, and the
#: other way round.
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def _escape(error: UnicodeError) -> tuple[str, int]:
    """What cannot be decoded becomes a surrogate, which no row may hold: one bad row, not the end
    of the list.
    """
    assert isinstance(error, UnicodeDecodeError)
    return "\udcff", error.end


codecs.register_error("reelvec.escape", _escape)


def unpacked(path: Path) -> BinaryIO:
    """The bytes of a file, decompressed if it is compressed. Raises `UsageError`: it cannot be
    opened, no reader for .zst.
    """
    try:
        with path.open("rb") as file:
            head = file.read(max(map(len, _MAGIC)))
        kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
        if kind == "gzip":
            return cast(BinaryIO, gzip.open(path))
        if kind == "bz2":
            return cast(BinaryIO, bz2.open(path))
        if kind == "xz":
            return cast(BinaryIO, lzma.open(path))
        return _zstd(path) if kind == "zstd" else path.open("rb")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error


def _zstd(path: Path) -> BinaryIO:
    try:
        import pyarrow
    except ImportError as error:
        raise UsageError(
            f"{path}: reading .zst needs pyarrow; pip install 'reelvec[parquet]'"
        ) from error
    return cast(BinaryIO, io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd")))


def opened(path: Path) -> TextIO:
    """A list as text, for `with`. Raises `UsageError`: it cannot be read."""
    return text(unpacked(path), str(path))


def seekable(path: Path) -> BinaryIO:
    """The same as a file that can be read in any order. Raises `UsageError`: damaged."""
    file = unpacked(path)
    if isinstance(file, io.BufferedReader) and isinstance(file.raw, io.FileIO):
        return file
    copy = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - the reader closes it
    try:
        with file:
            while block := file.read(1 << 20):
                copy.write(block)
    except DAMAGE as error:
        copy.close()
        raise UsageError(f"{path} cannot be unpacked: {error}; fetch or write it again") from error
    copy.seek(0)
    return copy


def text(file: BinaryIO, name: str) -> TextIO:
    """A stream of bytes as text. UTF-16 and UTF-32 only where a mark or the first line proves them,
    else UTF-8.

    Raises `UsageError`: it cannot be read at all.
    """
    buffered = file if hasattr(file, "peek") else io.BufferedReader(cast(io.RawIOBase, file))
    try:
        head = buffered.peek(_HEAD_BYTES)[:_HEAD_BYTES]
    except DAMAGE as error:
        file.close()
        raise UsageError(f"{name} cannot be read: {error}; fetch or write it again") from error
    encoding = _encoding(head)
    errors = "surrogateescape" if encoding.startswith("utf-8") else "reelvec.escape"
    return io.TextIOWrapper(buffered, encoding=encoding, errors=errors, newline="")


def _encoding(head: bytes) -> str:
    if found := next((encoding for mark, encoding in _BOMS.items() if head.startswith(mark)), None):
        return found
    first = head[: 2 * (len(head) // 2)]
    low, high = first[::2], first[1::2]
    # ASCII in UTF-16 has a NUL in every second place and nowhere else: text in no other encoding
    # has one at all
    if len(first) >= 8 and high.count(0) >= len(high) // 2 and 0 not in low:
        return "utf-16-le"
    if len(first) >= 8 and low.count(0) >= len(low) // 2 and 0 not in high:
        return "utf-16-be"
    return "utf-8-sig"


class UnreadableLineError(ValueError):
    """A line that is not read: too long, or where the file is damaged."""


class Lines:
    """The lines of a text with their numbers. A line that is too long is left out; a damaged file
    ends where it breaks.
    """

    def __init__(self, file: TextIO) -> None:
        self.number = 0
        self._file = file
        self._again: list[str] = []
        self._ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """The next line with its line break. Raises `UnreadableLineError`; the line after it can
        still be asked for.
        """
        line = self._again.pop() if self._again else self._read()
        if not line:
            raise StopIteration
        self.number += 1
        return line

    def back(self, lines: list[str]) -> None:
        """Lines that are to be read again."""
        self._again.extend(reversed(lines))
        self.number -= len(lines)

    def _read(self) -> str:
        if self._ended:
            return ""
        try:
            line = self._file.readline(MAX_LINE_CHARACTERS)
            if len(line) == MAX_LINE_CHARACTERS and line[-1] not in "\r\n":
                while (rest := self._file.readline(MAX_LINE_CHARACTERS)) and rest[-1] not in "\r\n":
                    pass
                self.number += 1
                raise UnreadableLineError(f"longer than {MAX_LINE_CHARACTERS:,} characters")
        except DAMAGE as error:
            self._ended = True
            self.number += 1
            reason = (
                f"the file is damaged here ({error}); nothing behind it was read: fetch or write "
                "it again"
            )
            raise UnreadableLineError(reason) from error
        return line
