"""All jobs counted in one pass, so that everything said about them agrees; at a million jobs the
counts are shared.

A pass over a million jobs takes most of a second. Where the ledger is that large, whoever counts
stores what it found, the next ones take it while it is a few seconds old, and the workers keep it
fresh for as long as somebody looks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

ALL, NO_CATEGORY = "(all)", "(none)"
WAITING_STATES = ("pending", "queued")

#: A ledger of fewer jobs (as Postgres estimates them) always counts itself.
SHARED_JOBS = 100_000
#: Shared counts are this old at most, or a second older for each so many jobs: counting takes a
#: tenth of the time at most.
FRESH_SECONDS, JOBS_PER_SECOND_OF_AGE = 5.0, 100_000
#: Workers keep the counts fresh for this long after somebody looked.
WATCHED_SECONDS = 600.0
CENSUS_LOCK = 7_120_431_005


@dataclass(frozen=True)
class Group:
    """Jobs of one category, state and error code that wait, or do not, for the same reason.

    `held` ones wait behind a closed place (`place`), for a paused backbone alone (`backbone`) or
    for weights that no worker has (`weights`, see `db.progress.models`); of the `encoders` wanted
    they owe those `owed`. `delayed` ones wait for a later retry, the last of them in
    `delay_seconds`; of all others that wait, the first could be claimed for `ready_seconds`.
    `newest_start_seconds` and `oldest_start_seconds`: how long ago the last and the first of their
    runs began; `outage_seconds`: the first of their waits for a service. `example_id` is one of
    their videos.
    """

    category: str | None
    state: str
    error_code: str | None
    held: str | None
    delayed: bool
    videos: int
    example_id: int
    newest_start_seconds: float | None = None
    oldest_start_seconds: float | None = None
    outage_seconds: float | None = None
    ready_seconds: float | None = None
    delay_seconds: float | None = None
    encoders: tuple[int, ...] = ()
    owed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Census:
    """What was counted, and how long ago."""

    groups: tuple[Group, ...]
    age_seconds: float = 0.0


@dataclass(frozen=True)
class Progress:
    """Counts of one category, as in the view `progress`; `category` is '(all)' for the total,
    '(none)' without one.
    """

    category: str
    videos: int
    done: int
    failed: int
    running: int
    waiting: int
    cancelled: int


@dataclass(frozen=True)
class Waiting:
    """Videos that wait, by what for. `ready` ones wait for a worker alone, the first of them for
    `ready_seconds`.

    `delayed` ones are tried again later, the last in `delay_seconds`; `closed` are behind closed
    places, `paused` owe nothing but paused backbones, `weights` nothing that a live worker could
    load.
    """

    ready: int = 0
    ready_seconds: float = 0.0
    delayed: int = 0
    delay_seconds: float = 0.0
    closed: int = 0
    paused: int = 0
    weights: int = 0


# Rows are grouped by what stands in them; what that means is worked out for the few groups alone.
# The other way round takes twice the time.
_GROUPS = text("""
WITH paused AS MATERIALIZED (
  SELECT array_agg(encoder_id) AS encoders FROM reelvec.encoders JOIN reelvec.paused_backbones USING (backbone) WHERE paused
), alike AS (
  SELECT v.category, j.state, j.error_code, j.encoders, j.owes AS remembered,
    coalesce(j.not_before > now(), false) AS is_later,
    j.stage = 'video' AND j.place_id IN (SELECT place_id FROM reelvec.places WHERE closed_at IS NOT NULL) AS is_closed,
    count(*) AS videos, max(j.video_id) AS example_id, max(j.started_at) AS newest_start, min(j.started_at) AS oldest_start,
    min(j.infra_since) AS outage, min(greatest(j.enqueued_at, j.not_before)) AS ready, max(j.not_before) AS due
  FROM reelvec.jobs j JOIN reelvec.videos v USING (video_id)
  GROUP BY 1, 2, 3, 4, 5, 6, 7
), owing AS (
  SELECT *, coalesce(remembered, encoders) AS owes FROM alike
), held AS (
  SELECT *, state IN ('pending', 'queued') AS waits,
    CASE WHEN state NOT IN ('pending', 'queued') THEN NULL WHEN is_closed THEN 'place'
         WHEN owes <@ (SELECT encoders FROM paused) THEN 'backbone' END AS held,
    CASE WHEN state = 'cancelled' THEN '{}' ELSE encoders END AS wanted,
    CASE WHEN state IN ('cancelled', 'done') THEN '{}' ELSE owes END AS owed
  FROM owing
)
SELECT category, state, error_code, held, waits AND held IS NULL AND is_later AS delayed, wanted AS encoders, owed,
  sum(videos)::bigint AS videos, max(example_id) AS example_id,
  extract(epoch FROM now() - max(newest_start))::double precision AS newest_start_seconds,
  extract(epoch FROM now() - min(oldest_start))::double precision AS oldest_start_seconds,
  extract(epoch FROM now() - min(outage))::double precision AS outage_seconds,
  extract(epoch FROM now() - min(ready) FILTER (WHERE waits AND held IS NULL))::double precision AS ready_seconds,
  extract(epoch FROM max(due) FILTER (WHERE waits AND held IS NULL AND is_later) - now())::double precision AS delay_seconds
