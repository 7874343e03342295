"""Recording what is to be done: videos and their one job each, by COPY, idempotent under any number
of producers.

Whoever changes several rows takes their locks in one order: new videos by the hash of their uri,
then jobs by video_id, then known videos by video_id. Workers hold a job and then its video, too. So
nobody waits in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol, Self

from sqlalchemy import Connection, TextClause, text

from db import copy
from db.errors import FILE_CODES
from db.jobs import owing


class VideoFacts(Protocol):
    """What a source says of one video (`producer.sources.reading.VideoRow`)."""

    @property
    def uri(self) -> str: ...
    @property
    def external_id(self) -> str | None: ...
    @property
    def category(self) -> str | None: ...
    @property
    def title(self) -> str | None: ...
    @property
    def group(self) -> str | None: ...
    @property
    def attributes(self) -> dict[str, Any]: ...
    @property
    def size_bytes(self) -> int | None: ...
    @property
    def etag(self) -> str | None: ...
    @property
    def derived(self) -> frozenset[str]:
        """Which of `category` and `title` nobody said: they were made from names of files and
        folders.
        """
        ...


@dataclass(frozen=True)
class Wanted:
    """What the jobs owe: encoder and tagger ids. `force` makes even what exists again,
    `strips`: a picture of each video is kept, `keep_context`: what other labels need later of it,
    `keep_frames`: its frames, for models that are added later.
    """

    encoders: tuple[int, ...]
    taggers: tuple[int, ...]
    force: bool = False
    strips: bool = True
    keep_context: bool = False
    keep_frames: bool = False


@dataclass
class Counts:
    """What recording did. Each selected video is in exactly one of `queued` and the `already_`
    counts.

    `widened`: of those that wait already, who want a model now that they did not want before.
    `changed` are videos whose bytes are not those that were read before. `duplicates` are rows of
    the source whose uri was selected before. `recategorised` and `retitled` are known videos that
    now have another category or title than was recorded. `category_kept` are known videos whose
    folder has another name than the category that they keep.
    """

    selected: int = 0
    new_videos: int = 0
    changed: int = 0
    queued: int = 0
    already_done: int = 0
    already_waiting: int = 0
    already_failed: int = 0
    widened: int = 0
    duplicates: int = 0
    recategorised: int = 0
    retitled: int = 0
    category_kept: int = 0

    def add(self, other: Self) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class _Incoming(NamedTuple):
    """A row of the table `incoming`."""

    uri: str
    external_id: str | None
    category: str | None
    title: str | None
    group_key: str | None
    attributes: dict[str, Any]
    size_bytes: int | None
    etag: str | None
    category_derived: bool
    title_derived: bool


_COLUMNS: dict[str, copy.Encoder] = {
    "uri": copy.text,
    "external_id": copy.text,
    "category": copy.text,
    "title": copy.text,
    "group_key": copy.text,
    "attributes": copy.jsonb,
    "size_bytes": copy.bigint,
    "etag": copy.text,
    "category_derived": copy.boolean,
    "title_derived": copy.boolean,
}

_TABLES = """
DROP TABLE IF EXISTS incoming, chunk, selection;
CREATE TEMP TABLE incoming (
  uri text, external_id text, category text, title text, group_key text, attributes jsonb, size_bytes bigint,
  etag text, category_derived boolean, title_derived boolean);
CREATE TEMP TABLE chunk (video_id bigint PRIMARY KEY, changed boolean NOT NULL DEFAULT false,
  category_kept boolean NOT NULL DEFAULT false);
CREATE TEMP TABLE selection (video_id bigint PRIMARY KEY);
"""

# A video's etag is that of the bytes its vectors were made from: the worker writes it, not the
# source. Sorted by the unique key: two producers with the same rows wait for each other instead of
# deadlocking. What is known is left out beforehand: a conflict would cost a number of the sequence.
_INSERT_VIDEOS = """
WITH made AS (
  INSERT INTO reelvec.videos ({number} uri, external_id, category, title, group_key, attributes, size_bytes) {overriding}
  SELECT {value} uri, external_id, category, title, group_key, attributes, size_bytes FROM incoming i
  WHERE NOT EXISTS (SELECT FROM reelvec.videos v WHERE md5(v.uri) = md5(i.uri)) ORDER BY md5(uri)
  ON CONFLICT DO NOTHING RETURNING video_id)
