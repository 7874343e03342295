"""The ledger: one row per video says what is owed, who works on it, and how it ended. One function per statement.

    pending -> queued (feed) -> running (claim) -> done | failed | pending (finish)
    running -> pending (reap: its worker is dead; release: its worker drains) -> ...

The broker only rings the bell: any message may be lost, late, doubled or forged, and nothing changes but the time.
All times are the database's; every change of a running row is guarded by its worker and its fencing token.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self
from uuid import UUID

from sqlalchemy import Connection, text

from db import blame, places, retries
from db import outcome as outcomes
from db.errors import NOISE_CODES, ErrorClass
from db.outcome import Outcome

FEED_LOCK = 7_120_431_004


@dataclass(frozen=True)
class Claim:
    """One video that is ours until `finish`.

    `encoders` and `taggers` are what is wanted and has no row yet; `all_encoders` and `all_taggers` what is wanted, to be
    made where the source is no more the version `etag` that the rows were made from. `is_probe`: its place is closed, and
    this video is the one that tries it. What `paused_encoders` and the taggers on them would make is left for later.
    `recheck`: sampling policies under which the video is to be looked at again, although their vectors are there.
    """

    video_id: int
    uri: str
    etag: str | None
    worker_id: UUID
    token: int
    attempts: int
    strikes: int
    lost_count: int
    encoders: tuple[int, ...]
    taggers: tuple[int, ...]
    all_encoders: tuple[int, ...]
    all_taggers: tuple[int, ...]
    place_id: int | None = None
    is_probe: bool = False
    paused_encoders: tuple[int, ...] = ()
    recheck: tuple[str, ...] = ()

    def for_version(self, etag: str | None) -> Self:
        """What is owed when the source turns out to be of this version."""
        if self.etag is None or etag == self.etag:
            return self
        return replace(self, encoders=self.all_encoders, taggers=self.all_taggers)


_PAUSED_ENCODERS = """array(SELECT encoder_id FROM reelvec.encoders JOIN reelvec.paused_backbones USING (backbone)
  WHERE paused)"""


def _owed_encoders(force: str) -> str:
    """Wanted encoders without a row, or all of them where `force` holds."""
    return f"""array(SELECT e FROM unnest(j.encoders) e WHERE {force}
  OR NOT EXISTS (SELECT FROM reelvec.embeddings m WHERE m.encoder_id = e AND m.video_id = j.video_id))"""  # noqa: S608


# A tagger that the operator has deleted is owed no more.
_TAGGERS = "array(SELECT tagger_id FROM reelvec.taggers WHERE tagger_id = ANY(j.taggers) ORDER BY 1)"


def _owed_taggers(force: str) -> str:
    return f"""array(SELECT t FROM unnest({_TAGGERS}) t WHERE {force}
  OR NOT EXISTS (SELECT FROM reelvec.scores s WHERE s.tagger_id = t AND s.video_id = j.video_id))"""  # noqa: S608


_CLAIM = text(f"""
WITH j AS (
  UPDATE reelvec.jobs j SET state = 'running', worker_id = :worker_id, token = token + 1, attempts = attempts + 1,
    not_before = NULL, started_at = now(), finished_at = NULL, deadline_at = now() + make_interval(secs => :job_seconds)
  WHERE video_id = :video_id AND state IN ('pending', 'queued')
    AND coalesce((SELECT coalesce(probe_video_id, 0) = :video_id FROM reelvec.places p
                  WHERE p.place_id = j.place_id AND closed_at IS NOT NULL), not_before IS NULL OR not_before <= now())
    AND NOT EXISTS (SELECT FROM reelvec.control WHERE paused)
  RETURNING *
)
SELECT j.video_id, v.uri, v.etag, j.worker_id, j.token, j.attempts, j.strikes, j.lost_count,
  {_owed_encoders("j.force")} AS encoders, {_owed_taggers("j.force")} AS taggers,
  j.encoders AS all_encoders, {_TAGGERS} AS all_taggers, j.place_id,
  EXISTS (SELECT FROM reelvec.places p WHERE p.place_id = j.place_id AND closed_at IS NOT NULL) AS is_probe,
  {_PAUSED_ENCODERS} AS paused_encoders,
  array(SELECT DISTINCT sampling FROM reelvec.encoders WHERE j.recheck AND encoder_id = ANY(j.encoders)) AS recheck
