"""The videos that vectors are of: what the source said, and the best tag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class VideoFacts:
    """`address` is the uri as people write it; `tag` and `probability` are those of the view
    `best_tags`.
    """

    video_id: int
    uri: str
    address: str
    external_id: str | None
    category: str | None
    title: str | None
    duration_seconds: float | None
    tag: str | None
    probability: float | None


COLUMNS = """v.video_id, v.uri, reelvec.readable(v.uri) AS address, v.external_id, v.category, v.title,
  v.duration_seconds, b.tag, b.probability"""
#: OFFSET 0: else the best tag of every video would be looked up for each block of some.
BEST_TAG = """LEFT JOIN LATERAL (
  SELECT tag, probability FROM reelvec.best_tags t WHERE t.video_id = v.video_id OFFSET 0) b ON true"""
_FACTS = text(f"""
SELECT {COLUMNS} FROM unnest(CAST(:ids AS bigint[])) WITH ORDINALITY AS wanted (video_id, place)
JOIN reelvec.videos v USING (video_id) {BEST_TAG} ORDER BY wanted.place
""")  # noqa: S608


def facts(connection: Connection, video_ids: Sequence[int]) -> list[VideoFacts]:
    """Those of `video_ids`, in their order. All are there: they are of the same snapshot."""
    return [VideoFacts(**row._mapping) for row in connection.execute(_FACTS, {"ids": video_ids})]
