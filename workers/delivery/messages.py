"""Which messages are ours, and what of them is believed: the id of one video, nothing else.

Whoever reaches the broker can write into the queue, and kombu and Celery act on what a message
says: they decode and unpack it, publish what its callbacks ask for, hold it back until its ETA. So
each message is read here first, and they get one that was made anew from the id. Pure: knows
neither of them.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from workers import contract
from workers.contract import MalformedMessageError

#: Ours take about 1,000 bytes.
MAX_BYTES = 16_384


def read(raw: bytes) -> int:
    """The id of the video a message from the queue names. Raises `MalformedMessageError` with the
    reason.
    """
    if len(raw) > MAX_BYTES:
        raise MalformedMessageError(f"{len(raw)} bytes, more than {MAX_BYTES}")
    match _parsed(raw, "it"):
        case {
            "headers": {"task": contract.TASK_NAME},
            "properties": {"body_encoding": "base64"},
        } as envelope:
            return _video_of(envelope)
        case {"headers": {"task": str()}}:
            raise MalformedMessageError("another task, or an unknown body_encoding")
    raise MalformedMessageError("it has no task, headers or properties")


def write(video_id: int, *, queue: str, tag: str) -> dict[str, Any]:
    """The message for a video as kombu keeps it in the queue; `tag` is its name in this process."""
    body = json.dumps([contract.encode(video_id), {}, {}]).encode()
    return {
        "body": base64.b64encode(body).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": contract.TASK_NAME, "id": tag, "argsrepr": "", "kwargsrepr": ""},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": tag,
            "delivery_info": {"exchange": "", "routing_key": queue},
        },
    }


def _video_of(envelope: object) -> int:
    match envelope:
        case {
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "body": str(encoded),
        }:
            pass
        case _:
            raise MalformedMessageError("its body is not text of type application/json in utf-8")
    try:
        body = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise MalformedMessageError("its body is not base64") from error
    match _parsed(body, "its body"):
        case [list(arguments), dict(), dict()]:
            return contract.decode(arguments)
    raise MalformedMessageError("its body is not [arguments, keywords, options]")


def _parsed(raw: bytes, what: str) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedMessageError(f"{what} is not JSON") from error
