"""Where a command writes what it made of each video: one file for one video, or a folder with a
file for each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from db.errors import UsageError
from workers.sources.schemes import key_of


def targets(option: str, given: Path, suffix: str, uris: Sequence[str]) -> list[Path]:
    """A path for each canonical uri, to be written with `whole_file`. Nothing is made yet.

    `given`: a name that ends in `suffix`, for one video, or a folder, there already or not. Raises
    `UsageError` for all else, for two videos with one name, and for a folder that cannot be
    written.
    """
    if not given.suffix or _is_folder(given):
        names = [(PurePosixPath(key_of(uri)).stem or "video") + suffix for uri in uris]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(
                f"{option} {given}: two videos would be written to {twice}; run them apart"
            )
        _refuse_unwritable(
            option, next(folder for folder in (given, *given.parents) if os.access(folder, os.F_OK))
        )
        return [given / name for name in names]
    if given.suffix.lower() != suffix:
        raise UsageError(
            f"{option} {given} does not end in {suffix}: give NAME{suffix} for one video, or a "
            "folder"
        )
    if len(uris) > 1:
        raise UsageError(
            f"{option} {given} is one {suffix} but there are {len(uris)} videos: give a folder"
        )
    _refuse_unwritable(option, given.parent)
    return [given]


def _is_folder(path: Path) -> bool:
    return os.access(path, os.F_OK) and path.is_dir()


def _refuse_unwritable(option: str, folder: Path) -> None:
    if not _is_folder(folder):
        raise UsageError(f"{option}: there is no folder {folder}; make it or name another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{option}: this user may not write to the folder {folder}; name another")


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of `path` when all is written, and is gone if not.
    Raises `UsageError`.
    """
    unfinished = path.with_name(f".reelvec-{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):  # it is not there any more, or never was
            unfinished.unlink()
