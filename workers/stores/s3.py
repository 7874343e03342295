"""Objects of an S3 service, through minio: ranges, lists, files up and down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3 import BaseHTTPResponse, PoolManager, Retry

from db.errors import VideoError
from workers.stores.failures import failure, from_network, from_s3, from_status
from workers.stores.limits import Limits
from workers.stores.patience import PASSING
from workers.stores.pools import pool_options
from workers.stores.remote import RemoteSource
from workers.stores.s3_account import Account

#: A listing goes on where it was cut, this often without a new key in between.
LIST_TRIES = 5
#: What a download asks for at once.
CHUNK_BYTES = 8 << 20


@dataclass(frozen=True)
class Listed:
    """One object of a bucket. `etag` without quotes."""

    key: str
    size_bytes: int
    etag: str | None


class S3Store:
    """One service, as one account. Thread-safe."""

    def __init__(self, account: Account, limits: Limits, *, connections: int) -> None:
        self._limits = limits
        # retries are ours; a redirect to the bucket's region is the client's
        self._pool = PoolManager(
            retries=Retry(total=None, connect=0, read=0, status=0, other=0, redirect=2),
            **pool_options(limits, connections, ca_variables=("AWS_CA_BUNDLE", "SSL_CERT_FILE")),
        )
        self._client = Minio(
            account.host,
            secure=account.secure,
            region=account.region,
            credentials=account.credentials,
            http_client=self._pool,
        )

    def open(self, uri: str) -> RemoteSource:
        """Raises `VideoError`: not_found, access_denied, bad_credentials, no_bucket and those of `RemoteSource`."""
        bucket, key = _split(uri)
        if not {".", ".."}.isdisjoint(key.split("/")):
            raise failure("request_refused", uri, "a key with . or .. as a part cannot be asked for; rename the object")

        def ask(offset: int, length: int, version: str | None) -> BaseHTTPResponse | None:
            return self._range(uri, bucket, key, offset, length, version)

        return RemoteSource(uri, ask, self._limits)

    def list(self, bucket: str, prefix: str) -> Iterator[Listed]:
        """Objects whose key begins with `prefix`, in the order of the service, pages fetched as they are needed.

        Raises `VideoError`: no_bucket, access_denied, bad_credentials, unreachable, fetch_cut, fetch_timeout, server_error.
        """
        uri = f"s3://{bucket}/{prefix}"
        after: str | None = None
        fruitless = 0
        while True:
            try:
                for found in self._client.list_objects(bucket, prefix=prefix, recursive=True, start_after=after):
                    fruitless = 0
                    after = str(found.object_name)
                    yield Listed(after, int(found.size or 0), (found.etag or "").strip('"') or None)
                return
            except Exception as error:
                failed = _meaning(error, uri)
                fruitless += 1
                if failed.code not in PASSING or fruitless == LIST_TRIES:
                    raise failed from error
            time.sleep(0.2 * 2**fruitless)

    def download(self, uri: str, path: Path) -> None:
        """An object into a file, which is complete or not there. Raises `VideoError` as `open`, and io_error."""
        with self.open(uri) as source:
            try:
                with path.open("wb") as file:
                    for offset in range(0, source.size_bytes, CHUNK_BYTES):
                        file.write(source.read(offset, CHUNK_BYTES))
            except BaseException as error:
                path.unlink(missing_ok=True)
                if isinstance(error, OSError):
                    raise failure("io_error", uri, f"{path} cannot be written: {error}") from error
                raise

    def upload(self, path: Path, uri: str) -> None:
        """A file into an object. Raises `VideoError`: access_denied, bad_credentials, no_bucket, unreachable, ..."""
        bucket, key = _split(uri)
        try:
            self._client.fput_object(bucket, key, str(path))
        except Exception as error:
            raise _meaning(error, uri) from error

    def close(self) -> None:
        self._pool.clear()

    def _range(
        self, uri: str, bucket: str, key: str, offset: int, length: int, version: str | None
    ) -> BaseHTTPResponse | None:
        headers: dict[str, Any] = {"If-Match": version} if version else {}
        try:
            return self._client.get_object(bucket, key, offset=offset, length=length, request_headers=headers)
        except S3Error as error:
            if error.code == "InvalidRange" and offset == 0:  # empty: there is nothing to give a range of
                return None
            if error.response.status == 412 and version:
                raise failure("source_changed", uri, "it was replaced while it was read") from error
            raise _meaning(error, uri) from error
        except MinioException as error:
            raise _meaning(error, uri) from error


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _meaning(error: Exception, uri: str) -> VideoError:
    """The code of what minio raised; exceptions of urllib3 pass through it, too."""
    if isinstance(error, S3Error):
        answer = error.response
        again = answer.headers.get("Retry-After")
        return from_s3(error.code or "", answer.status, uri, error.message or "", retry_after=again)
    if isinstance(error, InvalidResponseError):  # a proxy's page, or a server's that is none of S3
        return from_status(error._code, uri, "with an answer that is not S3's")
    if isinstance(error, ServerError):
        return from_status(error.status_code, uri)
    return from_network(error, uri)
