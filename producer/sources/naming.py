"""What names of files and folders say. Pure."""

from __future__ import annotations

import fnmatch
import re
from pathlib import PurePosixPath

from producer.categories import Categories, looks_like_id

#: Files that count as videos in a folder or bucket: what the sampler's format allow-list can open.
VIDEO_SUFFIXES = frozenset(
    {
        ".mp4",
        ".m4v",
        ".mov",
        ".3gp",
        ".3g2",
        ".mj2",
        ".mkv",
        ".webm",
        ".ts",
        ".mts",
        ".m2ts",
        ".avi",
    }
)
#: Folders that split a store by date, hash or number, or that say what they hold: they are no
#: categories.
_NO_CATEGORY = re.compile(r"[^a-z]*|.*=.*|[0-9a-f]{1,3}|(?=.*[0-9])[0-9a-f-]+", re.IGNORECASE)


def is_video_name(name: str, match: str | None) -> bool:
    """Whether a file counts as a video by its name; one without any suffix does if a glob was given
    to choose it.
    """
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in VIDEO_SUFFIXES or (not suffix and match is not None)


def matches(key: str, match: str, *, whole: bool) -> bool:
    """Case-sensitive glob against the last part of `key`; with `whole` also against all of it."""
    names = [PurePosixPath(key).name, *([key] if whole else [])]
    return any(fnmatch.fnmatchcase(name, match) for name in names)


def folder_category(name: str, categories: Categories) -> str | None:
    """The slug a folder's name stands for, else the name: users have their own. None for `2024`,
    `ab`, `dt=2024-05-01`.
    """
    found = None if looks_like_id(name) else categories.find(name)
    if found:
        return found.slug
    return None if _NO_CATEGORY.fullmatch(name) and name.isascii() else name
