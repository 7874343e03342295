"""Who lives: every process says so with each beat, and the videos of those that fell silent go back
to pending.

All times are the database's. A process may judge others only while its own beats come without a
gap.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

REAP_LOCK = 7_120_431_003


@dataclass(frozen=True)
class Worker:
    """What a process says of itself with every beat. `in_flight` is how many videos it works on at
    once.

    `cores` is its share of the machine's; `queued_windows` wait for its device, `running_windows`
    are being computed. `name` is its node's, such as `gpu0`. `videos_failed` counts attempts that
    met an error, `videos_per_second` is what it got done over the last 10 minutes. `models` are
    those it can load, `refused_encoders` ids of encoders that are bound to other weights than its
    own; None: it can make everything. `stage`: sample for one that only samples, `pack_slots` how
    many packs of frames it takes at once besides. Moments are told as seconds ago, because all times are the
    database's.
    """

    worker_id: UUID
    host: str
    pid: int
    device: str
    version: str
    in_flight: int
    samplers: int
    cores: float
    videos_per_batch: int
    queued_windows: int = 0
    running_windows: int = 0
    name: str | None = None
    claimed_seconds: float | None = field(default=None, metadata={"moment": "claimed_at"})
    videos_done: int = 0
    videos_failed: int = 0
    videos_per_second: float = 0.0
    last_error: str | None = None
    last_error_seconds: float | None = field(default=None, metadata={"moment": "last_error_at"})
    models: Sequence[str] | None = None
    refused_encoders: Sequence[int] | None = None
    stage: str = "video"
    pack_slots: int = 0


def _said(fact: Field[Any]) -> tuple[str, str]:
    """A column of `workers` and the SQL of what a beat says of it."""
    moment = fact.metadata.get("moment")
    if moment:
        return moment, f"clock_timestamp() - make_interval(secs => :{fact.name})"
    return fact.name, f":{fact.name}"


# By the clock, not by the transaction's start: a server that slept in between must not date a beat
# back.
_SAID = dict(_said(fact) for fact in fields(Worker)) | {
    "draining": ":draining",
    "beat_at": "clock_timestamp()",
}
_BEAT = text(f"""
INSERT INTO reelvec.workers ({", ".join(_SAID)}) VALUES ({", ".join(_SAID.values())})
ON CONFLICT (worker_id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _SAID)},
  beating_since = CASE WHEN workers.beat_at < excluded.beat_at - make_interval(secs => :gap) THEN excluded.beat_at
    ELSE workers.beating_since END
""")  # noqa: S608


def beat(connection: Connection, worker: Worker, *, draining: bool, gap_seconds: float) -> None:
    """Say that this process lives. More than `gap_seconds` after the last time, `beating_since`
    starts anew.
    """
    connection.execute(_BEAT, {**asdict(worker), "draining": draining, "gap": gap_seconds})


def leave(connection: Connection, worker_id: UUID) -> None:
    """Take this process off the list of workers; whatever it still runs is free for the reaper."""
    connection.execute(text("DELETE FROM reelvec.workers WHERE worker_id = :id"), {"id": worker_id})


_MAY_REAP = text("""
SELECT EXISTS (
  SELECT FROM reelvec.workers WHERE worker_id = :worker_id
    AND beating_since <= now() - make_interval(secs => :stale) AND beat_at > now() - make_interval(secs => :gap))
  AND pg_try_advisory_xact_lock(:key)
""")

_REAP = text("""
WITH gone AS (
  SELECT j.video_id FROM reelvec.jobs j
  LEFT JOIN reelvec.workers w ON w.worker_id = j.worker_id
  WHERE j.state = 'running'
    AND (w.worker_id IS NULL OR w.beat_at < now() - make_interval(secs => :stale) OR j.deadline_at < now())
  ORDER BY j.video_id LIMIT 1000 FOR UPDATE OF j SKIP LOCKED
)
UPDATE reelvec.jobs j SET state = 'pending', worker_id = NULL, deadline_at = NULL, attempts = attempts - 1,
  lost_count = lost_count + 1
FROM gone WHERE j.video_id = gone.video_id
RETURNING j.video_id
""")


def reap(
    connection: Connection, worker_id: UUID, *, stale_seconds: float, gap_seconds: float
) -> list[int]:
    """Give the videos of dead workers back to pending; returns their ids. One reaper at a time.

    After an outage everybody's beat is old. So only a process that has itself beaten for
    `stale_seconds` without a pause of `gap_seconds` may judge: an outage so short that it saw none
    makes nobody else's beat stale either.
    """
    facts = {"worker_id": worker_id, "stale": stale_seconds, "gap": gap_seconds, "key": REAP_LOCK}
    if not connection.execute(_MAY_REAP, facts).scalar():
        return []
    reaped = [int(row[0]) for row in connection.execute(_REAP, facts)]
    connection.execute(text("DELETE FROM reelvec.workers WHERE beat_at < now() - interval '1 day'"))
    return reaped


_GIVE_BACK = text("""
WITH unheld AS (
  SELECT video_id FROM reelvec.jobs
  WHERE state = 'running' AND worker_id = :worker_id AND video_id <> ALL(CAST(:in_hand AS bigint[]))
    AND started_at < now() - make_interval(secs => :seconds)
  ORDER BY video_id FOR UPDATE SKIP LOCKED
)
UPDATE reelvec.jobs j SET state = 'pending', worker_id = NULL, deadline_at = NULL, attempts = attempts - 1
FROM unheld WHERE j.video_id = unheld.video_id
RETURNING j.video_id
""")


def give_back_unheld(
    connection: Connection, worker_id: UUID, *, in_hand: Collection[int], older_than_seconds: float
) -> list[int]:
    """Running rows in this worker's name that it does not work on are pending again; returns their
    ids.

    A claim whose COMMIT went through, or a finish whose COMMIT was lost, while the connection broke
    leaves such rows behind. `in_hand` holds what is being claimed, too, and is read after this
    transaction has begun: then a row that is claimed in between is younger than any age.
    """
    return [
        int(row[0])
        for row in connection.execute(
            _GIVE_BACK,
            {"worker_id": worker_id, "in_hand": list(in_hand), "seconds": older_than_seconds},
        )
    ]
