"""One object behind a connection: ranges of one version of it, with retries and a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from urllib3 import BaseHTTPResponse

from workers.stores.body import is_compressed, size_in, take, used_up, version_in
from workers.stores.failures import failure
from workers.stores.limits import Limits
from workers.stores.patience import patiently
from workers.stores.source import MAX_BYTES
from workers.stores.spool import Spool

#: What opening a source fetches: the block every container is recognised by.
FIRST_BYTES = 1 << 20

#: Asks for bytes `[offset, offset + length)` of the version given (None: any): an unread response with status 200 or 206.
#: An empty object may be answered with None. Raises `VideoError` or urllib3's exceptions.
Ask = Callable[[int, int, str | None], BaseHTTPResponse | None]


class RemoteSource:
    """Opening it fetches the first block, which tells size and version. A server without ranges is read into a spool.

    Raises `VideoError`: what `ask` raises, fetch_cut, fetch_timeout, server_error, source_changed, over_limits,
    request_refused, unreachable.
    """

    def __init__(self, uri: str, ask: Ask, limits: Limits) -> None:
        self._uri = uri
        self._ask = ask
        self._limits = limits
        self._version: str | None = None
        self._spool: Spool | None = None
        self.size_bytes = 0
        started = time.monotonic()
        deadline = limits.deadline(FIRST_BYTES)
        self._first = patiently(uri, deadline, lambda: self._open(deadline), limits.stop)
        self.open_seconds = time.monotonic() - started

    @property
    def etag(self) -> str | None:
        """The version without HTTP's quotes."""
        return self._version.removeprefix("W/").strip('"') if self._version else None

    def read(self, offset: int, length: int) -> bytes:
        """Bytes `[offset, offset + length)`, cut at the end of the source. Raises `VideoError` (stage fetch)."""
        length = max(0, min(length, self.size_bytes - offset))
        if not length:
            return b""
        if offset + length <= len(self._first):
            return self._first[offset : offset + length]
        if self._spool is not None:
            return self._spool.read(offset, length)
        data = bytearray()
        deadline = self._limits.deadline(length)
        patiently(self._uri, deadline, lambda: self._read_range(offset, length, data, deadline), self._limits.stop)
        return bytes(data)

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, deadline: float) -> bytes:
        response = self._ask(0, FIRST_BYTES, None)
        if response is None:
            return b""
        if response.status == 200:
            self._spool = Spool(self._uri, response, lambda: self._ask(0, FIRST_BYTES, None), self._limits)
            self.size_bytes, self._version = self._spool.size_bytes, self._spool.version
            return b""
        data = bytearray()
        with used_up(response):
            self.size_bytes, self._version = self._facts(response, 0), version_in(response)
            take(response, data, min(FIRST_BYTES, self.size_bytes), uri=self._uri, deadline=deadline)
        return bytes(data)

    def _read_range(self, offset: int, length: int, data: bytearray, deadline: float) -> None:
        """One request for what `data` still lacks."""
        start = offset + len(data)
        response = self._ask(start, length - len(data), self._version)
        if response is None or response.status == 200:
            if response is not None:
                response.close()
            raise failure("source_changed", self._uri, "the server does not serve ranges of it any more")
        with used_up(response):
            if (self._facts(response, start), version_in(response)) != (self.size_bytes, self._version):
                raise failure("source_changed", self._uri, "it was replaced while it was read")
            take(response, data, length, uri=self._uri, deadline=deadline)

    def _facts(self, response: BaseHTTPResponse, start: int) -> int:
        """The object's size, from a 206 that is what was asked for."""
        if is_compressed(response):
            raise failure("request_refused", self._uri, "the server sends it compressed, though it was asked not to")
        said = response.headers.get("Content-Range", "")
        unit, _, rest = said.partition(" ")
        span, _, total = rest.partition("/")
        size_bytes = size_in(total)
        if unit != "bytes" or span.partition("-")[0] != str(start) or size_bytes is None or size_bytes > MAX_BYTES:
            raise failure(
                "request_refused", self._uri, f"asked for bytes from {start}, got Content-Range {said[:60]!r}"
            )
        return size_bytes
