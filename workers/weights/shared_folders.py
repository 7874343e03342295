"""Folders that several processes may want to fill: one does, the others wait, and nobody sees a
half of one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from db.errors import RefusedConfigurationError

log = logging.getLogger(__name__)


def made(folder: Path, setting: str) -> Path:
    """`folder`, made if it is not there. Raises `RefusedConfigurationError` naming the `setting`
    that chooses another.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefusedConfigurationError(
            f"the folder {folder} cannot be made: {error}; set {setting} to one of yours"
        ) from error
    return folder


@contextmanager
def exclusive(folder: Path, name: str, setting: str) -> Iterator[None]:
    """Hold the lock `name` of a folder. The kernel lets go of it when its holder dies.

    Raises `RefusedConfigurationError` for a folder that may not be written, naming the `setting`
    that chooses another.
    """
    path = made(folder, setting) / f".{name}.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RefusedConfigurationError(
            f"{path} cannot be written: {error}; set {setting} to a folder of yours"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("waiting for another process that fills %s", folder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def put_in_place(new: Path, final: Path) -> None:
    """Make the finished folder `new` the folder `final`. The old one is gone only once the new one
    is there.
    """
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    new.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def refuse_full_disk(folder: Path, needed_bytes: int, advice: str) -> None:
    """Raise `RefusedConfigurationError` where `folder`'s disk has less than `needed_bytes` free."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise RefusedConfigurationError(
            f"{needed_bytes / 1e6:,.1f} MB have to go to {folder}, and its disk has "
            f"{free_bytes / 1e6:,.1f} MB free: {advice}"
        )
