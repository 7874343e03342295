"""The ledger: one row per video says what is owed, who works on it, and how it ended. One function
per statement.

    pending -> queued (db/jobs/feeding.py) -> running (claim) -> done | failed | pending (finish)
    running -> pending (reap: its worker is dead; release: its worker drains) -> ...

Each of them in one of two stages (db/jobs/stages.py).
The broker only rings the bell: any message may be lost, late, doubled or forged, and nothing
changes but the time. All times are the database's; every change of a running row is guarded by its
worker and its fencing token.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self
from uuid import UUID

from sqlalchemy import Connection, text

from db.errors import NOISE_CODES, ErrorClass
from db.jobs import blame, owing, retries, stages
from db.jobs import outcome as outcomes
from db.jobs.abilities import MAKES, Ability
from db.jobs.outcome import Failure, Outcome
from db.jobs.retries import Decision
from db.prepared import Prepared

EVERYTHING = Ability()


@dataclass(frozen=True)
class Claim:
    """One video that is ours until `finish`.

    `encoders` and `taggers` are what is wanted, has no row yet and can be made by this worker;
    `all_encoders` and `all_taggers` what is wanted and can be made by it, to be made where the
    source is no more the version `etag` that the rows were made from; `makes` are all encoders that
    it can make. `is_probe`: its place is closed, and this video is the one that tries it.
    `recheck`: sampling policies under which the video is to be looked at again, although their
    vectors are there. `wants_strip`: a picture of it is to be kept, `keep_context`: what other
    labels need later of it. `stage`: whether its frames are sampled already; they were lost
    `frames_lost` times, and are kept for later models if `keep_frames`.
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
    makes: tuple[int, ...] = ()
    recheck: tuple[str, ...] = ()
    wants_strip: bool = True
    keep_context: bool = False
    stage: str = stages.VIDEO
    frames_lost: int = 0
    keep_frames: bool = False

    def is_renewed(self, etag: str | None) -> bool:
        """Whether the source, found to be of this version, is no more what the rows were made
        from.
        """
        return self.etag is not None and etag != self.etag

    def for_version(self, etag: str | None) -> Self:
        """What is owed when the source turns out to be of this version."""
        if not self.is_renewed(etag):
            return self
        return replace(self, encoders=self.all_encoders, taggers=self.all_taggers)


def _made_from(taggers: str) -> str:
    """Those of the taggers whose encoder `me` makes."""
    return f"""array(SELECT tagger_id FROM reelvec.taggers t
  WHERE tagger_id = ANY({taggers}) AND t.encoder_id = ANY(makes) ORDER BY 1)"""  # noqa: S608


# Where the source was another version than the rows', all of them are to be made again, by whoever
# can.
_AGAIN = "(j.force OR :renewed)"
_LISTED = f"CASE WHEN :renewed THEN j.encoders ELSE {owing.REMEMBERED} END"


def _left(kind: str) -> str:
    """What of `mine` was not made just now."""
    return f"array(SELECT i FROM unnest({kind}) i WHERE i <> ALL(CAST(:{kind} AS smallint[])))"  # noqa: S608


