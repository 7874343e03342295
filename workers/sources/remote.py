"""One object behind a connection: ranges of one version of it, with retries and a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from urllib3 import BaseHTTPResponse

from workers.sources.failures import failure
from workers.sources.response import (
    Span,
    is_compressed,
    read_into,
    refuse_late,
    released,
    span_in,
    stated_bytes,
    version_in,
)
from workers.sources.retrying import Limits, retried
from workers.sources.source import MAX_BYTES
from workers.sources.spool import Spool

#: What opening a source fetches: the block every container is recognised by.
FIRST_BYTES = 1 << 20


class RangeRefusedError(Exception):
    """An answer 416 to a request for a range. `size_bytes`: the object's size, if the answer gives
    it.
    """

    def __init__(self, size_bytes: int | None) -> None:
        super().__init__(size_bytes)
        self.size_bytes = size_bytes


#: Asks for bytes `[offset, offset + length)` (None: all of it, without a range) of the version
#: given (None: any): an unread response with status 200 or 206. Raises `RangeRefusedError`,
#: `VideoError` or urllib3's exceptions.
Ask = Callable[[int, int | None, str | None], BaseHTTPResponse]


class RemoteSource:
    """Opening it fetches the first block, which tells size and version. A server without ranges is
    read into a spool.

    Raises `VideoError`: what `ask` raises, fetch_cut, fetch_timeout, server_error, source_changed,
    over_limits, request_refused, unreachable.
    """

    def __init__(self, uri: str, ask: Ask, limits: Limits) -> None:
        self._uri = uri
        self._ask = ask
        self._limits = limits
        self._version: str | None = None
        self._spool: Spool | None = None
        self._first = b""
        self.size_bytes = 0
        started = time.monotonic()
        deadline = limits.deadline(FIRST_BYTES)
        retried(uri, deadline, lambda: self._open(deadline), limits.stop)
        self.open_seconds = time.monotonic() - started

    @property
    def etag(self) -> str | None:
        """The version without HTTP's quotes."""
        return self._version.removeprefix("W/").strip('"') if self._version else None

    def read(self, offset: int, length: int) -> bytes:
        """Bytes `[offset, offset + length)`, cut at the end of the source. Raises `VideoError`
        (stage fetch).
        """
        length = max(0, min(length, self.size_bytes - offset))
        if not length:
            return b""
        if offset + length <= len(self._first):
            return self._first[offset : offset + length]
        if self._spool is not None:
            return self._spool.read(offset, length)
        data = bytearray()
        deadline = self._limits.deadline(length)
        retried(
            self._uri,
            deadline,
            lambda: self._fill(offset, length, data, deadline),
            self._limits.stop,
        )
        return bytes(data)

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, deadline: float) -> None:
        try:
            response = self._ask(0, FIRST_BYTES, None)
        except RangeRefusedError as error:
            if error.size_bytes == 0:
                return
            # some servers refuse a range that ends past the file, and what 416 says of the size
            # need not be true
            response = self._ask_anew(error.size_bytes)
        if response.status == 200:
            self._open_spool(response)
            return
        data = bytearray()
        with released(response):
            span = self._span(response, 0)
            if span is not None:
                self._version = version_in(response)
                self._take(
                    response,
                    span,
                    0,
                    min(FIRST_BYTES, span.size_bytes or FIRST_BYTES),
                    data,
                    deadline,
                )
        if span is None or span.size_bytes is None:
            self._learn_size(response, span)
        else:
            self.size_bytes = span.size_bytes
        if self._spool is None:
            self._fill(0, min(FIRST_BYTES, self.size_bytes), data, deadline)
            self._first = bytes(data[: self.size_bytes])

    def _ask_anew(self, size_bytes: int | None) -> BaseHTTPResponse:
        """After a 416: a range that ends where the object does; else all of it."""
        if size_bytes is not None:
            with suppress(RangeRefusedError):
                return self._ask(0, min(FIRST_BYTES, size_bytes), None)
        return self._ask(0, None, None)

    def _open_spool(self, response: BaseHTTPResponse) -> None:
        self._spool = Spool(self._uri, response, lambda: self._ask(0, None, None), self._limits)
        self.size_bytes, self._version = self._spool.size_bytes, self._spool.version

    def _learn_size(self, partial: BaseHTTPResponse, span: Span | None) -> None:
        """Where a 206 does not say the size, an answer without a range does; where it says nothing
        that can be, too.
        """
        response = self._ask(0, None, None)
        if response.status != 200:
            response.close()
            raise self._odd_span(partial, 0)
        stated = stated_bytes(response)
        if span is None or stated is None or version_in(response) != self._version:
            self._open_spool(response)
            return
        response.close()
        self.size_bytes = stated

    def _fill(self, offset: int, length: int, data: bytearray, deadline: float) -> None:
        """Ask for what `data` still lacks, until it lacks nothing: a server may give less at a time
        than it was asked for.
        """
        while len(data) < length:
            start = offset + len(data)
            try:
                response = self._ask(start, length - len(data), self._version)
            except RangeRefusedError as error:
                raise failure(
                    "source_changed", self._uri, "it was replaced while it was read"
                ) from error
            if response.status == 200:
                response.close()
                raise failure(
                    "source_changed", self._uri, "the server does not serve ranges of it any more"
                )
            with released(response):
                span = self._span(response, start)
                if span is None:
                    raise self._odd_span(response, start)
                same_size = span.size_bytes in (None, self.size_bytes)
                if not same_size or version_in(response) != self._version:
                    raise failure("source_changed", self._uri, "it was replaced while it was read")
                self._take(response, span, offset, length, data, deadline)
            if len(data) < length:
                refuse_late(self._uri, deadline, length - len(data))

    def _take(
        self,
        response: BaseHTTPResponse,
        span: Span,
        offset: int,
        length: int,
        data: bytearray,
        deadline: float,
    ) -> None:
        """What this answer has of `length` bytes from `offset` on, at least one."""
        given = span.end - span.start
        stated = stated_bytes(response)
        if stated is not None:  # what will come, whatever Content-Range says
            given = min(given, stated)
        if not given:
            raise failure("fetch_cut", self._uri, "the server answers without a byte")
        read_into(
            response,
            data,
            min(length, span.start - offset + given),
            uri=self._uri,
            deadline=deadline,
        )

    def _span(self, response: BaseHTTPResponse, start: int) -> Span | None:
        """What a 206 holds, None where that is not what was asked for. Raises `VideoError`
        (request_refused).
        """
        if is_compressed(response):
            raise failure(
                "request_refused",
                self._uri,
                "the server sends it compressed, though it was asked not to",
            )
        span = span_in(response)
        if span is None or span.start != start or (span.size_bytes or 0) > MAX_BYTES:
            return None
        return span

    def _odd_span(self, response: BaseHTTPResponse, start: int) -> Exception:
        stated_range = response.headers.get("Content-Range", "")
        return failure(
            "request_refused",
            self._uri,
            f"asked for bytes from {start}, got Content-Range {stated_range[:60]!r}",
        )
