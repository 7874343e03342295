"""The secrets this process was given, by value: a text that quotes one is masked whatever stands around it.

Libraries quote pieces of an address in forms no pattern foresees: a host that is half of a password, a percent-encoded
login, a Python literal.
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
#: Shorter ones would mask half of every sentence; below the second length only whole words are masked.
SHORTEST, SHORTEST_INSIDE_WORDS = 6, 8
#: Passwords that everybody guesses hide nothing, and masking them would spoil our own sentences.
_NO_SECRETS = frozenset({"reelvec", "postgres", "postgresql", "valkey", "password", "videos", "broker"})
_SECRET_PARAMETERS = frozenset({"password", "sslpassword", "token"})

_remembered: dict[str, tuple[str, ...]] = {}


def remember(whose: str, secrets: Iterable[str | None]) -> None:
    """Mask these, too, from now on: they stand in no variable. They replace what was remembered of `whose` before."""
    _remembered[whose] = tuple(secret for secret in secrets if secret)


def pattern() -> re.Pattern[str] | None:
    """Matches every secret known now, in every form; None: there is none."""
    return _compiled(
        tuple(os.environ.get(name, "") for name in SECRET_VARIABLES),
        tuple(os.environ.get(name, "") for name in ADDRESS_VARIABLES),
        tuple(_remembered.values()),
    )


def in_address(address: str) -> Iterator[str]:
    """What may be a password in an address, however it was written: unencoded characters end it early or late."""
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
) -> re.Pattern[str] | None:
    secrets = {value.strip() for values in (whole, *remembered) for value in values}
    secrets.update(secret for address in addresses for secret in in_address(address.strip()))
    forms = {form for secret in secrets for form in _forms(secret)}
    usable = sorted((form for form in forms if len(form) >= SHORTEST and form.lower() not in _NO_SECRETS), key=len)
    words = [_word(form) for form in reversed(usable)]  # the longest first: a shorter one may be its beginning
    return re.compile("|".join(words), re.IGNORECASE) if words else None


def _forms(secret: str) -> Iterator[str]:
    for value in {secret, unquote(secret)}:
        yield from (value, quote_plus(value), repr(value)[1:-1], json.dumps(value)[1:-1])
        yield from (quote(value, safe=safe) for safe in ("", "/", " +"))  # SQLAlchemy keeps spaces and plus signs


def _word(form: str) -> str:
    escaped = re.escape(form)
    return escaped if len(form) >= SHORTEST_INSIDE_WORDS else rf"(?<!\w){escaped}(?!\w)"
