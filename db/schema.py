"""The schema's version: bring it up, or say exactly why it does not fit this code."""

from __future__ import annotations

import math
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from db import session
from db.errors import RefusedConfigurationError

#: The newest revision this code knows (a test holds it against the migrations: loading those costs
#: every command 0.3 s).
HEAD = "0022"
MINIMUM_POSTGRES = 150000
MINIMUM_PGVECTOR = (0, 8)


def upgrade(database_url: str, *, to: str = "head") -> str:
    """Bring the schema to `HEAD`, or to an older revision; returns the revision.

    Raises `RefusedConfigurationError`, `UnavailableError`.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with (
        session.connect(database_url, statement_seconds=math.inf) as engine,
        engine.connect() as connection,
    ):
        try:
            _refuse_old_servers(connection)
            newer = _revision(connection)
            if newer is not None and newer > HEAD:
                _refuse_incompatible(connection, newer)
                return newer
        except DBAPIError as error:  # a role that may not even look
            raise session.translated(engine, error) from error
        connection.rollback()  # each step has a transaction of its own
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, to)
        except DBAPIError as error:
            reason = " ".join(str(error.orig).split())
            raise RefusedConfigurationError(
                "the schema could not be upgraded; what is done so far stays, and the rest can be "
                f"done later: {reason}. If this is about the extension: have an administrator run "
                "CREATE EXTENSION vector, then run this again"
            ) from error
    return HEAD if to == "head" else to


def check(connection: Connection) -> str:
    """The database's revision, if this code may work on it. Raises `RefusedConfigurationError`
    naming the command to run.
    """
    revision = _revision(connection)
    if revision is None or revision < HEAD:
        found = "no reelvec schema" if revision is None else f"revision {revision}"
        raise RefusedConfigurationError(
            f"the database has {found}, this version needs {HEAD}: run reelvec db upgrade"
        )
    if revision > HEAD:
        _refuse_incompatible(connection, revision)
    return revision


def _revision(connection: Connection) -> str | None:
    if connection.execute(text("SELECT to_regclass('reelvec.alembic_version')")).scalar() is None:
        return None
    found = connection.execute(text("SELECT version_num FROM reelvec.alembic_version")).scalar()
    return None if found is None else str(found)


def _refuse_incompatible(connection: Connection, revision: str) -> None:
    """Newer schemas say from which revision on older code still writes correct rows."""
    oldest = connection.execute(
        text("SELECT compatible_from FROM reelvec.schema_revisions WHERE revision = :revision"),
        {"revision": revision},
    ).scalar()
    if oldest is None or oldest > HEAD:
        raise RefusedConfigurationError(
            f"the database is at revision {revision}, which needs a reelvec of revision "
            f"{oldest or revision} or newer; this one is {HEAD}: install the newer version here"
        )


_UNREACHABLE = text("""
SELECT quote_ident(n.nspname) AS schema, quote_ident(current_user) AS role
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'vector' AND NOT has_schema_privilege(n.oid, 'USAGE')
""")


def _refuse_old_servers(connection: Connection) -> None:
    number = int(connection.execute(text("SHOW server_version_num")).scalar_one())
    if number < MINIMUM_POSTGRES:
        raise RefusedConfigurationError(
            f"Postgres {number // 10000} is too old: reelvec needs 15 or newer"
        )
    version = connection.execute(
        text("SELECT coalesce(e.extversion, a.default_version) FROM pg_available_extensions a"
             " LEFT JOIN pg_extension e ON e.extname = a.name WHERE a.name = 'vector'")
    ).scalar()  # fmt: skip
    if version is None:
        raise RefusedConfigurationError(
            "this Postgres has no pgvector: install pgvector 0.8 or newer on the server"
        )
    if tuple(int(part) for part in str(version).split(".")[:2]) < MINIMUM_PGVECTOR:
        raise RefusedConfigurationError(
            f"pgvector {version} is too old: reelvec needs 0.8 or newer (ALTER EXTENSION vector "
            "UPDATE after installing it)"
        )
    if lies := connection.execute(_UNREACHABLE).first():
        raise RefusedConfigurationError(
            f"pgvector lies in the schema {lies.schema}, which the role {lies.role} may not use: "
            f"have an administrator run GRANT USAGE ON SCHEMA {lies.schema} TO {lies.role}"
        )
