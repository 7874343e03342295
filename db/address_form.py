"""What an address of Postgres or of the broker may look like; every other form is refused in words,
never by a traceback.

What the drivers would only meet at the first connection (a parameter they do not know, a port that
is no number) is found here: a supervisor would start a worker that ends with it for ever.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

from db.errors import UsageError
from db.masking import mask_url

POSTGRES_DRIVER = "postgresql+psycopg2"
_POSTGRES_SCHEMES = ("postgres", "postgresql", POSTGRES_DRIVER)
#: A parameter that names several servers may stand there once for each.
_REPEATED = ("host", "port")

# What kombu's Redis transport takes; it knows neither unix:// nor valkey://.
_SOCKET = "redis+socket"
_BROKER_SCHEMES = ("redis", "rediss", _SOCKET)
_CERT_REQS = ("required", "optional", "none", "CERT_REQUIRED", "CERT_OPTIONAL", "CERT_NONE")
#: Parameters of a broker's address and what each may be. Anything else ends Celery with a
#: TypeError.
_TLS_PARAMETERS: dict[str, tuple[str, ...] | None] = {
    "ssl_cert_reqs": _CERT_REQS,
    "ssl_check_hostname": ("true", "false"),
    "ssl_ca_certs": None,
    "ssl_certfile": None,
    "ssl_keyfile": None,
}


def checked_database_url(url: str) -> str:
    """The address with its driver spelled out (SQLAlchemy 2.1 takes another one otherwise). Raises
    `UsageError`.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _POSTGRES_SCHEMES:
        raise UsageError(
            f"the database address {_shown(url)} is not one reelvec can use: write "
            "postgresql://user:password@host:5432/name (the driver is always psycopg2)."
        )
    _check_login(url, "database", shown=mask_url(url))
    spelled_out = f"{POSTGRES_DRIVER}://{rest}"
    _check_libpq_parameters(url)
    _check_with_driver(spelled_out, shown=mask_url(url))
    return spelled_out


def _check_libpq_parameters(url: str) -> None:
    from psycopg2 import ProgrammingError  # type: ignore[import-untyped]
    from psycopg2.extensions import parse_dsn  # type: ignore[import-untyped]

    def is_unknown(name: str) -> bool:
        try:
            parse_dsn(f"{name}=x")
        except ProgrammingError:
            return True
        return False

    given = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    names = [name for name, _ in given]
    what = f"the database address {mask_url(url)} has"
    if unknown := [name for name in names if is_unknown(name)]:
        raise UsageError(
            f"{what} {', '.join(name or '= without a name' for name in unknown)}, which libpq does "
            "not know: leave it out. What it knows: "
            "https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS"
        )
    if empty := [name for name, value in given if not value]:
        raise UsageError(f"{what} {', '.join(empty)} without a value: give one, or leave it out.")
    if twice := sorted({name for name in names if names.count(name) > 1 and name not in _REPEATED}):
        raise UsageError(f"{what} {', '.join(twice)} more than once: leave one of them.")


def _check_with_driver(url: str, *, shown: str) -> None:
    """Let SQLAlchemy and psycopg2 take the address apart as they do to connect."""
    from psycopg2 import Error
    from psycopg2.extensions import make_dsn
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
        if "%" in (parsed.host or ""):
            raise ValueError(
                "a host is not percent-encoded; the folder of a socket goes to the end, as "
                "?host=/folder"
            )
        positional, named = parsed.get_dialect()().create_connect_args(parsed)
        if "\0" in make_dsn(*positional, **named):
            raise ValueError("a null character")
    except (ArgumentError, Error, ValueError) as error:
        raise UsageError(
            f"the database address {shown} cannot be taken apart: {' '.join(str(error).split())}. "
            "Write postgresql://user:password@host:5432/name, special characters percent-encoded."
        ) from error


def checked_broker_url(url: str) -> str:
    """The address as it is. Raises `UsageError`."""
    for one in url.split(";"):  # Celery's way to name others to fall back on
        scheme, separator, _ = one.partition("://")
        if not separator or scheme not in _BROKER_SCHEMES:
            raise UsageError(
                f"the broker address {_shown(url)} is not one reelvec can use: write "
                "redis://:password@host:6379/0 (Redis or Valkey), rediss:// for TLS, or "
                "redis+socket:///path?virtual_host=0."
            )
        _check_login(one, "broker", shown=mask_url(url))
        _check_broker_parameters(one, is_socket=scheme == _SOCKET)
    return url


def _check_broker_parameters(url: str, *, is_socket: bool) -> None:
    parts, shown = urlsplit(url), mask_url(url)
    given = parse_qsl(parts.query, keep_blank_values=True)
    known: dict[str, tuple[str, ...] | None] = (
        {"virtual_host": None} if is_socket else _TLS_PARAMETERS
    )
    for name, value in given:
        if name not in known:
            raise UsageError(
                f"the broker address {shown} has {name or '= without a name'}, which Celery does "
                f"not know there: leave it out. It knows {', '.join(known)}; login and database go "
                "before the question mark."
            )
        allowed = known[name]
        if not value or (allowed is not None and value not in allowed):
            choice = f"one of {', '.join(allowed)}" if allowed is not None else "not empty"
            raise UsageError(
                f"the broker address {shown} has {name}={value!r}: it must be {choice}."
            )
    if is_socket and not parts.path.strip("/"):
        raise UsageError(
            f"the broker address {shown} names no socket: write redis+socket:///path/to/it."
        )
    database = (
        dict(given).get("virtual_host", "0") if is_socket else parts.path.removeprefix("/") or "0"
    )
    if not (database.isascii() and database.isdigit()) or parts.fragment:
        raise UsageError(
            f"the broker address {shown} names no database of Redis: write its number, as in "
            f"{'redis+socket:///path?virtual_host=0' if is_socket else 'redis://host:6379/0'}."
        )


def _check_login(url: str, what: str, *, shown: str) -> None:
    """A raw @ / ? # in a password makes its rest the host or a parameter, which error texts then
    show.
    """
    try:
        parts = urlsplit(url)
        plain = (
            parts.netloc.count("@") == url.count("@") <= 1
            and re.search(r"\s", url) is None
            and parts.port != 0
        )
    except ValueError:
        plain = False
    if not plain:
        raise UsageError(
            f"the {what} address {shown} has no valid host and port (a number up to 65535): "
            "percent-encode special characters, above all the password's: @ as %40, / as %2F, # "
            "as %23, ? as %3F, : as %3A, % as %25."
        )


def _shown(url: str) -> str:
    """An address for an error message; without a scheme anything in it may be a secret."""
    return mask_url(url) if "://" in url else "(no scheme)"