INSERT INTO chunk (video_id) SELECT video_id FROM made
"""
_FOR_GOOD = text(_INSERT_VIDEOS.format(number="", value="", overriding=""))
# A sequence takes nothing back when a transaction is rolled back, so a rehearsal numbers its videos
# -1, -2, ...
_IN_REHEARSAL = text(_INSERT_VIDEOS.format(
    number="video_id,", overriding="OVERRIDING SYSTEM VALUE",
    value="-row_number() OVER (ORDER BY md5(uri)) - (SELECT count(*) FROM selection),",
))  # fmt: skip

# A later source may know more (a category, the user's id); what it does not say stays. What was made
# from names only fills what is not there: which of the recorded facts somebody said, nobody knows
# any more.
_CATEGORY, _TITLE = (
    f"CASE WHEN i.{name}_derived THEN coalesce(v.{name}, i.{name}) ELSE coalesce(i.{name}, v.{name}) END"
    for name in ("category", "title")
)
_UPDATE_VIDEOS = text(f"""
WITH known AS (
  SELECT v.video_id, v.category AS category_before, v.title AS title_before, i.*
  FROM incoming i JOIN reelvec.videos v ON md5(v.uri) = md5(i.uri)
  WHERE (v.external_id, v.category, v.title, v.group_key, v.attributes) IS DISTINCT FROM
      (coalesce(i.external_id, v.external_id), {_CATEGORY}, {_TITLE}, coalesce(i.group_key, v.group_key),
       v.attributes || i.attributes)
  ORDER BY v.video_id FOR UPDATE OF v
), updated AS (
  UPDATE reelvec.videos v SET
    external_id = coalesce(i.external_id, v.external_id), category = {_CATEGORY}, title = {_TITLE},
    group_key = coalesce(i.group_key, v.group_key), attributes = v.attributes || i.attributes
  FROM known i WHERE v.video_id = i.video_id
  RETURNING i.category_before <> v.category AS recategorised, i.title_before <> v.title AS retitled
)
SELECT count(*) FILTER (WHERE recategorised), count(*) FILTER (WHERE retitled) FROM updated
""")  # noqa: S608

_CHUNK_FROM_KNOWN = text("""
INSERT INTO chunk SELECT v.video_id, coalesce(i.etag <> v.etag, false),
  i.category_derived AND coalesce(i.category <> v.category, false)
FROM incoming i JOIN reelvec.videos v ON md5(v.uri) = md5(i.uri)
ON CONFLICT DO NOTHING
""")

_KNOWN_CHUNK = text(
    "SELECT count(*) FILTER (WHERE changed), count(*) FILTER (WHERE category_kept) FROM chunk"
)

_FORGET_SELECTED = text("DELETE FROM chunk USING selection s WHERE chunk.video_id = s.video_id")

_CHUNK_FROM_VIDEOS = text("""
INSERT INTO chunk (video_id) SELECT video_id FROM reelvec.videos
WHERE video_id > :after AND (CAST(:categories AS text[]) IS NULL OR category = ANY(CAST(:categories AS text[])))
ORDER BY video_id LIMIT :room
""")

# Only what is new: a place that is known costs no number of the sequence and no lock.
_INSERT_PLACES = text("""
INSERT INTO reelvec.places (place)
SELECT DISTINCT reelvec.place_of(v.uri) FROM chunk JOIN reelvec.videos v USING (video_id)
EXCEPT SELECT place FROM reelvec.places ORDER BY 1
ON CONFLICT DO NOTHING
""")

_INSERT_JOBS = text("""
INSERT INTO reelvec.jobs (video_id, place_id, encoders, taggers, force, wants_strip, keep_context, keep_frames)
SELECT c.video_id, p.place_id, CAST(:encoders AS smallint[]), CAST(:taggers AS smallint[]), :force, :strips, :keep_context,
  :keep_frames
