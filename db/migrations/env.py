"""Runs migrations: one at a time, under a lock, without waiting long for anybody else's lock."""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection, text

from db import addresses, models, session

#: Any process that migrates takes this advisory lock first.
LOCK_KEY = 7_120_431_001


def remember_compatibility(ctx: Any, step: Any, heads: Any, run_args: Any) -> None:  # noqa: ARG001
    """After each step, write down from which revision on older workers may keep working."""
    for revision in step.up_revisions:
        ctx.connection.execute(
            text(
                "INSERT INTO reelvec.schema_revisions (revision, compatible_from) VALUES (:revision, :compatible_from)"
                " ON CONFLICT (revision) DO NOTHING"
            ),
            {"revision": revision.revision, "compatible_from": revision.module.compatible_from},
        )


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=models.METADATA,
        version_table_schema=models.SCHEMA,
        include_schemas=True,
        on_version_apply=remember_compatibility,
    )
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
        connection.execute(text("SET LOCAL lock_timeout = '10s'"))
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {models.SCHEMA}"))
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:  # `alembic upgrade head` typed by hand
    with session.connect(addresses.resolve().database_url) as engine, engine.connect() as opened:
        migrate(opened)
        opened.commit()
