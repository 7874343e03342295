"""Scores by labels that came after the videos: which videos lack them, what is kept of their
windows, and writing them in blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, text

from db import copy
from db.encoders import Encoder, Tagger
from db.jobs.outcome import SCORE_COLUMNS, TaggerRows, score_row
from db.jobs.selection import Selection, condition

#: Finished jobs of which the cost of a video is the mean.
COST_JOBS = 1000


@dataclass(frozen=True)
class Counts:
    """Of the videos selected: all, those that have the scores, those of which enough is kept to make
    them, and those of the rest that `failed`.
    """

    selected: int
    scored: int
    scorable: int
    failed: int


@dataclass(frozen=True)
class Kept:
    """What is kept of n videos with w windows each: `vectors` float32 [n, w, d], of float16 where
    the model needs no context, else with `context` float16 [n, w, tokens, d]. `tokens`: of each
    video the fencing token of its job, None where it has none.
    """

    video_ids: list[int]
    tokens: list[int | None]
    vectors: npt.NDArray[np.float32]
    context: npt.NDArray[np.float16] | None


@dataclass(frozen=True)
class Cost:
    """What a video took in the mean over `videos` finished ones, in seconds of a core and of the
    device.
    """

    videos: int
    decode_seconds: float
    device_seconds: float


_SELECTED = """
FROM reelvec.videos v LEFT JOIN reelvec.jobs j USING (video_id)
LEFT JOIN reelvec.video_embeddings m ON m.encoder_id = :encoder_id AND m.video_id = v.video_id
LEFT JOIN reelvec.contexts c ON c.encoder_id = m.encoder_id AND c.video_id = m.video_id
WHERE true"""
_SCORED = "EXISTS (SELECT FROM reelvec.scores s WHERE s.tagger_id = :tagger_id AND s.video_id = v.video_id)"
_SCORABLE = """CASE WHEN :needs_context THEN c.video_id IS NOT NULL ELSE EXISTS (
  SELECT FROM reelvec.window_embeddings w WHERE w.encoder_id = m.encoder_id AND w.video_id = m.video_id) END"""
# The numbers of all windows in one piece, without the head of each vector.
_VECTORS = """coalesce(c.vectors, (
  SELECT string_agg(substr({vector}.halfvec_send(w.embedding), 5), ''::bytea ORDER BY w.window_index)
  FROM reelvec.window_embeddings w WHERE w.encoder_id = m.encoder_id AND w.video_id = m.video_id))"""
_COST = text("""
SELECT count(*) AS videos, avg(decode_seconds) AS decode_seconds, avg(device_seconds) AS device_seconds FROM (
  SELECT decode_seconds, device_seconds FROM reelvec.jobs
  WHERE state = 'done' AND device_seconds > 0 AND :encoder_id = ANY(encoders)
  ORDER BY cardinality(encoders), finished_at DESC LIMIT :jobs) j
""")
# What a worker holds, or has held since its vectors were read, is the worker's; else it waits for
# this. The job wants the scores from now on, so that a new version of the video gets them, too.
_WRITE = """
WITH free AS (
  SELECT j.video_id FROM tagged t JOIN reelvec.jobs j USING (video_id)
  WHERE j.token = t.token AND j.state <> 'running' ORDER BY j.video_id FOR UPDATE OF j
), wanted AS (
  UPDATE reelvec.jobs j SET taggers = array(SELECT t FROM unnest(j.taggers || :tagger_id) t ORDER BY t)
  FROM free WHERE j.video_id = free.video_id AND :encoder_id = ANY(j.encoders) AND :tagger_id <> ALL(j.taggers)
)
INSERT INTO reelvec.scores ({columns}) SELECT {columns} FROM tagged t
WHERE EXISTS (SELECT FROM free WHERE free.video_id = t.video_id)
  OR (t.token IS NULL AND EXISTS (SELECT FROM reelvec.videos v WHERE v.video_id = t.video_id))
