"""What `reelvec export` does: the vectors of an encoder, or the probabilities of a tagger, with the
videos they are of, into files that other programs read.

All rows are of one moment. A file appears at the end, whole; a folder is filled part by part, and a
run that was broken off goes on behind the last whole part.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from db.errors import UsageError
from db.results import csv, vectors, videos
from producer.local.targets import refuse_file, whole_file
from producer.results import npz, parquet, rows
from producer.results.rows import Rows, Taken

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

SUFFIXES = (".npz", ".parquet", ".csv")
PART_BLOCKS = 8
"""Blocks of `db.results.arrays` in one part of a folder: some 32,000 rows."""

Tell = Callable[[int, int], None]
"""Told how many vectors of how many are written."""


def refuse_target(target: Path) -> None:
    """Before any work: `UsageError` for a target that `export` would refuse."""
    if _is_folder(target) and target.is_file():
        raise UsageError(
            f"--to {target} is a file there: give a name that ends in {', '.join(SUFFIXES)}, or "
            "another folder"
        )
    if _is_folder(target):
        return
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"--to {target}: give a name that ends in {', '.join(SUFFIXES)}, or a folder, which "
            "gets parts in Parquet"
        )
    refuse_file("--to", target)


def export(database: Engine, name: str, target: Path, *, windows: bool, tell: Tell) -> int:
    """Write all vectors of the encoder `name`, or all probabilities of the tagger `name`, to
    `target`, a file that ends in one of `SUFFIXES` or a folder; returns how many were written now.

    Raises `UsageError` for a name that is not there or has nothing yet, for a target that cannot
    be written, and for a folder that was begun before videos got their vectors that belong into
    its parts.
    """
    refuse_target(target)
    kind = target.suffix.lower()
    with vectors.snapshot(database) as connection:
        taken = rows.find(connection, name, windows=windows)
        if _is_folder(target):
            return _parts(connection, taken, target, tell)
        with whole_file(target) as file:
            if kind == ".csv":
                csv.write(
                    connection,
                    taken.of,
                    file,
                    windows=windows,
                    tell=lambda done: tell(done, taken.vectors),
                )
                return taken.vectors
            longest = videos.longest(connection)
            with taken.read(connection) as blocks:
                told = _told(taken, blocks, tell)
                if kind == ".npz":
                    npz.write(file, told, taken, longest=longest)
                else:
                    parquet.write(file, told, taken)
    return taken.vectors


def _is_folder(target: Path) -> bool:
    return target.is_dir() or not target.suffix


def _parts(connection: Connection, taken: Taken, folder: Path, tell: Tell) -> int:
    """One part after the other, each named by the last video in it."""
    prefix = f"{taken.name.replace('/', '-')}{'-windows' if taken.windows else ''}-"
    parts = sorted(folder.glob(f"{prefix}{'[0-9]' * 12}.parquet"))
    after = int(parts[-1].stem.removeprefix(prefix)) if parts else 0
    there, now = sum(map(parquet.rows_in, parts)), taken.count(connection, to=after)
    if there != now:
        raise UsageError(
            f"the parts in {folder} have {there:,} vectors of the videos up to {after}, of which "
            f"there are now {now:,}: write to a new folder"
        )
    done = there
    with taken.read(connection, after=after) as blocks:
        while some := list(itertools.islice(blocks, PART_BLOCKS)):
            last = some[-1].facts["video_id"][-1]
            with whole_file(folder / f"{prefix}{last:012d}.parquet") as file:
                parquet.write(file, some, taken)
            done += sum(len(block.numbers) for block in some) * taken.per_video
            tell(done, taken.vectors)
    return done - there


def _told(taken: Taken, blocks: Iterator[Rows], tell: Tell) -> Iterator[Rows]:
    done = 0
    for block in blocks:
        yield block
        done += len(block.numbers) * taken.per_video
        tell(done, taken.vectors)
