"""What an operator does to waiting and failed videos. Each step leaves a record in the same
transaction: who, when, what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from db.jobs import owing, sampler_version
from db.jobs.selection import Selection, condition


@dataclass(frozen=True)
class Action:
    """One recorded step: `who` did `action` with the options `what`; `videos` is how many it
    changed, if it counts them.
    """

    at: datetime
    action: str
    who: str
    what: str
    videos: int | None


# A failure that a later sampler mends than the one that looked.
_MENDED = f""" AND EXISTS (
  SELECT FROM unnest(CAST(:versions AS int[]), CAST(:mended AS text[])) AS m (version, code)
  WHERE m.code = j.error_code AND coalesce(v.sampler_version, {sampler_version.UNNUMBERED}) < m.version)"""


def retry(
    connection: Connection, selection: Selection, *, who: str, what: str, outdated: bool = False
) -> int:
    """Failed videos are pending again with fresh attempts; `since` is when they failed. Returns how
    many.

    `outdated`: only those whose failure a newer sampler mends (`db.jobs.sampler_version`).
    """
    chosen, facts = condition(selection, moment="j.finished_at")
    if outdated:
        versions, codes = zip(*sampler_version.mended(), strict=True)
        chosen, facts = (
            chosen + _MENDED,
            {**facts, "versions": list(versions), "mended": list(codes)},
        )
    changes = (
        "state = 'pending', attempts = 0, strikes = 0, not_before = NULL, error_code = NULL, error "
        "= NULL, infra_since = NULL, finished_at = NULL"
    )
    count = _change_jobs(connection, changes, f"j.state = 'failed'{chosen}", facts)
    write_action(connection, "retry", who, what, count)
    return count


#: More videos than this are not counted before somebody decides.
COUNTED = 100_000


def concerned(connection: Connection, selection: Selection, *, states: Sequence[str]) -> int:
    """How many selected videos are in one of these states, at most `COUNTED` + 1: what `retry`
    would change of those that failed, `cancel` of those that wait.
    """
    moment = "j.finished_at" if "failed" in states else "j.enqueued_at"
    chosen, facts = condition(selection, moment=moment)
    statement = f"""
