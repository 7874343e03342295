"""Writes the dictionary into a database, as comments. A comment that says the same is left alone:
it would take a lock, if only one that nobody who reads or writes rows waits for.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from db.dictionary import ENTRIES

#: What the database has comments on, and which. Whether a type of ours is written with its schema
#: depends on the search path.
_WRITTEN = text("""
SELECT 'SCHEMA' AS kind, nspname::text AS name, obj_description(oid, 'pg_namespace') AS words
FROM pg_namespace WHERE nspname = 'reelvec'
UNION ALL
SELECT CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, relname, obj_description(oid, 'pg_class')
FROM pg_class WHERE relnamespace = 'reelvec'::regnamespace AND relkind IN ('r', 'v')
UNION ALL
SELECT 'COLUMN', concat_ws('.', relname, attname), col_description(attrelid, attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped
WHERE relnamespace = 'reelvec'::regnamespace AND relkind IN ('r', 'v')
UNION ALL
SELECT 'FUNCTION', concat(proname, '(', replace(oidvectortypes(proargtypes), 'reelvec.', ''), ')'),
  obj_description(oid, 'pg_proc') FROM pg_proc WHERE pronamespace = 'reelvec'::regnamespace
""")

#: The views of encoders say what video_embeddings says; they are made while the fleet works.
_ENCODER_VIEWS = text("""
SELECT reelvec.comment_encoder_view(c.relname, e) FROM reelvec.encoders e
JOIN pg_class c ON c.relname = replace(e.encoder, '-', '_')
WHERE c.relkind = 'v' AND c.relnamespace = 'reelvec'::regnamespace AND e.dim IS NOT NULL
""")


def write(connection: Connection) -> int:
    """Write what is missing or says something else; returns how many comments that were.

    For a schema of the newest revision. Raises `DBAPIError` like any statement.
    """
    found = {(row.kind, row.name): row.words for row in connection.execute(_WRITTEN)}
    stale = [
        entry
        for entry in ENTRIES
        if found.get((entry.kind, entry.name.replace("reelvec.", ""))) != entry.words
    ]
    for entry in stale:
        where = "" if entry.kind == "SCHEMA" else "reelvec."
        quoted = entry.words.replace("'", "''").replace("%", "%%")
        connection.exec_driver_sql(f"COMMENT ON {entry.kind} {where}{entry.name} IS '{quoted}'")
    if stale:
        connection.execute(_ENCODER_VIEWS)
    return len(stale)
