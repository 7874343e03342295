"""What a form sends, read with a limit: a body is counted while it comes, and an upload lies in a
file without a name, which is gone when it is closed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

#: Of a form without a file.
FORM_BYTES = 64 << 10
FIELDS = 8


@asynccontextmanager
async def sent(request: Request, *, most_bytes: int = FORM_BYTES) -> AsyncIterator[FormData]:
    """The fields of a form; one of them may be a file where more than `FORM_BYTES` are allowed.
    Raises `HTTPException`: 413 for a longer body, 400 for one that is no form.
    """
    too_large = HTTPException(413, f"This is too large: at most {most_bytes:,} bytes are taken.")
    stated = request.headers.get("content-length", "")
    if stated.isascii() and stated.isdigit() and int(stated) > most_bytes:
        raise too_large
    received_bytes = 0

    async def counted() -> Message:
        nonlocal received_bytes
        message = await request.receive()
        received_bytes += len(message.get("body", b""))
        if received_bytes > most_bytes:
            raise too_large
        return message

    files = 1 if most_bytes > FORM_BYTES else 0
    counting = Request(request.scope, counted)
    form = counting.form(max_files=files, max_fields=FIELDS, max_part_size=FORM_BYTES)
    async with form as fields:
        yield fields


def text(fields: FormData, name: str) -> str:
    """One field, without what no database takes; empty where it is missing or a file."""
    value = fields.get(name)
    return value.replace("\0", "") if isinstance(value, str) else ""