FROM j JOIN reelvec.videos v USING (video_id)
""")  # noqa: S608


def claim(connection: Connection, video_id: int, worker_id: UUID, *, job_seconds: float) -> Claim | None:
    """Take a waiting video, or None: there is nothing to do for it now.

    Somebody else has it, it is finished or unknown, its time has not come, its place is closed, or all is paused.
    """
    row = connection.execute(_CLAIM, {"video_id": video_id, "worker_id": worker_id, "job_seconds": job_seconds}).first()
    if row is None:
        return None
    facts = dict(row._mapping)
    lists = ("encoders", "taggers", "all_encoders", "all_taggers", "paused_encoders", "recheck")
    return Claim(**{**facts, **{name: tuple(facts[name]) for name in lists}})


# A job widened while it ran still owes something: it goes back to pending instead of done.
_FINISH = text(f"""
UPDATE reelvec.jobs j SET
  state = CASE WHEN :state <> 'done' THEN :state
               WHEN {_owed_encoders("false")} <@ CAST(:encoders AS smallint[])
                AND {_owed_taggers("false")} <@ CAST(:taggers AS smallint[]) THEN 'done'
               ELSE 'pending' END,
  force = force AND :state <> 'done', recheck = CASE WHEN :state = 'pending' THEN recheck END,
  attempts = :attempts, strikes = :strikes,
  not_before = CASE WHEN :state = 'pending' THEN now() + make_interval(secs => :delay_seconds) END,
  error_code = :code, error = :error, worker_id = NULL, deadline_at = NULL,
  infra_since = CASE WHEN :waits THEN coalesce(infra_since, now()) END,
  finished_at = CASE WHEN :state = 'pending' THEN NULL ELSE now() END,
  bytes_read = :bytes_read, fetch_seconds = :fetch_seconds, decode_seconds = :decode_seconds,
  wait_seconds = :wait_seconds, device_seconds = :device_seconds