# Only what this worker can make is taken, in a stage that it takes. Where that is nothing of what is
# owed the row waits again, as if nobody had come, and remembers what it owes, so that it is sent
# another way. Where its frames are sampled already its place is not asked.
_CLAIM_SQL = f"""
WITH me AS MATERIALIZED (SELECT {MAKES} AS makes), found AS (
  SELECT j.video_id, {owing.encoders()} AS encoders, {owing.taggers()} AS taggers,
    j.stage = ANY(CAST(:stages AS text[])) AS is_for_me
  FROM reelvec.jobs j
  WHERE video_id = :video_id AND state IN ('pending', 'queued')
    AND coalesce((SELECT coalesce(probe_video_id, 0) = :video_id FROM reelvec.places p
                  WHERE p.place_id = j.place_id AND closed_at IS NOT NULL AND j.stage = 'video'), not_before IS NULL OR not_before <= now())
    AND NOT EXISTS (SELECT FROM reelvec.control WHERE paused)
  FOR UPDATE OF j
), owing AS MATERIALIZED (
  SELECT *, {owing.models("found.encoders", "found.taggers")} AS owed FROM found
), j AS (
  UPDATE reelvec.jobs j SET state = 'running', worker_id = :worker_id, token = token + 1, attempts = attempts + 1,
    not_before = NULL, started_at = now(), finished_at = NULL, deadline_at = now() + make_interval(secs => :job_seconds)
  FROM owing, me WHERE j.video_id = owing.video_id AND is_for_me AND (owed = '{{}}' OR owed && makes)
  RETURNING j.*, owing.encoders AS owed_encoders, owing.taggers AS owed_taggers
), left_alone AS (
  UPDATE reelvec.jobs j SET state = 'pending', owes = owed
  FROM owing, me WHERE j.video_id = owing.video_id AND NOT (is_for_me AND (owed = '{{}}' OR owed && makes))
)
SELECT j.video_id, v.uri, v.etag, j.worker_id, j.token, j.attempts, j.strikes, j.lost_count, j.place_id, j.keep_context,
  array(SELECT e FROM unnest(j.owed_encoders) e WHERE e = ANY(makes)) AS encoders,
  array(SELECT e FROM unnest(j.encoders) e WHERE e = ANY(makes)) AS all_encoders,
  {_made_from("j.owed_taggers")} AS taggers, {_made_from("j.taggers")} AS all_taggers, makes,
  EXISTS (SELECT FROM reelvec.places p
          WHERE p.place_id = j.place_id AND closed_at IS NOT NULL AND j.stage = 'video') AS is_probe,
  array(SELECT DISTINCT sampling FROM reelvec.encoders WHERE j.recheck AND encoder_id = ANY(j.encoders)) AS recheck,
  coalesce(j.wants_strip, true) AS wants_strip, j.stage, coalesce(j.frames_lost, 0) AS frames_lost,
  coalesce(j.keep_frames, false) AS keep_frames
FROM me, j JOIN reelvec.videos v USING (video_id)
"""  # noqa: S608
_CLAIM = Prepared("claim", _CLAIM_SQL)


def claim(
    connection: Connection,
    video_id: int,
    worker_id: UUID,
    *,
    job_seconds: float,
    ability: Ability = EVERYTHING,
    takes: Sequence[str] = (stages.VIDEO, stages.FRAMES),
) -> Claim | None:
    """Take a waiting video, or None: there is nothing to do for it now, or nothing that this worker
    can make, or in none of the stages that it `takes`.

    Somebody else has it, it is finished or unknown, its time has not come, its place is closed, or
    all is paused.
    """
    facts = {
        "video_id": video_id,
        "worker_id": worker_id,
        "job_seconds": job_seconds,
        "stages": list(takes),
        **ability.facts,
    }
    row = _CLAIM.execute(connection, facts).first()
    if row is None:
        return None
    found = dict(row._mapping)
    lists = ("encoders", "taggers", "all_encoders", "all_taggers", "makes", "recheck")
    return Claim(**{**found, **{name: tuple(found[name]) for name in lists}})


