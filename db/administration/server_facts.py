"""What a Postgres is and lets this role do: facts for `reelvec doctor`."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from db import driver_errors


@dataclass(frozen=True)
class PostgresFacts:
    """`connections_*` count: `limit` is what this role may have in all, `used` what the server
    serves now.
    """

    role: str
    version: str
    version_number: int
    encoding: str
    read_only: bool
    may_make_schemas: bool
    connections_limit: int
    connections_used: int


@dataclass(frozen=True)
class VectorFacts:
    """pgvector: `installed` in this database, in `schema`, `available` on this server; None: not.
    `may_install`: this role.

    `may_use`: this role may name what lies in `schema`.
    """

    installed: str | None
    available: str | None
    may_install: bool
    schema: str | None = None
    may_use: bool = True


@dataclass(frozen=True)
class Builder:
    """What a server could give to a build of an index. `cores` and `free_bytes` are those of its
    machine, or its container; None: this role may not see them. `shared_buffers_bytes` is its cache,
    the others are what it is set to.
    """

    cores: int | None
    free_bytes: int | None
    shared_buffers_bytes: int
    maintenance_bytes: int
    maintenance_workers: int
    parallel_workers: int


_SETTINGS = text("""
SELECT pg_size_bytes(current_setting('shared_buffers')) AS shared_buffers_bytes,
  pg_size_bytes(current_setting('maintenance_work_mem')) AS maintenance_bytes,
  current_setting('max_parallel_maintenance_workers')::int AS maintenance_workers,
  current_setting('max_parallel_workers')::int AS parallel_workers,
  has_function_privilege('pg_read_file(text,bigint,bigint,boolean)', 'EXECUTE') AS may_read
""")
# A container's limits stand in its control group; `max` is none.
_MACHINE = text("""
WITH files AS (
  SELECT pg_read_file('/proc/cpuinfo', 0, 1000000, true) AS cpuinfo, pg_read_file('/proc/meminfo', 0, 10000, true) AS meminfo,
    regexp_match(pg_read_file('/sys/fs/cgroup/cpu.max', 0, 100, true), '^(\\d+) (\\d+)') AS share,
    substring(pg_read_file('/sys/fs/cgroup/memory.max', 0, 100, true), '^\\d+')::bigint AS most,
    substring(pg_read_file('/sys/fs/cgroup/memory.current', 0, 100, true), '^\\d+')::bigint AS used
)
SELECT least(nullif(regexp_count(cpuinfo, '^processor', 1, 'n'), 0), ceil(share[1]::numeric / share[2]::numeric))::int AS cores,
  least(1024 * substring(meminfo, 'MemAvailable: +(\\d+) kB')::bigint, most - used) AS free_bytes
FROM files
""")


def builder(connection: Connection) -> Builder:
    """Looked up in a savepoint: a server that is no Linux, or lets nobody look, is no error."""
    facts = dict(connection.execute(_SETTINGS).one()._mapping)
    cores = free_bytes = None
    if facts.pop("may_read"):
        try:
            with connection.begin_nested():
                cores, free_bytes = connection.execute(_MACHINE).one()
        except DBAPIError:
            pass
    return Builder(cores=cores, free_bytes=free_bytes, **facts)


def postgres(connection: Connection) -> PostgresFacts:
    row = connection.execute(
        text(
            "SELECT current_user AS role, current_setting('server_version') AS version, "
            "current_setting('server_version_num')::int AS version_number, "
            "current_setting('server_encoding') AS encoding, "
            "current_setting('transaction_read_only') = 'on' AS read_only, "
            "has_database_privilege(current_database(), 'CREATE') AS may_make_schemas, (SELECT "
            "min(n) FROM (VALUES (current_setting('max_connections')::int   - "
            "current_setting('superuser_reserved_connections')::int   - "
            "coalesce(current_setting('reserved_connections', true)::int, 0)), (d.datconnlimit), "
            "(r.rolconnlimit)   ) AS limits (n) WHERE n > 0) AS connections_limit, (SELECT "
            "sum(numbackends) FROM pg_stat_database)::int AS connections_used FROM pg_roles r, "
            "pg_database d WHERE r.rolname = current_user AND d.datname = current_database()"
        )
    ).one()
    return PostgresFacts(**row._mapping)


def pgvector(connection: Connection) -> VectorFacts:
    row = connection.execute(
        text(
            "SELECT a.installed_version AS installed, a.default_version AS available, "
            "bool_or(r.rolsuper OR NOT v.superuser  OR (v.trusted AND "
            "has_database_privilege(current_database(), 'CREATE'))) AS may_install, "
            "min(quote_ident(n.nspname)) AS schema, coalesce(bool_and(has_schema_privilege(n.oid, "
            "'USAGE')), true) AS may_use FROM pg_available_extensions a JOIN "
            "pg_available_extension_versions v USING (name) JOIN pg_roles r ON r.rolname = "
            "current_user LEFT JOIN pg_extension e ON e.extname = name LEFT JOIN pg_namespace n ON "
            "n.oid = e.extnamespace WHERE name = 'vector' AND v.version = a.default_version GROUP "
            "BY 1, 2"
        )
    ).first()
    return (
        VectorFacts(None, None, may_install=False) if row is None else VectorFacts(**row._mapping)
    )


def distance_problem(connection: Connection, schema: str) -> str | None:
    """Why this role cannot compare two vectors with the pgvector in `schema` (quoted); None: it
    can. Ends in a savepoint.
    """
    vector = f"'[1,2]'::{schema}.vector::{schema}.halfvec(2)"
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"SELECT {vector} OPERATOR({schema}.<=>) {vector}")
    except DBAPIError as error:
        return driver_errors.reason(error)
    return None


def round_trip_seconds(connection: Connection, *, tries: int = 3) -> float:
    """The shortest of some answers to `SELECT 1`."""
    best = float("inf")
    for _ in range(tries):
        started = time.perf_counter()
        connection.execute(text("SELECT 1"))
        best = min(best, time.perf_counter() - started)
    return best


def videos_wait(connection: Connection) -> bool:
    return bool(
        connection.execute(
            text("SELECT EXISTS (SELECT FROM reelvec.jobs WHERE state IN ('pending', 'queued'))")
        ).scalar_one()
    )
