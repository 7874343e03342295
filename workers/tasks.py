"""The one task: claim, run the pipeline, finish, acknowledge. Every way out leaves the ledger
telling the truth.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from celery.exceptions import Reject

from db import ledger, session
from db.errors import RefusedConfigurationError, UnavailableError, VideoError
from db.jobs.outcome import Outcome
from db.jobs.sampler_version import VERSION as SAMPLER_VERSION
from db.ledger import Claim
from db.media import Media
from workers import contract, pipeline
from workers.app import app
from workers.delivery import breaker
from workers.models import NothingToMakeError
from workers.pipeline import Owed
from workers.runtime import Runtime, current
from workers.sampling.frames import STAGE as SAMPLE
from workers.sources.retrying import Cancelled

log = logging.getLogger(__name__)
T = TypeVar("T")

#: A database that is away is asked again after so long at most.
MAX_PAUSE_SECONDS = 5.0
#: A video that so many workers died over gets the device for itself: if it is to blame, it takes no
#: others with it.
ALONE_AFTER_LOST = 3


@app.task(name=contract.TASK_NAME)
def embed(*arguments: object) -> None:
    """Work on the video a message names. A message that names none of ours is dropped: Postgres
    knows what is owed.
    """
    try:
        video_id = contract.decode(arguments)
    except contract.MalformedMessageError as error:
        log.warning("dropped: %s", error)
        return
    _take(current(), video_id)


def _take(runtime: Runtime, video_id: int) -> None:
    with runtime.hold(video_id) as held:
        try:
            claimed = _claim(runtime, video_id)
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
        outcome = _run(runtime, claimed, give_up_at=give_up_at)
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
        fields = _fields(state, claimed, code, seconds=round(time.monotonic() - started, 3))
        log.info("video %d: %s", claimed.video_id, state, extra=fields)
        breaker.settle(runtime, claimed, outcome.failure, state)
    runtime.count_video()


def _fields(
    action: str, claimed: Claim, code: str | None = None, seconds: float | None = None
) -> dict[str, object]:
    """What a log line says of a video beside its words (`db.logs.FIELDS`)."""
    return {"action": action, "video_id": claimed.video_id, "code": code, "seconds": seconds}


def _insist(
    runtime: Runtime, what: str, attempt: Callable[[], T], *, gives_up: Callable[[], bool]
) -> T:
    """What `attempt` returns, asked again and again while the database is away. Raises its error
    once `gives_up()`.
    """
    pause_seconds = 0.5
    while True:
        try:
            return attempt()
        except UnavailableError as error:
            if gives_up():
                raise
            log.warning("cannot %s yet: %s", what, error)
        # a drain wakes whoever waits, but does not make him ask without a pause
        time.sleep(0.1)
        runtime.draining.wait(pause_seconds)
        pause_seconds = min(MAX_PAUSE_SECONDS, pause_seconds * 2)


def _claim(runtime: Runtime, video_id: int) -> Claim | None:
    """Wait for a database that is away: the message is kept, no attempt is burnt."""

    def attempt() -> Claim | None:
        if runtime.draining.is_set():
            raise Reject(requeue=True)
        message = breaker.sort(runtime, video_id)
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
            )

    return _insist(runtime, f"claim video {video_id}", attempt, gives_up=lambda: False)


def _run(runtime: Runtime, claimed: Claim, *, give_up_at: float) -> Outcome:
    media: Media | None = None

    def owed_of(claimed: Claim) -> list[Owed]:
        what = f"ask what video {claimed.video_id} owes"
        return _insist(
            runtime,
            what,
            lambda: runtime.models.owed(claimed),
            gives_up=lambda: runtime.draining.is_set() or time.monotonic() > give_up_at,
        )

    try:
        if not owed_of(claimed) and not claimed.recheck:
            return Outcome()
        with runtime.videos.open(claimed.uri) as source:
            breaker.was_read(runtime, claimed)
            media = Media(source.etag, source.size_bytes)
            owed = owed_of(claimed.for_version(source.etag))
            result = pipeline.embed_video(
                source,
                owed,
                engine=runtime.engine,
                engine_seconds=runtime.settings.engine_wait_seconds,
                stop=runtime.draining,
                alone=claimed.lost_count >= ALONE_AFTER_LOST,
                recheck=claimed.recheck,
                keep_context=claimed.keep_context,
            )
        runtime.models.require(owed)
        return pipeline.outcome_of(result, owed, wants_strip=claimed.wants_strip)
    except VideoError as error:
        level = logging.INFO if claimed.is_probe else logging.WARNING  # a closed place is told once
        fields = _fields(error.stage, claimed, error.code)
        words = "video %d: %s at %s: %s"
        log.log(level, words, claimed.video_id, error.code, error.stage, error, extra=fields)
        if media is not None and error.stage == SAMPLE:
            media = replace(media, sampler_version=SAMPLER_VERSION)
        return Outcome(failure=pipeline.failure_of(error), media=media)
    except (Cancelled, NothingToMakeError, RefusedConfigurationError):
        raise
    except UnavailableError as error:  # the database, or what serves the weights
        if runtime.draining.is_set():
            raise Cancelled from None
        return Outcome(
            failure=pipeline.failure_of(VideoError("unavailable", str(error), stage="run"))
        )
    except Exception as error:
        log.exception(
            "video %d: unexpected", claimed.video_id, extra=_fields("run", claimed, "internal")
        )
        failure = VideoError("internal", f"{type(error).__name__}: {error}", stage="run")
        return Outcome(failure=pipeline.failure_of(failure))


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
            return state

    def gives_up() -> bool:
        nonlocal broken, end
        broken = True
        if runtime.draining.is_set():
            end = min(end, time.monotonic() + pipeline.DRAIN_GRACE_SECONDS)
        return time.monotonic() > end

    try:
        state = _insist(runtime, f"finish video {claimed.video_id}", attempt, gives_up=gives_up)
    except UnavailableError as error:
        log.error("video %d: result dropped, it will be run again: %s", claimed.video_id, error)
        return None
    if state is not None:
        runtime.models.wrote(rows.encoder_id for rows in outcome.encoder_rows)
        if outcome.failure is not None:
            runtime.tally.failed(outcome.failure.code, outcome.failure.message)
        elif state == "done":
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
        log.info("video %d: handed back", claimed.video_id, extra=_fields("released", claimed))
    except UnavailableError as error:  # the reaper gives it back once our beat is old
        log.warning("video %d could not be handed back: %s", claimed.video_id, error)