SELECT count(*) FROM (
  SELECT FROM reelvec.jobs j JOIN reelvec.videos v USING (video_id)
  WHERE j.state = ANY(CAST(:states AS text[])){chosen} LIMIT :most
) counted
"""  # noqa: S608
    asked = {**facts, "states": list(states), "most": COUNTED + 1}
    return int(connection.execute(text(statement), asked).scalar_one())


@dataclass(frozen=True)
class Cancelled:
    """How the videos stand now: `cancelled` ones have nothing, `done` ones all that is wanted
    still; `waiting` go on.
    """

    cancelled: int = 0
    done: int = 0
    waiting: int = 0
    failed: int = 0

    @property
    def videos(self) -> int:
        return self.cancelled + self.done + self.waiting + self.failed


_MADE = """array(SELECT e FROM unnest(j.encoders) e WHERE EXISTS (
  SELECT FROM reelvec.video_embeddings m WHERE m.encoder_id = e AND m.video_id = j.video_id))"""
_MADE_TAGGERS = """array(SELECT t FROM unnest(j.taggers) t WHERE EXISTS (
  SELECT FROM reelvec.scores s WHERE s.tagger_id = t AND s.video_id = j.video_id))"""
_MADE_AT = "(SELECT max(created_at) FROM reelvec.video_embeddings m WHERE m.video_id = j.video_id)"
_END = (
    "not_before = NULL, infra_since = NULL, owes = NULL, force = false, recheck = NULL, "
    "stage = 'video', frames_lost = NULL"
)

_CANCEL = """
WITH chosen AS (
  SELECT j.video_id FROM reelvec.jobs j JOIN reelvec.videos v USING (video_id)
  WHERE j.state IN ('pending', 'queued'){chosen} ORDER BY j.video_id FOR UPDATE OF j
), holding AS MATERIALIZED (
  SELECT j.video_id, {made} AS made, {made_taggers} AS made_taggers, {made_at} AS made_at
  FROM chosen JOIN reelvec.jobs j USING (video_id)
), gone AS (
  UPDATE reelvec.jobs j SET state = 'cancelled', finished_at = now(), {end}
  FROM holding h WHERE j.video_id = h.video_id AND h.made = '{{}}'
), back AS (
  UPDATE reelvec.jobs j SET state = 'done', finished_at = made_at, encoders = made, taggers = made_taggers,
    error_code = NULL, error = NULL, {end}
  FROM holding h WHERE j.video_id = h.video_id AND h.made <> '{{}}'
)
SELECT count(*) FILTER (WHERE made = '{{}}') AS cancelled, count(*) FILTER (WHERE made <> '{{}}') AS done FROM holding
"""


def cancel(connection: Connection, selection: Selection, *, who: str, what: str) -> Cancelled:
    """Waiting videos are cancelled; messages already sent for them find nothing to claim.

    Those that have vectors are done with what they have, as they were before more was wanted.
    `since` is when they were enqueued, a code is that of their last attempt.
    """
    chosen, facts = condition(selection, moment="j.enqueued_at")
    parts = {"made": _MADE, "made_taggers": _MADE_TAGGERS, "made_at": _MADE_AT, "end": _END}
    row = connection.execute(text(_CANCEL.format(chosen=chosen, **parts)), facts).one()
    found = Cancelled(**row._mapping)
    write_action(connection, "cancel", who, what, found.videos)
    return found


# What waits may owe nothing any more; what failed may have failed at this model alone. A queued
# video is sent anew: its message may lie where only the model's own workers look. Running ones are
# settled by their finish.
_WITHDRAW = """
WITH models AS MATERIALIZED (
  SELECT array(SELECT encoder_id FROM reelvec.encoders WHERE backbone = ANY(CAST(:backbones AS text[]))) AS gone
), readings AS MATERIALIZED (
  SELECT array(SELECT tagger_id FROM reelvec.taggers WHERE encoder_id = ANY(gone)) AS gone_taggers FROM models
), known AS (
  SELECT j.video_id, j.state AS old_state, array(SELECT e FROM unnest(j.encoders) e WHERE e <> ALL(gone)) AS left_encoders,
    array(SELECT t FROM unnest(j.taggers) t WHERE t <> ALL(gone_taggers)) AS left_taggers,
    array(SELECT e FROM unnest({remembered}) e WHERE e <> ALL(gone)) AS remembered
  FROM reelvec.jobs j JOIN reelvec.videos v USING (video_id), models, readings
  WHERE (j.encoders && gone OR j.taggers && gone_taggers){chosen} ORDER BY j.video_id FOR UPDATE OF j
), owing AS MATERIALIZED (
  SELECT n.*, j.recheck, {owes} AS owed, {made_at} AS made_at FROM known n JOIN reelvec.jobs j USING (video_id)
), settled AS MATERIALIZED (
  SELECT *, CASE
    WHEN old_state IN ('running', 'done', 'cancelled') OR (old_state = 'failed' AND left_encoders = '{{}}') THEN old_state
    WHEN owed = '{{}}' AND recheck IS NOT TRUE THEN CASE WHEN made_at IS NULL THEN 'cancelled' ELSE 'done' END
    WHEN old_state = 'failed' THEN 'failed' ELSE 'pending' END AS new_state FROM owing
), narrowed AS (
  UPDATE reelvec.jobs j SET encoders = left_encoders, taggers = left_taggers, state = new_state,
    owes = CASE WHEN new_state <> 'done' THEN owed END, force = force AND new_state <> 'done',
    error_code = CASE WHEN new_state <> 'done' THEN error_code END, error = CASE WHEN new_state <> 'done' THEN error END,
    not_before = CASE WHEN new_state = 'pending' THEN not_before END,
    infra_since = CASE WHEN new_state = 'pending' THEN infra_since END,
    finished_at = CASE WHEN new_state = old_state THEN finished_at WHEN new_state = 'done' THEN made_at
      WHEN new_state = 'cancelled' THEN now() END
  FROM settled s WHERE j.video_id = s.video_id
)
SELECT count(*) FILTER (WHERE new_state = 'cancelled') AS cancelled, count(*) FILTER (WHERE new_state = 'done') AS done,
  count(*) FILTER (WHERE new_state = 'failed') AS failed,
  count(*) FILTER (WHERE new_state IN ('pending', 'running')) AS waiting FROM settled
