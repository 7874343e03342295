"""Indexes by which the nearest vectors are found: one per encoder, made while the fleet works.

The graph of an HNSW index is built in memory as long as it fits there; beyond that every further
vector is many times as slow. A build that was broken off leaves an index behind that costs every
write and serves nobody: it is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from db import session
from db.administration import roles
from db.administration.server_facts import Builder
from db.errors import BusyError, UsageError

#: Who builds holds this advisory lock for as long as its session lasts.
LOCK_KEY = 7_120_431_003
#: Neighbours of a vector in the graph, and how many candidates they are chosen from
#: (bench/nearest.py measures recall and time).
NEIGHBOURS, CANDIDATES = 24, 100
#: With fewer vectors looking at all of them is quick enough.
WORTH_VECTORS = 20_000
#: What the graph takes for each vector beside its numbers of 16 bits.
GRAPH_BYTES = 1_000
_POLL_SECONDS = 0.5

TABLES = ("video_embeddings", "window_embeddings")


@dataclass(frozen=True)
class Index:
    """The index of one encoder's vectors in one of `TABLES`, which has `vectors` of them.

    `name`: what it is called, or will be. `broken`: names of invalid ones that nobody builds.
    """

    encoder: str
    table: str
    encoder_id: int
    dim: int
    vectors: int
    name: str
    is_there: bool
    broken: tuple[str, ...] = ()

    @property
    def graph_bytes(self) -> int:
        """What its graph takes while it is built."""
        return self.vectors * (2 * self.dim + GRAPH_BYTES)


@dataclass(frozen=True)
class Progress:
    """What Postgres says of a build: its phase in words, and how many vectors are in."""

    phase: str
    vectors: int


@dataclass(frozen=True)
class Resources:
    """For one build: `memory_bytes` of maintenance_work_mem, `workers` beside the first process."""

    memory_bytes: int
    workers: int


#: An index counts if `nearest` would use it, whoever made it.
_FOUND = text("""
WITH built AS (
  SELECT i.indrelid, c.oid, c.relname, i.indisvalid, pg_get_expr(i.indpred, i.indrelid) AS rows,
    pg_get_expr(i.indexprs, i.indrelid) AS expression
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
  WHERE a.amname = 'hnsw'
)
SELECT e.encoder, t.source AS table, e.encoder_id, e.dim, 0 AS vectors,
  coalesce(min(b.relname::text) FILTER (WHERE b.indisvalid), concat_ws('_', t.source, 'hnsw', e.encoder_id)) AS name,
  coalesce(bool_or(b.indisvalid), false) AS is_there,
  coalesce(array_agg(b.relname::text) FILTER (WHERE NOT b.indisvalid AND NOT EXISTS (
    SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = b.oid)), '{}') AS broken
FROM reelvec.encoders e CROSS JOIN unnest(CAST(:tables AS text[])) AS t (source)
LEFT JOIN built b ON b.indrelid = ('reelvec.' || t.source)::regclass
  AND b.rows = format('(encoder_id = %s)', e.encoder_id)
  AND b.expression LIKE format('%%halfvec(%s)%%', e.dim)
