"""What `reelvec export` does: the vectors of one encoder, with the videos they are of, into files
that other programs read.

All rows are of one moment. A file appears at the end, whole; a folder is filled part by part, and a
run that was broken off goes on behind the last whole part.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from db import encoders
from db.encoders import Encoder
from db.errors import UsageError
from db.results import csv, vectors
from producer.local.targets import whole_file
from producer.results import npz, parquet, rows
from producer.results.rows import Rows

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

SUFFIXES = (".npz", ".parquet", ".csv")
PART_BLOCKS = 12
"""Blocks of `db.results.vectors` in one part of a folder: some 100,000 videos."""

Tell = Callable[[int, int], None]
"""Told how many rows of how many are written."""


def export(database: Engine, name: str, target: Path, *, windows: bool, tell: Tell) -> int:
    """Write all vectors of the encoder `name` to `target`, a file that ends in one of `SUFFIXES` or
    a folder; returns how many rows were written now.

    Raises `UsageError` for an encoder that is not there or has no vectors, and for a target that
    cannot be written.
    """
    kind = target.suffix.lower()
    if kind not in ("", *SUFFIXES) and not target.is_dir():
        raise UsageError(
            f"--to {target}: give a name that ends in {', '.join(SUFFIXES)}, or a folder, which "
            "gets parts in Parquet"
        )
    with vectors.snapshot(database) as connection:
        encoder = encoders.known_encoder(connection, name)
        total = vectors.count(connection, encoder, windows=windows)
        if not total:
            raise UsageError(f"{name} has no vectors yet: `reelvec status` says what is waiting")
        if kind not in SUFFIXES or target.is_dir():
            return _parts(connection, encoder, target, windows=windows, total=total, tell=tell)
        blocks = _told(rows.read(connection, encoder, windows=windows), total, tell)
        with whole_file(target) as file:
            if kind == ".npz":
                npz.write(file, blocks, (total, encoder.dim or 0))
            elif kind == ".csv":
                csv.write(
                    connection, encoder, file, windows=windows, tell=lambda done: tell(done, total)
                )
            else:
                parquet.write(file, blocks)
    return total


def _parts(
    connection: Connection,
    encoder: Encoder,
    folder: Path,
    *,
    windows: bool,
    total: int,
    tell: Tell,
) -> int:
    """One part after the other, each named by the last video in it."""
    prefix = f"{encoder.name}{'-windows' if windows else ''}-"
    parts = sorted(folder.glob(f"{prefix}{'[0-9]' * 12}.parquet"))
    after = int(parts[-1].stem.removeprefix(prefix)) if parts else 0
    blocks = rows.read(connection, encoder, windows=windows, after=after)
    written = 0
    while some := list(itertools.islice(blocks, PART_BLOCKS)):
        last = some[-1].videos[-1].video_id
        with whole_file(folder / f"{prefix}{last:012d}.parquet") as file:
            parquet.write(file, some)
        written += sum(len(block.videos) for block in some)
        tell(written, total)
    return written


def _told(blocks: Iterator[Rows], total: int, tell: Tell) -> Iterator[Rows]:
    done = 0
    for block in blocks:
        yield block
        done += len(block.videos)
        tell(done, total)
