"""Where the S3 service is: the standard variables, else AWS."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from db.errors import UsageError

VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
AWS_HOST = "s3.amazonaws.com"


@dataclass(frozen=True)
class Endpoint:
    """`host`: with its port, as an address has it. `is_aws`: no variable names another."""

    host: str
    secure: bool
    is_aws: bool


def endpoint() -> Endpoint:
    """The service of this process's environment. Raises `UsageError` for a value that is no address."""
    for name in VARIABLES:
        if value := os.environ.get(name, "").strip():
            return _parsed(name, value)
    return Endpoint(AWS_HOST, secure=True, is_aws=True)


def _parsed(name: str, value: str) -> Endpoint:
    if "@" in value:
        raise UsageError(
            f"{name} has a user name or password in it, which S3 does not take there; write https://host or"
            " http://host:port, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    try:
        parts = urlsplit(value if "://" in value else f"https://{value}")
        parts.port  # noqa: B018  (reading it is the check)
        plain = parts.path in ("", "/") and not parts.query and bool(parts.hostname)
    except ValueError:
        plain = False
    if not plain or parts.scheme not in ("http", "https"):
        raise UsageError(f"{name}={value!r} is no address of an S3 service; write https://host or http://host:port")
    return Endpoint(parts.netloc, parts.scheme == "https", str(parts.hostname).endswith(".amazonaws.com"))
