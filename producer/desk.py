"""What every command that talks to the database does first: check the environment, say where it works, connect."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from db.addresses import Addresses


def say(message: str) -> None:
    """Talk goes to stderr; stdout is for data."""
    print(message, file=sys.stderr)  # noqa: T201


def addresses() -> Addresses:
    """Where this command works, after saying so. Raises `UsageError`, `NoStackError`, `RefusedConfigurationError`."""
    from db import addresses as rules
    from workers import settings

    settings.refuse_unknown()
    where = rules.resolve()
    say(rules.describe(where))
    return where


@contextmanager
def database(*, check_schema: bool = True) -> Iterator[Engine]:
    """The database in use, with a schema this version can work on."""
    from sqlalchemy.exc import DBAPIError

    from db import schema, session

    where = addresses()
    with session.connect(where.database_url) as engine:
        if check_schema:
            with session.transaction(engine) as connection:
                schema.check(connection)
        try:
            yield engine
        except DBAPIError as error:
            raise session.translated(engine, error) from error
