"""Where the S3 service is: the standard variables, else AWS."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from db.errors import UsageError

VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
AWS_HOST = "s3.amazonaws.com"


@dataclass(frozen=True)
class Endpoint:
    """`host`: with its port, as an address has it. `is_aws`: no variable names another. `variable`:
    who named it, if any.
    """

    host: str
    secure: bool
    is_aws: bool
    variable: str | None = None

    @property
    def asked(self) -> str:
        """Which service was asked, and why that one: for errors that a wrong service may
        explain.
        """
        if self.variable is None:
            return (
                "no AWS_ENDPOINT_URL_S3 is set, so AWS itself was asked; for a service that is not "
                "AWS's set it to https://HOST"
            )
        return (
            f"{'https' if self.secure else 'http'}://{self.host} was asked, as {self.variable} says"
        )


def endpoint() -> Endpoint:
    """The service of this process's environment. Raises `UsageError` for a value that is no
    address.
    """
    for name in VARIABLES:
        if value := os.environ.get(name, "").strip():
            return parsed(name, value)
    return Endpoint(AWS_HOST, secure=True, is_aws=True)


def parsed(name: str, value: str) -> Endpoint:
    """The service that the variable `name` names. Raises `UsageError`."""
    if "@" in value:
        raise UsageError(
            f"{name} has a user name or password in it, which S3 does not take there; write "
            "https://host or http://host:port, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    try:
        parts = urlsplit(value if "://" in value else f"https://{value}")
        parts.port  # noqa: B018  (reading it is the check)
        plain = parts.path in ("", "/") and not parts.query and bool(parts.hostname)
    except ValueError:
        plain = False
    if not plain or parts.scheme not in ("http", "https"):
        shown = (
            repr(value) if "%" not in value else "something else"
        )  # an encoded @ has a password before it
        raise UsageError(
            f"{name}={shown} is no address of an S3 service; write https://host or http://host:port"
        )
    is_aws = re.search(r"\.amazonaws\.com(\.cn)?$", str(parts.hostname)) is not None
    return Endpoint(parts.netloc, parts.scheme == "https", is_aws, name)
