"""Servers without ranges: the object comes whole, once, into a file without a name, as far as
somebody reads.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable

from urllib3 import BaseHTTPResponse

from workers.sources.failures import failure
from workers.sources.response import PIECE_BYTES, is_compressed, stated_bytes, version_in
from workers.sources.retrying import Limits, retried

#: Small objects stay in memory.
MEMORY_BYTES = 1 << 20


class Spool:
    """The body of `response`, read on as far as it is asked for; after a cut `ask_again` begins it
    anew.

    A body of unstated length is read to its end at once, as its size must be known. Raises
    `VideoError`: over_limits, request_refused, source_changed, fetch_cut, fetch_timeout, what
    `ask_again` raises.
    """

    def __init__(
        self,
        uri: str,
        response: BaseHTTPResponse,
        ask_again: Callable[[], BaseHTTPResponse],
        limits: Limits,
    ) -> None:
        self._uri = uri
        self._response: BaseHTTPResponse | None = response
        self._ask_again = ask_again
        self._limits = limits
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115 - closed by close()
        self._have = 0
        self.version = version_in(response)
        try:
            if is_compressed(response):
                raise failure(
                    "request_refused",
                    uri,
                    "the server sends it compressed, though it was asked not to",
                )
            stated = stated_bytes(response)
            self.size_bytes = -1 if stated is None else stated
            self._refuse_over_limit(self.size_bytes)
            if stated is None:
                self._advance(limits.spool_bytes + 1)
                self.size_bytes = self._have
        except BaseException:
            self.close()
            raise

    def read(self, offset: int, length: int) -> bytes:
        end = offset + length
        if end > self._have:
            deadline = self._limits.deadline(end - self._have)
            retried(self._uri, deadline, lambda: self._advance(end), self._limits.stop)
        self._file.seek(offset)
        return self._file.read(length)

    def close(self) -> None:
        self._drop_response()
        with contextlib.suppress(OSError):  # bytes that found no room on the disk
            self._file.close()

    def _advance(self, end: int) -> None:
        """Read on until `end`, or the body's end where its length is not known."""
        response = self._response or self._reopened()
        started, before = time.monotonic(), self._have
        try:
            while self._have < end:
                piece = response.read1(PIECE_BYTES, decode_content=False)
                if not piece:
                    if self.size_bytes < 0:
                        break
                    raise failure(
                        "fetch_cut",
                        self._uri,
                        f"the connection ended {self.size_bytes - self._have} bytes early",
                    )
                self._keep(piece)
                self._refuse_over_limit(self._have)
                self._refuse_trickle(time.monotonic() - started, self._have - before)
        except BaseException:
            self._drop_response()
            raise
        if self._have == self.size_bytes or self._have < end:
            response.release_conn()
            self._response = None

    def _keep(self, piece: bytes) -> None:
        try:
            self._file.seek(self._have)
            self._file.write(piece)
            self._file.flush()
        except OSError as error:
            where = tempfile.gettempdir()
            why = (
                f"the server has no ranges, and {where} does not hold it all: {error}; TMPDIR "
                "names another folder"
            )
            raise failure("io_error", self._uri, why) from error
        self._have += len(piece)

    def _reopened(self) -> BaseHTTPResponse:
        """A new response, read up to where the one before was cut."""
        response = self._ask_again()
        if response.status != 200 or version_in(response) != self.version:
            response.close()
            raise failure("source_changed", self._uri, "it was replaced while it was read")
        self._response = response
        self._have = 0
        return response

    def _refuse_over_limit(self, size_bytes: int) -> None:
        if size_bytes > self._limits.spool_bytes:
            raise failure(
                "over_limits",
                self._uri,
                "the server has no ranges, and REELVEC_SPOOL_BYTES allows "
                f"{self._limits.spool_bytes} bytes to be taken whole (it has {size_bytes} or more)",
            )

    def _refuse_trickle(self, seconds: float, count: int) -> None:
        if seconds > self._limits.fetch_seconds and count < seconds * self._limits.bytes_per_second:
            raise failure(
                "fetch_timeout",
                self._uri,
                f"{count} bytes in {seconds:.1f} s; REELVEC_FETCH_BYTES_PER_SECOND asks for"
                f" {self._limits.bytes_per_second:g} a second",
            )

    def _drop_response(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None