# A job may still owe something: it was widened while it ran, or this worker could not make
# everything. Then it goes back for the rest; after a failure of one model, too, if others have not
# been tried yet. What sampling cost stays with it when the frames are embedded elsewhere.
_FINISH_SQL = f"""
WITH mine AS (
  SELECT j.video_id, {owing.encoders(_AGAIN, _LISTED)} AS encoders, {owing.taggers(_AGAIN, _LISTED)} AS taggers
  FROM reelvec.jobs j
  WHERE video_id = :video_id AND worker_id = :worker_id AND token = :token AND state = 'running' FOR UPDATE OF j
), rest AS MATERIALIZED (
  SELECT video_id, {owing.models(_left("encoders"), _left("taggers"))} AS owes FROM mine
), ended AS MATERIALIZED (
  SELECT *, CASE WHEN owes = '{{}}' AND :state = 'done' THEN 'done'
    WHEN :state = 'done' OR (:state = 'failed' AND :is_model AND NOT owes <@ CAST(:makes AS smallint[])) THEN 'pending'
    ELSE :state END AS new_state FROM rest
), {outcomes.REPLACED}
UPDATE reelvec.jobs j SET
  state = new_state, owes = CASE WHEN new_state <> 'done' AND NOT :is_noise THEN ended.owes END,
  force = new_state <> 'done' AND {_AGAIN}, recheck = CASE WHEN :state = 'pending' THEN recheck END,
  attempts = CASE WHEN :state = 'done' AND new_state = 'pending' THEN 0 ELSE :attempts END, strikes = :strikes,
  not_before = CASE WHEN :state = 'pending' THEN now() + make_interval(secs => :delay_seconds) END,
  error_code = :code, error = :error || {outcomes.REMOVED_NOISE}, worker_id = NULL, deadline_at = NULL,
  infra_since = CASE WHEN :waits THEN coalesce(infra_since, now()) END,
  finished_at = CASE WHEN new_state = 'pending' THEN NULL ELSE now() END,
  stage = CASE WHEN new_state = 'pending' THEN :stage ELSE 'video' END,
  frames_lost = CASE WHEN new_state = 'pending' THEN nullif(:frames_lost, 0) END,
  bytes_read = CASE WHEN :from_frames THEN j.bytes_read ELSE :bytes_read END,
  fetch_seconds = CASE WHEN :from_frames THEN j.fetch_seconds ELSE :fetch_seconds END,
  decode_seconds = CASE WHEN :from_frames THEN j.decode_seconds ELSE :decode_seconds END,
  bytes_written = CASE WHEN :from_frames THEN j.bytes_written ELSE :bytes_written END,
  frames_bytes = :frames_bytes, frames_seconds = :frames_seconds,
  wait_seconds = :wait_seconds, device_seconds = :device_seconds
FROM ended WHERE j.video_id = ended.video_id
RETURNING j.state
"""  # noqa: S608
_FINISH = Prepared("finish", _FINISH_SQL)


def finish(
    connection: Connection,
    claimed: Claim,
    outcome: Outcome,
    *,
    first_delay_seconds: float,
    reads_place: bool = True,
) -> str | None:
    """Write rows and state in the connection's one transaction; returns the new state.

    `reads_place` is False where this worker refuses the video's place: then no video of it is to
    blame. None: fenced, the row is no longer ours. The caller must roll back and drop the result.
    """
    decision, waits_already = _decided(
        connection,
        claimed,
        outcome.failure,
        first_delay_seconds=first_delay_seconds,
        reads_place=reads_place,
    )
    if outcome.is_sampled:  # half of an attempt is none
        decision = replace(decision, state="pending", attempts=claimed.attempts - 1)
    if decision.state == "failed" and _stays_done(claimed, outcome):
        decision, outcome = replace(decision, state="done", code=""), replace(outcome, media=None)
    state = _FINISH.execute(connection, _facts(claimed, outcome, decision)).scalar()
    if state is None:
        return None
    outcomes.copy_rows(connection, claimed.video_id, claimed.worker_id, outcome)
    if outcome.failure is not None and not (
        waits_already and decision.state == "pending"
    ):  # an outage is told once
        outcomes.write_attempt(
            connection, claimed.video_id, claimed.worker_id, claimed.attempts, outcome.failure
        )
    return str(state)


