"""What is shown of a map: its points, each with the category that its video has and the tag that
one tagger gives it, as numbers that stand for names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, text

from db import encoders
from db.encoders import Encoder
from db.results import arrays, maps, vectors
from db.results.maps import Map

#: Categories that have a name on a map; those of fewer videos are `OTHERS`.
NAMES = 500
OTHERS = "others"
#: A sample is thinned by the low bits of a hash, so it is the same one every time.
_SEED, _BITS = 18, 0xFFFFF


@dataclass(frozen=True)
class Charted:
    """n points of a map, in an order that has nothing to do with what they are: `video_ids` int64
    [n], `places` float32 [n, 2]; `category` and `tag` int16 [n], places in `categories` and `tags`,
    -1 where there is none. A head that is unsure gives no tag. `total`: points of the map, of which
    these are a sample where they are fewer; `unplaced`: vectors without a point.
    """

    video_ids: npt.NDArray[np.int64]
    places: npt.NDArray[np.float32]
    category: npt.NDArray[np.int16]
    tag: npt.NDArray[np.int16]
    categories: tuple[str, ...]
    tags: tuple[str, ...]
    total: int
    unplaced: int


@dataclass(frozen=True)
class Speaker:
    """A tagger that can be asked about videos: a head is sure from `unsure_below` on."""

    tagger_id: int
    tagger: str
    categories: tuple[str, ...]
    unsure_below: float


# in the order in which the view best_tags asks them
_SPEAKERS = text("""
SELECT t.tagger_id, t.tagger, t.categories, coalesce(h.unsure_below, 0) AS unsure_below
FROM reelvec.taggers t JOIN reelvec.encoders e USING (encoder_id)
LEFT JOIN reelvec.heads h USING (tagger_id) LEFT JOIN reelvec.label_sets l USING (label_set_id)
WHERE e.weights = 'pretrained' AND EXISTS (SELECT FROM reelvec.scores s WHERE s.tagger_id = t.tagger_id)
ORDER BY h.tagger_id IS NULL, coalesce(l.label_set = 'imagenet', false),
  CASE WHEN l.label_set IN ('en', 'ru', 'names') THEN t.tagger_id ELSE -t.tagger_id END
""")


def speakers(connection: Connection) -> list[Speaker]:
    """Every tagger that has scored a video, those who speak first for one before the others."""
    return [
        Speaker(**{**row._mapping, "categories": tuple(row.categories)})
        for row in connection.execute(_SPEAKERS)
    ]


def mapped(connection: Connection) -> list[Encoder]:
    """The encoders that have a map, those with a meaning first."""
    ids = set(
        connection.execute(text("SELECT encoder_id FROM reelvec.maps WHERE is_whole")).scalars()
    )
    return [one for one in encoders.with_vectors(connection) if one.encoder_id in ids]


# Whole tables are joined, of which Postgres may know nothing yet: a map is read as soon as it is made.
_WHOLE_TABLES = "SET LOCAL enable_nestloop = off"
_POINTS = """
FROM reelvec.map_points p JOIN reelvec.videos v USING (video_id)
WHERE p.encoder_id = {encoder_id} AND p.map_id = {map_id}{sample}"""
_SAMPLE = " AND hashint8extended(p.video_id, {seed}) & {bits} < {limit}"
_RANKED = """
SELECT v.category {points} AND v.category IS NOT NULL
GROUP BY v.category ORDER BY count(*) DESC, v.category COLLATE "C" LIMIT {most}"""
# COPY takes no parameters, and a category may be any string
_REMEMBER = text("SELECT set_config('reelvec.categories', :names, true)")
_NUMBERED = "(SELECT * FROM json_array_elements_text(current_setting('reelvec.categories')::json) WITH ORDINALITY AS n (category, place))"
_CHARTED = """
SELECT p.video_id, p.x, p.y,
  (CASE WHEN p.category IS NULL THEN 0 ELSE coalesce(n.place, {others}) END)::smallint, coalesce(t.place, 0)::smallint
FROM (SELECT p.video_id, p.x, p.y, v.category {points}) p LEFT JOIN {numbered} n ON n.category = p.category
LEFT JOIN reelvec.scores s ON s.tagger_id = {tagger_id} AND s.video_id = p.video_id AND s.probability >= {unsure_below}::real
LEFT JOIN (SELECT u.tag, u.place FROM reelvec.taggers, unnest(categories) WITH ORDINALITY AS u (tag, place)
  WHERE tagger_id = {tagger_id}) t ON t.tag = s.tag
ORDER BY hashint8extended(p.video_id, {seed})"""
_FIELDS: list[arrays.Field] = [
    arrays.VIDEO_ID, ("x", ">f4"), ("y", ">f4"), ("category", ">i2"), ("tag", ">i2")
]  # fmt: skip


def read(
    connection: Connection, encoder: Encoder, shown: Map, speaker: Speaker | None, *, most: int
) -> Charted:
    """At most about `most` points of a map; inside a snapshot."""
    connection.execute(text(_WHOLE_TABLES))
    total = maps.count(connection, encoder, shown.map_id)
    limit = int((_BITS + 1) * most / max(total, 1))
    points = _POINTS.format(
        encoder_id=encoder.encoder_id,
        map_id=shown.map_id,
        sample=_SAMPLE.format(seed=_SEED, bits=_BITS, limit=limit) if total > most else "",
    )
    ranked = text(_RANKED.format(points=points, most=NAMES + 1))
    names = list(connection.execute(ranked).scalars())
    connection.execute(_REMEMBER, {"names": json.dumps(names[:NAMES])})
    charted = _CHARTED.format(
        points=points,
        numbered=_NUMBERED,
        others=NAMES + 1,
        seed=_SEED,
        tagger_id=speaker.tagger_id if speaker else 0,
        unsure_below=speaker.unsure_below if speaker else 0,
    )
    rows = arrays.read(connection, charted, _FIELDS)
    return Charted(
        video_ids=rows["video_id"].astype(np.int64),
        places=np.stack([rows["x"], rows["y"]], axis=1).astype(np.float32),
        category=(rows["category"] - 1).astype(np.int16),
        tag=(rows["tag"] - 1).astype(np.int16),
        categories=(*names[:NAMES], *([OTHERS] if len(names) > NAMES else [])),
        tags=speaker.categories if speaker else (),
        total=total,
        unplaced=vectors.count(connection, encoder) - total,
    )
