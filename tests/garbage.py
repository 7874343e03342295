"""What somebody may write into the queue by hand: kinds of garbage by name, as the bytes of the
list's items.
"""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from typing import Any

from workers import contract
from workers.delivery import messages

#: A valid message, for video 1.
ENVELOPE: dict[str, Any] = messages.write(1, queue=contract.QUEUE, tag="tag")


def _with(**parts: object) -> bytes:
    return json.dumps({**ENVELOPE, **parts}).encode()


def _without(name: str) -> bytes:
    return json.dumps({key: value for key, value in ENVELOPE.items() if key != name}).encode()


def _body(value: object) -> bytes:
    return _with(body=base64.b64encode(json.dumps(value).encode()).decode())


def _properties(**parts: object) -> dict[str, Any]:
    return {**ENVELOPE["properties"], **parts}


def _headers(**parts: object) -> dict[str, Any]:
    return {**ENVELOPE["headers"], **parts}


_PROTOCOL_1 = {
    "task": contract.TASK_NAME,
    "id": "x",
    "args": [1, 1],
    "kwargs": {},
    "retries": 0,
    "eta": None,
}
_DEEP = b"[" * 5_000 + b"]" * 5_000

GARBAGE: dict[str, bytes] = {
    "a word": b"hello",
    "bytes": bytes(range(256)),
    "invalid utf-8": b'{"headers": "\xff\xfe"}',
    "empty": b"",
    "a list": b"[]",
    "null": b"null",
    "a number": b"1",
    "a long number": b"9" * 10_000,
    "a string": b'"x"',
    "an object": b"{}",
    "deep nesting": _DEEP,
    "deep objects": b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
    "deep body": _with(body=base64.b64encode(_DEEP[:2_000] + _DEEP[-2_000:]).decode()),
    "huge": _with(padding="x" * 1_000_000),
    "cut": _with()[:-9],
    "no body": _without("body"),
    "no properties": _without("properties"),
    "no headers": _without("headers"),
    "no content type": _without("content-type"),
    "no content encoding": _without("content-encoding"),
    "headers of another type": _with(headers=[1, 2]),
    "properties of another type": _with(properties="x"),
    "body of another type": _with(body={"args": [1, 1]}),
    "task of another type": _with(headers=_headers(task=["reelvec.embed"])),
    "another task": _with(headers=_headers(task="celery.backend_cleanup")),
    "unknown task": _with(headers=_headers(task="os.system")),
    "unknown body_encoding": _with(properties=_properties(body_encoding="rot13")),
    "body_encoding of another type": _with(properties=_properties(body_encoding=7)),
    "not base64": _with(body="%%%"),
    "not ascii": _with(body="\N{SNOWMAN}"),
    "pickle": _with(
        body=base64.b64encode(pickle.dumps([[1, 1], {}, {}])).decode(),
        **{"content-type": "application/x-python-serialize"},
    ),
    "yaml": _with(**{"content-type": "application/x-yaml"}),
    "another charset": _with(**{"content-encoding": "binary"}),
    "compressed": _with(
        body=base64.b64encode(zlib.compress(b"[[1, 1], {}, {}]" * 9)).decode(),
        headers=_headers(compression="application/x-gzip"),
    ),
    "protocol 1": _with(
        headers={}, body=base64.b64encode(json.dumps(_PROTOCOL_1).encode()).decode()
    ),
    "protocol 1 in the body": _body(_PROTOCOL_1),
    "no arguments": _body([]),
    "arguments of another type": _body(["1", {}, {}]),
    "keywords of another type": _body([[1, 1], [], {}]),
    "options of another type": _body([[1, 1], {}, "chain"]),
    "too many parts": _body([[1, 1], {}, {}, {}]),
    "an unknown version": _body([[999, 1], {}, {}]),
    "an id of another type": _body([[1, "1"], {}, {}]),
    "a negative id": _body([[1, -1], {}, {}]),
    "an id beyond bigint": _body([[1, 2**63], {}, {}]),
    "an id that is true": _body([[1, True], {}, {}]),
}

_CALL = {
    "task": contract.TASK_NAME,
    "args": [1, 1],
    "kwargs": {},
    "options": {},
    "subtask_type": None,
}

#: Valid messages whose every other part is forged: the video is claimed, and nothing else happens.
FORGED: dict[str, bytes] = {
    "callbacks": _body([[1, 1], {}, {"callbacks": [_CALL]}]),
    "errbacks": _body([[1, 1], {}, {"errbacks": [_CALL]}]),
    "chain": _body([[1, 1], {}, {"chain": [_CALL]}]),
    "chord": _body([[1, 1], {}, {"chord": _CALL}]),
    "keywords": _body([[1, 1], {"x": 1}, {}]),
    "group and root": _with(headers=_headers(group="g", root_id=[7], parent_id={})),
    "eta": _with(headers=_headers(eta="2999-01-01T00:00:00")),
    "an eta of another type": _with(headers=_headers(eta=[])),
    "expires": _with(headers=_headers(expires="1999-01-01T00:00:00")),
    "timelimit": _with(headers=_headers(timelimit=[0.001, "x"], retries="many")),
    "an id of another type": _with(headers=_headers(id={"a": 1}, shadow=[3], argsrepr=5)),
    "reply_to": _with(properties=_properties(reply_to={"a": 1}, correlation_id=[])),
    "no delivery_tag": _with(properties={"body_encoding": "base64"}),
    "delivery_tag and priority": _with(
        properties=_properties(delivery_tag=[1], priority="high", delivery_info=3)
    ),
}
