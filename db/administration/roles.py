"""Roles for those who enqueue, work, look and migrate: groups without a login, which an
administrator grants to logins.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, text

from db.administration.rights import (
    ADMIN,
    ENQUEUER,
    NEEDS_TEMPORARY,
    READER,
    VIEW_FUNCTION,
    WORKER,
    WRITES,
)

_PURPOSES = {
    READER: "reads everything: status, search, SQL",
    ENQUEUER: "records videos and jobs, feeds the broker, retries, cancels, pauses",
    WORKER: "claims jobs and writes results; deletes in its result tables and workers only",
    ADMIN: "owns the schema: migrations, indexes, takedowns",
}


def statements(database: str) -> Iterator[str]:
    """The SQL, to be run by one who may make roles; running it again gives the same. `database` is
    its name, quoted.
    """
    yield "SET LOCAL lock_timeout = '10s'"  # a new owner waits for whoever is at work on a table
    for role, purpose in _PURPOSES.items():
        yield (
            f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}')"
            f" THEN CREATE ROLE {role} NOLOGIN; END IF; END $$"
        )
        yield f"COMMENT ON ROLE {role} IS 'reelvec: {purpose}'"
    yield f"GRANT {ADMIN} TO CURRENT_USER"
    yield f"GRANT CONNECT, CREATE ON DATABASE {database} TO {ADMIN}"
    yield f"GRANT CONNECT ON DATABASE {database} TO {READER}"
    for role in sorted(NEEDS_TEMPORARY):
        yield f"GRANT TEMPORARY ON DATABASE {database} TO {role}"
    yield _OWN_EVERYTHING
    yield f"GRANT USAGE ON SCHEMA reelvec TO {READER}"
    yield _REACH_PGVECTOR
    yield f"GRANT SELECT ON ALL TABLES IN SCHEMA reelvec TO {READER}"
    yield (
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {ADMIN} IN SCHEMA reelvec GRANT SELECT ON TABLES TO "
        f"{READER}"
    )
    yield f"GRANT {READER} TO {ENQUEUER}, {WORKER}"
    for role in WRITES:
        if role != READER:
            # what an older version granted and this one does not is taken away
            yield (
                "REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA reelvec FROM "
                f"{role}"
            )
        for table, privileges in WRITES[role].items():
            yield f"GRANT {privileges} ON reelvec.{table} TO {role}"
    yield f"GRANT EXECUTE ON FUNCTION reelvec.{VIEW_FUNCTION} TO {WORKER}"


# The view of an encoder is made by a function as its owner, so that owner must be no superuser; and
# default privileges are those of the role that makes a table: all are made by one.
_OWN_EVERYTHING = f"""
DO $$
DECLARE thing record;
BEGIN
  EXECUTE 'ALTER SCHEMA reelvec OWNER TO {ADMIN}';
  FOR thing IN
    SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind, c.relname AS name
    FROM pg_class c
    WHERE c.relnamespace = 'reelvec'::regnamespace AND c.relkind IN ('r', 'v')
      AND pg_get_userbyid(c.relowner) <> '{ADMIN}'
  LOOP
    EXECUTE format('ALTER %s reelvec.%I OWNER TO {ADMIN}', thing.kind, thing.name);
  END LOOP;
  FOR thing IN
    SELECT p.oid::regprocedure AS name FROM pg_proc p
    WHERE p.pronamespace = 'reelvec'::regnamespace AND pg_get_userbyid(p.proowner) <> '{ADMIN}'
  LOOP
    EXECUTE format('ALTER FUNCTION %s OWNER TO {ADMIN}', thing.name);
  END LOOP;
END $$
""".strip()  # noqa: S608


# Whoever compares vectors names the types of the extension, wherever it lies. Most often everybody
# may anyway.
_REACH_PGVECTOR = f"""
DO $$
DECLARE
  lies_in text := reelvec.vector_schema();
  lacking text;
BEGIN
  FOREACH lacking IN ARRAY ARRAY['{READER}', '{ADMIN}'] LOOP
    IF NOT has_schema_privilege(lacking, lies_in::regnamespace, 'USAGE') THEN
      EXECUTE format('GRANT USAGE ON SCHEMA %s TO %I', lies_in, lacking);
    END IF;
  END LOOP;
END $$
""".strip()


def script(connection: Connection) -> str:
    """All of it for a DBA, in one transaction."""
    body = "".join(f"{statement};\n" for statement in statements(_database(connection)))
    grants = "".join(
        f"-- GRANT {role} TO a_login;  -- {purpose}\n" for role, purpose in _PURPOSES.items()
    )
    return f"BEGIN;\n{body}COMMIT;\n{grants}"


def make(connection: Connection) -> None:
    """Make the roles and their rights in the connection's transaction."""
    for statement in statements(_database(connection)):
        connection.exec_driver_sql(statement.replace("%", "%%"))


def become_owner(connection: Connection) -> None:
    """Migrate as the schema's owner where this role may: tables of another owner would be out of
    the roles' reach.
    """
    connection.execute(
        text(
            "SELECT set_config('role', CAST(:admin AS text), false) FROM pg_namespace WHERE "
            "nspname = 'reelvec' AND pg_get_userbyid(nspowner) = :admin AND pg_has_role(nspowner, "
            "'MEMBER')"
        ),
        {"admin": ADMIN},
    )


def _database(connection: Connection) -> str:
    return str(connection.execute(text("SELECT quote_ident(current_database())")).scalar_one())
