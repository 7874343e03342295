"""Buckets as sources."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import PurePosixPath

from db.errors import RefusedConfigurationError, UnavailableError, UsageError, VideoError
from producer.categories import Categories, looks_like_folder
from producer.sources.manifest import FROM_NAMES, RowError, VideoRow
from producer.sources.naming import folder_category, is_video_name
from producer.sources.uris import object_uri
from workers.sources.schemes import bucket_and_key
from workers.sources.source import Listed
from workers.sources.storage import Storage

_REFUSED = frozenset({"access_denied", "bad_credentials", "request_refused"})
_TO_MEND = frozenset({"unreachable"})
_MISSING = frozenset({"no_bucket", "not_found"})


def bucket_rows(
    folder: str, *, categories: Categories, match: str | None, storage: Storage
) -> Iterator[VideoRow | RowError]:
    """Videos below a bucket, or a folder of one (a uri that ends in a slash), in the service's
    order; hidden names are skipped.

    Categories as in a local folder. The first page is asked for at once. Raises `UsageError` for a
    missing bucket and a prefix with nothing below it, `RefusedConfigurationError` for keys that may
    not list, `UnavailableError`; the last two also later, between rows.
    """
    objects = storage.list(folder)
    key = bucket_and_key(folder)[1].removesuffix("/")
    with command_errors():
        first = next(objects, None)
        if first is None and key:
            for listed in storage.list(folder.removesuffix("/")):
                if listed.key == key:  # an object, not a folder
                    return iter([_row(folder, listed, None)])
    if first is None:
        raise UsageError(
            f"there is nothing below {folder}; check the prefix (it is case-sensitive)"
        )
    return _rows(folder, chain([first], objects), categories, match)


@contextmanager
def command_errors() -> Iterator[None]:
    """Turns an error of storage into one that ends the command."""
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
    folder: str, objects: Iterator[Listed], categories: Categories, match: str | None
) -> Iterator[VideoRow | RowError]:
    prefix = bucket_and_key(folder)[1]
    name = PurePosixPath(prefix).name
    whole = categories.find(name) if looks_like_folder(name) else None
    with command_errors():
        for listed in objects:
            parts = listed.key[len(prefix) :].split("/")
            if (
                any(part.startswith(".") for part in parts)
                or not is_video_name(parts[-1], match)
                or not parts[-1]
            ):
                continue
            category = whole.slug if whole else None
            if len(parts) > 1 and whole is None and parts[0]:
                category = folder_category(parts[0], categories)
            yield _row(folder, listed, category)


def _row(folder: str, listed: Listed, category: str | None) -> VideoRow | RowError:
    scheme, bucket = folder.partition(":")[0], bucket_and_key(folder)[0]
    try:
        uri = object_uri(scheme, bucket, listed.key)
    except ValueError as error:
        return RowError(repr(f"{scheme}://{bucket}/{listed.key}")[1:-1], str(error))
    title = PurePosixPath(listed.key).stem
    return VideoRow(
        uri,
        category=category,
        title=title or None,
        size_bytes=listed.size_bytes,
        etag=listed.etag,
        derived=FROM_NAMES,
    )