WHERE video_id = :video_id AND worker_id = :worker_id AND token = :token AND state = 'running'
RETURNING state
""")  # noqa: S608


def finish(
    connection: Connection,
    claimed: Claim,
    outcome: Outcome,
    *,
    first_delay_seconds: float,
    reads_place: bool = True,
) -> str | None:
    """Write rows and state in the connection's one transaction; returns the new state.

    `reads_place` is False where this worker refuses the video's place: then no video of it is to blame.
    None: fenced, the row is no longer ours. The caller must roll back and drop the result.
    """
    failure = outcome.failure
    decision = retries.Decision("done", "", claimed.attempts, claimed.strikes)
    waits_already = False
    if failure is not None:
        waited = None
        if failure.error_class is ErrorClass.INFRA:
            waited = blame.waited(connection, claimed.video_id, first_delay_seconds=first_delay_seconds)
        waits_already = waited is not None
        decision = retries.decide(
            failure.error_class,
            failure.code,
            attempts=claimed.attempts,
            strikes=claimed.strikes,
            first_delay_seconds=first_delay_seconds,
            chance=retries.jitter(),
            waited_seconds=waited.seconds if waited else 0.0,
            is_alone=waited is not None and waited.is_alone and failure.stage == "fetch" and reads_place,
        )
    if decision.state == "failed" and _stays_done(claimed, outcome):
        decision, outcome = replace(decision, state="done", code=""), replace(outcome, media=None)
    error = None if failure is None or decision.state == "done" else outcomes.clean_text(failure.message)
    state = connection.execute(
        _FINISH,
        {
            "video_id": claimed.video_id,
            "worker_id": claimed.worker_id,
            "token": claimed.token,
            "state": decision.state,
            "code": decision.code or None,
            "error": error,
            "attempts": decision.attempts,
            "strikes": decision.strikes,
            "delay_seconds": decision.delay_seconds,
            "waits": decision.state == "pending" and failure is not None and failure.error_class is ErrorClass.INFRA,
            "encoders": [rows.encoder_id for rows in outcome.encoder_rows],
            "taggers": [rows.tagger_id for rows in outcome.tagger_rows],
            "bytes_read": outcome.bytes_read,
            "fetch_seconds": outcome.fetch_seconds,
            "decode_seconds": outcome.decode_seconds,
            "wait_seconds": outcome.wait_seconds,
            "device_seconds": outcome.device_seconds,
        },
    ).scalar()
    if state is None:
        return None
    outcomes.write(connection, claimed.video_id, claimed.worker_id, outcome)
    if failure is not None and not (waits_already and decision.state == "pending"):  # an outage is told once
        outcomes.write_attempt(connection, claimed.video_id, claimed.worker_id, claimed.attempts, failure)
    return str(state)


def _stays_done(claimed: Claim, outcome: Outcome) -> bool:
    """Whether a failed look at a finished video leaves it finished: only what makes its vectors noise undoes them.

    It is not stamped then, so that `doctor --data` goes on naming it, and `attempts` says why.
    """
    owes_nothing = bool(claimed.recheck) and not claimed.encoders and not claimed.taggers
    same_version = (outcome.media or {}).get("etag", claimed.etag) == claimed.etag
    is_noise = outcome.failure is not None and outcome.failure.code in NOISE_CODES
    return owes_nothing and same_version and not is_noise


def release(connection: Connection, claimed: Claim) -> bool:
    """Hand a video back unfinished, as if it had never been claimed. False: it is no longer ours.

    It waits for the feeder, too: its message, put back by the caller, may not arrive.
    """
    row = connection.execute(
        text(
            "UPDATE reelvec.jobs SET state = 'pending', attempts = attempts - 1, worker_id = NULL, deadline_at = NULL"
            " WHERE video_id = :video_id AND worker_id = :worker_id AND token = :token"
            " AND state = 'running' RETURNING 1"
        ),
        {"video_id": claimed.video_id, "worker_id": claimed.worker_id, "token": claimed.token},
    ).first()
    return row is not None


#: Places that one pass looks at: finding the next one costs some 10 microseconds.
TURN_PLACES = 20_000
#: Passes that fill the room when most places have less to give than their share.
FEED_PASSES = 4

# While a backbone is paused, a video that owes nothing else is left alone.
_OWES_SOMETHING = f"""(cardinality((SELECT encoders FROM paused)) = 0
  OR EXISTS (SELECT FROM unnest({_owed_encoders("j.force")}) e WHERE e <> ALL ((SELECT encoders FROM paused)::smallint[]))
  OR EXISTS (SELECT FROM unnest({_owed_taggers("j.force")}) t WHERE NOT EXISTS (SELECT FROM reelvec.taggers g
    WHERE g.tagger_id = t AND g.encoder_id = ANY ((SELECT encoders FROM paused)::smallint[]))))"""  # noqa: S608

# Places take turns, beginning anywhere: each pass gives every open place with waiting videos an equal share of the room.
# The next place is found by one probe of the index, however many videos the last one has.
_FEED = text(f"""
WITH RECURSIVE paused AS MATERIALIZED (SELECT {_PAUSED_ENCODERS} AS encoders), begin AS MATERIALIZED (
  SELECT floor(random() * coalesce(max(place_id), 0))::int AS place_id FROM reelvec.places
), later AS (
  SELECT (SELECT min(place_id) FROM reelvec.jobs WHERE state = 'pending' AND place_id > begin.place_id) AS place_id,
    1 AS looks, 0 AS found FROM begin
  UNION ALL
  SELECT (SELECT min(place_id) FROM reelvec.jobs WHERE state = 'pending' AND place_id > later.place_id), looks + 1,
    found + (NOT EXISTS (SELECT FROM reelvec.places p WHERE p.place_id = later.place_id AND closed_at IS NOT NULL))::int
  FROM later WHERE later.place_id IS NOT NULL AND looks < :looks AND found < :room
), earlier AS (
  SELECT (SELECT min(place_id) FROM reelvec.jobs WHERE state = 'pending') AS place_id, max(looks) AS looks,
    max(found) AS found FROM later
  UNION ALL
  SELECT (SELECT min(place_id) FROM reelvec.jobs WHERE state = 'pending' AND place_id > earlier.place_id), looks + 1,
    found + (NOT EXISTS (SELECT FROM reelvec.places p WHERE p.place_id = earlier.place_id AND closed_at IS NOT NULL))::int
  FROM earlier WHERE earlier.place_id <= (SELECT place_id FROM begin) AND looks < :looks AND found < :room
), turn AS MATERIALIZED (
  SELECT place_id FROM (
    SELECT place_id FROM later UNION SELECT place_id FROM earlier WHERE place_id <= (SELECT place_id FROM begin)) t
  WHERE place_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM reelvec.places p WHERE p.place_id = t.place_id AND closed_at IS NOT NULL)
), next AS (
  SELECT dealt.video_id, row_number() OVER (PARTITION BY turn.place_id ORDER BY dealt.video_id) AS round FROM turn, LATERAL (
    SELECT video_id FROM reelvec.jobs j
    WHERE state = 'pending' AND j.place_id = turn.place_id AND (not_before IS NULL OR not_before <= now())
      AND NOT EXISTS (SELECT FROM reelvec.control WHERE paused) AND {_OWES_SOMETHING}
    ORDER BY video_id LIMIT (SELECT greatest(1, :room / greatest(1, count(*))) FROM turn) FOR UPDATE SKIP LOCKED) dealt
  LIMIT :room
)
UPDATE reelvec.jobs j SET state = 'queued', queued_at = now() FROM next WHERE j.video_id = next.video_id
RETURNING next.round, j.place_id, j.video_id
""")  # noqa: S608


def feed(connection: Connection, *, room: int) -> list[int]:
    """Mark up to `room` pending videos queued, one of each place in turn; the caller commits, then publishes.

    Empty while another feeder is at it.
    """
    if not connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": FEED_LOCK}).scalar():
        return []
    places.adopt(connection)
    fed: list[int] = []
    for _ in range(FEED_PASSES):
        left = room - len(fed)
        dealt = connection.execute(_FEED, {"room": left, "looks": TURN_PLACES}).all() if left > 0 else []
        fed += [int(row.video_id) for row in sorted(dealt)]
        if not dealt:
            break
    return fed
