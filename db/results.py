"""What the ledger says, for people: progress, rates, stages, failures. Nothing here writes.

Everything but `census` reads by an index; `census` reads all jobs once (under a second for a million).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from db.errors import VIDEO_ERROR_CLASSES, ErrorClass
from db.selection import Selection, condition

#: Rates are those of this long before the latest video ended.
WINDOW_SECONDS = 600.0
#: Stage timings are means over at most so many of the videos that ended last.
STAGE_VIDEOS = 1000

ALL, NO_CATEGORY = "(all)", "(none)"

_INFRA_CODES = {code for code, kind in VIDEO_ERROR_CLASSES.items() if kind is ErrorClass.INFRA}


@dataclass(frozen=True)
class Group:
    """Jobs of one category, state and error code. `delayed` ones wait for a later retry.

    `newest_start_seconds` and `oldest_start_seconds`: how long ago the last and the first of their runs began;
    `outage_seconds`: the first of their waits for a service. `example_id` is one of their videos.
    """

    category: str | None
    state: str
    error_code: str | None
    delayed: bool
    videos: int
    example_id: int
    newest_start_seconds: float | None
    oldest_start_seconds: float | None
    outage_seconds: float | None


@dataclass(frozen=True)
class Progress:
    """Counts of one category, as in the view `progress`; `category` is '(all)' for the total, '(none)' without one."""

    category: str
    videos: int
    done: int
    failed: int
    running: int
    waiting: int
    cancelled: int


@dataclass(frozen=True)
class Outage:
    """Videos that wait because of a service or a credential, not because of themselves.

    `newest_try_seconds`: how long ago the last of them was tried; `waited_seconds`: the first of them began to wait.
    `example` is one error text.
    """

    error_code: str
    videos: int
    newest_try_seconds: float
    waited_seconds: float
    example: str


@dataclass(frozen=True)
class Recent:
    """The `ended` (done or failed) videos of the 10 minutes before the latest of them.

    `span_seconds`: from the first of their starts, at most 10 minutes before the latest end, to that end.
    `idle_seconds`: since that end; None: nothing has ended yet.
    """

    ended: int
    span_seconds: float
    idle_seconds: float | None


@dataclass(frozen=True)
class Stages:
    """Means over `videos` that went through every stage in the last 10 minutes; seconds and bytes of one video.

    `decode` is CPU time of the sampler, `wait` the wait for the engine with the time on the device in it, `device` the
    video's share of the device's time, `held` from claim to commit.
    """

    videos: int
    fetch_seconds: float = 0.0
    decode_seconds: float = 0.0
    wait_seconds: float = 0.0
    device_seconds: float = 0.0
    held_seconds: float = 0.0
    bytes_read: float = 0.0


@dataclass(frozen=True)
class Failed:
    """One failed video and why."""

    video_id: int
    external_id: str | None
    uri: str
    category: str | None
    error_code: str
    error: str
    attempts: int


_CENSUS = text("""
SELECT v.category, j.state, j.error_code, coalesce(j.state = 'pending' AND j.not_before > now(), false) AS delayed,
  count(*) AS videos, max(j.video_id) AS example_id,
  extract(epoch FROM now() - max(j.started_at))::double precision AS newest_start_seconds,
  extract(epoch FROM now() - min(j.started_at))::double precision AS oldest_start_seconds,
  extract(epoch FROM now() - min(j.infra_since))::double precision AS outage_seconds
