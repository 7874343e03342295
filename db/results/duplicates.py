"""Videos that are nearly the same: the database's own function finds the pairs, asked for some
videos at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from db.encoders import Encoder
from db.jobs.selection import Selection, condition

#: Videos asked about in one statement: some seconds with an index.
BLOCK_VIDEOS = 500


@dataclass(frozen=True)
class Pair:
    """Two videos, `video_id` < `other_id`, and 1 - cosine of their vectors."""

    video_id: int
    other_id: int
    distance: float


@dataclass(frozen=True)
class Copy:
    """A video of which there are others nearly the same: what decides which one is kept, and what
    people know it by.
    """

    video_id: int
    external_id: str | None
    category: str | None
    title: str | None
    width_px: int | None
    height_px: int | None
    duration_seconds: float | None
    size_bytes: int | None
    added_at: datetime
    uri: str


_EMBEDDED = """
FROM reelvec.video_embeddings m JOIN reelvec.videos v USING (video_id) LEFT JOIN reelvec.jobs j USING (video_id)
WHERE m.encoder_id = :encoder_id"""
_PAIRS = text("""
SELECT video_id, other_id, distance FROM reelvec.near_duplicates(:encoder, :above, CAST(:videos AS bigint[]))
LIMIT :most
""")
_NEWEST = text("""
SELECT video_id FROM reelvec.video_embeddings WHERE encoder_id = :encoder_id ORDER BY video_id DESC LIMIT :videos
""")
_COPIES = text("""
SELECT video_id, external_id, category, title, width_px, height_px, duration_seconds, size_bytes, added_at, uri
FROM reelvec.videos WHERE video_id = ANY(CAST(:ids AS bigint[]))
""")


def count(connection: Connection, encoder: Encoder, selection: Selection) -> int:
    """How many videos of the selection have a vector of this encoder; `since` is when they were
    recorded.
    """
    chosen, facts = condition(selection, moment="v.added_at")
    counted = text(f"SELECT count(*) {_EMBEDDED}{chosen}")
    facts["encoder_id"] = encoder.encoder_id
    return int(connection.execute(counted, facts).scalar_one())


def blocks(connection: Connection, encoder: Encoder, selection: Selection) -> Iterator[list[int]]:
    """The ids of those videos, ascending, `BLOCK_VIDEOS` at a time."""
    chosen, facts = condition(selection, moment="v.added_at")
    some = text(
        f"SELECT m.video_id {_EMBEDDED}{chosen} AND m.video_id > :after"
        " ORDER BY m.video_id LIMIT :room"
    )
    facts |= {"encoder_id": encoder.encoder_id, "room": BLOCK_VIDEOS, "after": 0}
    while ids := [int(row.video_id) for row in connection.execute(some, facts)]:
        yield ids
        facts["after"] = ids[-1]


def newest(connection: Connection, encoder: Encoder, videos: int) -> list[int]:
    """The ids of so many videos that have a vector of this encoder, those recorded last."""
    facts = {"encoder_id": encoder.encoder_id, "videos": videos}
    return list(connection.execute(_NEWEST, facts).scalars())


def pairs(
    connection: Connection,
    encoder: Encoder,
    above: float,
    video_ids: Sequence[int],
    *,
    most: int | None = None,
) -> list[Pair]:
    """Pairs of these videos, and of one of these with any other, whose cosine is not below
    `above`; any `most` of them, or all.
    """
    facts = {"encoder": encoder.name, "above": above, "videos": list(video_ids), "most": most}
    return [Pair(**row._mapping) for row in connection.execute(_PAIRS, facts)]


def copies(connection: Connection, video_ids: Sequence[int]) -> dict[int, Copy]:
    """By id, those of the videos that are there."""
    rows = connection.execute(_COPIES, {"ids": list(video_ids)})
    return {row.video_id: Copy(**row._mapping) for row in rows}
