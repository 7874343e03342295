"""What `reelvec tag --head` does: tags from stored vectors, block by block. Whatever ends it, the
next run goes on with the videos that are left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from db import session
from db.errors import UsageError
from db.results import head_tags, heads, stacked
from db.results.head_tags import Counts

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from db.jobs.selection import Selection
    from db.results.heads import Stored

BLOCK_VIDEOS = 4096

Tell = Callable[[int, int], None]
"""Told how many videos of how many are tagged."""


@dataclass(frozen=True)
class Tagged:
    """`tagged` now; `already` before, from the vectors that are there; `without_vectors` cannot be,
    and `failed` of these not before they are tried again. `all_tagged` are all videos that this
    head has ever tagged, and of `unsure` it says no tag.
    """

    head: str
    encoders: tuple[str, ...]
    tagged: int
    already: int
    without_vectors: int
    failed: int
    all_tagged: int
    unsure: int
    unsure_below: float


def tag(
    database: Engine, name: str, chosen: Selection, *, unsure_below: float | None, tell: Tell
) -> Tagged:
    """Tag the `chosen` videos by the head `NAME` or `NAME@VERSION`, those with a current tag left
    out. `unsure_below`: what the head's threshold is from now on; None: what it was.

    Raises `UsageError` for an unknown head and a threshold that is no probability,
    `RefusedConfigurationError` for vectors that the head does not know.
    """
    if unsure_below is not None and not 0 <= unsure_below <= 1:
        raise UsageError(f"--unsure-below {unsure_below}: give a probability, from 0 to 1")
    with session.transaction(database) as connection:
        stored = heads.fetch(connection, name)
        if unsure_below is not None:
            head_tags.set_unsure_below(connection, stored, unsure_below)
        counts = head_tags.count(connection, stored, chosen)
    done = _tag_all(database, stored, chosen, counts, tell)
    with session.transaction(database) as connection:
        all_tagged, unsure = head_tags.unsure(connection, stored)
    return Tagged(
        stored.tagger,
        tuple(encoder.name for encoder in stored.head.encoders),
        done,
        counts.tagged,
        counts.without_vectors,
        counts.failed,
        all_tagged,
        unsure,
        stored.unsure_below if unsure_below is None else unsure_below,
    )


def _tag_all(
    database: Engine, stored: Stored, chosen: Selection, counts: Counts, tell: Tell
) -> int:
    done = after = 0
    while True:
        with session.transaction(database) as connection:
            block = head_tags.left(connection, stored, chosen, after=after, rows=BLOCK_VIDEOS)
            if block is None:
                return done
            _tag_block(connection, stored, block)
        done, after = done + len(block.video_ids), int(block.video_ids[-1])
        tell(done, max(done, counts.left))


def _tag_block(connection: Connection, stored: Stored, block: head_tags.Block) -> None:
    """Vectors that are replaced meanwhile are newer than the tag says, so it is made again by the
    next run; of those that are gone there is none.
    """
    vectors, whole = stacked.stack(connection, stored.head.encoders, block.video_ids)
    there = head_tags.Block(
        block.video_ids[whole],
        [at for at, is_there in zip(block.vectors_at, whole, strict=True) if is_there],
    )
    head_tags.write(connection, stored, there, stored.head.probabilities(vectors[whole]))