FROM reelvec.jobs j JOIN reelvec.videos v USING (video_id)
GROUP BY 1, 2, 3, 4
""")


def census(connection: Connection) -> list[Group]:
    """All jobs, counted in one pass, so that everything said about them agrees."""
    return [Group(**row._mapping) for row in connection.execute(_CENSUS)]


def progress(groups: Iterable[Group]) -> list[Progress]:
    """Total first, then the categories by size. Empty if nothing is recorded."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for group in groups:
        state = "waiting" if group.state in ("pending", "queued") else group.state
        for name in (ALL, group.category if group.category is not None else NO_CATEGORY):
            counts[name][state] += group.videos
    rows = [
        Progress(name, states.total(), *(states[s] for s in ("done", "failed", "running", "waiting", "cancelled")))
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


def outages(connection: Connection, groups: Iterable[Group]) -> list[Outage]:
    """Videos whose last attempt met an error of class INFRA and that have not ended since, by code, the commonest first.

    Those that are being tried again are among them.
    """
    by_code: defaultdict[str, list[Group]] = defaultdict(list)
    for group in groups:
        if group.error_code in _INFRA_CODES and group.state in ("pending", "queued", "running"):
            by_code[str(group.error_code)].append(group)
    examples = _errors(connection, [members[0].example_id for members in by_code.values()]) if by_code else {}
    found = [
        Outage(
            code,
            sum(group.videos for group in members),
            min(group.newest_start_seconds or 0.0 for group in members),
            max(group.outage_seconds or 0.0 for group in members),
            examples.get(members[0].example_id, ""),
        )
        for code, members in by_code.items()
    ]
    return sorted(found, key=lambda outage: (-outage.videos, outage.error_code))


def _errors(connection: Connection, video_ids: Sequence[int]) -> dict[int, str]:
    rows = connection.execute(
        text("SELECT video_id, error FROM reelvec.jobs WHERE video_id = ANY(:ids) AND error IS NOT NULL"),
        {"ids": list(video_ids)},
    )
    return {int(video_id): str(error) for video_id, error in rows}


# Cancelled videos have an end, too, and one that was opened again still has its old one.
_RECENT = text("""
WITH latest AS MATERIALIZED (
  SELECT finished_at AS at FROM reelvec.jobs WHERE finished_at IS NOT NULL AND state IN ('done', 'failed')
  ORDER BY finished_at DESC LIMIT 1)
SELECT count(*) AS ended,
  coalesce(extract(epoch FROM max(l.at) - greatest(min(j.started_at), max(l.at) - make_interval(secs => :window))), 0)
    ::double precision AS span_seconds,
  extract(epoch FROM now() - max(l.at))::double precision AS idle_seconds
FROM latest l JOIN reelvec.jobs j ON j.finished_at > l.at - make_interval(secs => :window)
WHERE j.state IN ('done', 'failed')
""")


def recent(connection: Connection) -> Recent:
    return Recent(**connection.execute(_RECENT, {"window": WINDOW_SECONDS}).one()._mapping)


_STAGES = text("""
SELECT count(*) AS videos, avg(fetch_seconds) AS fetch_seconds, avg(decode_seconds) AS decode_seconds,
  avg(wait_seconds) AS wait_seconds, avg(device_seconds) AS device_seconds,
  avg(extract(epoch FROM finished_at - started_at))::double precision AS held_seconds,
  avg(bytes_read)::double precision AS bytes_read
FROM (
  SELECT * FROM reelvec.jobs
  WHERE finished_at > now() - make_interval(secs => :window) AND state IN ('done', 'failed')
    AND device_seconds IS NOT NULL
  ORDER BY finished_at DESC LIMIT :videos) lately
""")


def stages(connection: Connection) -> Stages:
    row = connection.execute(_STAGES, {"window": WINDOW_SECONDS, "videos": STAGE_VIDEOS}).one()._mapping
    return Stages(**row) if row["videos"] else Stages(0)


def failures(connection: Connection, selection: Selection, *, limit: int) -> list[Failed]:
    """The latest failures first; `since` is when they failed."""
    chosen, facts = condition(selection, moment="j.finished_at")
    statement = f"""
SELECT j.video_id, v.external_id, v.uri, v.category, j.error_code, j.error, j.attempts
FROM reelvec.jobs j JOIN reelvec.videos v USING (video_id)
WHERE j.state = 'failed'{chosen} ORDER BY j.finished_at DESC, j.video_id LIMIT :limit
"""  # noqa: S608
    return [Failed(**row._mapping) for row in connection.execute(text(statement), {**facts, "limit": limit})]


def query(connection: Connection, statement: str, *, write: bool) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run the user's own SQL; returns column names and rows (both empty for a statement without a result).

    Without `write` the whole session is read-only, so that a COMMIT inside the statement opens no way around it.
    """
    connection.exec_driver_sql("SET search_path = reelvec, public")
    if not write:
        connection.exec_driver_sql("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    connection.commit()
    result = connection.exec_driver_sql(statement.replace("%", "%%"))
    if not result.returns_rows:
        return [], []
    return list(result.keys()), [tuple(row) for row in result]
