"""Bodies of responses, read piece by piece so that neither a cut nor a trickle goes unseen, and
what their heads say.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from urllib3 import BaseHTTPResponse

from workers.sources.failures import failure
from workers.sources.retrying import Limits

PIECE_BYTES = 1 << 16
#: A page of a listing has 1,000 keys: some 0.5 MB, with the longest keys 4.
USUAL_PAGE_BYTES, MAX_PAGE_BYTES = 1 << 20, 1 << 24
#: Python refuses to read numbers of thousands of digits.
MAX_DIGITS = 19
#: The codings that change bytes. Whatever else stands in Content-Encoding (`utf-8`, `none`,
#: `aws-chunked`) was stored beside an object by mistake and changes nothing.
_COMPRESSIONS = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"})
#: `bytes 0-4/10`, also as servers write it that do not read the standard closely.
_SPAN = re.compile(r"\s*bytes[\s:=]*(\d+)\s*-\s*(\d+)\s*/\s*(\d+|\*)\s*", re.IGNORECASE)
#: What stands in an answer 416: there is only the size.
_NO_SPAN = re.compile(r"\s*bytes[\s:=]*\*\s*/\s*(\d+)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Span:
    """What a Content-Range says: bytes `[start, end)` of an object of `size_bytes`, None where that
    is not said.
    """

    start: int
    end: int
    size_bytes: int | None


@contextmanager
def released(response: BaseHTTPResponse) -> Iterator[BaseHTTPResponse]:
    """Gives the connection back after a body was read to its end; closes it where something is left
    in it.
    """
    try:
        yield response
    finally:
        if response.length_remaining == 0:
            # of an empty body nobody has seen the end: the connection could not be used again
            response.drain_conn()
            response.release_conn()
        else:
            response.close()


def read_into(
    response: BaseHTTPResponse, data: bytearray, length: int, *, uri: str, deadline: float
) -> None:
    """Append bytes until `data` holds `length`. What came before a cut stays in `data`.

    Raises `VideoError` (fetch_cut, fetch_timeout) and the exceptions of urllib3.
    """
    while len(data) < length:
        piece = response.read1(min(PIECE_BYTES, length - len(data)), decode_content=False)
        if not piece:
            raise failure(
                "fetch_cut", uri, f"the connection ended {length - len(data)} bytes early"
            )
        data += piece
        if len(data) < length:
            refuse_late(uri, deadline, length - len(data))


def refuse_late(uri: str, deadline: float, missing_bytes: int) -> None:
    """Raise `VideoError` (fetch_timeout) if the deadline is over."""
    if time.monotonic() > deadline:
        raise failure(
            "fetch_timeout", uri, f"{missing_bytes} bytes are missing when the time for it is over"
        )


def beginning(response: BaseHTTPResponse, most_bytes: int, seconds: float) -> bytes:
    """The first bytes of a body, decoded: as many as are wanted and come in time. The connection is
    not used again.

    Raises urllib3's exceptions.
    """
    data = bytearray()
    deadline = time.monotonic() + seconds
    try:
        while len(data) < most_bytes and time.monotonic() < deadline:
            piece = response.read1(most_bytes - len(data), decode_content=True)
            if not piece:
                break
            data += piece
    finally:
        response.close()
    return bytes(data)


def read_page(response: BaseHTTPResponse, uri: str, limits: Limits) -> bytes:
    """A whole body, unpacked, of an answer that has to be held in memory.

    Raises `VideoError` (server_error: too large; fetch_cut, fetch_timeout) and the exceptions of
    urllib3.
    """
    data = bytearray()
    deadline = limits.deadline(USUAL_PAGE_BYTES)
    with released(response):
        while piece := response.read1(PIECE_BYTES, decode_content=True):
            data += piece
            if len(data) > MAX_PAGE_BYTES:
                raise failure("server_error", uri, f"an answer of more than {MAX_PAGE_BYTES} bytes")
            if time.monotonic() > deadline:
                raise failure(
                    "fetch_timeout",
                    uri,
                    f"{len(data)} bytes, and no end when the time for it is over",
                )
        if response.length_remaining:
            raise failure(
                "fetch_cut", uri, f"the connection ended {response.length_remaining} bytes early"
            )
    return bytes(data)


def version_in(response: BaseHTTPResponse) -> str | None:
    """The etag as the server writes it; else the time of the last change; None where it says
    neither.
    """
    return response.headers.get("ETag") or response.headers.get("Last-Modified")


def only_if(version: str | None) -> dict[str, str]:
    """The header by which a server gives bytes of this version only. A weak etag or a time matches
    nothing there.
    """
    return {"If-Match": version} if version is not None and version.startswith('"') else {}


def stated_bytes(response: BaseHTTPResponse) -> int | None:
    """The length the server promises, if it does."""
    return size_in(response.headers.get("Content-Length", ""))


def size_in(text: str) -> int | None:
    """A number of bytes as headers write it; None for what is none. Of an endless number, enough to
    be too many.
    """
    return int(text[:MAX_DIGITS]) if text.isdecimal() else None


def span_in(response: BaseHTTPResponse) -> Span | None:
    """What part of the object an answer 206 says it holds; None where it says nothing that can
    be.
    """
    span = _SPAN.fullmatch(response.headers.get("Content-Range", ""))
    if span is None:
        return None
    start, last, size_bytes = (size_in(part) for part in span.groups())
    if (
        start is None
        or last is None
        or last < start
        or (size_bytes is not None and last >= size_bytes)
    ):
        return None
    return Span(start, last + 1, size_bytes)


def whole_size_in(content_range: str) -> int | None:
    """The size that an answer 416 gives."""
    span = _NO_SPAN.fullmatch(content_range)
    return size_in(span[1]) if span else None


def is_compressed(response: BaseHTTPResponse) -> bool:
    codings = response.headers.get("Content-Encoding", "").lower().split(",")
    return not _COMPRESSIONS.isdisjoint(coding.strip() for coding in codings)
