"""Files that a command writes where its user says: whole, or not at all. One that is there is
replaced when the new one is whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from uuid import uuid4

from db.errors import UsageError
from workers.sources.schemes import key_of


def refuse_file(option: str, path: Path) -> None:
    """Before any work: `UsageError` for a file that cannot be written with `whole_file`."""
    _refuse_unwritable(option, _nearest(path.parent))
    _refuse_odd([path])


def wrote(path: Path) -> str:
    """What will have happened to it, asked before it is written."""
    return "replaced" if path.exists() else "wrote"


def targets(option: str, given: Path, suffix: str, uris: Sequence[str]) -> list[Path]:
    """A path for each canonical uri, to be written with `whole_file`. Nothing is made yet.

    `given`: a name that ends in `suffix`, for one video, or a folder, there already or not. Raises
    `UsageError` for all else, for two videos with one name, and for a folder that cannot be
    written.
    """
    paths = _paths(option, given, suffix, uris)
    _refuse_odd(paths)
    return paths


def _paths(option: str, given: Path, suffix: str, uris: Sequence[str]) -> list[Path]:
    if not given.suffix or _is_folder(given):
        names = [(PurePosixPath(key_of(uri)).stem or "video") + suffix for uri in uris]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(
                f"{option} {given}: two videos would be written to {twice}; run them apart"
            )
        _refuse_unwritable(option, _nearest(given))
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


def _nearest(folder: Path) -> Path:
    """The folder itself, or the first above it that is there."""
    return next(above for above in (folder, *folder.parents) if os.access(above, os.F_OK))


def _is_folder(path: Path) -> bool:
    return os.access(path, os.F_OK) and path.is_dir()


def _refuse_unwritable(option: str, folder: Path) -> None:
    if not _is_folder(folder):
        raise UsageError(f"{option}: there is no folder {folder}; make it or name another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{option}: this user may not write to the folder {folder}; name another")


def _refuse_odd(paths: Sequence[Path]) -> None:
    if odd := next((path for path in paths if path.exists() and not path.is_file()), None):
        what = "a folder: name a file in it" if odd.is_dir() else "no ordinary file: name another"
        raise UsageError(f"{odd} is {what}")


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of `path` when all is written, and is gone if not.
    Raises `UsageError`.
    """
    target = Path(os.path.realpath(path))  # a link stays one, to what is written
    unfinished = target.with_name(f".reelvec-{uuid4().hex}.part")
    try:
        _refuse_odd([path])
        target.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # it is not there any more, or never was
            unfinished.unlink()
