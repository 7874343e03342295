"""What an operator does to waiting and failed videos. Each step leaves a record in the same transaction: who, when, what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from db import sampler_version
from db.selection import Selection, condition


@dataclass(frozen=True)
class Action:
    """One recorded step: `who` did `action` with the options `what`; `videos` is how many it changed, if it counts them."""

    at: datetime
    action: str
    who: str
    what: str
    videos: int | None


# A failure that a later sampler mends than the one that looked.
_MENDED = f""" AND EXISTS (
  SELECT FROM unnest(CAST(:versions AS int[]), CAST(:mended AS text[])) AS m (version, code)
  WHERE m.code = j.error_code AND coalesce(v.sampler_version, {sampler_version.UNNUMBERED}) < m.version)"""


def retry(connection: Connection, selection: Selection, *, who: str, what: str, outdated: bool = False) -> int:
    """Failed videos are pending again with fresh attempts; `since` is when they failed. Returns how many.

    `outdated`: only those whose failure a newer sampler mends (`db.sampler_version`).
    """
    chosen, facts = condition(selection, moment="j.finished_at")
    if outdated:
        versions, codes = zip(*sampler_version.mended(), strict=True)
        chosen, facts = chosen + _MENDED, {**facts, "versions": list(versions), "mended": list(codes)}
    changes = (
        "state = 'pending', attempts = 0, strikes = 0, not_before = NULL, error_code = NULL, error = NULL,"
        " infra_since = NULL, finished_at = NULL"
    )
    count = _change_jobs(connection, changes, f"j.state = 'failed'{chosen}", facts)
    _record(connection, "retry", who, what, count)
    return count


def cancel(connection: Connection, selection: Selection, *, who: str, what: str) -> int:
    """Waiting videos are cancelled; messages already sent for them find nothing to claim. Returns how many.

    `since` is when they were enqueued, a code is that of their last attempt.
    """
    chosen, facts = condition(selection, moment="j.enqueued_at")
    changes = "state = 'cancelled', infra_since = NULL, finished_at = now()"
    count = _change_jobs(connection, changes, f"j.state IN ('pending', 'queued'){chosen}", facts)
    _record(connection, "cancel", who, what, count)
    return count


def _change_jobs(connection: Connection, changes: str, condition: str, facts: dict[str, Any]) -> int:
    """Change the jobs that meet a condition over `jobs j` and `videos v`, locked in order; returns how many."""
    statement = f"""
WITH chosen AS (
  SELECT j.video_id FROM reelvec.jobs j JOIN reelvec.videos v USING (video_id) WHERE {condition}
  ORDER BY j.video_id FOR UPDATE OF j
)
UPDATE reelvec.jobs j SET {changes} FROM chosen WHERE j.video_id = chosen.video_id
"""  # noqa: S608
    return connection.execute(text(statement), facts).rowcount


def rechecked(connection: Connection, videos: int, *, who: str, what: str) -> None:
    """Leave a record of `db.recheck`, which works chunk by chunk."""
    _record(connection, "recheck", who, what, videos)


def pause(connection: Connection, *, reason: str | None, who: str, what: str) -> None:
    """While any row of `control` is paused, no video is claimed and none is fed."""
    connection.execute(
        text(
            "INSERT INTO reelvec.control (name, paused, reason) VALUES ('operator', true, :reason)"
            " ON CONFLICT (name) DO UPDATE SET paused = true, reason = excluded.reason, at = now()"
        ),
        {"reason": reason},
    )
    _record(connection, "pause", who, what)


def pause_backbones(connection: Connection, backbones: Sequence[str], *, reason: str, who: str, what: str) -> None:
    """Nothing is computed with these backbones until they are resumed; videos that owe others get those."""
    connection.execute(
        text(
            "INSERT INTO reelvec.paused_backbones (backbone, reason)"
            " SELECT backbone, :reason FROM unnest(CAST(:backbones AS text[])) backbone ORDER BY 1"
            " ON CONFLICT (backbone) DO UPDATE SET paused = true, reason = excluded.reason, at = now()"
        ),
        {"backbones": list(backbones), "reason": reason},
    )
    _record(connection, "pause", who, what)


def resume(connection: Connection, *, backbones: Sequence[str], who: str, what: str) -> list[str]:
    """These backbones go on; without any, everything that was paused does. Returns the backbones that were paused."""
    if not backbones:
        connection.execute(text("UPDATE reelvec.control SET paused = false, reason = NULL, at = now() WHERE paused"))
    resumed = connection.execute(
        text(
            "UPDATE reelvec.paused_backbones SET paused = false, at = now()"
            " WHERE paused AND (:all OR backbone = ANY(CAST(:backbones AS text[]))) RETURNING backbone"
        ),
        {"all": not backbones, "backbones": list(backbones)},
    )
    _record(connection, "resume", who, what)
    return sorted(str(row[0]) for row in resumed)


def _record(connection: Connection, action: str, who: str, what: str, videos: int | None = None) -> None:
    connection.execute(
        text("INSERT INTO reelvec.actions (action, who, what, videos) VALUES (:action, :who, :what, :videos)"),
        {"action": action, "who": who, "what": what, "videos": videos},
    )


def latest(connection: Connection, *, limit: int) -> list[Action]:
    """The latest records first."""
    rows = connection.execute(
        text("SELECT at, action, who, what, videos FROM reelvec.actions ORDER BY action_id DESC LIMIT :limit"),
        {"limit": limit},
    )
    return [Action(**row._mapping) for row in rows]


def freed_seconds(connection: Connection) -> float | None:
    """How long ago an operator last made videos ready that were enqueued before; None: never."""
    return connection.execute(
        text(
            "SELECT extract(epoch FROM now() - max(at))::double precision FROM reelvec.actions"
            " WHERE action IN ('retry', 'resume')"
        )
    ).scalar()
