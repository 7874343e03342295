"""The frame store in a folder that all nodes see: NFS, Lustre, or one machine's disk."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from workers.frames.store import MAX_BYTES, Stored, missing, unavailable, verified

#: A file is named by the digest of its bytes, and has an ending until it is whole.
_NAME = re.compile(r"[0-9a-f]{64}(\.[0-9a-f]{32}\.unfinished)?")


class FolderStore:
    """Objects lie in 256 folders below `folder`, by the first two digits of their digests. `folder`
    itself is never made here: where it is missing, its file system is not mounted.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, digest: str, data: bytes) -> None:
        path = self._path(digest)
        with self._failures():
            with contextlib.suppress(FileExistsError):
                path.parent.mkdir()
                _sync(self._folder)
            new = path.with_name(f"{digest}.{uuid4().hex}.unfinished")
            try:
                with new.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                new.replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    new.unlink(missing_ok=True)
                raise
            _sync(path.parent)

    def get(self, digest: str) -> bytes:
        with self._failures():
            try:
                with self._path(digest).open("rb") as file:
                    data = file.read(MAX_BYTES + 1)
            except FileNotFoundError:
                if not self._folder.is_dir():
                    raise
                raise missing(digest, str(self._folder)) from None
        return verified(digest, data)

    def delete(self, name: str) -> None:
        path = self._path(name)
        with self._failures():
            if not self._folder.is_dir():
                raise FileNotFoundError(self._folder)
            path.unlink(missing_ok=True)

    def list(self) -> Iterator[Stored]:
        now = time.time()
        with self._failures():
            for inner in sorted(self._folder.iterdir()):
                if re.fullmatch("[0-9a-f]{2}", inner.name):
                    yield from _objects(inner, now)

    def close(self) -> None:
        """Nothing is held."""

    def _path(self, name: str) -> Path:
        assert _NAME.fullmatch(name), name
        return self._folder / name[:2] / name

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unavailable(f"the folder {self._folder}: {error}") from error


def _objects(folder: Path, now: float) -> Iterator[Stored]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    facts = entry.stat()
                    yield Stored(entry.name, facts.st_size, max(0.0, now - facts.st_mtime))


def _sync(folder: Path) -> None:
    """The names in a folder reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
