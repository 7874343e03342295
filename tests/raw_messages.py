"""Raw messages nobody of ours would send: each must be dropped, and cost nothing but itself."""

from __future__ import annotations

import base64
import json
from typing import Any

#: By name, as they are pushed into the queue: below what Celery can even read.
RAW: dict[str, bytes] = {
    "text": b"hello",
    "nothing": b"",
    "bytes": bytes(range(256)),
    "a list": b"[]",
    "null": b"null",
    "a number": b"1",
    "a string": b'"hello"',
    "an empty object": b"{}",
    "deep nesting": b"[" * 20_000,
    "deep objects": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "cut short": b'{"body": "W10=", "headers": {',
    "not a number": b'{"body": NaN}',
    "a megabyte": b"x" * (1 << 20),
}


def _body(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def forged(valid: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Messages made of a valid one, each wrong in one way that Celery might act on."""

    def with_body(value: object) -> dict[str, Any]:
        return {**valid, "body": _body(value)}

    def with_headers(**facts: object) -> dict[str, Any]:
        return {**valid, "headers": {**valid["headers"], **facts}}

    def with_properties(**facts: object) -> dict[str, Any]:
        return {**valid, "properties": {**valid["properties"], **facts}}

    task = {"task": valid["headers"]["task"], "args": [1, 1], "kwargs": {}, "options": {}, "subtask_type": None}
    return {
        "an unknown encoding": with_properties(body_encoding="rot13"),
        "no encoding": {**valid, "body": "plain", "properties": {**valid["properties"], "body_encoding": None}},
        "no properties": {key: value for key, value in valid.items() if key != "properties"},
        "no body": {key: value for key, value in valid.items() if key != "body"},
        "a pickle": {**valid, "content-type": "application/x-python-serialize"},
        "yaml": {**valid, "content-type": "application/x-yaml"},
        "another task": with_headers(task="os.system"),
        "no arguments": with_body([]),
        "an unknown video": with_body([[1, 999_999_999], {}, {}]),
        "callbacks": with_body([[1, 999_999_999], {}, {"callbacks": [task], "errbacks": None, "chain": None}]),
        "a chain": with_body([[1, 999_999_999], {}, {"callbacks": None, "errbacks": None, "chain": [task] * 2}]),
        "a far eta": with_headers(eta="2999-01-01T00:00:00+00:00"),
        "an unreadable eta": with_headers(eta="tomorrow"),
    }
