"""What the ledger says, for people: rates, stages, outages, failures. Everything reads by an index,
nothing writes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from db.errors import VIDEO_ERROR_CLASSES, ErrorClass
from db.jobs.selection import Selection, condition
from db.progress.census import WAITING_STATES, Group

#: Rates are those of this long before the latest video ended.
WINDOW_SECONDS = 600.0
#: Stage timings are means over at most so many of the videos that ended last.
STAGE_VIDEOS = 1000

_INFRA_CODES = {code for code, kind in VIDEO_ERROR_CLASSES.items() if kind is ErrorClass.INFRA}
_OUR_CLASSES = {ErrorClass.DEVICE, ErrorClass.BAD_OUTPUT, ErrorClass.STRIKE}
#: Codes that describe no file: where many fail with them, a worker, its settings or a model is to
#: be mended.
OUR_CODES = {code for code, kind in VIDEO_ERROR_CLASSES.items() if kind in _OUR_CLASSES} | {
    "poison", "sampler_defect", "internal", "unavailable",
    "outside_roots", "permission_denied", "address_refused", "unusable_prompt",
}  # fmt: skip


@dataclass(frozen=True)
class Outage:
    """Videos that wait because of a service or a credential, not because of themselves.

    `newest_try_seconds`: how long ago the last of them was tried; `waited_seconds`: the first of
    them began to wait. `example` is one error text.
    """

    error_code: str
    videos: int
    newest_try_seconds: float
    waited_seconds: float
    example: str


@dataclass(frozen=True)
class Recent:
    """The videos that ended, `done` or `failed`, in the 10 minutes before the latest of them.

    `ours` of the failed ones failed with a code of `OUR_CODES`. `span_seconds`: from the first of
    their starts, at most 10 minutes before the latest end, to that end. `idle_seconds`: since that
    end; None: nothing has ended yet.
    """

    done: int
    failed: int
    ours: int
    span_seconds: float
    idle_seconds: float | None


@dataclass(frozen=True)
class Stages:
    """Means over `videos` that went through every stage in the last 10 minutes; seconds and bytes
    of one video.

    `decode` is CPU time of the sampler, `wait` the wait for the engine with the time on the device
    in it, `device` the video's share of the device's time, `held` from claim to commit. Of packs of
    frames `bytes_written` were written and `frames_bytes` read, which took `frames_seconds`.
    """

    videos: int
    fetch_seconds: float = 0.0
    decode_seconds: float = 0.0
    wait_seconds: float = 0.0
    device_seconds: float = 0.0
    held_seconds: float = 0.0
    bytes_read: float = 0.0
    bytes_written: float = 0.0
    frames_bytes: float = 0.0
    frames_seconds: float = 0.0


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


def outages(connection: Connection, groups: Iterable[Group]) -> list[Outage]:
    """Videos whose last attempt met an error of class INFRA and that have not ended since, by code,
    the commonest first.

    Those that are being tried again are among them.
    """
    by_code: defaultdict[str, list[Group]] = defaultdict(list)
    for group in groups:
        if group.error_code in _INFRA_CODES and group.state in (*WAITING_STATES, "running"):
            by_code[str(group.error_code)].append(group)
    examples = (
        _errors(connection, [members[0].example_id for members in by_code.values()])
        if by_code
        else {}
    )
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
        text(
            "SELECT video_id, error FROM reelvec.jobs WHERE video_id = ANY(:ids) AND error IS NOT "
            "NULL"
        ),
        {"ids": list(video_ids)},
    )
    return {int(video_id): str(error) for video_id, error in rows}


# Cancelled videos have an end, too, and one that was opened again still has its old one.
_RECENT = text("""
WITH latest AS MATERIALIZED (
  SELECT finished_at AS at FROM reelvec.jobs WHERE finished_at IS NOT NULL AND state IN ('done', 'failed')
  ORDER BY finished_at DESC LIMIT 1)
