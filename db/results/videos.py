"""The videos that vectors are of: what the source said, and the best tag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

#: The last part of an address: what the notebook calls a video.
_LAST = "split_part(rtrim(uri, '/'), '/', -1)"
#: Only an address with a % in it needs `reelvec.readable`, which takes some microseconds a call.
_PLAIN = "position('%' IN uri) = 0"
FILE_NAME = f"CASE WHEN uri LIKE 's3:%' OR {_PLAIN} THEN {_LAST} ELSE reelvec.readable({_LAST}) END"
#: What is told of a video, and how it is asked for. `address` is the uri as people write it, `tag`
#: and `probability` are those of the view `best_tags`.
FACTS = {
    "video_id": "v.video_id",
    "uri": "v.uri",
    "address": f"CASE WHEN {_PLAIN} THEN v.uri ELSE reelvec.readable(v.uri) END",
    "filename": FILE_NAME,
    "external_id": "v.external_id",
    "category": "v.category",
    "title": "v.title",
    "duration_seconds": "v.duration_seconds",
    "tag": "b.tag",
    "probability": "b.probability",
}
COLUMNS = ", ".join(f"{told} AS {name}" for name, told in FACTS.items())
#: OFFSET 0: else the best tag of every video would be looked up for each block of some.
BEST_TAG = """LEFT JOIN LATERAL (
  SELECT tag, probability FROM reelvec.best_tags t WHERE t.video_id = v.video_id OFFSET 0) b ON true"""
_FACTS = text(f"""
SELECT {COLUMNS} FROM unnest(CAST(:ids AS bigint[])) WITH ORDINALITY AS wanted (video_id, place)
JOIN reelvec.videos v USING (video_id) {BEST_TAG}
WHERE v.video_id BETWEEN :first AND :last ORDER BY wanted.place
""")  # noqa: S608
_LONGEST = text(f"""
SELECT coalesce(max(length({FILE_NAME})), 0) AS filename, coalesce(max(length(uri)), 0) AS uri,
  coalesce(max(length(category)), 0) AS category FROM reelvec.videos
""")  # noqa: S608


def facts(connection: Connection, video_ids: Sequence[int]) -> dict[str, tuple[Any, ...]]:
    """Of `video_ids`, in their order, by the names of `FACTS`. All are there: they are of the same
    snapshot.
    """
    # without the bounds a merge join reads all videos from the first one on
    bounds = {"first": min(video_ids), "last": max(video_ids)}
    rows = connection.execute(_FACTS, {"ids": video_ids} | bounds).all()
    return dict(zip(FACTS, zip(*rows, strict=True), strict=True))


def longest(connection: Connection) -> dict[str, int]:
    """Characters of the longest file name, `uri` and `category` of any video."""
    return dict(connection.execute(_LONGEST).one()._mapping)
