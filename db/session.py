"""Connections to Postgres: one pool per process, errors in this project's own words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from db import rights
from db.errors import ReelvecError, UnavailableError
from db.logs import mask_url

#: A dead network is noticed in about 20 s instead of the kernel's 15 minutes; no work is done meanwhile.
CONNECT_ARGUMENTS = {
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "reelvec",
}


@contextmanager
def connect(database_url: str, *, pool_size: int = 4) -> Iterator[Engine]:
    """A pool of at most `pool_size` connections, closed at the end. Raises `UnavailableError` if Postgres does not answer."""
    engine = create_engine(
        database_url,
        connect_args=CONNECT_ARGUMENTS,
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=True,
        pool_recycle=1800,
        pool_timeout=30,
    )
    try:
        with transaction(engine) as connection:
            connection.execute(text("SELECT 1"))
        yield engine
    finally:
        engine.dispose()


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction: committed at the end, rolled back on any error. A lost or refused connection is `UnavailableError`."""
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        if isinstance(error, OperationalError | InterfaceError) or _is_refused(error):
            raise translated(engine, error) from error
        raise


def _is_refused(error: DBAPIError) -> bool:
    return getattr(error.orig, "pgcode", None) == "42501"


def translated(engine: Engine, error: DBAPIError) -> ReelvecError:
    """A driver's error in this project's words: `UnavailableError` for a connection, else what Postgres refused."""
    reason = " ".join(str(error.orig).split()).rstrip("?.")
    address = mask_url(engine.url.set(drivername="postgresql").render_as_string(hide_password=False))
    if isinstance(error, OperationalError | InterfaceError):
        return UnavailableError(
            f"Postgres at {address} does not answer: {reason}. Check REELVEC_DATABASE_URL (or DATABASE_URL) and that the"
            " server runs"
        )
    if _is_refused(error):
        return rights.refusal(address, reason, error.statement)
    return ReelvecError(f"Postgres at {address} refused: {reason}. Nothing of this step was written")
