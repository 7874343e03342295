"""Runs migrations: one process at a time, each step in a transaction of its own, never in anybody's
way for long.

A step that changes a table waits half a second for its lock at most, and is tried again later:
whoever waits for such a lock holds up everybody who comes after.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from db import session
from db.administration import roles
from db.dictionary import writing
from db.schema import HEAD
from db.stack import addresses

#: Any process that migrates holds this advisory lock, for as long as its session lasts.
LOCK_KEY = 7_120_431_001
_WAIT_BRIEFLY = text("SET lock_timeout = '500ms'")
#: The lock that a comment takes holds up nobody who reads or writes; longer than it takes until an
#: autovacuum gives way.
_WAIT_FOR_COMMENTS = text("SET lock_timeout = '3s'")
#: Postgres' words for a lock that did not come and for a deadlock: the same step may go through
#: later.
BUSY = ("55P03", "40P01")
TRIES, PAUSE_SECONDS = 60, 1.0
#: The first migrations name pgvector's types without a schema. What the role's own search path is
#: does not matter.
_FIND_TYPES = text("""
SELECT set_config('search_path', concat_ws(', ', (
  SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
  WHERE e.extname = 'vector'), 'public'), false)
""")


def after_each_step(ctx: Any, step: Any, heads: Any, run_args: Any) -> None:  # noqa: ARG001
    """Write down from which revision on older workers may keep working, and limit the next step's
    wait for locks again.
    """
    for revision in step.up_revisions:
        ctx.connection.execute(
            text(
                "INSERT INTO reelvec.schema_revisions (revision, compatible_from) VALUES "
                "(:revision, :compatible_from) ON CONFLICT (revision) DO NOTHING"
            ),
            {"revision": revision.revision, "compatible_from": revision.module.compatible_from},
        )
    ctx.connection.execute(_WAIT_BRIEFLY)


@contextmanager
def alone(connection: Connection) -> Iterator[None]:
    """Wait for other processes that migrate. By asking again: an index cannot be finished beside a
    waiting statement.
    """
    while not connection.execute(
        text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK_KEY}
    ).scalar():
        connection.commit()
        time.sleep(0.2)
    connection.commit()
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": LOCK_KEY})
        connection.commit()


def migrate(connection: Connection) -> None:
    with alone(connection):
        roles.become_owner(connection)
        connection.execute(_FIND_TYPES)
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS reelvec"))
        connection.commit()
        for attempt in range(1, TRIES + 1):
            try:
                _run(connection)
                return
            except DBAPIError as error:
                connection.rollback()
                if getattr(error.orig, "pgcode", None) not in BUSY or attempt == TRIES:
                    raise
                time.sleep(PAUSE_SECONDS)


def _run(connection: Connection) -> None:
    connection.execute(_WAIT_BRIEFLY)
    connection.commit()
    context.configure(
        connection=connection,
        version_table_schema="reelvec",
        transaction_per_migration=True,
        on_version_apply=after_each_step,
    )
    with context.begin_transaction():
        context.run_migrations()
    if context.get_context().get_current_revision() == HEAD:
        connection.execute(_WAIT_FOR_COMMENTS)
        writing.write(connection)
        connection.commit()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:  # `alembic upgrade head` typed by hand
    where = addresses.resolve().database_url
    with session.connect(where, statement_seconds=math.inf) as engine, engine.connect() as opened:
        migrate(opened)
