"""All rows of reelvec into one file, and back into another database: by COPY in one transaction,
without other programs.

The file is a zip: `about.json`, and one member a table in Postgres' binary format, which all
versions of the server read. The schema is not in it: migrations make it where the rows go, so the
extension, the roles and the owner may be others there.
"""

from __future__ import annotations

import contextlib
import json
import math
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import BinaryIO, Self

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from db import copy, schema, session
from db.administration import rights
from db.errors import RefusedConfigurationError, UsageError

ABOUT = "about.json"

Tell = Callable[[str], None]


@dataclass(frozen=True)
class About:
    """What a file holds: rows of a schema at `revision`, `tables` in an order in which they can be
    filled, each with its columns, and the SQL of `indexes` by name."""

    revision: str
    tables: dict[str, list[str]]
    indexes: dict[str, str]

    @classmethod
    def of(cls, file: zipfile.ZipFile) -> Self:
        return cls(**json.loads(file.read(ABOUT)))

    def copied(self, table: str) -> str:
        return f"reelvec.{table} ({', '.join(self.tables[table])})"


def dump(database_url: str, target: BinaryIO, tell: Tell) -> None:
    """Write all rows as they are at one moment; workers go on meanwhile.

    `tell` hears of each table. Raises `RefusedConfigurationError`, `OSError` of the target.
    """
    with (
        _transaction(database_url) as connection,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
    ):
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        about = _about(connection)
        file.writestr(ABOUT, json.dumps(asdict(about), ensure_ascii=False, indent=1))
        for table in about.tables:
            with file.open(table, "w", force_zip64=True) as member:
                rows = copy.run(connection, f"COPY {about.copied(table)} TO STDOUT BINARY", member)
            tell(f"{table}: {rows:,} rows")


def restore(database_url: str, path: Path, tell: Tell) -> None:
    """Make the schema, fill it with all rows or none, and bring it to this version's revision.

    Raises `UsageError` for a file that is none of ours, `RefusedConfigurationError` for one of a
    newer version and for a database that has rows of reelvec already.
    """
    try:
        file = zipfile.ZipFile(path)
        about = About.of(file)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "it is not what reelvec db dump writes"
        raise UsageError(f"{path} cannot be read: {reason}") from error
    with file:
        if about.revision > schema.HEAD:
            raise RefusedConfigurationError(
                f"{path} is of revision {about.revision}, this version knows {schema.HEAD}: "
                "install the version that wrote it"
            )
        schema.upgrade(database_url, to=about.revision)
        with _transaction(database_url) as connection:
            _refuse_what_is_not_empty(connection, about)
            for table in about.tables:
                with file.open(table) as member:
                    rows = copy.run(
                        connection, f"COPY {about.copied(table)} FROM STDIN BINARY", member
                    )
                tell(f"{table}: {rows:,} rows")
            connection.execute(_NUMBERS_GO_ON)
            connection.execute(
                text(
                    "SELECT reelvec.make_encoder_view(encoder) FROM reelvec.encoders WHERE dim IS "
                    "NOT NULL"
                )
            )
            _make_indexes(connection, about, tell)
    schema.upgrade(database_url)
    with _transaction(database_url) as connection:
        for table in about.tables:
            connection.exec_driver_sql(f"ANALYZE reelvec.{table}")


@contextlib.contextmanager
def _transaction(database_url: str) -> Iterator[Connection]:
    """One that may take any time."""
    with session.connect(database_url, pool_size=1, statement_seconds=math.inf) as engine:
        try:
            with session.transaction(engine) as connection:
                yield connection
        except DBAPIError as error:
            raise session.translated(engine, error) from error


_COLUMNS = text("""
SELECT c.relname, array_agg(quote_ident(a.attname) ORDER BY a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
WHERE c.relnamespace = 'reelvec'::regnamespace AND c.relkind = 'r' AND c.relname = ANY(:tables) GROUP BY 1 ORDER BY 1
""")

_REFERENCES = text("""
SELECT c.relname, f.relname FROM pg_constraint r JOIN pg_class c ON c.oid = r.conrelid JOIN pg_class f ON f.oid = r.confrelid
WHERE r.contype = 'f' AND c.relnamespace = 'reelvec'::regnamespace AND c.oid <> f.oid
""")

# With pgvector's schema on the path its names stand without one, and are found wherever it lies in
# the other database.
_INDEXES = text("""
SELECT c.relname, pg_get_indexdef(c.oid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = 'reelvec'::regnamespace AND i.indisvalid AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = c.oid)
  AND (SELECT relname FROM pg_class t WHERE t.oid = i.indrelid) = ANY(:tables) ORDER BY 1
""")

_FIND_TYPES = text("SELECT set_config('search_path', reelvec.vector_schema(), true)")

_NUMBERS_GO_ON = text("""
DO $$
DECLARE made record;
BEGIN
  FOR made IN
    SELECT c.relname AS name, a.attname AS part FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'reelvec'::regnamespace AND c.relkind = 'r' AND a.attidentity <> ''
  LOOP
    EXECUTE format('SELECT setval(pg_get_serial_sequence(%L, %L), max(%I)) FROM reelvec.%I HAVING count(*) > 0',
      'reelvec.' || quote_ident(made.name), made.part, made.part, made.name);
  END LOOP;
END $$
""")


def _about(connection: Connection) -> About:
    """Of reelvec's own tables: each is one that somebody writes to. What users have made beside
    them is theirs.
    """
    revision = schema.check(connection)
    ours = {table for writes in rights.WRITES.values() for table in writes}
    found = {
        name: list(columns)
        for name, columns in connection.execute(_COLUMNS, {"tables": list(ours)})
    }
    graph: dict[str, set[str]] = {name: set() for name in found}
    for table, referenced in connection.execute(_REFERENCES):
        if table in graph:
            graph[table].add(referenced)
    connection.execute(_FIND_TYPES)
    indexes = {
        str(name): str(sql) for name, sql in connection.execute(_INDEXES, {"tables": list(found)})
    }
    return About(
        revision, {name: found[name] for name in TopologicalSorter(graph).static_order()}, indexes
    )


def _refuse_what_is_not_empty(connection: Connection, about: About) -> None:
    revision = str(
        connection.execute(text("SELECT version_num FROM reelvec.alembic_version")).scalar_one()
    )
    filled = [
        table
        for table in about.tables
        if connection.exec_driver_sql(f"SELECT EXISTS (SELECT FROM reelvec.{table})").scalar()  # noqa: S608
    ]
    if revision == about.revision and not filled:
        return
    found = (
        f"rows in {', '.join(filled)}"
        if filled
        else f"revision {revision}, and the file is of {about.revision}"
    )
    raise RefusedConfigurationError(
        f"this database has a schema reelvec with {found}: restore into a database without one. If "
        "nothing here is wanted: "
        'reelvec db sql --write "DROP SCHEMA reelvec CASCADE"'
    )


def _make_indexes(connection: Connection, about: About, tell: Tell) -> None:
    """Those that somebody has added, for the nearest vectors for example."""
    connection.execute(_FIND_TYPES)
    for name, statement in about.indexes.items():
        there = connection.execute(
            text("SELECT to_regclass(:name)"), {"name": f'reelvec."{name}"'}
        ).scalar()
        if there is None:
            tell(f"index {name}")
            connection.exec_driver_sql(statement.replace("%", "%%"))
