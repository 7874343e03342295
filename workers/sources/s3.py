"""Objects of an S3 service: ranges, lists, files up and down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from minio import Minio
from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3 import BaseHTTPResponse, Retry
from urllib3.exceptions import HTTPError

from db.errors import VideoError
from workers.sources.failures import failure, from_network, from_status
from workers.sources.listing import Walk
from workers.sources.pools import PlainPoolManager, pool_options
from workers.sources.remote import RangeRefusedError, RemoteSource
from workers.sources.response import (
    only_if,
    read_into,
    read_page,
    released,
    size_in,
    stated_bytes,
    whole_size_in,
)
from workers.sources.retrying import PASSING, Limits, retried
from workers.sources.s3_account import Account, account
from workers.sources.s3_answers import BadListingError, Page, parsed
from workers.sources.s3_client import USUAL_REGION, S3Client
from workers.sources.s3_refusal import S3Refusal, from_s3
from workers.sources.schemes import bucket_and_key
from workers.sources.source import Listed

if TYPE_CHECKING:
    from workers.settings import WorkerSettings

#: A page of a listing is asked for this often.
LIST_TRIES = 5


def make_store(
    settings: WorkerSettings, limits: Limits, _roots: tuple[Path, ...] | None
) -> S3Store:
    """The store of this process's account. Raises as `workers.sources.s3_account.account`."""
    return S3Store(account(), limits, connections=settings.in_flight)


