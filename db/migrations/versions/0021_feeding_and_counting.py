"""Waiting videos are fed by one index, `jobs_fed`; and jobs are counted by all processes.

`jobs_owed` was kept for workers older than 0020. Those go on without it, and look through all waiting
videos when they feed. Without it Postgres has 8 % less to do for each video that is recorded, and
59 MB less to keep for a million.

Where a column is NULL in all rows that ANALYZE has seen, Postgres expects 200 values of it. Of two
such columns that is so many groups that one process makes them all (`db/progress/census.py`). The
numbers hold from the next ANALYZE on.
"""

from __future__ import annotations

from alembic import op

revision = "0021"
down_revision = "0020"
compatible_from = "0001"

#: Sets of encoders and codes of errors that a ledger has.
VALUES = {"owes": 20, "error_code": 30}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # both wait for who is older than themselves, and nobody who reads or writes waits for them
        op.execute("SET lock_timeout = 0")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS reelvec.jobs_owed")
        for column, values in VALUES.items():
            op.execute(
                f"ALTER TABLE reelvec.jobs ALTER COLUMN {column} SET (n_distinct = {values})"
            )
