"""The one client that reads sources and lists buckets: a video is a run of bytes with a size and a
version.

Nothing else in the project opens a video's file, object or address. Reads are ranges: a sampler
gets the bytes it needs and no more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from db.errors import VideoError
from workers.settings import WorkerSettings
from workers.sources.file import open_file
from workers.sources.s3_endpoint import endpoint
from workers.sources.source import STAGE, ByteSource

if TYPE_CHECKING:
    from workers.sources.http import HttpStore
    from workers.sources.s3 import Listed, S3Store

__all__ = ["STAGE", "ByteSource", "Storage"]


class Storage:
    """Files, S3 objects and web addresses. Thread-safe; clients are made when the first source
    needs them.

    `roots`: folders that `file:` sources must lie below; None allows every folder (local stack,
    `embed`). Once `stop` is set a read that fails is not tried again: it raises `Cancelled`. Raises
    `UsageError` for an S3 endpoint that is no address. Keys are looked for when the first object
    is: somebody whose videos are files may have none.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        roots: tuple[Path, ...] | None,
        stop: threading.Event | None = None,
    ) -> None:
        self._settings = settings
        self._limits = replace(settings.fetch_limits, stop=stop or threading.Event())
        self._roots = roots
        self._s3_host = endpoint().host

    def open(self, uri: str) -> ByteSource:
        """Open a canonical uri.

        Raises `VideoError`: not_found, access_denied, source_changed and the other codes of stage
        fetch in `db.errors`; `RefusedConfigurationError` if the environment names no usable S3
        account.
        """
        scheme = uri.partition(":")[0]
        if scheme == "file":
            return open_file(uri, self._roots)
        if scheme == "s3":
            return self._s3.open(uri)
        if scheme in ("http", "https"):
            return self._http.open(uri)
        raise VideoError(
            "unsupported_scheme", f"{scheme}: is none of file:, s3:, http:, https:", stage=STAGE
        )

    def list(self, bucket: str, prefix: str) -> Iterator[Listed]:
        """Objects of a bucket whose key begins with `prefix`. Raises as `open`, while it is
        read.
        """
        return self._s3.list(bucket, prefix)

    def download(self, uri: str, path: Path) -> None:
        """An `s3:` object into a file, which is complete or not there. Raises as `open`."""
        self._s3.download(uri, path)

    def upload(self, path: Path, uri: str) -> None:
        """A file into an `s3:` object. Raises as `open`."""
        self._s3.upload(path, uri)

    def close(self) -> None:
        for name in ("_s3", "_http"):
            if name in self.__dict__:
                self.__dict__[name].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def _s3(self) -> S3Store:
        from workers.sources.s3 import S3Store
        from workers.sources.s3_account import account

        return S3Store(account(), self._limits, connections=self._settings.in_flight)

    @cached_property
    def _http(self) -> HttpStore:
        from workers.sources.http import HttpStore

        return HttpStore(
            self._limits,
            allow_private=self._settings.http_allow_private,
            s3_host=self._s3_host,
            connections=self._settings.in_flight,
        )
