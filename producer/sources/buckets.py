"""Buckets as sources."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from db.errors import RefusedConfigurationError, UnavailableError, UsageError, VideoError
from producer.categories import Categories, looks_like_folder
from producer.sources.manifest import RowError, VideoRow
from producer.sources.naming import folder_category, is_video_name
from producer.sources.uris import s3_uri
from workers.sources.storage import Storage

if TYPE_CHECKING:
    from workers.sources.s3 import Listed

_REFUSED = frozenset({"access_denied", "bad_credentials", "request_refused"})
_TO_MEND = frozenset({"unreachable"})
_MISSING = frozenset({"no_bucket", "not_found"})


def bucket_rows(
    bucket: str, prefix: str, *, categories: Categories, match: str | None, storage: Storage
) -> Iterator[VideoRow | RowError]:
    """Videos below a prefix (empty, or ending in a slash), in the service's order; hidden names are
    skipped.

    Categories as in a local folder. The first page is asked for at once. Raises `UsageError` for a
    missing bucket and a prefix with nothing below it, `RefusedConfigurationError` for keys that may
    not list, `UnavailableError`; the last two also later, between rows.
    """
    listed = storage.list(bucket, prefix)
    with told():
        first = next(listed, None)
        if first is None and prefix:
            single = next(
                (each for each in storage.list(bucket, prefix[:-1]) if each.key == prefix[:-1]),
                None,
            )
            if single is not None:  # an object, not a folder
                return iter([_row(bucket, single, None)])
    if first is None:
        raise UsageError(
            f"there is nothing below s3://{bucket}/{prefix}; check the prefix (it is "
            "case-sensitive)"
        )
    return _rows(bucket, prefix, chain([first], listed), categories, match)


@contextmanager
def told() -> Iterator[None]:
    """An error of storage, as an error of the command."""
    try:
        yield
    except VideoError as error:
        if error.code in _MISSING:
            raise UsageError(str(error)) from error
        if error.code in _REFUSED:
            raise RefusedConfigurationError(str(error)) from error
        # an unknown host is no fault that passes by itself
        again = "then run the command again" if error.code in _TO_MEND else "run the command again"
        raise UnavailableError(
            f"{error}; {again}: what is recorded already is not recorded twice"
        ) from error


def _rows(
    bucket: str, prefix: str, listed: Iterator[Listed], categories: Categories, match: str | None
) -> Iterator[VideoRow | RowError]:
    name = PurePosixPath(prefix).name
    whole = categories.find(name) if looks_like_folder(name) else None
    with told():
        for each in listed:
            parts = each.key[len(prefix) :].split("/")
            if (
                any(part.startswith(".") for part in parts)
                or not is_video_name(parts[-1], match)
                or not parts[-1]
            ):
                continue
            category = whole.slug if whole else None
            if len(parts) > 1 and whole is None and parts[0]:
                category = folder_category(parts[0], categories)
            yield _row(bucket, each, category)


def _row(bucket: str, each: Listed, category: str | None) -> VideoRow | RowError:
    try:
        uri = s3_uri(bucket, each.key)
    except ValueError as error:
        return RowError(repr(f"s3://{bucket}/{each.key}")[1:-1], str(error))
    title = PurePosixPath(each.key).stem
    return VideoRow(
        uri, category=category, title=title or None, size_bytes=each.size_bytes, etag=each.etag
    )
