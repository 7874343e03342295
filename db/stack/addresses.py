"""Which database and which broker: the environment's pair, or the local stack's."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field

from pydantic import SecretStr

from db import known_secrets
from db.address_form import POSTGRES_DRIVER, checked_broker_url, checked_database_url
from db.errors import NoStackError, RefusedConfigurationError, UsageError
from db.masking import mask_url
from db.settings import DatabaseSettings, load
from db.stack import local_stack


@dataclass(frozen=True)
class Addresses:
    """The two services of a process. The URLs hold passwords: show them only by `describe`."""

    database_url: str = field(repr=False)
    broker_url: str = field(repr=False)
    local: bool

    def __post_init__(self) -> None:
        secrets = [
            secret
            for url in (self.database_url, self.broker_url)
            for secret in known_secrets.in_address(url)
        ]
        known_secrets.remember("addresses", secrets)


def resolve(*, start: bool = True) -> Addresses:
    """The addresses this process works with; a local stack that is down is started again, which
    stderr is told, unless `start` is False.

    Raises `UsageError` for one address without the other or an unusable one,
    `RefusedConfigurationError` for two different brokers, `NoStackError` where nothing is
    configured and `reelvec up` never ran.
    """
    configured = _from_environment()
    if configured is not None:
        return configured
    stack = local_stack.LocalStack(local_stack.default_data_dir())
    if not stack.exists():
        raise NoStackError(
            "no database and no broker: none is configured and no local stack was made in "
            f"{stack.data_dir}. Either run `reelvec up`, which makes a local one, or set both "
            "REELVEC_DATABASE_URL and REELVEC_BROKER_URL."
        )
    if start:
        stack.up()
        if stack.launched:
            print(  # noqa: T201 - whoever had stopped them should know, in every program
                f"started the local servers in {stack.data_dir}; reelvec up --stop stops them",
                file=sys.stderr,
            )
    database_url, broker_url = stack.urls()
    return Addresses(database_url, broker_url, local=True)


def configured_variables() -> list[str]:
    """Names of the environment variables that hold an address; while there is one, the local stack
    is not used.
    """
    names = ("REELVEC_DATABASE_URL", "DATABASE_URL", "REELVEC_BROKER_URL", "CELERY_BROKER_URL")
    return [name for name in names if _variable(name)]


def _from_environment() -> Addresses | None:
    settings = load(DatabaseSettings)
    database_url = _secret(settings.database_url) or _variable("DATABASE_URL")
    broker_url = _broker_url(_secret(settings.broker_url), _variable("CELERY_BROKER_URL"))
    if database_url and broker_url:
        return Addresses(
            checked_database_url(database_url), checked_broker_url(broker_url), local=False
        )
    if database_url:
        raise UsageError(
            "a database is configured but no broker: set REELVEC_BROKER_URL (or CELERY_BROKER_URL) "
            "too, or unset the database's address to use the local stack."
        )
    if broker_url:
        raise UsageError(
            "a broker is configured but no database: set REELVEC_DATABASE_URL (or DATABASE_URL) "
            "too, or unset the broker's address to use the local stack."
        )
    return None


def describe(addresses: Addresses) -> str:
    """One line that names both services, passwords masked."""
    database = mask_url(addresses.database_url).replace(f"{POSTGRES_DRIVER}://", "postgresql://", 1)
    line = f"database {database} · broker {mask_url(addresses.broker_url)}"
    return f"{line} (local stack)" if addresses.local else line


def _secret(value: SecretStr | None) -> str:
    return value.get_secret_value().strip() if value else ""


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()


def _broker_url(own: str, celery: str) -> str:
    # Celery lets its variable override the code's choice: producer and worker would use two
    # brokers.
    if own and celery and own != celery:
        raise RefusedConfigurationError(
            f"REELVEC_BROKER_URL ({mask_url(own)}) and CELERY_BROKER_URL ({mask_url(celery)}) "
            "differ, and Celery would use the second one: unset one of them or make them equal."
        )
    return own or celery
