"""The videos nearest to another, or to a vector that is no video's: what a text search asks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, text

from db.encoders import Encoder


@dataclass(frozen=True)
class Hit:
    """A video and how far its vector is: `distance` is 1 - cosine, 0 to 2."""

    video_id: int
    distance: float
    external_id: str | None
    category: str | None
    title: str | None
    uri: str


_NEAREST = text("""
SELECT video_id, n.distance, v.external_id, v.category, v.title, v.uri
FROM reelvec.nearest_to(CAST(:vector AS real[]), :encoder, :limit) n JOIN reelvec.videos v USING (video_id)
ORDER BY n.distance, video_id
""")

_NEIGHBOURS = text("""
SELECT video_id, n.distance, v.external_id, v.category, v.title, v.uri
FROM reelvec.nearest(:video_id, :encoder, :limit) n JOIN reelvec.videos v USING (video_id)
ORDER BY n.distance, video_id
""")


def neighbours(connection: Connection, video_id: int, encoder: str, *, limit: int) -> list[Hit]:
    """Videos by the distance of their pooled vectors to that of `video_id`, without itself.

    Raises `DBAPIError` with the database's own words for a video or encoder that is not there.
    """
    facts = {"video_id": video_id, "encoder": encoder, "limit": limit}
    return [Hit(**row._mapping) for row in connection.execute(_NEIGHBOURS, facts)]


def nearest(
    connection: Connection, encoder: Encoder, vector: Iterable[float], *, limit: int
) -> list[Hit]:
    """Videos by the distance of their pooled vectors to `vector`, which has the `dim` numbers of a
    bound encoder.

    The database's own function finds them, as it does for everybody who asks in SQL.
    """
    facts = {"vector": [float(value) for value in vector], "encoder": encoder.name, "limit": limit}
    return [Hit(**row._mapping) for row in connection.execute(_NEAREST, facts)]
