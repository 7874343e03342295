"""Places, the buckets and hosts that videos are read from: when one fails, its videos wait and all
others go on.

    open --every worker that tries it fails--> closed --a probe was read--> open

A worker that alone fails stops taking a place by itself (`workers.delivery.refusals`) and says so
in `place_workers`. The place is closed only if no live worker reads it. While it is closed nothing
of it is claimed but one probe at a time.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from db.jobs.outcome import clean_text

#: A worker that has read a place within this long vouches for it.
VOUCH_SECONDS = 60.0
#: How many beats the others have to say that they can read a place before it is closed.
PATIENCE_BEATS = 2.5
#: Closed places that get a probe in one round: a dead catalogue of 10^5 hosts must not fill the
#: broker.
PROBED_PLACES = 50
#: Waiting videos that are freed at once when a place opens. The others' own delays end within 15
#: minutes.
FREED_VIDEOS = 20_000
#: Videos of older producers that get their place in one round.
ADOPTED_VIDEOS = 5_000


@dataclass(frozen=True)
class Change:
    """A place that a worker, or the whole fleet, has just begun to leave alone, with the reason, or
    to take again.
    """

    place: str
    code: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Standing:
    """How a waiting video stands to its place. While that is closed, nothing of it is taken but its
    probe.
    """

    place_id: int | None
    closed: bool
    is_probe: bool


_STANDING = text("""
SELECT j.place_id, coalesce(p.closed_at IS NOT NULL, false) AS closed,
  coalesce(p.closed_at IS NOT NULL AND p.probe_video_id = j.video_id, false) AS is_probe
FROM reelvec.jobs j LEFT JOIN reelvec.places p USING (place_id) WHERE j.video_id = :video_id
""")


def standing(connection: Connection, video_id: int) -> Standing:
    """For a worker that does not take every place."""
    row = connection.execute(_STANDING, {"video_id": video_id}).first()
    return Standing(None, closed=False, is_probe=False) if row is None else Standing(**row._mapping)


_SAY_FAILING = text("""
WITH said AS (
  INSERT INTO reelvec.place_workers (place_id, worker_id, failing_since, error_code, error)
  SELECT :place_id, worker_id, now(), :code, :error FROM reelvec.workers WHERE worker_id = :worker_id
  ON CONFLICT (place_id, worker_id) DO UPDATE SET at = now(), error_code = excluded.error_code,
    error = excluded.error, failing_since = coalesce(place_workers.failing_since, now())
  RETURNING place_id, failing_since = now() AS is_new)
SELECT place FROM said JOIN reelvec.places USING (place_id) WHERE is_new
""")


def say_failing(
    connection: Connection, place_id: int, worker_id: UUID, *, code: str, error: str
) -> Change | None:
    """This worker cannot read the place and takes no more of it. None: it had said so before."""
    facts = {"place_id": place_id, "worker_id": worker_id, "code": code, "error": clean_text(error)}
    row = connection.execute(_SAY_FAILING, facts).first()
    return None if row is None else Change(row.place, code, error)


_SAY_READING = text("""
INSERT INTO reelvec.place_workers (place_id, worker_id)
SELECT DISTINCT f.place_id, me.worker_id FROM reelvec.place_workers f, reelvec.workers me
WHERE f.failing_since IS NOT NULL AND f.place_id = ANY(CAST(:places AS int[])) AND me.worker_id = :worker_id
ON CONFLICT (place_id, worker_id) DO UPDATE SET at = now(), failing_since = NULL, error_code = NULL, error = NULL
RETURNING place_id, xmax = 0 AS is_new
""")


def say_reading(connection: Connection, worker_id: UUID, places: Collection[int]) -> None:
    """This worker has read these places lately. Written only where another one, or itself before,
    fails.

    The videos that failed there need not wait: those who can read them will.
    """
    if not places:
        return
    said = connection.execute(
        _SAY_READING, {"worker_id": worker_id, "places": sorted(places)}
    ).all()
    for row in said:
        if row.is_new:
            connection.execute(_FREE, {"place_id": row.place_id, "videos": FREED_VIDEOS})


# Nobody vouches for it, and everybody who lives has failed or has had the time to vouch.
_CLOSE = text("""
WITH live AS (
  SELECT worker_id FROM reelvec.workers WHERE NOT draining AND beat_at > now() - make_interval(secs => :stale)
), verdict AS (
  SELECT s.place_id, min(s.failing_since) AS since, count(s.failing_since) AS failing,
    (array_agg(s.error_code ORDER BY s.at DESC) FILTER (WHERE s.failing_since IS NOT NULL))[1] AS code,
    (array_agg(s.error ORDER BY s.at DESC) FILTER (WHERE s.failing_since IS NOT NULL))[1] AS error
  FROM reelvec.place_workers s JOIN live USING (worker_id) GROUP BY 1
  HAVING bool_or(s.failing_since IS NOT NULL)
    AND NOT bool_or(s.failing_since IS NULL AND s.at > now() - make_interval(secs => :vouch))
), closed AS (
  UPDATE reelvec.places p SET closed_at = now(), error_code = v.code, error = v.error, probe_video_id = NULL,
    probe_at = now() + make_interval(secs => :probe)
  FROM verdict v WHERE v.place_id = p.place_id AND p.closed_at IS NULL
    AND (v.failing = (SELECT count(*) FROM live) OR v.since < now() - make_interval(secs => :patience))
  RETURNING p.place_id, p.place, p.error_code, p.error
), back AS (
  UPDATE reelvec.jobs j SET state = 'pending' FROM closed
  WHERE j.state = 'queued' AND j.place_id = closed.place_id AND j.stage = 'video')
