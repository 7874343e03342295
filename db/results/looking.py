"""What a page shows of videos: those that meet some filters, a card of each, and one of them
whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from db.results.videos import BEST_TAG, FACTS

#: Of each tagger the best so many categories are shown.
SHOWN_TAGS = 8


@dataclass(frozen=True)
class Filters:
    """What a video must meet, all of it; None asks nothing. `tag`: said by `tagger`, or by any;
    with `held_out`, by that head before it had seen the video, which is known of some videos of
    each category and tag. `error`: failed with this code. `least_seconds` and `most_seconds` bound
    its duration, the second is left out.
    """

    category: str | None = None
    tag: str | None = None
    tagger: str | None = None
    held_out: str | None = None
    encoder: str | None = None
    error: str | None = None
    least_seconds: float | None = None
    most_seconds: float | None = None


@dataclass(frozen=True)
class Card:
    """What is shown of one video among others: `address` is the uri as people write it, `tag` and
    `probability` those of the view `best_tags`. `strip_version` changes with its picture; None: it
    has none.
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
    state: str | None
    error_code: str | None
    strip_version: int | None


@dataclass(frozen=True)
class Windows:
    """The parts of a video that one encoder made vectors of: `spans` are [start, end] in
    seconds.
    """

    encoder: str
    dtype: str
    made_at: datetime
    spans: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Scores:
    """The best categories of one tagger, with their probabilities."""

    tagger: str
    best: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Attempt:
    """One try that failed."""

    attempt: int
    at: datetime
    stage: str
    error_code: str
    error: str
    encoder: str | None
    worker: str | None


@dataclass(frozen=True)
class Whole:
    """Everything that is known of one video. `facts` and `job` are columns of their tables, `job`
    is None where it was never queued.
    """

    card: Card
    facts: dict[str, Any]
    job: dict[str, Any] | None
    windows: tuple[Windows, ...]
    scores: tuple[Scores, ...]
    attempts: tuple[Attempt, ...]


_CONDITIONS = {
    "category": "v.category = :category",
    "held_out": "v.video_id IN (SELECT CAST(jsonb_array_elements_text(h.judgement"
    " #> ARRAY['examples', :category, :tag]) AS bigint)"
    " FROM reelvec.heads h JOIN reelvec.taggers USING (tagger_id) WHERE tagger = :held_out)",
    "encoder": "EXISTS (SELECT FROM reelvec.video_embeddings m WHERE m.video_id = v.video_id"
    " AND m.encoder_id = (SELECT encoder_id FROM reelvec.encoders WHERE encoder = :encoder))",
    "error": "v.video_id IN (SELECT j.video_id FROM reelvec.jobs j"
    " WHERE j.state = 'failed' AND j.error_code = :error)",
    "least_seconds": "v.duration_seconds >= :least_seconds",
    "most_seconds": "v.duration_seconds < :most_seconds",
}


#: Who says a tag. Often the first videos have scores and the last, which are shown first, have none
#: yet. So scores are read first; + 0, or the planner would walk over all videos to merge the two.
_SAID = """JOIN (SELECT DISTINCT s.video_id FROM reelvec.scores s WHERE {}) said ON v.video_id = said.video_id + 0"""
_BY_ONE = _SAID.format(
    "s.tagger_id = (SELECT tagger_id FROM reelvec.taggers WHERE tagger = :tagger)"
    " AND (CAST(:tag AS text) IS NULL OR s.tag = :tag)"
)
_BY_ANY = _SAID.format(
    "s.tagger_id = ANY(ARRAY(SELECT tagger_id FROM reelvec.taggers)) AND s.tag = :tag"
)


def found(connection: Connection, filters: Filters, *, before: int | None, limit: int) -> list[int]:
    """Ids of videos that meet the filters, those recorded last first, below the id `before`."""
    asked = {name: value for name, value in vars(filters).items() if value is not None}
    said = ""
    if asked.keys() & {"tag", "tagger"} and "held_out" not in asked:
        said = _BY_ONE if "tagger" in asked else _BY_ANY
    conditions = [_CONDITIONS[name] for name in asked if name in _CONDITIONS]
    if before is not None:
        conditions.append("v.video_id < :before")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    order = "said.video_id" if said else "v.video_id"
    statement = (
        f"SELECT v.video_id FROM reelvec.videos v {said} {where} ORDER BY {order} DESC LIMIT :limit"  # noqa: S608
    )
    facts = {**vars(filters), "before": before, "limit": limit}
    return list(connection.execute(text(statement), facts).scalars())


_COLUMNS = ", ".join(
    f"{told} AS {name}" for name, told in FACTS.items() if name in Card.__annotations__
)
_CARDS = text(f"""
SELECT {_COLUMNS}, j.state, j.error_code, extract(epoch FROM s.made_at)::bigint AS strip_version
FROM unnest(CAST(:ids AS bigint[])) WITH ORDINALITY AS wanted (video_id, place)
JOIN reelvec.videos v USING (video_id) LEFT JOIN reelvec.jobs j USING (video_id)
LEFT JOIN reelvec.strips s USING (video_id) {BEST_TAG} ORDER BY wanted.place
""")  # noqa: S608