FROM held GROUP BY 1, 2, 3, 4, 5, 6, 7
""")


# Postgres expects hundreds of thousands of groups where there are dozens: it would sort for them,
# which takes twice the time, and leave all to one process. What 64 MB hold needs no files.
_FOR_A_PASS = text(
    "SET LOCAL enable_sort = off; SET LOCAL parallel_tuple_cost = 0; SET LOCAL work_mem = '64MB'"
)
_AS_BEFORE = text(
    "SET LOCAL enable_sort = on; SET LOCAL parallel_tuple_cost TO DEFAULT; "
    "SET LOCAL work_mem TO DEFAULT"
)


def count(connection: Connection) -> tuple[Group, ...]:
    """One pass over all jobs: 1.4 s of CPU for a million."""
    connection.execute(_FOR_A_PASS)
    rows = connection.execute(_GROUPS).all()
    connection.execute(_AS_BEFORE)
    return tuple(
        Group(**{**row._mapping, "encoders": tuple(row.encoders), "owed": tuple(row.owed)})
        for row in rows
    )


_STORED = text("""
SELECT (SELECT reltuples >= :shared_jobs FROM pg_class WHERE oid = 'reelvec.jobs'::regclass) AS is_large,
  has_table_privilege('reelvec.census', 'INSERT') AND has_table_privilege('reelvec.census', 'UPDATE')
    AND NOT current_setting('transaction_read_only')::boolean AS may_store,
  extract(epoch FROM now() - taken_at)::double precision AS age_seconds,
  extract(epoch FROM now() - looked_at)::double precision AS looked_seconds, groups,
  CASE WHEN sets_of = md5(groups::text) THEN sets END AS sets
FROM (SELECT) always LEFT JOIN reelvec.census ON true
""")
_STORE = text("""
INSERT INTO reelvec.census (groups, sets, sets_of, looked_at)
VALUES (:groups, :sets, md5(CAST(:groups AS jsonb)::text), CASE WHEN :looked THEN now() END)
ON CONFLICT (census_id) DO UPDATE SET taken_at = now(), groups = excluded.groups, sets = excluded.sets,
  sets_of = excluded.sets_of, looked_at = coalesce(excluded.looked_at, census.looked_at)
