"""What a worker does about places and backbones that fail: leave them to others, say so, close and
open them.

One line is logged for each change, not one for each video.
"""

from __future__ import annotations

import logging
from enum import Enum
from typing import TYPE_CHECKING

from db import session
from db.errors import ErrorClass, UnavailableError
from db.jobs import backbone_breaker, places, stages
from workers.sources.storage import STAGE as FETCH

if TYPE_CHECKING:
    from db.jobs.outcome import Failure
    from db.ledger import Claim
    from workers.runtime import Runtime

log = logging.getLogger(__name__)

#: A message of a refused place is held this long before others get it: the others' share of the
#: queue is what counts.
HOLD_SECONDS = 0.5


class Message(Enum):
    """What to do with a message: claim its video, drop it, or leave it to other workers."""

    CLAIM = "claim"
    DROP = "drop"
    LEAVE = "leave"


def sort(runtime: Runtime, video_id: int, stage: str) -> Message:
    """Asks for a video's place only while this worker refuses one, and never for one that is
    sampled already. Raises `UnavailableError`.
    """
    if not runtime.refusals or stage == stages.FRAMES:
        return Message.CLAIM
    with session.transaction(runtime.database) as connection:
        standing = places.standing(connection, video_id)
    if standing.closed:  # somebody has to try it
        return Message.CLAIM if standing.is_probe else Message.DROP
    if runtime.refusals.takes(standing.place_id):
        return Message.CLAIM
    runtime.draining.wait(HOLD_SECONDS)
    return Message.LEAVE


def was_read(runtime: Runtime, claimed: Claim) -> None:
    """The place of this video answers. Written only if this worker refused it until now, or all do.

    What cannot be written now is said by the next round or probe.
    """
    resumed = runtime.refusals.read(claimed.place_id)
    if claimed.place_id is None or not (resumed or claimed.is_probe):
        return
    try:
        with session.transaction(runtime.database) as connection:
            places.say_reading(connection, runtime.worker_id, [claimed.place_id])
            opened = places.open_again(connection, claimed.place_id) if claimed.is_probe else None
    except UnavailableError as error:
        log.warning(
            "cannot record that the place of video %d can be read again: %s",
            claimed.video_id,
            error,
        )
        return
    if opened is not None:
        runtime.look_now.set()  # what waited for the place can be published
        log.warning("%s is open again, %s has read a video of it", opened.place, runtime.name)
    elif resumed:
        log.warning("%s can read the place of video %d again", runtime.name, claimed.video_id)


def settle(runtime: Runtime, claimed: Claim, failure: Failure | None, state: str) -> None:
    """After a video that failed and is `state` now: whether its place is to blame, or has answered
    after all.
    """
    if failure is None or failure.stage != FETCH:
        return
    if failure.error_class is ErrorClass.PERMANENT:
        was_read(runtime, claimed)
    elif (
        failure.error_class is ErrorClass.INFRA and state == "pending"
    ):  # else the video itself was found at fault
        is_refused = runtime.refusals.failed(claimed.place_id, failure.code)
        if is_refused and not claimed.is_probe:
            _refuse(runtime, claimed, failure)


def _refuse(runtime: Runtime, claimed: Claim, failure: Failure) -> None:
    assert claimed.place_id is not None
    try:
        with session.transaction(runtime.database) as connection:
            refused = places.say_failing(
                connection,
                claimed.place_id,
                runtime.worker_id,
                code=failure.code,
                error=failure.message,
            )
        if refused is not None:
            log.warning(
                "%s takes no more videos of %s: %s: %s",
                runtime.name,
                refused.place,
                refused.code,
                refused.error,
            )
        _close(runtime)
    except UnavailableError as error:
        log.warning("cannot record that the place of video %d fails: %s", claimed.video_id, error)


def keep(runtime: Runtime) -> None:
    """One round: vouch for places, close those that nobody can read, pause backbones that fail.
    Raises `UnavailableError`.
    """
    with session.transaction(runtime.database) as connection:
        places.say_reading(
            connection, runtime.worker_id, runtime.refusals.read_within(places.VOUCH_SECONDS)
        )
        paused = backbone_breaker.pause_failing(connection)
    for pause in paused:
        what = f"backbone {pause.backbone} is" if pause.backbone else "all videos are"
        log.error("%s paused: %s. Look at it, then run reelvec pause --resume", what, pause.reason)
    _close(runtime)


def _close(runtime: Runtime) -> None:
    chosen = runtime.settings
    with session.transaction(runtime.database) as connection:
        closed = places.close_failing(
            connection, stale_seconds=chosen.stale_seconds, beat_seconds=chosen.beat_seconds
        )
    if closed:
        runtime.look_now.set()  # there is room for others in the broker
    for change in closed:
        log.warning(
            "%s is closed, no worker can read it: %s: %s (seen by %s). Its videos wait, one is "
            "tried every %g s",
            change.place,
            change.code,
            change.error,
            runtime.name,
            chosen.beat_seconds,
        )
