"""Folders of this machine as sources."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from producer.categories import Categories, looks_like_folder
from producer.sources.manifest import FROM_NAMES, RowError, VideoRow
from producer.sources.naming import folder_category, is_video_name
from producer.sources.uris import file_uri
from workers.sources.file import version_of


def folder_rows(
    root: Path, categories: Categories, match: str | None
) -> Iterator[VideoRow | RowError]:
    """Videos of a folder and all folders below it, in sorted order; hidden names are skipped.

    The first folder below the source is the category. A source that itself is a category folder
    (`48.0_films`, as from `enqueue data/*`) gives all its videos its own.
    """
    inside = root.resolve()
    whole = categories.find(root.name) if looks_like_folder(root.name) else None
    unreadable: list[OSError] = []
    for folder, folders, files in os.walk(root, onerror=unreadable.append):
        here = Path(folder)
        below = here.relative_to(root).parts
        category = whole.slug if whole else None
        if below and whole is None:
            category = folder_category(below[0], categories)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in files if not name.startswith(".")):
            if is_video_name(name, match):
                yield _file_row(here / name, inside, category)
        # os.walk does not enter links: one that leads out would silently lose its videos, one that
        # stays is found
        yield from (
            _leads_out(here / name) for name in folders if not _stays_inside(here / name, inside)
        )
    yield from (
        RowError(_printable(error.filename), f"{error.strerror}: skipped") for error in unreadable
    )


def _file_row(path: Path, inside: Path, category: str | None) -> VideoRow | RowError:
    if not _stays_inside(path, inside):
        return _leads_out(path)
    try:
        uri = file_uri(path)
        facts = path.stat()
    except OSError as error:
        return RowError(_printable(path), error.strerror or str(error))
    except ValueError as error:
        return RowError(_printable(path), str(error))
    if not stat.S_ISREG(facts.st_mode):
        return RowError(_printable(path), "is not a regular file")
    return VideoRow(
        uri,
        category=category,
        title=path.stem,
        size_bytes=facts.st_size,
        etag=version_of(facts),
        derived=FROM_NAMES,
    )


def _stays_inside(path: Path, inside: Path) -> bool:
    try:
        return not path.is_symlink() or path.resolve().is_relative_to(inside)
    except RuntimeError:  # a link to itself: stat() says so
        return True


def _leads_out(path: Path) -> RowError:
    return RowError(
        _printable(path),
        "a link that leads out of the folder; name its target as a source of its own",
    )


def _printable(path: Path | str) -> str:
    """A path for people: line breaks and bytes that are not UTF-8 are escaped."""
    return str(path) if str(path).isprintable() else repr(str(path))[1:-1]
