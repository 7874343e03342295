"""Tags of heads: which videos are left to be tagged, and how their tags are written.

A tag says when the newest vector was made that it read (`scores.vectors_at`). Vectors made anew are
newer, so that a tag of older ones is seen whatever happened in between, and made anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, text

from db import copy
from db.jobs import outcome, selection
from db.jobs.selection import Selection
from db.results.heads import Stored
from db.results.linear import Floats


@dataclass(frozen=True)
class Counts:
    """Of the videos that were asked for: those without a vector of each encoder of the head, and how
    many of these `failed`; those whose tag is made of the vectors they have, and those that are
    left.
    """

    without_vectors: int
    failed: int
    tagged: int
    left: int


@dataclass(frozen=True)
class Block:
    """Some videos that are left: `video_ids` int64 [n], ascending, and when the newest of the
    vectors of each was made.
    """

    video_ids: npt.NDArray[np.int64]
    vectors_at: list[datetime]


_CHOSEN = """
FROM reelvec.videos v
LEFT JOIN LATERAL (
  SELECT max(m.created_at) AS vectors_at FROM reelvec.video_embeddings m
  WHERE m.video_id = v.video_id AND m.encoder_id = ANY (CAST(:encoder_ids AS smallint[]))
  HAVING count(*) = cardinality(CAST(:encoder_ids AS smallint[]))) made ON true
LEFT JOIN reelvec.scores s ON s.tagger_id = :tagger_id AND s.video_id = v.video_id
"""


def _facts(stored: Stored, chosen: Selection) -> tuple[str, dict[str, object]]:
    """The condition on the videos, `since` being when they were recorded."""
    condition, facts = selection.condition(chosen, moment="v.added_at")
    encoder_ids = [encoder.encoder_id for encoder in stored.head.encoders]
    return condition, {**facts, "encoder_ids": encoder_ids, "tagger_id": stored.tagger_id}


def count(connection: Connection, stored: Stored, chosen: Selection) -> Counts:
    """How much there is to do."""
    condition, facts = _facts(stored, chosen)
    row = connection.execute(
        text(
            f"""SELECT count(*) FILTER (WHERE made.vectors_at IS NULL) AS without_vectors,
            count(*) FILTER (WHERE made.vectors_at IS NULL AND EXISTS (
              SELECT FROM reelvec.jobs j WHERE j.video_id = v.video_id AND j.state = 'failed')) AS failed,
            count(*) FILTER (WHERE s.vectors_at = made.vectors_at) AS tagged,
            count(*) FILTER (WHERE s.vectors_at IS DISTINCT FROM made.vectors_at
              AND made.vectors_at IS NOT NULL) AS left
            {_CHOSEN} WHERE true{condition}"""  # noqa: S608
        ),
        facts,
    ).one()
    return Counts(**row._mapping)


def left(
    connection: Connection, stored: Stored, chosen: Selection, *, after: int, rows: int
) -> Block | None:
    """The next videos behind `after` whose tag is missing or of older vectors; None: no more."""
    condition, facts = _facts(stored, chosen)
    found = connection.execute(
        text(
            f"""SELECT v.video_id, made.vectors_at {_CHOSEN}
            WHERE v.video_id > :after AND made.vectors_at IS NOT NULL
              AND s.vectors_at IS DISTINCT FROM made.vectors_at{condition}
            ORDER BY v.video_id LIMIT :rows"""  # noqa: S608
        ),
        {**facts, "after": after, "rows": rows},
    ).all()
    if not found:
        return None
    return Block(np.array([row[0] for row in found], np.int64), [row[1] for row in found])


_GATHER = """
CREATE TEMPORARY TABLE made_tags (
  video_id bigint, probabilities real[], tags text[], tag text, probability real) ON COMMIT DROP
"""
# a video that somebody has just deleted gets no tag
_WRITE = text("""
INSERT INTO reelvec.scores (tagger_id, video_id, probabilities, tags, tag, probability, vectors_at)
SELECT :tagger_id, v.video_id, g.probabilities, g.tags, g.tag, g.probability, read.vectors_at
FROM pg_temp.made_tags g JOIN reelvec.videos v USING (video_id)
JOIN unnest(CAST(:video_ids AS bigint[]), CAST(:vectors_at AS timestamptz[])) AS read (video_id, vectors_at)
  USING (video_id)
ORDER BY v.video_id FOR KEY SHARE OF v
ON CONFLICT (tagger_id, video_id) DO UPDATE SET probabilities = EXCLUDED.probabilities, tags = EXCLUDED.tags,
  tag = EXCLUDED.tag, probability = EXCLUDED.probability, vectors_at = EXCLUDED.vectors_at,
  worker_id = NULL, created_at = now()
""")


def write(connection: Connection, stored: Stored, block: Block, probabilities: Floats) -> None:
    """Store `probabilities` float32 [n, K] of the head as the tags of these videos."""
    categories = stored.head.categories
    connection.execute(text(_GATHER))
    columns: dict[str, copy.Encoder] = {
        "video_id": copy.bigint,
        "probabilities": copy.real_array,
        "tags": copy.text_array,
        "tag": copy.text,
        "probability": copy.real,
    }
    rows = (
        (video_id, *outcome.kept(categories, of_video))
        for video_id, of_video in zip(block.video_ids.tolist(), probabilities, strict=True)
    )
    copy.copy_rows(connection, "pg_temp.made_tags", columns, rows)
    facts = {
        "tagger_id": stored.tagger_id,
        "video_ids": block.video_ids.tolist(),
        "vectors_at": block.vectors_at,
    }
    connection.execute(_WRITE, facts)


def set_unsure_below(connection: Connection, stored: Stored, probability: float) -> None:
    """From now on the views withhold tags below this probability: those that are there, too."""
    connection.execute(
        text("UPDATE reelvec.heads SET unsure_below = :probability WHERE tagger_id = :tagger_id"),
        {"probability": probability, "tagger_id": stored.tagger_id},
    )


def unsure(connection: Connection, stored: Stored) -> tuple[int, int]:
    """How many videos this head has tagged, and of how many it is unsure."""
    row = connection.execute(
        text(
            "SELECT count(*), count(*) FILTER (WHERE s.probability < h.unsure_below) FROM "
            "reelvec.scores s JOIN reelvec.heads h USING (tagger_id) WHERE tagger_id = :tagger_id"
        ),
        {"tagger_id": stored.tagger_id},
    ).one()
    return int(row[0]), int(row[1])
