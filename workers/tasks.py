"""The one task: claim, run the pipeline, finish, acknowledge. Every way out leaves the ledger
telling the truth.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from celery.exceptions import Reject

from db import ledger, session
from db.errors import ErrorClass, RefusedConfigurationError, UnavailableError
from db.frames import ended
from db.jobs import stages
from db.jobs.outcome import Outcome
from db.ledger import Claim
from workers import contract, pipeline
from workers.app import app
from workers.attempt import Attempt, fields
from workers.delivery import breaker
from workers.insisting import insist
from workers.models import NothingToMakeError
from workers.runtime import Runtime, current
from workers.sources.retrying import Cancelled

log = logging.getLogger(__name__)


@app.task(name=contract.TASK_NAME, bind=True)
def embed(self: Any, *arguments: object) -> None:
    """Work on the video a message names. A message that names none of ours is dropped: Postgres
    knows what is owed.
    """
    try:
        video_id = contract.decode(arguments)
    except contract.MalformedMessageError as error:
        log.warning("dropped: %s", error)
        return
    queue = self.request.delivery_info["routing_key"]
    _take(current(), video_id, contract.stage_of(queue))


def _take(runtime: Runtime, video_id: int, stage: str = stages.VIDEO) -> None:
    with runtime.hold(video_id) as held:
        try:
            claimed = _claim(runtime, video_id, stage)
            if claimed is not None:
                runtime.tally.claimed()
                held.since = time.monotonic()
                _work(runtime, claimed, give_up_at=held.since + runtime.settings.job_seconds)
        except RefusedConfigurationError as error:
            runtime.refuse(error)
            raise Reject(requeue=True) from None


def _work(runtime: Runtime, claimed: Claim, *, give_up_at: float) -> None:
    started = time.monotonic()
    try:
        outcome = Attempt(runtime, claimed, give_up_at).outcome()
    except Cancelled:
        _hand_back(runtime, claimed)
        raise Reject(requeue=True) from None
    except NothingToMakeError:  # the feeder sends it another way
        _hand_back(runtime, claimed)
        return
    except RefusedConfigurationError:
        _hand_back(runtime, claimed)
        raise
    state = _finish(runtime, claimed, outcome, give_up_at=give_up_at)
    if state is not None:
        code = outcome.failure.code if outcome.failure else None
        became = "sampled" if outcome.is_sampled and state == "pending" else state
        said = fields(became, claimed, code, seconds=round(time.monotonic() - started, 3))
        log.info("video %d: %s%s", claimed.video_id, became, _why(became, outcome), extra=said)
        breaker.settle(runtime, claimed, outcome.failure, state)
    runtime.count_video()


def _why(became: str, outcome: Outcome) -> str:
    """Behind a video that waits again: what for."""
    failure = outcome.failure
    if became != "pending":
        return ""
    if failure is None:
        return ", because models are left that this worker did not make"
    if failure.error_class in (ErrorClass.PERMANENT, ErrorClass.BAD_OUTPUT):
        return f", because other models are left: {failure.encoder or 'one'} gave {failure.code}"
    return f", to be tried again after {failure.code}"


def _takes(runtime: Runtime, stage: str) -> Sequence[str]:
    """In which stages a video is taken that a queue of this stage has named. A slot for frames is
    for nothing that takes longer; a sampler node leaves to others what is sampled.
    """
    if stage == stages.FRAMES or runtime.engine is None:
        return [stage]
    return [stages.VIDEO, stages.FRAMES] if runtime.frame_store is not None else [stages.VIDEO]


def _claim(runtime: Runtime, video_id: int, stage: str = stages.VIDEO) -> Claim | None:
    """Wait for a database that is away: the message is kept, no attempt is burnt."""

    def attempt() -> Claim | None:
        if runtime.draining.is_set():
            raise Reject(requeue=True)
        message = breaker.sort(runtime, video_id, stage)
        if message is breaker.Message.LEAVE:
            raise Reject(requeue=True)
        if message is breaker.Message.DROP:
            return None
        with session.one_statement(runtime.database) as connection:
            return ledger.claim(
                connection,
                video_id,
                runtime.worker_id,
                job_seconds=runtime.settings.job_seconds,
                ability=runtime.models.ability,
                takes=_takes(runtime, stage),
            )

    return insist(runtime, f"claim video {video_id}", attempt, gives_up=lambda: False)


def _finish(runtime: Runtime, claimed: Claim, outcome: Outcome, *, give_up_at: float) -> str | None:
    """Commit, however long the database is away: a result is held until then, or until its time is
    over.

    Returns the new state, None if the result was dropped.

    Where a COMMIT's answer was lost, the next try finds the row no longer ours, whether or not it
    went through.
    """
    broken = False
    end = give_up_at

    def attempt() -> str | None:
        with session.transaction(runtime.database) as connection:
            state = ledger.finish(
                connection,
                claimed,
                outcome,
                first_delay_seconds=runtime.settings.retry_seconds,
                reads_place=not runtime.refusals.refuses(claimed.place_id),
            )
            if state is None:
                connection.rollback()
            elif state != "pending" and claimed.stage == stages.FRAMES:
                ended.drop_of(connection, claimed.video_id)
            return state

    def gives_up() -> bool:
        nonlocal broken, end
        broken = True
        if runtime.draining.is_set():
            end = min(end, time.monotonic() + pipeline.DRAIN_GRACE_SECONDS)
        return time.monotonic() > end

    try:
        state = insist(runtime, f"finish video {claimed.video_id}", attempt, gives_up=gives_up)
    except UnavailableError as error:
        log.error("video %d: result dropped, it will be run again: %s", claimed.video_id, error)
        return None
    if state is not None:
        runtime.models.wrote(rows.encoder_id for rows in outcome.encoder_rows)
        if outcome.failure is not None:
            runtime.tally.failed(outcome.failure.code, outcome.failure.message)
        elif state == "done" or outcome.is_sampled:
            runtime.tally.done()
    elif broken:
        log.warning(
            "video %d: another worker has it now, or its result was committed when the connection "
            "broke",
            claimed.video_id,
        )
    else:
        log.warning("video %d: another worker has it now: result dropped", claimed.video_id)
    return state


def _hand_back(runtime: Runtime, claimed: Claim) -> None:
    try:
        with session.one_statement(runtime.database) as connection:
            ledger.release(connection, claimed)
        log.info("video %d: handed back", claimed.video_id, extra=fields("released", claimed))
    except UnavailableError as error:  # the reaper gives it back once our beat is old
        log.warning("video %d could not be handed back: %s", claimed.video_id, error)
