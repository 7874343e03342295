"""The one client that reads sources and lists buckets: a video is a run of bytes with a size and a
version.

Nothing else in the project opens a video's file, object or address. Reads are ranges: a sampler
gets the bytes it needs and no more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Self, cast

from db.errors import VideoError
from workers.settings import WorkerSettings
from workers.sources.s3_endpoint import endpoint
from workers.sources.schemes import SCHEMES
from workers.sources.source import STAGE, BucketStore, ByteSource, Listed, Store

__all__ = ["STAGE", "ByteSource", "Storage"]

#: What a download asks for at once.
CHUNK_BYTES = 8 << 20


class Storage:
    """All sources by their uris. Thread-safe; a store is made when the first source needs it.

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
        endpoint()
        self._settings = settings
        self._limits = replace(settings.fetch_limits, stop=stop or threading.Event())
        self._roots = roots
        self._stores: dict[str, Store] = {}

    def open(self, uri: str) -> ByteSource:
        """Open a canonical uri.

        Raises `VideoError`: not_found, access_denied, source_changed and the other codes of stage
        fetch in `db.errors`; `RefusedConfigurationError` if the environment names no usable S3
        account.
        """
        return self._store(uri).open(uri)

    def list(self, folder: str) -> Iterator[Listed]:
        """Objects whose uri begins with `folder` (`s3://bucket/prefix/`). Raises as `open`, while
        it is read.
        """
        return cast(BucketStore, self._store(folder)).list(folder)

    def download(self, uri: str, path: Path) -> None:
        """A source into a file, which is complete or not there. Raises as `open`, and io_error."""
        with self.open(uri) as source:
            try:
                with path.open("wb") as file:
                    for offset in range(0, source.size_bytes, CHUNK_BYTES):
                        file.write(source.read(offset, CHUNK_BYTES))
            except BaseException as error:
                path.unlink(missing_ok=True)
                if isinstance(error, OSError):
                    why = f"{uri}: {path} cannot be written: {error}"
                    raise VideoError("io_error", why, stage=STAGE) from error
                raise

    def upload(self, path: Path, uri: str) -> None:
        """A file into an object of a bucket. Raises as `open`."""
        cast(BucketStore, self._store(uri)).upload(path, uri)

    def close(self) -> None:
        for store in self._stores.values():
            store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _store(self, uri: str) -> Store:
        name = uri.partition(":")[0]
        if (scheme := SCHEMES.get(name)) is None:
            known = ", ".join(f"{known}:" for known in SCHEMES)
            raise VideoError("unsupported_scheme", f"{name}: is none of {known}", stage=STAGE)
        if (store := self._stores.get(scheme.module)) is None:
            made = import_module(f"workers.sources.{scheme.module}").make_store(
                self._settings, self._limits, self._roots
            )
            store = self._stores.setdefault(scheme.module, made)
        return store