class S3Store:
    """One service, as one account. Thread-safe."""

    def __init__(self, account: Account, limits: Limits, *, connections: int) -> None:
        self._account = account
        self._limits = limits
        # of uploads, retries are ours, and a redirect to the bucket's region is minio's
        self._pool = PlainPoolManager(
            retries=Retry(total=None, connect=0, read=0, status=0, other=0, redirect=2),
            **pool_options(limits, connections, ca_variables=("AWS_CA_BUNDLE", "SSL_CERT_FILE")),
        )
        self._client = S3Client(account, self._pool, wait_seconds=limits.wait_seconds)

    def open(self, uri: str) -> RemoteSource:
        """Raises `VideoError`: not_found, access_denied, bad_credentials, no_bucket and those of
        `RemoteSource`.
        """
        bucket, key = bucket_and_key(uri)
        if not {".", ".."}.isdisjoint(key.split("/")):
            raise failure(
                "request_refused",
                uri,
                "a key with . or .. as a part cannot be asked for; rename the object",
            )

        def ask(offset: int, length: int | None, version: str | None) -> BaseHTTPResponse:
            return self._range(uri, bucket, key, offset, length, version)

        return RemoteSource(uri, ask, self._limits)

    def list(self, folder: str) -> Iterator[Listed]:
        """Objects whose uri begins with `folder`, in the order of the service, pages fetched as
        they are needed.

        Raises `VideoError`: no_bucket, access_denied, bad_credentials, unreachable, fetch_cut,
        fetch_timeout, server_error.
        """
        bucket, prefix = bucket_and_key(folder)
        walk = Walk(prefix)
        while not walk.done:
            page = self._page(bucket, walk, folder)
            try:
                found = walk.advance(page)
            except BadListingError as error:
                raise self._bad_listing(error, folder) from error
            yield from found

    def upload(self, path: Path, uri: str) -> None:
        """A file into an object, by minio's client: in parts, with checksums. Raises `VideoError`:
        access_denied, bad_credentials, no_bucket, unreachable, ...
        """
        bucket, key = bucket_and_key(uri)
        account = self._account
        client = Minio(
            account.host,
            secure=account.secure,
            region=account.region,
            credentials=account.credentials,
            http_client=self._pool,
        )
        try:
            client.fput_object(bucket, key, str(path))
        except Exception as error:
            raise _upload_failure(error, uri, account) from error

    def take(self, uri: str, most_bytes: int) -> bytes:
        """A whole object in one request, in memory. Raises `VideoError`: as `open`, and
        request_refused for one of more bytes.
        """
        bucket, key = bucket_and_key(uri)
        deadline = self._limits.deadline(most_bytes)

        def attempt() -> bytes:
            with released(self._asked("GET", uri, bucket, key)) as response:
                size_bytes = stated_bytes(response)
                if size_bytes is None or size_bytes > most_bytes:
                    raise failure(
                        "request_refused",
                        uri,
                        f"it has {size_bytes} bytes; at most {most_bytes} are read",
                    )
                data = bytearray()
                read_into(response, data, size_bytes, uri=uri, deadline=deadline)
                return bytes(data)

        return retried(uri, deadline, attempt, self._limits.stop)

    def put(self, uri: str, data: bytes) -> None:
        """An object in one request, whole or not at all: the service compares its digest. Raises
        `VideoError` as `upload`.
        """
        self._tell("PUT", uri, data)

    def delete(self, uri: str) -> None:
        """Remove an object; there need not be one. Raises `VideoError` as `upload`."""
        try:
            self._tell("DELETE", uri)
        except VideoError as error:
            if error.code != "not_found":
                raise

    def close(self) -> None:
        self._pool.clear()

    def _tell(self, method: str, uri: str, data: bytes = b"") -> None:
        bucket, key = bucket_and_key(uri)

        def attempt() -> None:
            with released(self._asked(method, uri, bucket, key, data)):
                pass

        retried(uri, self._limits.deadline(len(data)), attempt, self._limits.stop)

    def _asked(
        self, method: str, uri: str, bucket: str, key: str, data: bytes = b""
    ) -> BaseHTTPResponse:
        try:
            return self._client.send(method, bucket, key, body=data)
        except Exception as error:
            action = {"GET": "s3:GetObject", "PUT": "s3:PutObject"}.get(method, "s3:DeleteObject")
            raise self._meaning(error, uri, action) from error

    def _range(
        self, uri: str, bucket: str, key: str, offset: int, length: int | None, version: str | None
    ) -> BaseHTTPResponse:
        headers = only_if(version)
        if length is not None:
            headers["Range"] = f"bytes={offset}-{offset + length - 1}"
        try:
            return self._client.get(bucket, key, headers=headers)
        except S3Refusal as refusal:
            if length is not None and (refusal.status == 416 or refusal.code == "InvalidRange"):
                whole_size = whole_size_in(refusal.content_range)
                raise RangeRefusedError(
                    size_in(refusal.size_bytes) if whole_size is None else whole_size
                ) from refusal
            if refusal.status == 412 and version:
                raise failure(
                    "source_changed", uri, "it was replaced while it was read"
                ) from refusal
            raise self._meaning(refusal, uri, "s3:GetObject") from refusal
        except (HTTPError, OSError) as error:
            raise self._meaning(error, uri, "s3:GetObject") from error

    def _page(self, bucket: str, walk: Walk, uri: str) -> Page:
        """The next page, asked for again while failures pass."""
        for number in range(1, LIST_TRIES + 1):
            try:
                response = self._client.get(bucket, query=walk.query)
                return parsed(read_page(response, uri, self._limits))
            except BadListingError as error:
                raise self._bad_listing(error, uri) from error
            except Exception as error:
                if isinstance(error, S3Refusal) and walk.fell_back(error.status, error.code):
                    continue
                failed = self._meaning(error, uri, "s3:ListBucket")
                if failed.code not in PASSING or number == LIST_TRIES:
                    raise failed from error
            time.sleep(0.2 * 2**number)
        raise AssertionError("the last try returns or raises")

    def _meaning(self, error: Exception, uri: str, action: str) -> VideoError:
        if isinstance(error, VideoError):
            return error
        if isinstance(error, S3Refusal):
            return from_s3(error, uri, action, self._account.asked)
        failed = from_network(error, uri, plain=not self._account.secure)
        if failed.code == "unreachable" or "https://" in str(failed):
            return VideoError(failed.code, f"{failed}; {self._account.asked}", stage=failed.stage)
        return failed

    def _bad_listing(self, error: BadListingError, uri: str) -> VideoError:
        return failure(
            "server_error",
            uri,
            f"the answer to a listing cannot be used: {error}; {self._account.asked}",
        )


def _upload_failure(error: Exception, uri: str, account: Account) -> VideoError:
    """The code of what minio raised; exceptions of urllib3 pass through it, too."""
    if isinstance(error, S3Error):
        headers = error.response.headers
        refusal = S3Refusal(
            status=error.response.status,
            code=error.code or "",
            message=error.message or "",
            used_region=account.region or USUAL_REGION,
            region=headers.get("x-amz-bucket-region"),
            signed=account.credentials.retrieve() is not None,
            retry_after=headers.get("Retry-After"),
        )
        return from_s3(refusal, uri, "s3:PutObject", account.asked)
    if isinstance(error, InvalidResponseError):  # a proxy's page, or a server's that is none of S3
        return from_status(error._code, uri, "with an answer that is not S3's")
    if isinstance(error, ServerError):
        return from_status(error.status_code, uri)
    return from_network(error, uri)