""").bindparams(bindparam("groups", type_=JSONB), bindparam("sets", type_=JSONB))
_LOOKED = text("UPDATE reelvec.census SET looked_at = now()")
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:key)")


def look(connection: Connection) -> Census:
    """All jobs, counted now; on a large ledger as somebody has counted them a few seconds ago, if
    anybody did.

    Whoever may not write (a read-only role, a replica) counts for itself alone.
    """
    stored = connection.execute(_STORED, {"shared_jobs": SHARED_JOBS}).one()
    if not stored.is_large:
        return Census(count(connection))
    known = _aged(stored)
    is_first = stored.may_store and connection.execute(_TRY_LOCK, {"key": CENSUS_LOCK}).scalar()
    if known is not None and known.age_seconds <= fresh_seconds(known.groups):
        if is_first and (
            stored.looked_seconds is None or stored.looked_seconds > WATCHED_SECONDS / 10
        ):
            connection.execute(_LOOKED)
        return known
    if (
        known is not None
        and stored.may_store
        and not is_first
        and known.age_seconds <= WATCHED_SECONDS
    ):
        return known  # somebody is counting just now
    groups = count(connection)
    if is_first:
        _store(connection, groups, looked=True)
    return Census(groups)


def refresh(connection: Connection) -> bool:
    """Count again for those who look, if anybody has lately and nobody counts already. False: there
    was no need.
    """
    stored = connection.execute(_STORED, {"shared_jobs": SHARED_JOBS}).one()
    if not (stored.is_large and stored.may_store) or stored.looked_seconds is None:
        return False
    known = _aged(stored)
    if stored.looked_seconds > WATCHED_SECONDS:
        return False
    if known is not None and known.age_seconds < fresh_seconds(known.groups) / 2:
        return False
    if not connection.execute(_TRY_LOCK, {"key": CENSUS_LOCK}).scalar():
        return False
    _store(connection, count(connection), looked=False)
    return True


def fresh_seconds(groups: Iterable[Group]) -> float:
    """How old shared counts of so many jobs may be."""
    return max(FRESH_SECONDS, sum(group.videos for group in groups) / JOBS_PER_SECOND_OF_AGE)


def _store(connection: Connection, groups: Iterable[Group], *, looked: bool) -> None:
    facts = [asdict(group) for group in groups]
    sets = [{name: each.pop(name) for name in ("encoders", "owed")} for each in facts]
    connection.execute(_STORE, {"groups": facts, "sets": sets, "looked": looked})


def _aged(stored: Row[Any]) -> Census | None:
    """Stored counts, with their times told from now; None: there are none, or an older version has
    stored them.
    """
    if stored.sets is None:
        return None
    groups = [
        Group(**facts, encoders=tuple(sets["encoders"]), owed=tuple(sets["owed"]))
        for facts, sets in zip(stored.groups, stored.sets, strict=True)
    ]
    return Census(tuple(_older(group, stored.age_seconds) for group in groups), stored.age_seconds)


def _older(group: Group, seconds: float) -> Group:
    times = ("newest_start_seconds", "oldest_start_seconds", "outage_seconds", "ready_seconds")
    older = {name: value + seconds for name in times if (value := getattr(group, name)) is not None}
    delay = None if group.delay_seconds is None else max(0.0, group.delay_seconds - seconds)
    return replace(group, **older, delay_seconds=delay)


def progress(groups: Iterable[Group]) -> list[Progress]:
    """Total first, then the categories by size. Empty if nothing is recorded."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for group in groups:
        state = "waiting" if group.state in WAITING_STATES else group.state
        for name in (ALL, group.category if group.category is not None else NO_CATEGORY):
            counts[name][state] += group.videos
    rows = [
        Progress(
            name,
            states.total(),
            *(states[s] for s in ("done", "failed", "running", "waiting", "cancelled")),
        )
        for name, states in counts.items()
    ]
    return sorted(rows, key=lambda row: (row.category != ALL, -row.videos, row.category))


def failure_counts(groups: Iterable[Group]) -> list[tuple[str, int]]:
    """Failed videos by code, the commonest first."""
    codes: Counter[str] = Counter()
    for group in groups:
        if group.state == "failed":
            codes[group.error_code or "unknown"] += group.videos
    return sorted(codes.items(), key=lambda item: (-item[1], item[0]))


def waiting(groups: Iterable[Group]) -> Waiting:
    """What the videos that wait are waiting for."""
    waits = [group for group in groups if group.state in WAITING_STATES]
    delayed = [group for group in waits if group.delayed]
    ready = [group for group in waits if not group.delayed and group.held is None]
    return Waiting(
        ready=sum(group.videos for group in ready),
        ready_seconds=max((group.ready_seconds or 0.0 for group in ready), default=0.0),
        delayed=sum(group.videos for group in delayed),
        delay_seconds=max((group.delay_seconds or 0.0 for group in delayed), default=0.0),
        closed=sum(group.videos for group in waits if group.held == "place"),
        paused=sum(group.videos for group in waits if group.held == "backbone"),
        weights=sum(group.videos for group in waits if group.held == "weights"),
    )


def last_claim_seconds(groups: Iterable[Group]) -> float | None:
    """How long ago a video was claimed last; None: none ever was."""
    return min(
        (group.newest_start_seconds for group in groups if group.newest_start_seconds is not None),
        default=None,
    )


def oldest_run_seconds(groups: Iterable[Group]) -> float | None:
    """How long ago the oldest run under way began; None: none is."""
    runs = [group.oldest_start_seconds for group in groups if group.state == "running"]
    return max((seconds for seconds in runs if seconds is not None), default=None)