SELECT place, error_code, error FROM closed
""")


def close_failing(
    connection: Connection, *, stale_seconds: float, beat_seconds: float
) -> list[Change]:
    """Close every place that no live worker can read; its queued videos wait again."""
    facts = {
        "stale": stale_seconds,
        "probe": beat_seconds,
        "patience": PATIENCE_BEATS * beat_seconds,
        "vouch": VOUCH_SECONDS,
    }
    return [Change(*row) for row in connection.execute(_CLOSE, facts)]


_OPEN = text("""
UPDATE reelvec.places SET closed_at = NULL, error_code = NULL, error = NULL, probe_video_id = NULL, probe_at = NULL
WHERE place_id = :place_id AND closed_at IS NOT NULL RETURNING place
""")
_FREE = text("""
UPDATE reelvec.jobs SET state = 'pending', not_before = NULL WHERE video_id IN (
  SELECT video_id FROM reelvec.jobs WHERE place_id = :place_id AND state = 'pending' AND infra_since IS NOT NULL
  ORDER BY video_id LIMIT :videos FOR UPDATE SKIP LOCKED)
""")


def open_again(connection: Connection, place_id: int) -> Change | None:
    """Its probe was read: the videos that waited for the place are due now. None: it was open."""
    row = connection.execute(_OPEN, {"place_id": place_id}).first()
    if row is None:
        return None
    connection.execute(
        text("DELETE FROM reelvec.place_workers WHERE place_id = :place_id"), {"place_id": place_id}
    )
    connection.execute(_FREE, {"place_id": place_id, "videos": FREED_VIDEOS})
    return Change(row.place)


# Another video each time: one object may be at fault itself. Never one that no worker can begin
# with.
_MAKEABLE = (
    "(CAST(:makeable AS smallint[]) IS NULL OR coalesce(owes, encoders) && CAST(:makeable AS "
    "smallint[]))"
)
_PROBES = text(f"""
WITH due AS (
  SELECT place_id, coalesce(probe_video_id, 0) AS last FROM reelvec.places
  WHERE closed_at IS NOT NULL AND probe_at <= now() AND NOT EXISTS (SELECT FROM reelvec.control WHERE paused)
  ORDER BY probe_at LIMIT :places FOR UPDATE SKIP LOCKED
), probe AS (
  SELECT place_id, coalesce(
    (SELECT min(video_id) FROM reelvec.jobs j
     WHERE j.state = 'pending' AND stage = 'video' AND j.place_id = due.place_id AND j.video_id > due.last
       AND {_MAKEABLE}),
    (SELECT min(video_id) FROM reelvec.jobs j
     WHERE j.state = 'pending' AND stage = 'video' AND j.place_id = due.place_id AND {_MAKEABLE})) AS video_id
  FROM due
), handed_out AS (
  UPDATE reelvec.places p SET probe_video_id = probe.video_id, probe_at = now() + make_interval(secs => :probe)
  FROM probe WHERE probe.place_id = p.place_id
)
UPDATE reelvec.jobs j SET state = 'queued', queued_at = now() FROM probe WHERE j.video_id = probe.video_id
RETURNING j.video_id
""")  # noqa: S608


def hand_out_probes(
    connection: Connection, *, beat_seconds: float, makeable: Collection[int] | None = None
) -> list[int]:
    """One video for each closed place whose time has come, to be published; one per beat in the
    whole fleet.

    It owes one of the encoders `makeable`; None: any will do.
    """
    facts = {
        "places": PROBED_PLACES,
        "probe": beat_seconds,
        "makeable": None if makeable is None else list(makeable),
    }
    return [int(row[0]) for row in connection.execute(_PROBES, facts)]


_MISSING = text("""
INSERT INTO reelvec.places (place) SELECT DISTINCT reelvec.place_of(uri) FROM (
  SELECT v.uri FROM reelvec.jobs j JOIN reelvec.videos v USING (video_id)
  WHERE j.state = 'pending' AND j.place_id IS NULL LIMIT :videos) orphans
EXCEPT SELECT place FROM reelvec.places ORDER BY 1
ON CONFLICT DO NOTHING
""")
_ADOPT = text("""
UPDATE reelvec.jobs j SET place_id = p.place_id
FROM (SELECT video_id FROM reelvec.jobs WHERE state = 'pending' AND place_id IS NULL LIMIT :videos
      FOR UPDATE SKIP LOCKED) orphans
JOIN reelvec.videos v USING (video_id) JOIN reelvec.places p ON p.place = reelvec.place_of(v.uri)
WHERE j.video_id = orphans.video_id
""")


def adopt(connection: Connection) -> None:
    """Give pending videos that a producer of an earlier version recorded their place: without one
    they are not fed.
    """
    orphans = (
        "SELECT EXISTS (SELECT FROM reelvec.jobs WHERE state = 'pending' AND place_id IS NULL)"
    )
    if connection.execute(text(orphans)).scalar():
        connection.execute(_MISSING, {"videos": ADOPTED_VIDEOS})
        connection.execute(_ADOPT, {"videos": ADOPTED_VIDEOS})