def cards(connection: Connection, video_ids: Sequence[int]) -> list[Card]:
    """Of those of `video_ids` that are there, in their order."""
    rows = connection.execute(_CARDS, {"ids": list(video_ids)})
    return [Card(**row._mapping) for row in rows]


_FACTS = text("""
SELECT uri, etag, size_bytes, codec, width_px, height_px, fps, duration_seconds, added_at, group_key,
  damaged_share, attributes
FROM reelvec.videos WHERE video_id = :video_id
""")
_JOB = text("""
SELECT state, attempts, strikes, lost_count, error_code, error, enqueued_at, started_at, finished_at, not_before,
  bytes_read, fetch_seconds, decode_seconds, wait_seconds, device_seconds,
  CASE WHEN state IN ('done', 'failed') THEN extract(epoch FROM finished_at - started_at)::double precision END
    AS held_seconds
FROM reelvec.jobs WHERE video_id = :video_id
""")
_WINDOWS = text("""
SELECT e.encoder, m.dtype, m.created_at AS made_at,
  array(SELECT ARRAY[w.start_seconds, w.end_seconds] FROM reelvec.window_embeddings w
        WHERE w.video_id = m.video_id AND w.encoder_id = m.encoder_id ORDER BY w.window_index) AS spans
FROM reelvec.video_embeddings m JOIN reelvec.encoders e USING (encoder_id) WHERE m.video_id = :video_id ORDER BY m.encoder_id
""")
_SCORES = text("""
SELECT t.tagger, t.tag, t.probability FROM reelvec.tags t
WHERE t.video_id = :video_id AND t.rank <= :shown ORDER BY t.tagger, t.rank
""")
_ATTEMPTS = text("""
SELECT a.attempt, a.at, a.stage, a.error_code, a.error, a.encoder, w.host AS worker
FROM reelvec.attempts a LEFT JOIN reelvec.workers w USING (worker_id) WHERE a.video_id = :video_id ORDER BY a.at DESC LIMIT 20
""")


def whole(connection: Connection, video_id: int) -> Whole | None:
    """None: there is no such video."""
    asked = {"video_id": video_id}
    known = cards(connection, [video_id])
    if not known:
        return None
    job = connection.execute(_JOB, asked).first()
    scores: dict[str, list[tuple[str, float]]] = {}
    for row in connection.execute(_SCORES, {**asked, "shown": SHOWN_TAGS}):
        scores.setdefault(row.tagger, []).append((row.tag, row.probability))
    return Whole(
        card=known[0],
        facts=dict(connection.execute(_FACTS, asked).one()._mapping),
        job=None if job is None else dict(job._mapping),
        windows=tuple(
            Windows(row.encoder, row.dtype, row.made_at, tuple(map(tuple, row.spans)))
            for row in connection.execute(_WINDOWS, asked)
        ),
        scores=tuple(Scores(tagger, tuple(best)) for tagger, best in scores.items()),
        attempts=tuple(Attempt(**row._mapping) for row in connection.execute(_ATTEMPTS, asked)),
    )


def named(connection: Connection, name: str) -> int | None:
    """The video whose number this is, else one that the source calls so."""
    number = int(name) if name.isascii() and name.isdigit() and len(name) < 19 else None
    statement = text(
        "SELECT video_id FROM reelvec.videos WHERE video_id = :number OR external_id = :name"
        " ORDER BY video_id <> :number, video_id LIMIT 1"
    )
    found: int | None = connection.execute(statement, {"number": number, "name": name}).scalar()
    return found


_CHOICES = {
    # by its index from one category to the next: there are few, and maybe a million videos
    "category": """
WITH RECURSIVE known AS (
  (SELECT category FROM reelvec.videos WHERE category IS NOT NULL ORDER BY category LIMIT 1)
  UNION ALL
  SELECT (SELECT v.category FROM reelvec.videos v WHERE v.category > known.category ORDER BY v.category LIMIT 1)
  FROM known WHERE known.category IS NOT NULL)
SELECT category FROM known WHERE category IS NOT NULL LIMIT 1000
""",
    "tag": "SELECT DISTINCT unnest(categories) FROM reelvec.taggers ORDER BY 1",
    "tagger": "SELECT tagger FROM reelvec.taggers ORDER BY tagger_id",
    "model": "SELECT encoder FROM reelvec.encoders WHERE dim IS NOT NULL ORDER BY encoder_id",
    "error": """
WITH RECURSIVE known AS (
  (SELECT error_code FROM reelvec.jobs WHERE state = 'failed' ORDER BY error_code LIMIT 1)
  UNION ALL
  SELECT (SELECT j.error_code FROM reelvec.jobs j WHERE j.state = 'failed' AND j.error_code > known.error_code
          ORDER BY j.error_code LIMIT 1)
  FROM known WHERE known.error_code IS NOT NULL)
SELECT error_code FROM known WHERE error_code IS NOT NULL
""",
}


def choices(connection: Connection) -> dict[str, list[str]]:
    """What there is to choose from, by the name of the filter."""
    return {
        name: list(connection.execute(text(statement)).scalars())
        for name, statement in _CHOICES.items()
    }
