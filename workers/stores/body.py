"""Bodies of responses, read piece by piece so that neither a cut nor a trickle goes unseen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from urllib3 import BaseHTTPResponse

from workers.stores.failures import failure

PIECE_BYTES = 1 << 16
#: Python refuses to read numbers of thousands of digits.
MAX_DIGITS = 19


@contextmanager
def used_up(response: BaseHTTPResponse) -> Iterator[BaseHTTPResponse]:
    """Gives the connection back after a body was read to its end; closes it where something is left in it."""
    try:
        yield response
    finally:
        if response.length_remaining == 0:
            response.release_conn()
        else:
            response.close()


def take(response: BaseHTTPResponse, data: bytearray, length: int, *, uri: str, deadline: float) -> None:
    """Append bytes until `data` holds `length`. What came before a cut stays in `data`.

    Raises `VideoError` (fetch_cut, fetch_timeout) and the exceptions of urllib3.
    """
    while len(data) < length:
        piece = response.read1(min(PIECE_BYTES, length - len(data)), decode_content=False)
        if not piece:
            raise failure("fetch_cut", uri, f"the connection ended {length - len(data)} bytes early")
        data += piece
        if len(data) < length and time.monotonic() > deadline:
            raise failure("fetch_timeout", uri, f"{length - len(data)} bytes are missing when the time for it is over")


def version_in(response: BaseHTTPResponse) -> str | None:
    """The etag as the server writes it; else the time of the last change; None where it says neither."""
    return response.headers.get("ETag") or response.headers.get("Last-Modified")


def stated_bytes(response: BaseHTTPResponse) -> int | None:
    """The length the server promises, if it does."""
    return size_in(response.headers.get("Content-Length", ""))


def size_in(text: str) -> int | None:
    """A number of bytes as headers write it; None for what is none. Of an endless number, enough to be too many."""
    return int(text[:MAX_DIGITS]) if text.isdecimal() else None


def is_compressed(response: BaseHTTPResponse) -> bool:
    return response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity")
