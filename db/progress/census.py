"""All jobs counted in one statement, so that everything said about them agrees."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

ALL, NO_CATEGORY = "(all)", "(none)"
WAITING_STATES = ("pending", "queued")


@dataclass(frozen=True)
class Group:
    """Jobs of one state and error code that wait, or do not, for the same reason.

    `held` ones wait behind a closed place (`place`), for a paused backbone alone (`backbone`) or
    for weights that no worker has (`weights`, see `db.progress.models`); of the `encoders` wanted
    they owe those `owed`. `delayed` ones wait for a later retry, the last of them in
    `delay_seconds`; of all others that wait, the first could be claimed for `ready_seconds`.
    `newest_start_seconds` and `oldest_start_seconds`: how long ago the last and the first of their
    runs began; `outage_seconds`: the first of their waits for a service. `example_id` is one of
    their videos.
    """

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


class InState(NamedTuple):
    """Jobs of one category (None: without one) in one state. Those that wait may all be counted
    under one of the `WAITING_STATES`.
    """

    category: str | None
    state: str
    videos: int


@dataclass(frozen=True)
class Census:
    """What was counted, and how long ago: the same jobs in two ways."""

    groups: tuple[Group, ...]
    categories: tuple[InState, ...]
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
#
# The category stands with the video, and joining a million rows takes longer than all the rest. So
# only jobs that are in none of the `:commonest` states are joined: the others are what is left of a
# category's videos. (Videos without a job, as `reelvec db import` records them, are no jobs.)
_COUNT = text("""
WITH paused AS MATERIALIZED (
  SELECT array_agg(encoder_id) AS encoders FROM reelvec.encoders JOIN reelvec.paused_backbones USING (backbone) WHERE paused
), alike AS MATERIALIZED (
  SELECT j.state, j.error_code, j.encoders, j.owes AS remembered,
    coalesce(j.not_before > now(), false) AS is_later,
    j.stage = 'video' AND j.place_id IN (SELECT place_id FROM reelvec.places WHERE closed_at IS NOT NULL) AS is_closed,
    count(*) AS videos, max(j.video_id) AS example_id, max(j.started_at) AS newest_start, min(j.started_at) AS oldest_start,
    min(j.infra_since) AS outage, min(greatest(j.enqueued_at, j.not_before)) AS ready, max(j.not_before) AS due
  FROM reelvec.jobs j
  GROUP BY 1, 2, 3, 4, 5, 6
), owing AS (
  SELECT *, coalesce(remembered, encoders) AS owes FROM alike
), held AS (
  SELECT *, state IN ('pending', 'queued') AS waits,
    CASE WHEN state NOT IN ('pending', 'queued') THEN NULL WHEN is_closed THEN 'place'
         WHEN owes <@ (SELECT encoders FROM paused) THEN 'backbone' END AS held,
    CASE WHEN state = 'cancelled' THEN '{}' ELSE encoders END AS wanted,
    CASE WHEN state IN ('cancelled', 'done') THEN '{}' ELSE owes END AS owed
  FROM owing
), groups AS (
  SELECT state, error_code, held, waits AND held IS NULL AND is_later AS delayed, wanted AS encoders, owed,
    sum(videos)::bigint AS videos, max(example_id) AS example_id,
    extract(epoch FROM now() - max(newest_start))::double precision AS newest_start_seconds,
    extract(epoch FROM now() - min(oldest_start))::double precision AS oldest_start_seconds,
    extract(epoch FROM now() - min(outage))::double precision AS outage_seconds,
    extract(epoch FROM now() - min(ready) FILTER (WHERE waits AND held IS NULL))::double precision AS ready_seconds,
    extract(epoch FROM max(due) FILTER (WHERE waits AND held IS NULL AND is_later) - now())::double precision AS delay_seconds
  FROM held GROUP BY 1, 2, 3, 4, 5, 6
), recorded AS MATERIALIZED (
  SELECT category, count(*) AS videos FROM reelvec.videos GROUP BY 1
), others AS (
  SELECT category, state, count(*) AS videos FROM reelvec.jobs JOIN reelvec.videos USING (video_id)
  WHERE state <> ALL (:commonest) GROUP BY 1, 2
), jobless AS (
  SELECT category, count(*) AS videos FROM reelvec.videos v
  WHERE (SELECT sum(videos) FROM recorded) <> (SELECT sum(videos) FROM alike)
    AND NOT EXISTS (SELECT FROM reelvec.jobs j WHERE j.video_id = v.video_id) GROUP BY 1
)
SELECT (SELECT jsonb_agg(groups) FROM groups) AS groups,
  (SELECT jsonb_agg(jsonb_build_array(category, videos)) FROM recorded) AS recorded,
  (SELECT jsonb_agg(jsonb_build_array(category, state, videos)) FROM others) AS others,
  (SELECT jsonb_agg(jsonb_build_array(category, videos)) FROM jobless) AS jobless
""")
# As far as Postgres knows: it decides how long counting takes, and nothing else.
_COMMONEST = text("""
SELECT (most_common_vals::text::text[])[1] FROM pg_stats
WHERE schemaname = 'reelvec' AND tablename = 'jobs' AND attname = 'state'
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


def count(connection: Connection) -> Census:
    """All jobs as they are now."""
    connection.execute(_FOR_A_PASS)
    commonest = connection.execute(_COMMONEST).scalar()
    left_out = WAITING_STATES if commonest in (None, *WAITING_STATES) else (commonest,)
    counted = connection.execute(_COUNT, {"commonest": list(left_out)}).one()
    connection.execute(_AS_BEFORE)
    others = [InState(*row) for row in counted.others or ()]
    left = Counter(dict(counted.recorded or ()))
    left.subtract(dict(counted.jobless or ()))
    for category, _, videos in others:
        left[category] -= videos
    rest = [InState(category, left_out[0], videos) for category, videos in left.items() if videos]
    return Census(tuple(map(group, counted.groups or ())), (*others, *rest))


def group(facts: dict[str, Any]) -> Group:
    """A group from JSON, which knows no tuples."""
    return Group(**{**facts, "encoders": tuple(facts["encoders"]), "owed": tuple(facts["owed"])})


def progress(categories: Iterable[InState]) -> list[Progress]:
    """Total first, then the categories by size. Empty if nothing is recorded."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for category, state, videos in categories:
        for name in (ALL, NO_CATEGORY if category is None else category):
            counts[name]["waiting" if state in WAITING_STATES else state] += videos
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