WHERE e.dim IS NOT NULL
GROUP BY e.encoder, t.source, e.encoder_id, e.dim ORDER BY e.encoder_id, t.source
""")


def find(connection: Connection, *, windows: bool = False) -> list[Index]:
    """Of every encoder that has vectors, counted."""
    return [one for one in _counted(connection, TABLES[: 1 + windows], None) if one.vectors]


def unindexed(connection: Connection) -> list[Index]:
    """Those that are worth an index and have none; `vectors` is not counted beyond that."""
    found = _counted(connection, TABLES[:1], WORTH_VECTORS + 1)
    return [one for one in found if not one.is_there and one.vectors > WORTH_VECTORS]


def _counted(connection: Connection, tables: Sequence[str], limit: int | None) -> list[Index]:
    found = []
    for row in connection.execute(_FOUND, {"tables": list(tables)}).all():
        counted = text(
            f"SELECT count(*) FROM (SELECT FROM reelvec.{row.table} WHERE encoder_id = :encoder_id"  # noqa: S608
            " LIMIT :limit) AS those"
        )
        facts = {"encoder_id": row.encoder_id, "limit": limit}
        vectors = int(connection.execute(counted, facts).scalar_one())
        found.append(Index(**{**row._mapping, "vectors": vectors, "broken": tuple(row.broken)}))
    return found


def resources(index: Index, builder: Builder) -> Resources:
    """As much memory as the graph needs, if the server can have it: half of what is free where it
    lets us see that, else its cache's size; never less than it is set to. As many workers as it has
    cores, less the one that leads; where we cannot see those, what it is set to.
    """
    can = builder.shared_buffers_bytes
    if builder.free_bytes is not None:
        can = builder.free_bytes // 2
    workers = builder.maintenance_workers
    if builder.cores is not None:
        workers = min(builder.cores - 1, builder.parallel_workers)
    return Resources(max(min(index.graph_bytes, can), builder.maintenance_bytes), workers)


def build(
    database: Engine, index: Index, given: Resources, *, watch: Callable[[Progress], None]
) -> Index:
    """Make an index that is not there, and drop what a broken-off build has left; blocks until it
    is there, which may take an hour. An interrupt breaks the build off, on the server too.

    Raises `BusyError` while another process builds one, `DBAPIError` as Postgres refuses.
    """
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        try:
            if not connection.execute(_ALONE, {"key": LOCK_KEY}).scalar():
                raise BusyError(
                    "another process is making an index in this database; run this again when it "
                    "is through"
                )
            pid = int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
            with ThreadPoolExecutor(1) as thread:
                made = thread.submit(_make, connection, index, given)
                _watch(database, pid, made, watch)
            made.result()
        finally:
            connection.invalidate()  # its lock, role and settings end with it
    return replace(index, is_there=True, broken=())


_ALONE = text("SELECT pg_try_advisory_lock(:key)")
_PROGRESS = text("""
SELECT phase, coalesce(tuples_done, 0) AS vectors FROM pg_stat_progress_create_index WHERE pid = :pid
""")


def _watch(
    database: Engine, pid: int, made: Future[None], watch: Callable[[Progress], None]
) -> None:
    try:
        while not wait([made], timeout=_POLL_SECONDS).done:
            with session.transaction(database) as connection:
                row = connection.execute(_PROGRESS, {"pid": pid}).first()
            if row is not None:
                watch(Progress(row.phase, row.vectors))
    except BaseException:
        with suppress(DBAPIError), session.transaction(database) as connection:
            connection.execute(text("SELECT pg_cancel_backend(:pid)"), {"pid": pid})
        raise


def _make(connection: Connection, index: Index, given: Resources) -> None:
    roles.become_owner(connection)
    for name in index.broken:
        connection.exec_driver_sql(f'DROP INDEX CONCURRENTLY IF EXISTS reelvec."{name}"')
    settings = {
        "maintenance_work_mem": f"{given.memory_bytes // 1024}kB",
        "max_parallel_maintenance_workers": str(given.workers),
    }
    for setting, value in settings.items():
        connection.execute(
            text("SELECT set_config(:name, :value, false)"), {"name": setting, "value": value}
        )
    schema = connection.execute(text("SELECT reelvec.vector_schema()")).scalar_one()
    try:
        connection.exec_driver_sql(
            f'CREATE INDEX CONCURRENTLY "{index.name}" ON reelvec.{index.table} USING hnsw'
            f" ((embedding::{schema}.halfvec({index.dim})) {schema}.halfvec_cosine_ops)"
            f" WITH (m = {NEIGHBOURS}, ef_construction = {CANDIDATES})"
            f" WHERE encoder_id = {index.encoder_id}"
        )
    except DBAPIError as error:
        if not given.workers or "shared memory" not in str(error.orig):
            raise
        # a container's /dev/shm is small; one process alone needs none of it
        _make(connection, replace(index, broken=(index.name,)), replace(given, workers=0))


def size_bytes(connection: Connection, index: Index) -> int:
    asked = text("SELECT pg_relation_size(CAST(:name AS regclass))")
    return int(connection.execute(asked, {"name": f'reelvec."{index.name}"'}).scalar_one())


def chosen(found: Sequence[Index], names: Sequence[str]) -> list[Index]:
    """Those of the encoders named, or all. Raises `UsageError` for one without vectors."""
    known = {index.encoder for index in found}
    if missing := [name for name in names if name not in known]:
        raise UsageError(
            f"{missing[0]} has no vectors to make an index of; there are vectors of "
            f"{', '.join(sorted(known)) or 'no encoder'}"
        )
    return [index for index in found if not names or index.encoder in names]
