"""What every command that talks to the database does first: check the environment, say where it
works, connect.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from db.stack.addresses import Addresses


def say(message: str) -> None:
    """Talk goes to stderr; stdout is for data."""
    print(message, file=sys.stderr)  # noqa: T201


def addresses(*, start: bool = True) -> Addresses:
    """Where this command works, after saying so. Who only looks does not `start` a local stack that
    was stopped.

    Raises `UsageError`, `NoStackError`, `RefusedConfigurationError`, `UnavailableError` for a
    stopped stack.
    """
    from db.stack import addresses as rules
    from workers import settings

    settings.refuse_unknown()
    where = rules.resolve(start=start)
    if not start and where.local:
        _refuse_stopped_stack()
    say(rules.describe(where))
    return where


def _refuse_stopped_stack() -> None:
    from db.errors import UnavailableError
    from db.stack.local_stack import LocalStack, default_data_dir

    folder = default_data_dir()
    if LocalStack(folder).state() is None:
        raise UnavailableError(
            f"the local stack in {folder} is stopped: `reelvec up` starts it; its data are all "
            "there"
        )


def operator() -> str:
    """Who sits at this desk, for the records: `user@host`, or the user's number where it has no
    name.
    """
    import getpass
    import os
    import platform

    try:
        user = getpass.getuser()
    except (
        KeyError,
        OSError,
    ):  # no variable and no line in the user database; newer Pythons raise the second
        user = str(os.getuid())
    return f"{user}@{platform.node()}"


@contextmanager
def open_database(
    *, check_schema: bool = True, statement_seconds: float | None = None, start: bool = True
) -> Iterator[Engine]:
    """The database in use, with a schema this version can work on.

    `statement_seconds` as for `db.session.connect`, `start` as for `addresses`.
    """
    with connect(
        addresses(start=start), check_schema=check_schema, statement_seconds=statement_seconds
    ) as database:
        yield database


@contextmanager
def connect(
    where: Addresses,
    *,
    check_schema: bool = True,
    statement_seconds: float | None = None,
    read_only: bool = False,
) -> Iterator[Engine]:
    """The same for addresses that are known already."""
    from sqlalchemy.exc import DBAPIError

    from db import schema, session

    with session.connect(
        where.database_url, statement_seconds=statement_seconds, read_only=read_only, tell=say
    ) as database:
        if check_schema:
            with session.transaction(database) as connection:
                schema.check(connection)
        try:
            yield database
        except DBAPIError as error:
            raise session.translated(database, error) from error


@contextmanager
def progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, where that is a terminal; what is given hears how much of how much is
    done.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("")
        yield lambda done, total: bar.update(task, completed=done, total=total)
