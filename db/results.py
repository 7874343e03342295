"""What the ledger says, for people: progress, failures, workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class Progress:
    """One row of the `progress` view; `category` is '(all)' for the total."""

    category: str
    videos: int
    done: int
    failed: int
    running: int
    waiting: int
    cancelled: int
    videos_per_second: float


@dataclass(frozen=True)
class Fleet:
    """`alive` workers have beaten within the stale time; `last_beat_seconds` is the youngest beat's age."""

    alive: int
    in_flight: int
    last_beat_seconds: float | None
    paused: bool
    pause_reason: str | None


@dataclass(frozen=True)
class Failed:
    """One failed video and why."""

    video_id: int
    uri: str
    category: str | None
    error_code: str
    error: str
    attempts: int


def progress(connection: Connection) -> list[Progress]:
    """Total first, then the categories by size."""
    rows = connection.execute(
        text(
            "SELECT category, videos, done, failed, running, waiting, cancelled,"
            " videos_per_second::double precision FROM reelvec.progress"
            " ORDER BY category <> '(all)', videos DESC, category"
        )
    )
    return [Progress(**row._mapping) for row in rows]


def recent_rate(connection: Connection) -> float:
    """Videos finished per second over the last 10 minutes, or since the first of them if that is shorter."""
    return float(
        connection.execute(
            text(
                "SELECT coalesce(count(*) / greatest(1, extract(epoch FROM now() - min(started_at))), 0)"
                " FROM reelvec.jobs WHERE finished_at > now() - interval '10 minutes'"
            )
        ).scalar_one()
    )


def fleet(connection: Connection, *, stale_seconds: float) -> Fleet:
    row = connection.execute(
        text(
            "SELECT count(*) FILTER (WHERE beat_at > now() - make_interval(secs => :stale)) AS alive,"
            " coalesce(sum(in_flight) FILTER (WHERE beat_at > now() - make_interval(secs => :stale)), 0) AS in_flight,"
            " extract(epoch FROM now() - max(beat_at))::double precision AS last_beat_seconds FROM reelvec.workers"
        ),
        {"stale": stale_seconds},
    ).one()
    pause = connection.execute(text("SELECT reason FROM reelvec.control WHERE paused LIMIT 1")).first()
    reason = None if pause is None else pause[0]
    return Fleet(int(row.alive), int(row.in_flight), row.last_beat_seconds, pause is not None, reason)


def failure_counts(connection: Connection) -> list[tuple[str, int]]:
    rows = connection.execute(text("SELECT error_code, count(*) FROM reelvec.failures GROUP BY 1 ORDER BY 2 DESC, 1"))
    return [(str(code), int(count)) for code, count in rows]


def failures(connection: Connection, *, category: str | None, code: str | None, limit: int) -> list[Failed]:
    """The latest failures first."""
    rows = connection.execute(
        text(
            "SELECT video_id, uri, category, error_code, error, attempts FROM reelvec.failures"
            " WHERE (CAST(:category AS text) IS NULL OR category = :category)"
            " AND (CAST(:code AS text) IS NULL OR error_code = :code)"
            " ORDER BY finished_at DESC, video_id LIMIT :limit"
        ),
        {"category": category, "code": code, "limit": limit},
    )
    return [Failed(**row._mapping) for row in rows]


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