FROM chunk c JOIN reelvec.videos v USING (video_id) LEFT JOIN reelvec.places p ON p.place = reelvec.place_of(v.uri)
ORDER BY c.video_id
ON CONFLICT DO NOTHING
""")

# Widening is how a backbone is added later: the union is wanted, and a finished job opens again for
# what it now lacks. One that failed for what is in its file does not, while that is the same
# version: what is to be made is only noted.
_AGAIN = "(j.force OR :force OR known.changed)"
_LISTED = f"""CASE WHEN :force OR known.changed THEN known.union_encoders
  ELSE {owing.REMEMBERED} || array(SELECT e FROM unnest(known.union_encoders) e WHERE e <> ALL(j.encoders)) END"""  # noqa: S608
_OWES = owing.models(
    owing.encoders(_AGAIN, _LISTED, "known.union_encoders"),
    owing.taggers(_AGAIN, _LISTED, "known.union_taggers"),
)
# Frames that were kept of the very version that the rows were made from need no second sampling.
_KEPT = """CASE WHEN NOT EXISTS (
    SELECT FROM reelvec.encoders e WHERE e.encoder_id = ANY(w.owed) AND NOT EXISTS (
      SELECT FROM reelvec.packs p JOIN reelvec.videos v USING (video_id)
      WHERE p.video_id = w.video_id AND p.policy = e.sampling AND p.written_at IS NOT NULL AND p.etag = v.etag))
    THEN 'frames' ELSE 'video' END"""
_WIDEN_JOBS = text(f"""
WITH known AS (
  SELECT j.video_id, j.state, chunk.changed,
    j.state IN ('pending', 'queued', 'running') AND NOT j.encoders @> CAST(:encoders AS smallint[]) AS is_widened,
    array(SELECT DISTINCT e FROM unnest(j.encoders || CAST(:encoders AS smallint[])) e ORDER BY e) AS union_encoders,
    array(SELECT DISTINCT t FROM unnest(j.taggers || CAST(:taggers AS smallint[])) t ORDER BY t) AS union_taggers,
    j.state = 'failed' AND j.error_code = ANY(CAST(:file_codes AS text[])) AND NOT (:force OR chunk.changed) AS is_lost
  FROM reelvec.jobs j JOIN chunk USING (video_id)
  WHERE j.state = 'cancelled' OR ((:force OR chunk.changed) AND j.state <> 'running')
     OR NOT (j.encoders @> CAST(:encoders AS smallint[]) AND j.taggers @> CAST(:taggers AS smallint[]))
     OR (:keep_context AND NOT j.keep_context) OR (:keep_frames AND j.keep_frames IS NOT TRUE)
  ORDER BY j.video_id FOR UPDATE OF j
), owing AS MATERIALIZED (
  SELECT known.*, {_OWES} AS owed FROM known JOIN reelvec.jobs j USING (video_id)
), widened AS MATERIALIZED (
  SELECT *, CASE WHEN is_lost OR state NOT IN ('done', 'failed', 'cancelled') THEN state
    WHEN owed = '{{}}' THEN 'done' ELSE 'pending' END AS new_state,
    state IN ('done', 'failed', 'cancelled') AND NOT is_lost AS reopens FROM owing
), changed AS (
  UPDATE reelvec.jobs j SET encoders = union_encoders, taggers = union_taggers, state = new_state,
    owes = CASE WHEN new_state <> 'done' THEN owed END,
    force = new_state <> 'done' AND (j.force OR :force OR w.changed), wants_strip = :strips,
    keep_context = j.keep_context OR :keep_context, keep_frames = j.keep_frames IS TRUE OR :keep_frames,
    stage = CASE WHEN w.changed THEN 'video' WHEN reopens AND new_state = 'pending' THEN {_KEPT} ELSE j.stage END,
    bytes_read = CASE WHEN NOT reopens THEN j.bytes_read END, fetch_seconds = CASE WHEN NOT reopens THEN j.fetch_seconds END,
    decode_seconds = CASE WHEN NOT reopens THEN j.decode_seconds END,
    bytes_written = CASE WHEN NOT reopens THEN j.bytes_written END,
    attempts = CASE WHEN reopens THEN 0 ELSE j.attempts END,
    strikes = CASE WHEN reopens THEN 0 ELSE j.strikes END,
    error_code = CASE WHEN NOT reopens THEN j.error_code END,
    error = CASE WHEN NOT reopens THEN j.error END,
    finished_at = CASE WHEN is_lost OR new_state = 'done' THEN coalesce(j.finished_at, now()) END,
    enqueued_at = CASE WHEN is_lost OR new_state = 'done' THEN j.enqueued_at ELSE now() END
  FROM widened w WHERE j.video_id = w.video_id
  RETURNING reopens AND new_state = 'pending' AS reopened, is_widened
)
SELECT count(*) FILTER (WHERE reopened), count(*) FILTER (WHERE is_widened) FROM changed
""")  # noqa: S608

_STATES = text(
    "SELECT j.state, count(*) FROM chunk JOIN reelvec.jobs j USING (video_id) GROUP BY 1"
)

_SELECTION_STATES = text(
    "SELECT j.state, count(*) FROM selection JOIN reelvec.jobs j USING (video_id) GROUP BY 1"
)


def begin(connection: Connection) -> None:
    """Start a selection: this connection remembers from here on which videos were recorded on
    it.
    """
    connection.exec_driver_sql(_TABLES)


def select_waiting(connection: Connection) -> None:
    """Select, after `begin`, every video that has not ended."""
    connection.exec_driver_sql(
        "INSERT INTO selection SELECT video_id FROM reelvec.jobs WHERE state IN ('pending', "
        "'queued', 'running')"
    )


def record(
    connection: Connection, rows: Sequence[VideoFacts], wanted: Wanted, *, rehearsal: bool = False
) -> Counts:
    """Record one chunk of videos and their jobs in the connection's transaction, after `begin`;
    returns what was new.

    `rehearsal`: the transaction will be rolled back.
    """
    distinct = _distinct(rows)
    connection.exec_driver_sql("TRUNCATE incoming, chunk")
    copy.copy_rows(connection, "incoming", _COLUMNS, distinct.values())
    counts = Counts(
        new_videos=connection.execute(_IN_REHEARSAL if rehearsal else _FOR_GOOD).rowcount
    )
    found, again = counts.new_videos, 0
    if found < len(distinct):
        found += connection.execute(_CHUNK_FROM_KNOWN).rowcount
        again = connection.execute(_FORGET_SELECTED).rowcount
        counts.changed, counts.category_kept = connection.execute(_KNOWN_CHUNK).one()
    counts.selected = found - again
    counts.duplicates = len(rows) - len(distinct) + again
    _record_jobs(connection, wanted, counts)
    if counts.new_videos < len(distinct):
        counts.recategorised, counts.retitled = connection.execute(_UPDATE_VIDEOS).one()
    return counts


def record_known(
    connection: Connection,
    wanted: Wanted,
    *,
    categories: Sequence[str] | None,
    after_video_id: int,
    room: int,
) -> tuple[Counts, int | None]:
    """The same for up to `room` videos recorded earlier, above `after_video_id`; also returns the
    last id, None at the end.
    """
    connection.exec_driver_sql("TRUNCATE chunk")
    facts = {
        "after": after_video_id,
        "categories": list(categories) if categories else None,
        "room": room,
    }
    counts = Counts(selected=connection.execute(_CHUNK_FROM_VIDEOS, facts).rowcount)
    _record_jobs(connection, wanted, counts)
    last = connection.execute(text("SELECT max(video_id) FROM chunk")).scalar()
    return counts, last


def _record_jobs(connection: Connection, wanted: Wanted, counts: Counts) -> None:
    facts = {
        "encoders": list(wanted.encoders),
        "taggers": list(wanted.taggers),
        "force": wanted.force,
        "strips": wanted.strips,
        "keep_context": wanted.keep_context,
        "keep_frames": wanted.keep_frames,
        "file_codes": sorted(FILE_CODES),
    }
    before = _states(connection, _STATES) if counts.new_videos < counts.selected else {}
    connection.execute(_INSERT_PLACES)
    counts.queued = connection.execute(_INSERT_JOBS, facts).rowcount
    if counts.queued < counts.selected:
        reopened, counts.widened = connection.execute(_WIDEN_JOBS, facts).one()
        counts.queued += reopened
        after = _states(connection, _STATES)
        counts.already_done = after.get("done", 0)
        counts.already_failed = after.get("failed", 0)
        counts.already_waiting = sum(
            before.get(state, 0) for state in ("pending", "queued", "running")
        )
    connection.exec_driver_sql("INSERT INTO selection SELECT video_id FROM chunk")


def _distinct(rows: Sequence[VideoFacts]) -> dict[str, _Incoming]:
    """One row for each video, by its uri."""
    distinct: dict[str, _Incoming] = {}
    for facts in rows:
        row, uri = _incoming(facts), facts.uri
        distinct[uri] = _together(distinct[uri], row) if uri in distinct else row
    return distinct


def _together(before: _Incoming, row: _Incoming) -> _Incoming:
    """Two rows of one video, as if they came in two chunks (`_UPDATE_VIDEOS`)."""
    said = {name: value for name, value in row._asdict().items() if value is not None}
    for fact in ("category", "title"):
        known, new = getattr(before, fact), getattr(row, fact)
        if new is None or (known is not None and said[f"{fact}_derived"]):
            said[fact] = known
            said[f"{fact}_derived"] = getattr(before, f"{fact}_derived")
    return before._replace(**{**said, "attributes": before.attributes | row.attributes})


def _incoming(row: VideoFacts) -> _Incoming:
    return _Incoming(
        row.uri,
        row.external_id,
        row.category,
        row.title,
        row.group,
        row.attributes,
        row.size_bytes,
        row.etag,
        "category" in row.derived,
        "title" in row.derived,
    )


def is_any_recorded(connection: Connection) -> bool:
    """Whether there is a video at all."""
    return bool(connection.execute(text("SELECT EXISTS (SELECT FROM reelvec.videos)")).scalar_one())


def known_categories(connection: Connection) -> set[str]:
    rows = connection.execute(
        text("SELECT DISTINCT category FROM reelvec.videos WHERE category IS NOT NULL")
    )
    return {str(row[0]) for row in rows}


def selection_states(connection: Connection) -> dict[str, int]:
    """How the videos selected on this connection stand now: state -> count."""
    return _states(connection, _SELECTION_STATES)


def _states(connection: Connection, query: TextClause) -> dict[str, int]:
    return {str(state): int(count) for state, count in connection.execute(query)}
