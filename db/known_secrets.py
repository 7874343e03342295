"""The secrets this process was given, by value: a text that quotes one is masked whatever stands
around it.

Libraries quote pieces of an address in forms no pattern foresees: a host that is half of a
password, a percent-encoded login, a Python literal.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from urllib.parse import parse_qsl, quote, quote_plus, unquote

#: Variables whose value is a secret as a whole, and those that are addresses with one in them.
SECRET_VARIABLES = (
    "AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN",
    "PGPASSWORD",
)  # fmt: skip
ADDRESS_VARIABLES = (
    "REELVEC_DATABASE_URL", "DATABASE_URL", "REELVEC_BROKER_URL", "CELERY_BROKER_URL", "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL", "HF_ENDPOINT", "HTTPS_PROXY", "HTTP_PROXY",
)  # fmt: skip
#: Shorter ones would mask half of every sentence; below the second length only whole words are
#: masked.
SHORTEST, SHORTEST_INSIDE_WORDS = 6, 8
#: Passwords that everybody guesses hide nothing, and masking them would spoil our own sentences.
_NO_SECRETS = frozenset(
    {"reelvec", "postgres", "postgresql", "valkey", "password", "videos", "broker"}
)
_SECRET_PARAMETERS = frozenset({"password", "sslpassword", "token"})

_remembered: dict[str, tuple[str, ...]] = {}


def remember(whose: str, secrets: Iterable[str | None]) -> None:
    """Mask these, too, from now on: they stand in no variable. They replace what was remembered of
    `whose` before.
    """
    _remembered[whose] = tuple(secret for secret in secrets if secret)


def masked(text: str, mask: str) -> str:
    """`text` with `mask` for every secret known now, in every form. Where two overlap, both are
    covered.
    """
    patterns = _compiled(
        tuple(os.environ.get(name, "") for name in SECRET_VARIABLES),
        tuple(os.environ.get(name, "") for name in ADDRESS_VARIABLES),
        tuple(_remembered.values()),
    )
    pieces: list[str] = []
    shown_from = 0
    for start, end in sorted(
        match.span() for pattern in patterns for match in pattern.finditer(text)
    ):
        if start >= shown_from:
            pieces += [text[shown_from:start], mask]
        shown_from = max(shown_from, end)
    return "".join([*pieces, text[shown_from:]])


def in_address(address: str) -> Iterator[str]:
    """What may be a password in an address, however it was written: unencoded characters end it
    early or late.
    """
    for one in re.split(r";(?=\w+://)", address):  # a list of brokers to fall back on
        rest = one.partition("://")[2] or one
        before_query, _, query = rest.partition("?")
        for part in (rest, before_query):
            login, at, _ = part.rpartition("@")
            user, colon, password = login.partition(":")
            if at:
                yield password if colon else user
        yield from (value for name, value in parse_qsl(query) if name.lower() in _SECRET_PARAMETERS)


@lru_cache(maxsize=8)
def _compiled(
    whole: tuple[str, ...], addresses: tuple[str, ...], remembered: tuple[tuple[str, ...], ...]
) -> list[re.Pattern[str]]:
    secrets = {value.strip() for values in (whole, *remembered) for value in values}
    secrets.update(secret for address in addresses for secret in in_address(address.strip()))
    forms = {form for secret in secrets for form in _forms(secret)}
    return [
        _pattern(form)
        for form in forms
        if len(form) >= SHORTEST and form.lower() not in _NO_SECRETS
    ]


def _forms(secret: str) -> Iterator[str]:
    for value in {secret, unquote(secret)}:
        yield from (value, quote_plus(value), repr(value)[1:-1], json.dumps(value)[1:-1])
        yield from (
            quote(value, safe=safe) for safe in ("", "/", " +")
        )  # SQLAlchemy keeps spaces and plus signs


def _pattern(form: str) -> re.Pattern[str]:
    escaped = re.escape(form)
    inside = len(form) >= SHORTEST_INSIDE_WORDS
    return re.compile(escaped if inside else rf"(?<!\w){escaped}(?!\w)", re.IGNORECASE)
