"""Files of this machine, below the folders that are allowed."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Self

from db.errors import VideoError
from workers.sources.schemes import key_of
from workers.sources.source import STAGE

if TYPE_CHECKING:
    from workers.settings import WorkerSettings
    from workers.sources.retrying import Limits

#: A socket; a name that no file can have; links that lead to each other.
_NEVER_FILES = (errno.ENXIO, errno.ENAMETOOLONG, errno.ELOOP)


def version_of(facts: os.stat_result) -> str:
    """The etag of a file: modification time and size."""
    return f"{facts.st_mtime_ns:x}-{facts.st_size:x}"


class FileStore:
    def __init__(self, roots: tuple[Path, ...] | None) -> None:
        self._roots = roots

    def open(self, uri: str) -> FileSource:
        return open_file(uri, self._roots)

    def close(self) -> None:
        """Nothing is kept between two files."""


def make_store(
    _settings: WorkerSettings, _limits: Limits, roots: tuple[Path, ...] | None
) -> FileStore:
    """`roots` as for `open_file`."""
    return FileStore(roots)


class FileSource:
    """A regular file, read with `pread`. Its etag is modification time and size."""

    def __init__(self, path: Path) -> None:
        # O_NONBLOCK: opening a FIFO would otherwise wait for its writer for ever
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise VideoError(
                "not_found", f"{path} does not exist on this machine", stage=STAGE
            ) from error
        except PermissionError as error:
            raise VideoError(
                "permission_denied", f"{path} may not be read by this user", stage=STAGE
            ) from error
        except OSError as error:
            code = "not_a_file" if error.errno in _NEVER_FILES else "io_error"
            raise VideoError(code, f"{str(path)[:200]}: {error.strerror}", stage=STAGE) from error
        facts = os.fstat(self._fd)
        if not stat.S_ISREG(facts.st_mode):
            os.close(self._fd)
            raise VideoError("not_a_file", f"{path} is not a regular file", stage=STAGE)
        self._path = path
        self.open_seconds = 0.0
        self.size_bytes = facts.st_size
        self.etag: str | None = version_of(facts)

    def read(self, offset: int, length: int) -> bytes:
        if version_of(os.fstat(self._fd)) != self.etag:
            raise VideoError(
                "source_changed", f"{self._path} was changed while it was read", stage=STAGE
            )
        try:
            return os.pread(self._fd, length, offset)
        except OSError as error:
            raise VideoError("io_error", f"{self._path}: {error}", stage=STAGE) from error

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_file(uri: str, roots: tuple[Path, ...] | None) -> FileSource:
    """Open a `file:` uri. `roots`: folders it must lie below; None allows every folder.

    Raises `VideoError`: not_found, not_a_file, outside_roots, permission_denied, io_error.
    """
    path = Path(os.path.realpath(key_of(uri)))  # Path.resolve stumbles over links in a ring
    if roots is not None and not any(path.is_relative_to(root) for root in roots):
        allowed = ", ".join(map(str, roots)) or "none"
        raise VideoError(
            "outside_roots",
            f"{path} is below no folder of REELVEC_FILE_ROOTS (now: {allowed}); set it on every "
            "worker to allow it",
            stage=STAGE,
        )
    return FileSource(path)
