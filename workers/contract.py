"""What a message says: a version and the id of one video. Everything else is in Postgres.

Producers publish it by name, so that publishing needs none of the worker's code.
"""

from __future__ import annotations

from collections.abc import Sequence

from db.jobs import stages

TASK_NAME = "reelvec.embed"
#: Everybody's queue. What only some workers can make is in a queue of its encoder's, and what is
#: sampled already in queues of their own.
QUEUE = "reelvec"
FRAMES_QUEUE = f"{QUEUE}.frames"
#: Raised when the meaning of a message changes. Workers drop versions they do not know: the feeder
#: sends again.
VERSION = 1
#: What stands before every key in the broker, and the rights that a user of its own needs there.
KEY_PREFIX = "reelvec:"
BROKER_RIGHTS = f"~{KEY_PREFIX}* +@all -@admin -@dangerous +info"


class MalformedMessageError(ValueError):
    """A message nobody of ours wrote, or one of another version."""


def queue_of(encoder: str | None, *, stage: str = stages.VIDEO) -> str:
    """The queue of what only those can make that can load this encoder; None: of everybody."""
    everybodys = FRAMES_QUEUE if stage == stages.FRAMES else QUEUE
    return everybodys if encoder is None else f"{everybodys}.{encoder}"


def stage_of(queue: str) -> str:
    """The stage of the videos that are announced in this queue."""
    is_frames = queue == FRAMES_QUEUE or queue.startswith(f"{FRAMES_QUEUE}.")
    return stages.FRAMES if is_frames else stages.VIDEO


def encode(video_id: int) -> list[int]:
    """Arguments of the message for one video."""
    return [VERSION, video_id]


def decode(arguments: Sequence[object]) -> int:
    """The video's id. Raises `MalformedMessageError` naming what was there: messages can be
    forged.
    """
    match list(arguments):
        case [int(version), int(video_id)] if (
            version == VERSION and 0 < video_id < 2**63 and video_id is not True
        ):
            return video_id
    raise MalformedMessageError(f"not a message of version {VERSION}: {str(arguments)[:200]!r}")
