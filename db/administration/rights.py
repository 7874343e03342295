"""What each role may do in the schema: the one table from which rights are granted and missing ones
are told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Connection, text

from db.errors import RefusedConfigurationError
from db.media import MEDIA_COLUMNS

READER, ENQUEUER, WORKER, ADMIN = (
    "reelvec_reader",
    "reelvec_enqueuer",
    "reelvec_worker",
    "reelvec_admin",
)

#: What the command lines and the feeder write, by table. All but admin may read everything.
ENQUEUER_WRITES = {
    "videos": "INSERT, UPDATE",
    "jobs": "INSERT, UPDATE",
    "encoders": "INSERT, UPDATE (canary_limits)",
    "canaries": "UPDATE",
    "label_sets": "INSERT",
    "taggers": "INSERT",
    "heads": "INSERT, UPDATE (unsure_below, judgement)",
    "scores": "INSERT, UPDATE",
    "control": "INSERT, UPDATE",
    "places": "INSERT, UPDATE",
    "paused_backbones": "INSERT, UPDATE",
    "actions": "INSERT",
    # what a map that is made anew takes the place of
    "maps": "INSERT, UPDATE (is_whole), DELETE",
    "map_points": "INSERT",
    "census": "INSERT, UPDATE",
}
#: What a worker writes. It deletes in its result tables and in what it says of itself, nowhere
#: else.
WORKER_WRITES = {
    "jobs": "UPDATE",
    "videos": f"UPDATE ({', '.join(MEDIA_COLUMNS)})",
    "encoders": "UPDATE (weights_digest, dim, pooling, license, canary_limits, origin)",
    "canaries": "INSERT, UPDATE",
    "attempts": "INSERT",
    "control": "INSERT, UPDATE",
    "video_embeddings": "INSERT, DELETE",
    # the view that workers older than revision 0017 write to; it goes with the next release
    "embeddings": "INSERT, DELETE",
    "window_embeddings": "INSERT, DELETE",
    "scores": "INSERT, DELETE",
    "strips": "INSERT, UPDATE, DELETE",
    "contexts": "INSERT",
    "packs": "INSERT, UPDATE, DELETE",
    "tombstones": "INSERT, UPDATE, DELETE",
    "workers": "INSERT, UPDATE, DELETE",
    "places": "INSERT, UPDATE",
    "place_workers": "INSERT, UPDATE, DELETE",
    "paused_backbones": "INSERT, UPDATE",
    "census": "INSERT, UPDATE",
}
WRITES: Mapping[str, Mapping[str, str]] = {
    READER: {},
    ENQUEUER: ENQUEUER_WRITES,
    WORKER: WORKER_WRITES,
}
#: `enqueue` gathers a chunk of rows in a temporary table.
NEEDS_TEMPORARY = frozenset({ENQUEUER})
#: The function by which a worker makes the view of an encoder.
VIEW_FUNCTION = "make_encoder_view(text)"

_PRIVILEGE = re.compile(r"(\w+)(?: \(([^)]*)\))?(?:, |$)")


class Right(NamedTuple):
    """`privilege` on `table` of the schema; on one `column` of it only."""

    role: str
    table: str
    privilege: str
    column: str | None = None


def rights(role: str) -> list[Right]:
    """What this role may write, column by column where it may not write all."""
    return [
        Right(role, table, privilege, column)
        for table, privileges in WRITES[role].items()
        for privilege, columns in _PRIVILEGE.findall(privileges)
        for column in (columns.split(", ") if columns else [None])
    ]


_MISSING = text("""
WITH reelvec AS (SELECT oid FROM pg_namespace WHERE nspname = 'reelvec'),
relations AS (SELECT c.oid, c.relname, c.relkind FROM pg_class c JOIN reelvec r ON c.relnamespace = r.oid)
SELECT role, what FROM (
  SELECT '' AS role, 'USAGE on schema reelvec' AS what FROM reelvec r WHERE NOT has_schema_privilege(r.oid, 'USAGE')
  UNION ALL
  SELECT '', 'USAGE on schema ' || quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
  WHERE e.extname = 'vector' AND NOT has_schema_privilege(n.oid, 'USAGE')
  UNION ALL
  SELECT '', 'SELECT on ' || relname FROM relations
  WHERE relkind IN ('r', 'v') AND NOT has_table_privilege(oid, 'SELECT')
  UNION ALL
  SELECT w.role, w.privilege || ' on ' || relname FROM relations
  JOIN unnest(CAST(:roles AS text[]), CAST(:tables AS text[]), CAST(:privileges AS text[]), CAST(:columns AS text[]))
    AS w (role, relation, privilege, part) ON w.relation = relname AND relkind = 'r'
  WHERE NOT has_table_privilege(oid, w.privilege)
    AND (w.part IS NULL OR NOT has_column_privilege(oid, w.part, w.privilege))
  UNION ALL
  SELECT :worker, 'EXECUTE on ' || p.proname FROM pg_proc p JOIN reelvec r ON p.pronamespace = r.oid
  WHERE p.proname = split_part(:function, '(', 1) AND NOT has_function_privilege(p.oid, 'EXECUTE')
  UNION ALL
  SELECT :enqueuer, 'TEMPORARY on the database' WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')
) AS needed GROUP BY role, what ORDER BY role, what
""")


def missing(connection: Connection) -> dict[str, list[str]]:
    """What the role of this connection lacks to be each of the roles: `UPDATE on jobs`, ...; empty
    lists: nothing.

    Of a schema nobody has made yet, and of tables an older one has not, nothing is missed.
    """
    wanted = [right for role in WRITES for right in rights(role)]
    lists = zip(*wanted, strict=True)
    names = ("roles", "tables", "privileges", "columns")
    facts = {name: list(values) for name, values in zip(names, lists, strict=True)}
    rows = connection.execute(
        _MISSING, {**facts, "worker": WORKER, "enqueuer": ENQUEUER, "function": VIEW_FUNCTION}
    ).all()
    return {role: [str(what) for whose, what in rows if whose in ("", role)] for role in WRITES}


def require(connection: Connection, role: str) -> None:
    """Raise `RefusedConfigurationError` naming what this connection's role lacks to do the work of
    `role`.
    """
    lacks = missing(connection)[role]
    if lacks:
        user = connection.execute(text("SELECT current_user")).scalar_one()
        raise RefusedConfigurationError(
            f"the database's role {user} lacks {shown(lacks)}: {_cure(role)}"
        )


def shown(lacks: list[str], *, most: int = 5) -> str:
    return ", ".join(lacks[:most]) + (f" and {len(lacks) - most} more" if len(lacks) > most else "")


def refusal(address: str, said: str, statement: str | None) -> RefusedConfigurationError:
    """Postgres' "permission denied" (42501) in one line; `said` are its own words, which name the
    object only.
    """
    found = re.search(r"permission denied for (?:table|view) (\w+)", said)
    lacks = "a right"
    if found and statement:
        verb = (
            r"\b(INSERT INTO|UPDATE|DELETE FROM|COPY(?=[^;]*FROM "
            rf"STDIN))\s+(?:reelvec\.)?{found[1]}\b"
        )
        verbs = {
            written.split()[0].upper() for written in re.findall(verb, statement, re.IGNORECASE)
        }
        if len(verbs) < 2:  # of several nobody knows which one was refused
            privilege = "".join(verbs) or "SELECT"
            lacks = f"{'INSERT' if privilege == 'COPY' else privilege} on {found[1]}"
    return RefusedConfigurationError(
        f"Postgres at {address} refused: {said}. This role lacks {lacks}: reelvec doctor lists "
        "what it lacks, reelvec db roles --print says how an administrator gives it"
    )


def _cure(role: str) -> str:
    return (
        f"have an administrator run reelvec db roles and GRANT {role} to it; reelvec doctor lists "
        "what it lacks"
    )
