"""Indexes of large tables, made while the fleet works."""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

_IS_INVALID = text("""
SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid)
""")


def make_index(name: str, definition: str) -> None:
    """Make it unless it is there; what a run that was broken off has left is made anew. In an
    `autocommit_block`, where the caller sets the time to wait for locks again if more follows.
    """
    connection = op.get_bind()
    # it waits for transactions that are older than itself, and nobody waits for it
    connection.execute(text("SET lock_timeout = 0"))
    if connection.execute(_IS_INVALID, {"name": f"reelvec.{name}"}).scalar():
        op.execute(f"DROP INDEX CONCURRENTLY reelvec.{name}")
    op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} {definition}")
