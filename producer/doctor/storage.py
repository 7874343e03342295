"""Sources: is the S3 service reachable, as whom, and can one video really be listed and opened."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from db.errors import ReelvecError, VideoError
from producer.doctor.check import Check, Finding, fail, failed_with, ok, skipped, warn
from producer.doctor.configuration import servers

if TYPE_CHECKING:
    from workers.sources.storage import Storage

GROUP = "Sources"
#: A stalled service is tried five times before its listing fails.
SECONDS = 60.0
#: As many objects as S3 gives for one call; as many rows are looked at for a good one.
PAGE_OBJECTS = 1000
#: Videos that are opened until one is not empty.
OPENED = 10
#: Variables that say that S3 is meant, besides an s3:// source.
S3_VARIABLES = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_PROFILE",
)


def checks(named: str | None) -> list[Check]:
    """`named`: the source given on the command line; default: REELVEC_SOURCE."""
    source = named or os.environ.get("REELVEC_SOURCE", "").strip() or None
    return [
        Check(GROUP, "s3", lambda: _s3(source), SECONDS),
        Check(GROUP, "source", lambda: _source(source), SECONDS),
        Check(GROUP, "file roots", _roots),
    ]


def _s3(source: str | None) -> Iterator[Finding]:
    """Which service, and as whom. Values of keys are never looked at here."""
    if not (source or "").startswith("s3:") and not any(
        os.environ.get(name) for name in S3_VARIABLES
    ):
        yield skipped("s3", "not configured, and no s3:// source")
        return
    from workers.sources.s3_account import account

    try:
        found = account()
    except ReelvecError as error:
        yield failed_with("s3", error, advice_after="; " if "; " in str(error) else ": ")
        return
    found.credentials.retrieve()
    address = f"{'https' if found.secure else 'http'}://{found.host}"
    fact = (
        f"{address}, region {found.region or 'of each bucket'}, credentials: "
        f"{found.credentials.source}"
    )
    if found.credentials.source == "anonymous":
        yield warn(
            "s3",
            f"{fact}: only public buckets can be read",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile",
        )
        return
    yield ok("s3", fact)


def _source(source: str | None) -> Iterator[Finding]:
    from db import settings
    from workers.settings import WorkerSettings
    from workers.sources.storage import Storage

    if source is None:
        yield skipped(
            "source", "none given: give --source, or set REELVEC_SOURCE, to have it tested"
        )
        return
    if source == "-":
        yield skipped("source", "standard input is not read here")
        return
    where = servers()
    chosen = settings.load(WorkerSettings)
    with Storage(
        chosen, roots=chosen.roots if where is not None and not where.local else None
    ) as storage:
        yield from _try(source, storage)


def _try(source: str, storage: Storage) -> Iterator[Finding]:
    """List until the first videos, then open them until one is not empty: of an object or address
    this reads its first block.
    """
    try:
        fact, uris = _first(source, storage)
    except ReelvecError as error:
        yield _failure("source", "cannot be listed", error)
        return
    if not uris:
        yield warn(
            "source",
            fact,
            "check that its name is complete; enqueue --dry-run shows what would be recorded",
        )
        return
    yield ok("source", fact)
    try:
        yield _opened(uris, storage)
    except VideoError as error:
        yield _failure("first video", "cannot be opened", error)


def _opened(uris: Sequence[str], storage: Storage) -> Finding:
    """Of the first video that is not empty. Raises `VideoError`."""
    for empty, uri in enumerate(uris):
        with storage.open(uri) as opened:
            if opened.size_bytes:
                before = f"; before it {empty} of 0 bytes" if empty else ""
                return ok("first video", f"{uri} opens, {opened.size_bytes:,} bytes{before}")
    others = f", and so have the {len(uris) - 1} after it" if uris[1:] else ""
    return warn(
        "first video",
        f"{uris[0]} has 0 bytes{others}",
        "upload it again: such a video fails as empty_file",
    )


_CURES = {
    "access_denied": "allow the account above to list the bucket and get its objects "
    "(s3:ListBucket, s3:GetObject)",
    "bad_credentials": "check the keys, or the profile; where they come from is said above",
    "no_bucket": "check the bucket's name, and AWS_ENDPOINT_URL_S3 if it is not on AWS",
    "unreachable": "check AWS_ENDPOINT_URL_S3 (or the address), DNS and firewalls from this "
    "machine",
    "not_found": "check the address",
    "outside_roots": "set REELVEC_FILE_ROOTS on every worker",
}


def _failure(name: str, what: str, error: ReelvecError) -> Finding:
    """The code and words of storage, which is what the jobs of such videos would end or wait
    with.
    """
    cause = error.__cause__ if isinstance(error.__cause__, VideoError) else error
    code = f"{cause.code}: " if isinstance(cause, VideoError) else ""
    return fail(
        name, f"{what}: {code}{cause}", _CURES.get(cause.code, "the message says what to do")
    )


def _first(source: str, storage: Storage) -> tuple[str, list[str]]:
    """What to say of a source, and the uris of its first videos: one real list call, or its first
    good rows.
    """
    from producer.categories import load_shipped
    from producer.sources.naming import VIDEO_SUFFIXES
    from producer.sources.reading import RowError, bucket_folder, read_source
    from workers.sources.s3_endpoint import endpoint
    from workers.sources.schemes import bucket_and_key

    host = endpoint().host
    try:
        folder = bucket_folder(source, host)
    except ValueError:  # `read_source` refuses it in the words of enqueue
        folder = None
    if folder is not None:
        keys = [listed.key for listed in islice(storage.list(folder), PAGE_OBJECTS)]
        if keys:
            videos = [key for key in keys if PurePosixPath(key).suffix.lower() in VIDEO_SUFFIXES]
            fact = (
                f"{source} can be listed, {len(videos)} of its first {len(keys)} objects are "
                "videos by name"
            )
            bucket = folder.removesuffix(bucket_and_key(folder)[1])
            return fact, [f"{bucket}{key}" for key in videos[:OPENED]]
    bad: RowError | None = None
    uris: list[str] = []
    rows = read_source(
        source, categories=load_shipped(), match=None, s3_endpoint=host, storage=storage
    )
    for row in islice(rows, PAGE_OBJECTS):
        if isinstance(row, RowError):
            bad = bad or row
        else:
            uris.append(row.uri)
        if len(uris) == OPENED:
            break
    if uris:
        return f"{source} can be read", uris
    if bad is not None:
        return f"{source} has no good row at its beginning: {bad.where}: {bad.reason}", []
    return f"{source} can be read, but holds no video", []


def _roots() -> Iterator[Finding]:
    from db import settings
    from workers.settings import WorkerSettings

    where = servers()
    chosen = settings.load(WorkerSettings)
    if not chosen.file_roots:
        every = where is not None and where.local
        yield skipped(
            "file roots",
            "every folder (local stack)" if every else "not set: workers here read no file: source",
        )
        return
    for folder in chosen.roots:
        yield judge_root(folder)


def judge_root(folder: Path) -> Finding:
    if not folder.is_dir():
        return fail(
            "file roots",
            f"{folder} is no folder on this machine",
            "mount it here, or correct REELVEC_FILE_ROOTS",
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        return fail(
            "file roots",
            f"{folder} may not be read by this user",
            "give the user of the workers read access",
        )
    return ok("file roots", f"{folder} can be read")
