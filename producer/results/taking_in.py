"""What `reelvec db import` does: the vectors of an `.npz` file under an encoder of their own."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from db import encoders, session
from db.encoders import Encoder
from db.errors import UsageError
from db.results import taking_in, vectors
from db.results.taking_in import NewVideo
from producer.categories import load_shipped
from producer.results.ahead import ahead
from producer.results.old_npz import OldNpz
from producer.sources import uris
from workers.backbones import registry
from workers.sampling.policies import POLICIES
from workers.sources.s3_endpoint import endpoint
from workers.sources.schemes import key_of
from workers.weights.kinds import WEIGHTS_KINDS

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

CHUNK_ROWS = 10_000
_NAME = re.compile(r"[a-z][a-z0-9-]{0,49}")

Tell = Callable[[int, int], None]
"""Told how many rows of how many are looked at."""


@dataclass
class Imported:
    """What became of the rows of a file: each is `written`, was `already` there, or is of no video
    (`unmatched`) or of none in particular (`ambiguous`). `first_unmatched` names one.
    """

    encoder: str
    rows: int
    written: int = 0
    already: int = 0
    unmatched: int = 0
    ambiguous: int = 0
    new_videos: int = 0
    first_unmatched: str | None = None


def import_file(database: Engine, path: Path, name: str | None, tell: Tell) -> Imported:
    """All rows that are of a video, or none: one transaction.

    Raises `UsageError` for a file that holds no vectors of videos, for pickles, for a name that is
    no imported encoder's, for other vectors under a name that has some, and where no row is of a
    recorded video.
    """
    name = checked_name(name or f"imported-{re.sub('[^a-z0-9]+', '-', path.stem.lower())}")
    with OldNpz(path) as file, session.transaction(database) as connection:
        session.allow_pauses(connection)
        encoder = encoders.declare_imported(connection, name, file.shape[-1])
        report = Imported(name, rows=file.shape[0])
        video_ids = _videos(connection, file, report)
        _store(connection, encoder, file, video_ids, report, tell)
    return report


def checked_name(name: str) -> str:
    """Raises `UsageError` for a name that no encoder can have, or that one of ours has."""
    name = name.rstrip("-")
    if not _NAME.fullmatch(name):
        raise UsageError(f"--as {name}: write small letters, digits and -, 50 at most")
    ours = (
        registry.encoder_name(backbone, weights, sampling)
        for backbone in registry.names()
        for weights in WEIGHTS_KINDS
        for sampling in POLICIES
    )
    if name in ours:
        raise UsageError(
            f"--as {name}: vectors that workers make have this name; these are others, for example "
            f"imported-{name}"
        )
    return name


def _videos(connection: Connection, file: OldNpz, report: Imported) -> npt.NDArray[np.int64]:
    """The video of each row, [rows]; 0 and -1: none."""
    rows = report.rows
    addresses, names = file.texts("uris"), file.texts("filenames")
    shown = addresses or names
    if shown is None:
        raise UsageError(
            "the file says nothing of its videos: it needs filenames or uris, one for each row"
        )
    categories = _categories(file)
    taking_in.begin(connection)
    for first in range(0, rows, CHUNK_ROWS):
        part = slice(first, first + CHUNK_ROWS)
        empty = [None] * len(shown[part])
        taking_in.say(
            connection,
            first,
            uris=addresses[part] if addresses else empty,
            names=names[part] if names else empty,
            categories=categories[part],
        )
    video_ids = taking_in.matched(connection, rows, by_uri=addresses is not None)
    if addresses is not None and np.any(video_ids == 0):
        new = [int(row) for row in np.flatnonzero(video_ids == 0)]
        report.new_videos = _record(connection, new, addresses, categories)
        video_ids = taking_in.matched(connection, rows, by_uri=True)
    report.unmatched = int(np.count_nonzero(video_ids == 0))
    report.ambiguous = int(np.count_nonzero(video_ids < 0))
    if report.unmatched:
        report.first_unmatched = shown[int(np.argmax(video_ids == 0))]
    if not np.any(video_ids > 0):
        raise UsageError(
            f"none of {rows:,} rows is of a recorded video, for example {shown[0]!r}: record the "
            "videos with enqueue first, or give their addresses as uris"
        )
    _categorise(connection, video_ids, categories)
    return video_ids


def _categories(file: OldNpz) -> list[str | None]:
    """Of each row, where its label is known."""
    slugs = {category.id: category.slug for category in load_shipped().all}
    named, labels = file.texts("categories"), file.labels()
    if named is not None:
        return [slug or None for slug in named]
    if labels is not None:
        return [slugs.get(label) if label is not None else None for label in labels]
    return [None] * file.shape[0]


def _record(
    connection: Connection, rows: list[int], addresses: list[str], categories: list[str | None]
) -> int:
    host = endpoint().host
    new: dict[str, NewVideo] = {}
    for row in rows:
        try:
            uri = uris.canonical(addresses[row], base=None, s3_endpoint=host).uri
        except ValueError as error:
            raise UsageError(f"uris, row {row}: {error}") from error
        if uri != addresses[row]:
            raise UsageError(f"uris, row {row}: {addresses[row]} is stored as {uri}: write that")
        new[uri] = NewVideo(uri, categories[row], PurePosixPath(key_of(uri)).stem or None)
    videos = list(new.values())
    return sum(
        taking_in.record(connection, videos[first : first + CHUNK_ROWS])
        for first in range(0, len(videos), CHUNK_ROWS)
    )


def _categorise(
    connection: Connection, video_ids: npt.NDArray[np.int64], categories: list[str | None]
) -> None:
    lacking = np.isin(video_ids, taking_in.uncategorised(connection))
    said = [
        (int(video_ids[row]), category)
        for row in np.flatnonzero(lacking).tolist()
        if (category := categories[row]) is not None
    ]
    for first in range(0, len(said), CHUNK_ROWS):
        taking_in.categorise(connection, *zip(*said[first : first + CHUNK_ROWS], strict=True))


def _store(
    connection: Connection,
    encoder: Encoder,
    file: OldNpz,
    video_ids: npt.NDArray[np.int64],
    report: Imported,
    tell: Tell,
) -> None:
    is_new = vectors.count(connection, encoder) == 0
    with ahead(_prepared(encoder, file, video_ids)) as blocks:
        for at, found, prepared in blocks:
            sent = prepared
            if not is_new and len(found.video_ids):
                known = taking_in.known(connection, encoder, found)
                report.already += int(np.count_nonzero(known))
                fresh = vectors.Pooled(found.video_ids[~known], found.vectors[~known])
                sent = taking_in.stream(encoder, fresh)
            report.written += taking_in.store(connection, sent)
            tell(at, report.rows)


def _prepared(
    encoder: Encoder, file: OldNpz, video_ids: npt.NDArray[np.int64]
) -> Iterator[tuple[int, vectors.Pooled, io.BytesIO]]:
    """How many rows are read, those of them that are of a video, and the bytes to send."""
    at = 0
    for block in file.vectors():
        ids = video_ids[at : at + len(block)]
        found = vectors.Pooled(ids[ids > 0], block[ids > 0])
        at += len(block)
        yield at, found, taking_in.stream(encoder, found)
