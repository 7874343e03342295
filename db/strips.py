"""Pictures of videos: read one, remove all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class Purged:
    """How many pictures were removed, and how much room they took."""

    strips: int
    size_bytes: int


def fetch(connection: Connection, video_id: int) -> bytes | None:
    """A WebP file; None: this video has no picture."""
    statement = text("SELECT strip FROM reelvec.strips WHERE video_id = :video_id")
    found = connection.execute(statement, {"video_id": video_id}).scalar()
    return None if found is None else bytes(found)


def first(connection: Connection, video_ids: Sequence[int], most: int) -> list[int]:
    """The first `most` of these videos that have a picture, in their order."""
    statement = text(
        "SELECT video_id FROM unnest(CAST(:ids AS bigint[])) WITH ORDINALITY AS asked (video_id, place)"
        " JOIN reelvec.strips USING (video_id) ORDER BY place LIMIT :most"
    )
    facts = {"ids": list(video_ids), "most": most}
    return list(connection.execute(statement, facts).scalars())


def purge(connection: Connection) -> Purged:
    """Remove all pictures, and give their room back at once."""
    size = "SELECT count(*), pg_total_relation_size('reelvec.strips') FROM reelvec.strips"
    count, size_bytes = connection.execute(text(size)).one()
    connection.execute(text("TRUNCATE reelvec.strips"))
    return Purged(int(count), int(size_bytes))
