"""Connections to Postgres: one pool per process, deadlines on both sides, errors in this project's
own words.
"""

from __future__ import annotations

import functools
import logging
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypedDict, TypeVar, Unpack

import psycopg2  # type: ignore[import-untyped]
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as NoneFreeError

from db import driver_errors
from db.deadlines import GuardedConnection, Watch, limits
from db.errors import BusyError, ReelvecError, UnavailableError
from db.masking import mask_url
from db.settings import DatabaseSettings, load

T = TypeVar("T")
log = logging.getLogger(__name__)

#: A dead network is noticed in about 20 s instead of the kernel's 15 minutes, in calls and between
#: them.
CONNECT_ARGUMENTS = {
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": driver_errors.APPLICATION,
}
#: A client gives up so much later than the server would have.
ANSWER = 1.2
TRIES = 6
#: A connection that lay idle for so long is asked whether it still works before it is used.
IDLE_SECONDS = 1.0


class PoolOptions(TypedDict, total=False):
    """`pool_size`: connections at most, 4 if nothing is said. `statement_seconds`: the longest
    statement, by default REELVEC_STATEMENT_SECONDS; `math.inf` for what may take any time
    (migrations, a user's own SQL): no limit holds then. `read_only`: Postgres refuses every change.
    `tell` is told when an answer takes long.
    """

    pool_size: int
    statement_seconds: float | None
    read_only: bool
    tell: Callable[[str], None] | None


@contextmanager
def connect(database_url: str, **options: Unpack[PoolOptions]) -> Iterator[Engine]:
    """A pool of connections, closed at the end. Raises `UnavailableError` if Postgres does not
    answer.
    """
    with pool(database_url, **options) as engine:
        with transaction(engine) as connection:
            connection.execute(text("SELECT 1"))
        yield engine


@contextmanager
def pool(database_url: str, **options: Unpack[PoolOptions]) -> Iterator[Engine]:
    """The same without asking whether Postgres answers."""
    longest = options.get("statement_seconds")
    if longest is None:
        longest = load(DatabaseSettings).statement_seconds
    with Watch(ANSWER * longest, options.get("tell")) as watch:
        prefix = "" if math.isinf(longest) else limits(longest)
        prefix += "SET TRANSACTION READ ONLY; " if options.get("read_only") else ""
        engine = create_engine(
            database_url,
            connect_args={
                **CONNECT_ARGUMENTS,
                "connection_factory": functools.partial(
                    GuardedConnection, watch=watch, prefix=prefix
                ),
            },
            use_native_hstore=False,  # asking for a type that nobody uses is a round trip
            pool_size=options.get("pool_size", 4),
            max_overflow=0,
            pool_use_lifo=True,
            pool_recycle=1800,
            pool_timeout=30,
        )
        _look_at_idle_ones(engine)
        try:
            yield engine
        finally:
            engine.dispose()


def _look_at_idle_ones(engine: Engine) -> None:
    """Asking before every use, as the pool would by itself, is a round trip for each."""

    @event.listens_for(engine, "checkin")
    def returned(_driver: Any, record: Any) -> None:
        record.info["returned_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def taken(driver: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get("returned_at", math.inf) > IDLE_SECONDS:
            try:
                engine.dialect.do_ping(driver)
            except psycopg2.Error as error:
                raise InvalidatePoolError from error  # the pool connects again


@contextmanager
def one_statement(database: Engine) -> Iterator[Connection]:
    """A transaction of one statement, the only one that may be executed: it is committed when its
    answer is here, which makes it one round trip. Raises as `transaction` does.
    """
    with transaction(database) as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.alone = True
        try:
            yield connection
        finally:
            driver.alone = False


@contextmanager
def transaction(where: Engine | Connection) -> Iterator[Connection]:
    """One transaction, on `where` if that is a connection: committed at the end, rolled back on any
    error.

    Raises `UnavailableError` where Postgres cannot serve (`BusyError`: try again),
    `RefusedConfigurationError` for a right the role lacks; anything else passes as it is.
    """
    try:
        if isinstance(where, Connection):
            with where.begin():
                yield where
        else:
            with where.begin() as connection:
                yield connection
    except DBAPIError as error:
        known = driver_errors.translated(address(where.engine), error)
        if known is None:
            raise
        raise known from error
    except NoneFreeError as error:
        raise UnavailableError(
            f"all {where.engine.pool.status()} are in use: Postgres answers too slowly"
        ) from error


def retrying(attempt: Callable[[], T]) -> T:
    """What `attempt`, a whole transaction, returns; it runs again where Postgres broke it off for
    another's sake.

    Raises `BusyError` when that happens six times in a row.
    """
    for tried in range(1, TRIES):
        try:
            return attempt()
        except BusyError as error:
            log.warning("%s; trying again (%d of %d)", error, tried, TRIES - 1)
            time.sleep(random.uniform(0, 0.1 * 2**tried))  # noqa: S311 - so that two do not meet again
    return attempt()


_END_SILENT = text("""
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND application_name = :application
  AND state = 'active' AND wait_event = 'ClientRead' AND query_start < now() - make_interval(secs => :seconds)
""")


def end_silent(connection: Connection) -> int:
    """End sessions of ours that wait for the rest of a COPY from a client that has given up;
    returns how many.

    No limit of the server's reaches a session there, and it keeps its locks for as long as the
    network acknowledges.
    """
    seconds = ANSWER * load(DatabaseSettings).statement_seconds
    facts = {"application": driver_errors.APPLICATION, "seconds": seconds}
    return len(connection.execute(_END_SILENT, facts).all())


def allow_pauses(connection: Connection) -> None:
    """In this transaction the client may do other things for minutes: what it has locked stays so
    meanwhile.
    """
    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '10min'"))


def translated(engine: Engine, error: DBAPIError) -> ReelvecError:
    """Any error of the driver in this project's words, for people at the desk."""
    known = driver_errors.translated(address(engine), error)
    return known or ReelvecError(
        f"Postgres at {address(engine)} refused: {driver_errors.reason(error)}. Nothing of this "
        "step was written"
    )


def address(engine: Engine) -> str:
    """Where Postgres is, without the password."""
    return mask_url(engine.url.set(drivername="postgresql").render_as_string(hide_password=False))
