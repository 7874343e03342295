"""Which database and which broker: the environment's pair, or the local stack's."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from pydantic import SecretStr

from db import known_secrets, local_stack
from db.errors import NoStackError, RefusedConfigurationError, UsageError
from db.logs import mask_url
from db.settings import DatabaseSettings, load

_DRIVER = "postgresql+psycopg2"
_BARE_POSTGRES = ("postgres", "postgresql")
# What kombu's Redis transport takes; it knows neither unix:// nor valkey://.
_BROKER_SCHEMES = ("redis", "rediss", "redis+socket")


@dataclass(frozen=True)
class Addresses:
    """The two services of a process. The URLs hold passwords: show them only by `describe`."""

    database_url: str = field(repr=False)
    broker_url: str = field(repr=False)
    local: bool

    def __post_init__(self) -> None:
        secrets = [secret for url in (self.database_url, self.broker_url) for secret in known_secrets.in_address(url)]
        known_secrets.remember("addresses", secrets)


def resolve(*, start: bool = True) -> Addresses:
    """The addresses this process works with; a local stack that is down is started again unless `start` is False.

    Raises `UsageError` for one address without the other or an unusable one, `RefusedConfigurationError` for two
    different brokers, `NoStackError` where nothing is configured and `reelvec up` never ran.
    """
    configured = _from_environment()
    if configured is not None:
        return configured
    stack = local_stack.LocalStack(local_stack.default_data_dir())
    if not stack.exists():
        raise NoStackError(
            f"no database and no broker: none is configured and no local stack was made in {stack.data_dir}. Either "
            "run `reelvec up`, which makes a local one, or set both REELVEC_DATABASE_URL and REELVEC_BROKER_URL."
        )
    if start:
        stack.up()
    database_url, broker_url = stack.urls()
    return Addresses(database_url, broker_url, local=True)


def configured_variables() -> list[str]:
    """Names of the environment variables that hold an address; while there is one, the local stack is not used."""
    names = ("REELVEC_DATABASE_URL", "DATABASE_URL", "REELVEC_BROKER_URL", "CELERY_BROKER_URL")
    return [name for name in names if _variable(name)]


def _from_environment() -> Addresses | None:
    settings = load(DatabaseSettings)
    database_url = _secret(settings.database_url) or _variable("DATABASE_URL")
    broker_url = _broker_url(_secret(settings.broker_url), _variable("CELERY_BROKER_URL"))
    if database_url and broker_url:
        return Addresses(_checked_database_url(database_url), _checked_broker_url(broker_url), local=False)
    if database_url:
        raise UsageError(
            "a database is configured but no broker: set REELVEC_BROKER_URL (or CELERY_BROKER_URL) too, "
            "or unset the database's address to use the local stack."
        )
    if broker_url:
        raise UsageError(
            "a broker is configured but no database: set REELVEC_DATABASE_URL (or DATABASE_URL) too, "
            "or unset the broker's address to use the local stack."
        )
    return None


def describe(addresses: Addresses) -> str:
    """One line that names both services, passwords masked."""
    database = mask_url(addresses.database_url).replace(f"{_DRIVER}://", "postgresql://", 1)
    line = f"database {database} · broker {mask_url(addresses.broker_url)}"
    return f"{line} (local stack)" if addresses.local else line


def _secret(value: SecretStr | None) -> str:
    return value.get_secret_value().strip() if value else ""


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()


def _broker_url(own: str, celery: str) -> str:
    # Celery lets its variable override the code's choice: producer and worker would use two brokers.
    if own and celery and own != celery:
        raise RefusedConfigurationError(
            f"REELVEC_BROKER_URL ({mask_url(own)}) and CELERY_BROKER_URL ({mask_url(celery)}) differ, and Celery would "
            "use the second one: unset one of them or make them equal."
        )
    return own or celery


def _checked_database_url(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in (*_BARE_POSTGRES, _DRIVER):
        raise UsageError(
            f"the database address {_shown(url)} is not one reelvec can use: write "
            "postgresql://user:password@host:5432/name (the driver is always psycopg2)."
        )
    _check_login(url, "database", shown=mask_url(url))
    _check_parameters(url)
    # SQLAlchemy 2.1 takes another driver for the bare scheme; psycopg2 has to be spelled out.
    return f"{_DRIVER}://{rest}"


def _check_parameters(url: str) -> None:
    """libpq ends with a traceback over a parameter it does not know, and a supervisor would start that for ever."""
    from psycopg2 import ProgrammingError  # type: ignore[import-untyped]
    from psycopg2.extensions import parse_dsn  # type: ignore[import-untyped]

    unknown = []
    for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True):
        try:
            parse_dsn(f"{name}=x")
        except ProgrammingError:
            unknown.append(name)
    if unknown:
        raise UsageError(
            f"the database address {mask_url(url)} has {', '.join(unknown)}, which libpq does not know: leave it out. "
            "What it knows: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS"
        )


def _checked_broker_url(url: str) -> str:
    for one in url.split(";"):  # Celery's way to name others to fall back on
        scheme, separator, _ = one.partition("://")
        if not separator or scheme not in _BROKER_SCHEMES:
            raise UsageError(
                f"the broker address {_shown(url)} is not one reelvec can use: write redis://:password@host:6379/0 "
                "(Redis or Valkey), rediss:// for TLS, or redis+socket:///path?virtual_host=0."
            )
        _check_login(one, "broker", shown=mask_url(url))
    return url


def _check_login(url: str, what: str, *, shown: str) -> None:
    """A raw @ / ? # in a password makes its rest the host or a parameter, which error texts then show."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (reading it is the check)
        plain = parts.netloc.count("@") == url.count("@") <= 1 and re.search(r"\s", url) is None
    except ValueError:
        plain = False
    if not plain:
        raise UsageError(
            f"the {what} address {shown} has no valid host and port: percent-encode special characters, above "
            "all the password's: @ as %40, / as %2F, # as %23, ? as %3F, : as %3A, % as %25."
        )


def _shown(url: str) -> str:
    """An address for an error message; without a scheme anything in it may be a secret."""
    return mask_url(url) if "://" in url else "(no scheme)"