ON CONFLICT DO NOTHING
"""


def count(
    connection: Connection, tagger: Tagger, selection: Selection, *, needs_context: bool
) -> Counts:
    """How many videos are selected, and how many of these lack scores that can be made."""
    chosen, facts = condition(selection, moment="v.added_at")
    counted = text(
        f"SELECT count(*) AS selected, count(*) FILTER (WHERE {_SCORED}) AS scored, count(*) FILTER"
        f" (WHERE NOT {_SCORED} AND {_SCORABLE}) AS scorable, count(*) FILTER (WHERE NOT {_SCORED}"
        f" AND NOT {_SCORABLE} AND j.state = 'failed') AS failed {_SELECTED}{chosen}"
    )
    row = connection.execute(counted, {**facts, **_facts(tagger, needs_context)}).one()
    return Counts(**row._mapping)


def block(
    connection: Connection,
    encoder: Encoder,
    tagger: Tagger,
    selection: Selection,
    *,
    windows: int,
    context_tokens: int,
    after: int,
    videos: int,
) -> Kept | None:
    """What is kept of the next `videos` above `after` that are selected and lack scores which can
    be made; None at the end. `context_tokens` of a window, 0 where it needs no context.
    """
    chosen, facts = condition(selection, moment="v.added_at")
    schema = connection.execute(text("SELECT reelvec.vector_schema()")).scalar_one()
    some = text(
        f"SELECT v.video_id, j.token, {_VECTORS.format(vector=schema)} AS vectors, c.context"
        f" {_SELECTED}{chosen} AND NOT {_SCORED} AND {_SCORABLE} AND v.video_id > :after"
        " ORDER BY v.video_id LIMIT :videos"
    )
    facts |= {**_facts(tagger, context_tokens > 0), "after": after, "videos": videos}
    rows = connection.execute(some, facts).all()
    if not rows:
        return None
    dim, context = encoder.dim or 0, None
    number = "<f4" if context_tokens else ">f2"
    vectors = _numbers([row.vectors for row in rows], number, (windows, dim))
    if context_tokens:
        cells = [row.context for row in rows]
        context = _numbers(cells, "<f2", (windows, context_tokens, dim))
    return Kept(
        [row.video_id for row in rows],
        [row.token for row in rows],
        vectors.astype(np.float32),
        context,
    )


def write(
    connection: Connection,
    tagger: Tagger,
    kept: Kept,
    probabilities: npt.NDArray[np.float32],
) -> int:
    """Write `probabilities` [n, w, K] of what was kept; returns of how many videos they were
    written.

    Not of those that a worker has taken since, or that have the scores by now.
    """
    columns = ", ".join(SCORE_COLUMNS)
    connection.exec_driver_sql(
        f"CREATE TEMP TABLE tagged ON COMMIT DROP AS SELECT {columns}, NULL::bigint AS token"  # noqa: S608
        " FROM reelvec.scores LIMIT 0"
    )
    rows = (
        (*score_row(TaggerRows(tagger.tagger_id, tagger.label_set.categories, own), video_id, None), token)
        for video_id, token, own in zip(kept.video_ids, kept.tokens, probabilities, strict=True)
    )  # fmt: skip
    copy.copy_rows(connection, "tagged", {**SCORE_COLUMNS, "token": copy.bigint}, rows)
    written = connection.execute(text(_WRITE.format(columns=columns)), _facts(tagger, False))
    return int(written.rowcount)


def cost(connection: Connection, encoder: Encoder) -> Cost | None:
    """Of the latest finished videos, those with the fewest models first; None where there are
    none.
    """
    facts = {"encoder_id": encoder.encoder_id, "jobs": COST_JOBS}
    row = connection.execute(_COST, facts).one()
    return Cost(**row._mapping) if row.videos else None


def _facts(tagger: Tagger, needs_context: bool) -> dict[str, Any]:
    return {
        "encoder_id": tagger.encoder_id,
        "tagger_id": tagger.tagger_id,
        "needs_context": needs_context,
    }


def _numbers(cells: Sequence[memoryview], number: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Cells of one size as an array [n, *shape], which may be written to, as torch wants it."""
    return np.frombuffer(bytearray().join(cells), number).reshape(len(cells), *shape)
