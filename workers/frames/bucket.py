"""The frame store in a bucket."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from db.errors import VideoError
from workers.frames.store import AT_ONCE, MAX_BYTES, Stored, missing, unavailable, verified
from workers.settings import WorkerSettings
from workers.sources.retrying import Limits
from workers.sources.s3 import S3Store
from workers.sources.s3_account import Account, own_account
from workers.sources.s3_endpoint import parsed

_DIGEST = re.compile(r"[0-9a-f]{64}")


class BucketStore:
    """`folder` is `s3://bucket/prefix/`; an object's key ends with its digest."""

    def __init__(self, folder: str, account: Account, limits: Limits, *, connections: int) -> None:
        self._folder = folder
        self._objects = S3Store(account, limits, connections=connections)

    def put(self, digest: str, data: bytes) -> None:
        with self._failures():
            self._objects.put(self._folder + digest, data)

    def get(self, digest: str) -> bytes:
        with self._failures():
            try:
                data = self._objects.take(self._folder + digest, MAX_BYTES)
            except VideoError as error:
                if error.code == "not_found":
                    raise missing(digest, self._folder) from error
                raise
        return verified(digest, data)

    def delete(self, name: str) -> None:
        with self._failures():
            self._objects.delete(self._folder + name)

    def list(self) -> Iterator[Stored]:
        start = len(self._folder.partition("://")[2].partition("/")[2])
        now = datetime.now(UTC)
        with self._failures():
            for listed in self._objects.list(self._folder):
                name = listed.key[start:]
                if _DIGEST.fullmatch(name):
                    age = now - (listed.modified_at or now)
                    yield Stored(name, listed.size_bytes or 0, max(0.0, age.total_seconds()))

    def close(self) -> None:
        self._objects.close()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except VideoError as error:
            raise unavailable(f"{error.code}: {error}") from error


def open_bucket(uri: str, settings: WorkerSettings, stop: threading.Event) -> BucketStore:
    """Raises as `workers.frames.opening.open_store`."""
    key, secret = settings.frames_access_key_id, settings.frames_secret_access_key
    where = settings.frames_endpoint
    account = own_account(
        None if where is None else parsed("REELVEC_FRAMES_ENDPOINT", where),
        None if key is None or secret is None else (key, secret.get_secret_value()),
        settings.frames_region,
    )
    return BucketStore(
        f"{uri.rstrip('/')}/",
        account,
        replace(settings.fetch_limits, stop=stop),
        connections=settings.slots + AT_ONCE,
    )
