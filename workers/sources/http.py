"""Videos at web addresses: ranges, few redirects, public addresses only."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError, NameResolutionError

from db.errors import VideoError
from workers.sources.failures import failure, from_status
from workers.sources.pools import (
    AddressRefusedError,
    PlainPoolManager,
    PublicPoolManager,
    pool_options,
)
from workers.sources.proxies import proxy_for
from workers.sources.remote import RangeRefusedError, RemoteSource
from workers.sources.response import beginning, only_if, whole_size_in
from workers.sources.retrying import Limits
from workers.sources.s3_endpoint import endpoint
from workers.sources.schemes import shown

if TYPE_CHECKING:
    from workers.settings import WorkerSettings

MAX_REDIRECTS = 3
#: Statuses by which the address a redirect led to says that it has had its time.
_OUTLIVED = frozenset({401, 403, 404, 410})
#: How servers say that their port wants TLS (nginx and Apache; Go), in the first bytes of an answer
#: 400.
_WANTS_TLS = (b"HTTPS port", b"SSL-enabled server port", b"HTTPS server")
_ENOUGH_BYTES = 2048


def make_store(
    settings: WorkerSettings, limits: Limits, _roots: tuple[Path, ...] | None
) -> HttpStore:
    """The store of this process's settings; the S3 service's own host may be private."""
    return HttpStore(
        limits,
        allow_private=settings.http_allow_private,
        s3_host=endpoint().host,
        connections=settings.in_flight,
    )


class HttpStore:
    """`allow_private`: private and loopback addresses may be read; else only that of `s3_host`
    (`host:port`) may.
    """

    def __init__(
        self, limits: Limits, *, allow_private: bool, s3_host: str | None, connections: int
    ) -> None:
        options = pool_options(limits, connections)
        self._limits = limits
        self._allow_private = allow_private
        self._s3_host = s3_host
        self._anywhere = PlainPoolManager(**options)
        self._public = PublicPoolManager(**options)

    def open(self, uri: str) -> RemoteSource:
        """Raises `VideoError`: address_refused, request_refused, access_denied, not_found and those
        of `RemoteSource`.
        """
        return RemoteSource(uri, Asker(self, uri), self._limits)

    @property
    def wait_seconds(self) -> float:
        return self._limits.wait_seconds

    def close(self) -> None:
        self._anywhere.clear()
        self._public.clear()

    def request(self, url: str, headers: dict[str, str]) -> BaseHTTPResponse:
        """One GET, its body unread, redirects not followed. Raises `VideoError` (address_refused),
        urllib3's errors.
        """
        parts = urlsplit(url)
        allowed = self._allow_private or parts.netloc == self._s3_host
        pool = self._anywhere if allowed else self._public
        try:
            return pool.urlopen(
                "GET", url, headers=headers, redirect=False, retries=False, preload_content=False
            )
        except AddressRefusedError as error:
            raise failure(
                "address_refused",
                url,
                f"{parts.hostname} is on the address {error}, which is not public;"
                " set REELVEC_HTTP_ALLOW_PRIVATE=true on every worker to allow private ones",
            ) from error
        except NameResolutionError as error:
            if allowed or proxy_for(parts.scheme, error.conn.host, error.conn.port) is None:
                raise
            raise failure(
                "unreachable",
                url,
                f"there is no host {error.conn.host!r} for this machine, which must see that its "
                "address is public before a proxy is asked for it; "
                "REELVEC_HTTP_ALLOW_PRIVATE=true on every worker leaves both to the proxy",
            ) from error


class Asker:
    """Asks one address for ranges, through its redirects. Where they led is kept until it stops
    answering.
    """

    def __init__(self, store: HttpStore, uri: str) -> None:
        self._store = store
        self._uri = uri
        self._target = uri

    def __call__(self, offset: int, length: int | None, version: str | None) -> BaseHTTPResponse:
        headers = {"Accept-Encoding": "identity", **only_if(version)}
        if length is not None:
            headers["Range"] = f"bytes={offset}-{offset + length - 1}"
        response = self._follow(self._target, headers)
        if response.status in _OUTLIVED and self._target != self._uri:
            response.close()
            response = self._follow(self._uri, headers)
        if response.status in (200, 206):
            return response
        if response.status == 400 and self._wants_tls(response):
            raise failure(
                "unreachable",
                self._uri,
                "the server wants TLS on this port; write https:// instead of http://",
            )
        response.close()
        if response.status == 416 and length is not None:
            raise RangeRefusedError(whole_size_in(response.headers.get("Content-Range", "")))
        if response.status == 412 and "If-Match" in headers:
            raise failure("source_changed", self._uri, "it was replaced while it was read")
        raise from_status(
            response.status, self._uri, retry_after=response.headers.get("Retry-After")
        )

    def _wants_tls(self, response: BaseHTTPResponse) -> bool:
        body = b""
        with suppress(HTTPError):  # it says what it says
            body = beginning(response, _ENOUGH_BYTES, self._store.wait_seconds)
        return self._target.startswith("http:") and any(words in body for words in _WANTS_TLS)

    def _follow(self, url: str, headers: dict[str, str]) -> BaseHTTPResponse:
        for _ in range(MAX_REDIRECTS + 1):
            response = self._store.request(url, headers)
            location = response.get_redirect_location()
            if not location:
                self._target = url
                return response
            response.close()
            url = self.redirected(url, location)
        raise failure("address_refused", self._uri, f"more than {MAX_REDIRECTS} redirects")

    def redirected(self, url: str, location: str) -> str:
        """The next address. Raises `VideoError`: another scheme (http to https is well), a user
        name in it.
        """
        following = urljoin(url, location)
        before, after = urlsplit(url), urlsplit(following)
        if after.scheme not in ("http", "https") or (before.scheme, after.scheme) == (
            "https",
            "http",
        ):
            raise self._refused(
                f"it redirects from {before.scheme}: to {after.scheme}:, which is not followed"
            )
        if not after.hostname or "@" in after.netloc:
            raise self._refused(f"it redirects to {shown(following)}, which is no plain address")
        return following

    def _refused(self, why: str) -> VideoError:
        return failure("address_refused", self._uri, why)
