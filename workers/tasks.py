"""The one task: claim, run the pipeline, finish, acknowledge. Every way out leaves the ledger telling the truth."""

from __future__ import annotations

import logging
import time
from typing import TypeVar

from celery.exceptions import Reject

from db import ledger, session
from db.errors import RefusedConfigurationError, UnavailableError, VideoError
from db.ledger import Claim
from db.outcome import Outcome
from workers import breaker, contract, launch, pipeline
from workers.app import app
from workers.launch import Runtime
from workers.stores.limits import Cancelled

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Results wait this long in memory for a database that is away; then the video is run again by somebody.
FINISH_PATIENCE_SECONDS = 60.0
#: A video that so many workers died over gets the device for itself: if it is to blame, it takes no others with it.
ALONE_AFTER_LOST = 3


@app.task(name=contract.TASK_NAME, Strategy="workers.app:strict_strategy")
def embed(*arguments: object) -> None:
    """Work on the video a message names. A message that names none of ours is dropped: Postgres knows what is owed."""
    try:
        video_id = contract.decode(arguments)
    except contract.MalformedMessageError as error:
        log.warning("dropped: %s", error)
        return
    runtime = launch.runtime()
    claimed = _claim(runtime, video_id)
    if claimed is None:
        return
    runtime.tally.claimed()
    with runtime.working_on(claimed):
        try:
            outcome = _run(runtime, claimed)
        except Cancelled:
            _hand_back(runtime, claimed)
            raise Reject(requeue=True) from None
        except RefusedConfigurationError as error:
            _hand_back(runtime, claimed)
            runtime.refuse(error)
            raise Reject(requeue=True) from None
        _finish(runtime, claimed, outcome)
        breaker.settle(runtime, claimed, outcome.failure)
    runtime.count_video()


def _claim(runtime: Runtime, video_id: int) -> Claim | None:
    """Wait for a database that is away: the message is kept, no attempt is burnt."""
    delay_seconds = 0.5
    while True:
        if runtime.draining.is_set():
            raise Reject(requeue=True)
        try:
            message = breaker.sort(runtime, video_id)
            if message is breaker.Message.LEAVE:
                raise Reject(requeue=True)
            if message is breaker.Message.DROP:
                return None
            with session.transaction(runtime.engine) as connection:
                return ledger.claim(connection, video_id, runtime.worker_id, job_seconds=runtime.settings.job_seconds)
        except UnavailableError as error:
            log.warning("cannot claim video %d yet: %s", video_id, error)
            runtime.draining.wait(delay_seconds)
            delay_seconds = min(10.0, delay_seconds * 2)


def _run(runtime: Runtime, claimed: Claim) -> Outcome:
    media: dict[str, object] | None = None
    try:
        if not runtime.owed(claimed):
            return Outcome()
        with runtime.storage.open(claimed.uri) as source:
            breaker.was_read(runtime, claimed)
            media = {"etag": source.etag, "size_bytes": source.size_bytes}
            owed = runtime.owed(claimed.for_version(source.etag))
            result = pipeline.embed_video(
                source,
                owed,
                samplers=runtime.samplers,
                engine=runtime.encoding,
                engine_seconds=runtime.engine_seconds,
                stop=runtime.draining,
                alone=claimed.lost_count >= ALONE_AFTER_LOST,
            )
        return pipeline.outcome_of(result, owed)
    except VideoError as error:
        level = logging.INFO if claimed.is_probe else logging.WARNING  # a closed place is told once
        log.log(level, "video %d: %s at %s: %s", claimed.video_id, error.code, error.stage, error)
        return Outcome(failure=pipeline.failure_of(error), media=media)
    except (Cancelled, RefusedConfigurationError):
        raise
    except UnavailableError as error:  # the database went away in between: nothing the video can do about
        return Outcome(failure=pipeline.failure_of(VideoError("unavailable", str(error), stage="run")))
    except Exception as error:
        log.exception("video %d: unexpected", claimed.video_id)
        failure = VideoError("internal", f"{type(error).__name__}: {error}", stage="run")
        return Outcome(failure=pipeline.failure_of(failure))


def _finish(runtime: Runtime, claimed: Claim, outcome: Outcome) -> None:
    """Commit, trying again while the database is away. Where COMMIT's outcome is unknown, the second try is fenced."""
    give_up_at = time.monotonic() + FINISH_PATIENCE_SECONDS
    while True:
        try:
            with session.transaction(runtime.engine) as connection:
                state = ledger.finish(connection, claimed, outcome, first_delay_seconds=runtime.settings.retry_seconds)
                if state is None:
                    connection.rollback()
        except UnavailableError as error:
            if time.monotonic() > give_up_at:
                log.error("video %d: result dropped, it will be run again: %s", claimed.video_id, error)
                return
            log.warning("cannot finish video %d yet: %s", claimed.video_id, error)
            time.sleep(1.0)
        else:
            if state is None:
                log.warning("video %d: fenced, somebody else has it: result dropped", claimed.video_id)
            else:
                log.info("video %d: %s", claimed.video_id, state)
                if outcome.failure is not None:
                    runtime.tally.failed(outcome.failure.code, outcome.failure.message)
                elif state == "done":
                    runtime.tally.done()
            return


def _hand_back(runtime: Runtime, claimed: Claim) -> None:
    try:
        with session.transaction(runtime.engine) as connection:
            ledger.release(connection, claimed)
        log.info("video %d: handed back", claimed.video_id)
    except UnavailableError as error:  # the reaper gives it back once our beat is old
        log.warning("video %d could not be handed back: %s", claimed.video_id, error)