def _decided(
    connection: Connection,
    claimed: Claim,
    failure: Failure | None,
    *,
    first_delay_seconds: float,
    reads_place: bool,
) -> tuple[Decision, bool]:
    """What becomes of the video, and whether it waited for its source already."""
    if failure is None:
        counts = (claimed.attempts, claimed.strikes, claimed.frames_lost)
        return Decision("done", "", *counts), False
    waited = None
    if failure.error_class is ErrorClass.INFRA:
        waited = blame.waited(connection, claimed.video_id, first_delay_seconds=first_delay_seconds)
    may_be_blamed = failure.stage == "fetch" and reads_place
    decision = retries.decide(
        failure.error_class,
        failure.code,
        attempts=claimed.attempts,
        strikes=claimed.strikes,
        frames_lost=claimed.frames_lost,
        first_delay_seconds=first_delay_seconds,
        chance=retries.jitter(),
        waited_seconds=waited.seconds if waited else 0.0,
        is_alone=waited is not None and waited.is_alone and may_be_blamed,
    )
    return decision, waited is not None


def _facts(claimed: Claim, outcome: Outcome, decision: Decision) -> dict[str, object]:
    """The parameters of `_FINISH`."""
    failure, media = outcome.failure, outcome.media
    waits = failure is not None and failure.error_class is ErrorClass.INFRA
    told = failure if decision.state != "done" else None
    return {
        "video_id": claimed.video_id,
        "worker_id": claimed.worker_id,
        "token": claimed.token,
        "state": decision.state,
        "code": decision.code or None,
        "error": None if told is None else outcomes.clean_text(told.message),
        "attempts": decision.attempts,
        "strikes": decision.strikes,
        "frames_lost": decision.frames_lost,
        "stage": _next_stage(claimed, outcome),
        "from_frames": claimed.stage == stages.FRAMES,
        "delay_seconds": decision.delay_seconds,
        "renewed": media is not None and claimed.is_renewed(media.etag),
        "is_model": failure is not None and failure.encoder is not None,
        # its vectors go, so that all of them are owed
        "is_noise": decision.code in NOISE_CODES,
        "media": None if media is None else json.dumps(media.columns()),
        "etag": None if media is None else media.etag,
        "strip": outcome.strip,
        "makes": list(claimed.makes),
        "waits": waits and decision.state == "pending",
        "encoders": [rows.encoder_id for rows in outcome.encoder_rows],
        "taggers": [rows.tagger_id for rows in outcome.tagger_rows],
        "bytes_read": outcome.bytes_read,
        "fetch_seconds": outcome.fetch_seconds,
        "decode_seconds": outcome.decode_seconds,
        "bytes_written": outcome.bytes_written,
        "frames_bytes": outcome.frames_bytes,
        "frames_seconds": outcome.frames_seconds,
        "wait_seconds": outcome.wait_seconds,
        "device_seconds": outcome.device_seconds,
    }


def _next_stage(claimed: Claim, outcome: Outcome) -> str:
    """What whoever goes on with the video needs, if anybody must."""
    if outcome.is_sampled:
        return stages.FRAMES
    if outcome.failure is not None and outcome.failure.error_class is ErrorClass.FRAMES:
        return stages.VIDEO
    return claimed.stage


def _stays_done(claimed: Claim, outcome: Outcome) -> bool:
    """Whether a failed look at a finished video leaves it finished: only what makes its vectors
    noise undoes them.

    It is not stamped then, so that `doctor --data` goes on naming it, and `attempts` says why.
    """
    owes_nothing = bool(claimed.recheck) and not claimed.encoders and not claimed.taggers
    same_version = outcome.media is None or outcome.media.etag == claimed.etag
    is_noise = outcome.failure is not None and outcome.failure.code in NOISE_CODES
    return owes_nothing and same_version and not is_noise


def release(connection: Connection, claimed: Claim) -> bool:
    """Hand a video back unfinished, as if it had never been claimed. False: it is no longer ours.

    It waits for the feeder, too: its message, put back by the caller, may not arrive.
    """
    row = connection.execute(
        text(
            "UPDATE reelvec.jobs SET state = 'pending', attempts = attempts - 1, worker_id = NULL, "
            "deadline_at = NULL WHERE video_id = :video_id AND worker_id = :worker_id AND token = "
            ":token AND state = 'running' RETURNING 1"
        ),
        {"video_id": claimed.video_id, "worker_id": claimed.worker_id, "token": claimed.token},
    ).first()
    return row is not None