SELECT count(*) FILTER (WHERE j.state = 'done') AS done, count(*) FILTER (WHERE j.state = 'failed') AS failed,
  count(*) FILTER (WHERE j.state = 'failed' AND j.error_code = ANY(CAST(:ours AS text[]))) AS ours,
  coalesce(extract(epoch FROM max(l.at) - greatest(min(j.started_at), max(l.at) - make_interval(secs => :window))), 0)
    ::double precision AS span_seconds,
  extract(epoch FROM now() - max(l.at))::double precision AS idle_seconds
FROM latest l JOIN reelvec.jobs j ON j.finished_at > l.at - make_interval(secs => :window)
WHERE j.state IN ('done', 'failed')
""")


def recent(connection: Connection) -> Recent:
    facts = {"window": WINDOW_SECONDS, "ours": sorted(OUR_CODES)}
    return Recent(**connection.execute(_RECENT, facts).one()._mapping)


_STAGES = text("""
SELECT count(*) AS videos, avg(coalesce(fetch_seconds, 0)) AS fetch_seconds,
  avg(coalesce(decode_seconds, 0)) AS decode_seconds,
  avg(wait_seconds) AS wait_seconds, avg(device_seconds) AS device_seconds,
  avg(extract(epoch FROM finished_at - started_at))::double precision AS held_seconds,
  avg(bytes_read)::double precision AS bytes_read, avg(coalesce(bytes_written, 0))::double precision AS bytes_written,
  avg(coalesce(frames_bytes, 0))::double precision AS frames_bytes,
  avg(coalesce(frames_seconds, 0))::double precision AS frames_seconds
FROM (
  SELECT * FROM reelvec.jobs
  WHERE finished_at > now() - make_interval(secs => :window) AND state IN ('done', 'failed')
    AND device_seconds IS NOT NULL
  ORDER BY finished_at DESC LIMIT :videos) lately
""")


def stages(connection: Connection) -> Stages:
    row = (
        connection.execute(_STAGES, {"window": WINDOW_SECONDS, "videos": STAGE_VIDEOS})
        .one()
        ._mapping
    )
    # a video whose frames were kept costs no second fetching and decoding
    return Stages(**{name: value or 0 for name, value in row.items()})


def failures(connection: Connection, selection: Selection, *, limit: int | None) -> list[Failed]:
    """The latest failures first; `since` is when they failed. `limit` None: all."""
    chosen, facts = condition(selection, moment="j.finished_at")
    statement = f"""
SELECT j.video_id, v.external_id, v.uri, v.category, j.error_code, j.error, j.attempts
FROM reelvec.jobs j JOIN reelvec.videos v USING (video_id)
WHERE j.state = 'failed'{chosen} ORDER BY j.finished_at DESC, j.video_id LIMIT :limit
"""  # noqa: S608
    return [
        Failed(**row._mapping)
        for row in connection.execute(text(statement), {**facts, "limit": limit})
    ]


# Operators of pgvector are found wherever the extension lies, and its index gives as many rows as
# are asked for.
_PREPARE = text("""
SELECT set_config('search_path', concat_ws(', ', 'reelvec', reelvec.vector_schema(), 'public'), false),
  set_config('hnsw.iterative_scan', 'strict_order', false)
""")


class _Notices:
    """Takes what Postgres says beside its answers. SQLAlchemy would log and drop it, were this a
    list.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def append(self, notice: str) -> None:
        self._tell(notice.partition("\nCONTEXT:")[0].strip())


def query(
    connection: Connection, statement: str, *, write: bool, tell: Callable[[str], None]
) -> tuple[list[str], list[tuple[Any, ...]], int | None]:
    """Run the user's own SQL; returns column names and rows (both empty for a statement without a
    result), and how many rows it has changed; None: it counts none.

    `tell` hears Postgres' notices: `video 42 has no vector of vivit yet: its job is pending`.
    Without `write` the whole session is read-only, so that a COMMIT inside the statement opens no
    way around it.
    """
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.notices = _Notices(tell)
    connection.execute(_PREPARE)
    if not write:
        connection.exec_driver_sql("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    connection.commit()
    result = connection.exec_driver_sql(statement.replace("%", "%%"))
    if not result.returns_rows:
        # CREATE and the like count no rows
        return [], [], result.rowcount if result.rowcount >= 0 else None
    return list(result.keys()), [tuple(row) for row in result], None