"""


def withdraw(
    connection: Connection, backbones: Sequence[str], selection: Selection, *, who: str, what: str
) -> Cancelled:
    """These backbones are wanted no more, of any video selected; the vectors that they have made
    stay.

    What owes nothing any more is done; only a waiting video that wants nothing else and has no
    vector is cancelled.
    """
    chosen, facts = condition(selection, moment="j.enqueued_at")
    listed = "n.remembered"
    owes = owing.models(
        owing.encoders(listed=listed, wanted="n.left_encoders"),
        owing.taggers(listed=listed, wanted="n.left_taggers"),
    )
    parts = {"remembered": owing.REMEMBERED, "owes": owes, "made_at": _MADE_AT}
    row = connection.execute(
        text(_WITHDRAW.format(chosen=chosen, **parts)), {**facts, "backbones": list(backbones)}
    ).one()
    found = Cancelled(**row._mapping)
    write_action(connection, "cancel", who, what, found.videos)
    return found


def _change_jobs(
    connection: Connection, changes: str, condition: str, facts: dict[str, Any]
) -> int:
    """Change the jobs that meet a condition over `jobs j` and `videos v`, locked in order; returns
    how many.
    """
    statement = f"""
WITH chosen AS (
  SELECT j.video_id FROM reelvec.jobs j JOIN reelvec.videos v USING (video_id) WHERE {condition}
  ORDER BY j.video_id FOR UPDATE OF j
)
UPDATE reelvec.jobs j SET {changes} FROM chosen WHERE j.video_id = chosen.video_id
"""  # noqa: S608
    return connection.execute(text(statement), facts).rowcount


def rechecked(connection: Connection, videos: int, *, who: str, what: str) -> None:
    """Leave a record of `db.jobs.recheck`, which works chunk by chunk."""
    write_action(connection, "recheck", who, what, videos)


def pause(connection: Connection, *, reason: str | None, who: str, what: str) -> None:
    """While any row of `control` is paused, no video is claimed and none is fed."""
    connection.execute(
        text(
            "INSERT INTO reelvec.control (name, paused, reason) VALUES ('operator', true, :reason)"
            " ON CONFLICT (name) DO UPDATE SET paused = true, reason = excluded.reason, at = now()"
        ),
        {"reason": reason},
    )
    write_action(connection, "pause", who, what)


def pause_backbones(
    connection: Connection, backbones: Sequence[str], *, reason: str, who: str, what: str
) -> None:
    """Nothing is computed with these backbones until they are resumed; videos that owe others get
    those.
    """
    connection.execute(
        text(
            "INSERT INTO reelvec.paused_backbones (backbone, reason) SELECT backbone, :reason FROM "
            "unnest(CAST(:backbones AS text[])) backbone ORDER BY 1 ON CONFLICT (backbone) DO "
            "UPDATE SET paused = true, reason = excluded.reason, at = now()"
        ),
        {"backbones": list(backbones), "reason": reason},
    )
    write_action(connection, "pause", who, what)


def resume(connection: Connection, *, backbones: Sequence[str], who: str, what: str) -> list[str]:
    """These backbones go on; without any, everything that was paused does. Returns the backbones
    that were paused.
    """
    if not backbones:
        connection.execute(
            text(
                "UPDATE reelvec.control SET paused = false, reason = NULL, at = now() WHERE paused"
            )
        )
    resumed = connection.execute(
        text(
            "UPDATE reelvec.paused_backbones SET paused = false, at = now() WHERE paused AND (:all "
            "OR backbone = ANY(CAST(:backbones AS text[]))) RETURNING backbone"
        ),
        {"all": not backbones, "backbones": list(backbones)},
    )
    write_action(connection, "resume", who, what)
    return sorted(str(row[0]) for row in resumed)


def write_action(
    connection: Connection, action: str, who: str, what: str, videos: int | None = None
) -> None:
    """Record one step (`Action`) in the transaction that takes it."""
    connection.execute(
        text(
            "INSERT INTO reelvec.actions (action, who, what, videos) VALUES (:action, :who, :what, "
            ":videos)"
        ),
        {"action": action, "who": who, "what": what, "videos": videos},
    )


def latest(connection: Connection, *, limit: int) -> list[Action]:
    """The latest records first."""
    rows = connection.execute(
        text(
            "SELECT at, action, who, what, videos FROM reelvec.actions ORDER BY action_id DESC "
            "LIMIT :limit"
        ),
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
