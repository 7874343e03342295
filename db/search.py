"""The videos nearest to a vector that is no video's: what a text search asks."""

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


def nearest(connection: Connection, encoder: Encoder, vector: Iterable[float], *, limit: int) -> list[Hit]:
    """Videos by the distance of their pooled vectors to `vector`, which has the `dim` numbers of a bound encoder.

    With the encoder's index in use, as `nearest(video, encoder, k)` has it: the expression is the index's, and the scan
    goes on until there are `limit` rows (alone it ends after 40).
    """
    connection.execute(text("SET LOCAL hnsw.iterative_scan = strict_order"))
    distance = f"m.embedding::halfvec({encoder.dim}) <=> CAST(:vector AS halfvec({encoder.dim}))"
    statement = f"""
SELECT n.video_id, n.distance, v.external_id, v.category, v.title, v.uri
FROM (
  SELECT m.video_id, ({distance})::double precision AS distance
  FROM reelvec.embeddings m WHERE m.encoder_id = {encoder.encoder_id}
  ORDER BY {distance} LIMIT :limit) n
JOIN reelvec.videos v USING (video_id) ORDER BY n.distance, n.video_id
"""  # noqa: S608
    written = "[" + ",".join(f"{value:.9g}" for value in vector) + "]"
    rows = connection.execute(text(statement), {"vector": written, "limit": limit})
    return [Hit(**row._mapping) for row in rows]
