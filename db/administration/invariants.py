"""What must hold of the rows, as SQL: `reelvec doctor --data` counts what breaks each rule. Nothing
is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from db import session
from db.frames.packs import NEVER_WRITTEN as _NEVER_WRITTEN
from db.jobs.recheck import OUTDATED

#: Pages (8 KiB) of a large table that are looked at where a rule needs the numbers themselves:
#: about 200,000 rows.
SAMPLED_PAGES = 3_000
#: Postgres' words for a query it was told to give up: its time was over, or a lock did not come.
_GIVEN_UP = ("57014", "55P03")

#: How a rule's rows are named to people, by the columns of its query.
_EXAMPLES = {
    "vector": "min(format('video %s, encoder %s', video_id, (SELECT encoder FROM encoders e WHERE "
    "e.encoder_id = b.encoder_id)))",
    "score": "min(format('video %s, tagger %s', video_id, (SELECT tagger FROM taggers t WHERE "
    "t.tagger_id = b.tagger_id)))",
    "video": "format('video %s', min(video_id))",
    "other": "min(example)",
}
_REMAKE = {
    "vector": "DELETE FROM video_embeddings WHERE (video_id, encoder_id) IN ({rows})",
    "score": "DELETE FROM scores WHERE (video_id, tagger_id) IN ({rows})",
}


@dataclass(frozen=True)
class Invariant:
    """One rule. `rows` gives what breaks it: (video_id, encoder_id) of a vector, (video_id,
    tagger_id) of a score, video_id, or a text `example`, as `kind` says.

    `repair`: SQL that puts it right; empty for a vector or score: those are deleted, to be computed
    again. `advice`: what to know first. `severity`: "fail"; "warn" for what workers put right
    themselves; "note" for what may be meant. `sampled`: the table of which a part is enough,
    written `{sampled}` in `rows`.
    """

    name: str
    kind: str
    meaning: str
    rows: str
    repair: str = ""
    advice: str = ""
    severity: str = "fail"
    sampled: str | None = None

    @property
    def repair_sql(self) -> str:
        """The statement that repairs, for `reelvec db sql --write`; empty where SQL does not."""
        whole = self.rows.replace("{sampled}", self.sampled or "")
        return (self.repair or _REMAKE.get(self.kind, "")).replace("{rows}", whole)


@dataclass(frozen=True)
class Checked:
    """`count` things break the rule; None: the query was not finished. `sampled_percent` of the
    table was looked at.
    """

    invariant: Invariant
    count: int | None
    example: str | None
    sampled_percent: float | None


def check_all(engine: Engine, *, timeout_seconds: float) -> Iterator[Checked]:
    """Check every rule, each in a read-only transaction of its own. Raises `UnavailableError`."""
    for invariant in INVARIANTS:
        yield check(engine, invariant, timeout_seconds=timeout_seconds)


def check(engine: Engine, invariant: Invariant, *, timeout_seconds: float) -> Checked:
    """Check one rule; a query that takes longer than `timeout_seconds` is not finished. Raises
    `UnavailableError`.
    """
    with session.transaction(engine) as connection:
        _limit(connection, timeout_seconds)
        percent = _percent(connection, invariant.sampled) if invariant.sampled else None
        try:
            part = "" if percent is None else f" TABLESAMPLE SYSTEM ({percent})"
            rows = invariant.rows.replace("{sampled}", f"{invariant.sampled}{part}")
            query = f"SELECT count(*), {_EXAMPLES[invariant.kind]} FROM ({rows}) b"  # noqa: S608 - all of it is below
            count, example = connection.execute(text(query)).one()
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) not in _GIVEN_UP:
                raise
            connection.rollback()
            return Checked(invariant, None, None, percent)
    return Checked(invariant, int(count), example if count else None, percent)


def _limit(connection: Connection, timeout_seconds: float) -> None:
    connection.execute(text("SET TRANSACTION READ ONLY"))
    # the extension's functions are found wherever a DBA has put it
    connection.execute(
        text(
            "SELECT set_config('statement_timeout', :milliseconds, true), "
            "set_config('lock_timeout', '5s', true), set_config('search_path', concat_ws(', ', "
            "'reelvec', reelvec.vector_schema(), 'public'), true)"
        ),
        {"milliseconds": str(max(1, round(timeout_seconds * 1000)))},
    )


def _percent(connection: Connection, table: str) -> float | None:
    """The part of a table that is looked at; None: all of it. By its pages, as its rows may never
    have been counted.
    """
    pages = int(
        connection.execute(
            text("SELECT pg_relation_size(:table) / 8192"), {"table": table}
        ).scalar_one()
    )
    return None if pages <= SAMPLED_PAGES else round(100 * SAMPLED_PAGES / pages, 4)


_OF_VIDEOS = ("video_embeddings", "scores", "strips", "packs")
_LEFT = " UNION ".join(
    f"SELECT video_id FROM {table} WHERE video_id NOT IN (SELECT video_id FROM videos)"  # noqa: S608
    for table in _OF_VIDEOS
)
_BY_HAND = "something other than reelvec changed their state"

INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "done without vectors",
        "video",
        "done jobs lack the vector of an encoder they want",
        "SELECT video_id FROM jobs j WHERE state = 'done' AND EXISTS (SELECT FROM unnest(encoders) "
        "e WHERE NOT EXISTS (SELECT FROM video_embeddings m WHERE m.encoder_id = e AND m.video_id = "
        "j.video_id))",
        "UPDATE jobs SET state = 'pending', attempts = 0, finished_at = NULL WHERE video_id IN "
        "({rows})",
        "to have the missing ones computed",
    ),
    Invariant(
        "done without scores",
        "video",
        "done jobs lack the scores of a tagger they want",
        "SELECT video_id FROM jobs j WHERE state = 'done' AND EXISTS (SELECT FROM unnest(taggers) "
        "t WHERE NOT EXISTS (SELECT FROM scores s WHERE s.tagger_id = t AND s.video_id = "
        "j.video_id))",
        "UPDATE jobs SET state = 'pending', attempts = 0, finished_at = NULL WHERE video_id IN "
        "({rows})",
        "to have the missing ones computed",
    ),
    Invariant(
        "unbound vectors",
        "vector",
        "vectors belong to an encoder without digest, dimension or pooling: nobody knows which "
        "weights made them",
        "SELECT video_id, encoder_id FROM video_embeddings JOIN encoders USING (encoder_id)"
        " WHERE weights_digest IS NULL OR dim IS NULL OR pooling IS NULL",
    ),
    Invariant(
        "vectors without dtype",
        "vector",
        "vectors do not say in which dtype they were computed",
        "SELECT video_id, encoder_id FROM video_embeddings WHERE btrim(dtype) = ''",
    ),
    Invariant(
        "vector dimensions",
        "vector",
        "vectors have another dimension than their encoder",
        "SELECT video_id, encoder_id FROM {sampled} JOIN encoders USING (encoder_id) WHERE "
        "vector_dims(embedding) <> dim",
        sampled="video_embeddings",
    ),
    Invariant(
        "window dimensions",
        "vector",
        "windows have another dimension than their encoder",
        "SELECT video_id, encoder_id FROM {sampled} JOIN encoders USING (encoder_id) WHERE "
        "vector_dims(embedding) <> dim",
        sampled="window_embeddings",
    ),
    Invariant(
        "vectors of length 0",
        "vector",
        "vectors have no direction (length 0 or not finite), so no search finds them",
        "SELECT video_id, encoder_id FROM {sampled}"
        " WHERE NOT (l2_norm(embedding) > 0 AND l2_norm(embedding) < 'Infinity')",
        sampled="video_embeddings",
    ),
    Invariant(
        "windows of length 0",
        "vector",
        "windows have no direction (length 0 or not finite)",
        "SELECT video_id, encoder_id FROM {sampled}"
        " WHERE NOT (l2_norm(embedding) > 0 AND l2_norm(embedding) < 'Infinity')",
        sampled="window_embeddings",
    ),
    Invariant(
        "vectors without windows",
        "vector",
        "vectors have no windows beside them",
        "SELECT video_id, encoder_id FROM video_embeddings m WHERE NOT EXISTS (SELECT FROM "
        "window_embeddings w WHERE w.video_id = m.video_id AND w.encoder_id = m.encoder_id) AND "
        "encoder_id NOT IN (SELECT encoder_id FROM encoders WHERE weights = 'imported')",
    ),
    Invariant(
        "windows without a vector",
        "vector",
        "windows have no vector of the whole video beside them",
        "SELECT DISTINCT video_id, encoder_id FROM window_embeddings w WHERE NOT EXISTS"
        " (SELECT FROM video_embeddings m WHERE m.video_id = w.video_id AND m.encoder_id = w.encoder_id)",
        "DELETE FROM window_embeddings WHERE (video_id, encoder_id) IN ({rows})",
    ),
    Invariant(
        "number of windows",
        "vector",
        "vectors have more or fewer windows than 96 frames make",
        "SELECT video_id, encoder_id FROM window_embeddings JOIN encoders USING (encoder_id)"
        " GROUP BY video_id, encoder_id, frames_per_window"
        " HAVING (count(*), min(window_index), max(window_index))"
        " <> (96 / frames_per_window, 0, 96 / frames_per_window - 1)",
    ),
    Invariant(
        "number of scores",
        "score",
        "scores are not one for every category of their tagger, and for every window (of more than "
        "200 categories: the best 20 of the video)",
        "SELECT video_id, tagger_id FROM {sampled} JOIN taggers USING (tagger_id) JOIN encoders "
        "USING (encoder_id) WHERE CASE WHEN tags IS NOT NULL THEN cardinality(categories) <= 200 "
        "OR (cardinality(tags), cardinality(probabilities)) <> (20, 20) ELSE "
        "cardinality(probabilities) <> cardinality(categories) OR label_set_id IS NOT NULL AND ("
        "array_length(window_probabilities, 2) IS DISTINCT FROM cardinality(categories) OR "
        "array_length(window_probabilities, 1) IS DISTINCT FROM 96 / frames_per_window) END",
        sampled="scores",
    ),
    Invariant(
        "probabilities",
        "score",
        "scores are no probabilities (below 0, above 1, their sum not 1), or their tag is none of "
        "the tagger's",
        "SELECT video_id, tagger_id FROM {sampled} JOIN taggers USING (tagger_id) WHERE tag <> ALL "
        "(categories) OR (SELECT NOT bool_and(p BETWEEN 0 AND 1.001) OR sum(p) > 1.01 OR (tags IS "
        "NULL AND sum(p) < 0.99) FROM unnest(probabilities) p)",
        sampled="scores",
    ),
    Invariant(
        "scores without a vector",
        "score",
        "scores have no vector of the tagger's encoder beside them",
        "SELECT video_id, tagger_id FROM scores s JOIN taggers USING (tagger_id) WHERE NOT EXISTS "
        "(SELECT FROM video_embeddings m WHERE m.video_id = s.video_id AND m.encoder_id = "
        "taggers.encoder_id)",
    ),
    Invariant(
        "tags of older vectors",
        "score",
        "tags were made by a head of vectors that have been replaced or deleted since",
        "SELECT video_id, tagger_id FROM scores s JOIN heads h USING (tagger_id) WHERE s.vectors_at"
        " IS DISTINCT FROM (SELECT max(m.created_at) FROM video_embeddings m WHERE m.video_id = "
        "s.video_id AND m.encoder_id = ANY (h.encoder_ids) HAVING count(*) = "
        "cardinality(h.encoder_ids))",
        advice="make them anew with reelvec tag --head NAME, or delete them",
        severity="warn",
    ),
    Invariant(
        "unattended jobs",
        "video",
        "running jobs belong to no worker, or to one that is no longer registered",
        "SELECT video_id FROM jobs j WHERE state = 'running'"
        " AND NOT EXISTS (SELECT FROM workers w WHERE w.worker_id = j.worker_id)",
        advice="any worker that lives takes them back within a minute or two: run reelvec worker",
        severity="warn",
    ),
    Invariant(
        "owned but not running",
        "video",
        "jobs name a worker although they wait or have ended",
        "SELECT video_id FROM jobs WHERE state <> 'running' AND worker_id IS NOT NULL",
        "UPDATE jobs SET worker_id = NULL, deadline_at = NULL WHERE video_id IN ({rows})",
        _BY_HAND,
    ),
    Invariant(
        "unknown encoders",
        "video",
        "jobs want an encoder that does not exist: its row was deleted",
        "SELECT video_id FROM jobs WHERE NOT encoders <@ (SELECT coalesce(array_agg(encoder_id), "
        "'{}') FROM encoders)",
        "UPDATE jobs SET encoders = array(SELECT e FROM unnest(encoders) e WHERE e IN (SELECT "
        "encoder_id FROM encoders)), owes = NULL WHERE video_id IN ({rows})",
        "to take it out of them",
    ),
    Invariant(
        "unknown taggers",
        "video",
        "jobs want a tagger that does not exist: its row was deleted",
        "SELECT video_id FROM jobs WHERE NOT taggers <@ (SELECT coalesce(array_agg(tagger_id), "
        "'{}') FROM taggers)",
        "UPDATE jobs SET taggers = array(SELECT t FROM unnest(taggers) t WHERE t IN (SELECT "
        "tagger_id FROM taggers)) WHERE video_id IN ({rows})",
        "to take it out of them",
    ),
    Invariant(
        "failures without a code",
        "video",
        "failed jobs do not say why",
        "SELECT video_id FROM jobs WHERE state = 'failed' AND coalesce(error_code, '') = ''",
        advice=f"{_BY_HAND}: reelvec retry tries them again",
    ),
    Invariant(
        "repeated ids",
        "video",
        "jobs list an encoder or tagger twice",
        "SELECT video_id FROM jobs WHERE cardinality(encoders) <> (SELECT count(DISTINCT e) FROM "
        "unnest(encoders) e) OR cardinality(taggers) <> (SELECT count(DISTINCT t) FROM "
        "unnest(taggers) t)",
        "UPDATE jobs SET encoders = array(SELECT DISTINCT e FROM unnest(encoders) e ORDER BY e), "
        "taggers = array(SELECT DISTINCT t FROM unnest(taggers) t ORDER BY t) WHERE video_id IN "
        "({rows})",
    ),
    Invariant(
        "duplicate videos",
        "video",
        "videos have the address of another: the unique index videos_uri is gone or broken",
        "SELECT v.video_id FROM videos v JOIN (SELECT md5(uri) AS hash, min(video_id) AS first "
        "FROM videos GROUP BY 1 HAVING count(*) > 1) d ON md5(v.uri) = d.hash AND v.video_id > "
        "d.first",
        "DELETE FROM videos WHERE video_id IN ({rows}); CREATE UNIQUE INDEX IF NOT EXISTS "
        "videos_uri ON videos (md5(uri))",
        "to keep the oldest of each with its rows",
    ),
    Invariant(
        "left of deleted videos",
        "video",
        "videos that were deleted have vectors, scores, pictures or frames left",
        _LEFT,
        "; ".join(
            f"DELETE FROM {table} WHERE video_id NOT IN (SELECT video_id FROM videos)"  # noqa: S608
            for table in _OF_VIDEOS
        ),
    ),
    Invariant(
        "frames of deleted videos",
        "other",
        "objects of the frame store should have been deleted 10 minutes ago",
        "SELECT format('object %s', digest) AS example FROM tombstones WHERE buried_at < now() - "
        "interval '10 minutes'",
        advice="workers with REELVEC_FRAMES delete them while the frame store answers; reelvec "
        "frames purge does it at once",
    ),
    Invariant(
        "frames never written",
        "video",
        "packs were to be written to the frame store an hour ago or longer, and were not",
        f"SELECT video_id FROM packs WHERE {_NEVER_WRITTEN}",  # noqa: S608
        f"DELETE FROM packs WHERE {_NEVER_WRITTEN}",  # noqa: S608
        "their videos are sampled again when they are wanted",
        severity="warn",
    ),
    Invariant(
        "invalid indexes",
        "other",
        "indexes were never finished: they slow down every write and serve no query",
        "SELECT format('index %s', c.relname) AS example FROM pg_index i JOIN pg_class c ON c.oid "
        "= i.indexrelid WHERE c.relnamespace = 'reelvec'::regnamespace AND NOT i.indisvalid",
        advice='drop it and make it again: reelvec db sql --write "DROP INDEX NAME"',
    ),
    Invariant(
        "sampled by an older version",
        "video",
        "done videos were sampled before encryption and damage were looked for",
        f"SELECT video_id FROM jobs j JOIN videos v USING (video_id) WHERE {OUTDATED}",  # noqa: S608
        advice="enqueue --recheck looks at them again and computes nothing that is still right",
        severity="warn",
    ),
    Invariant(
        "videos without a job",
        "video",
        "videos are recorded, but nothing is wanted of them",
        "SELECT video_id FROM videos v WHERE NOT EXISTS (SELECT FROM jobs j WHERE j.video_id = "
        "v.video_id)",
        advice="enqueue without a SOURCE queues everything that is recorded",
        severity="note",
    ),
)
