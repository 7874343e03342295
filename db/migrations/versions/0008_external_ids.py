"""Two renditions may have one id: the ordinary index is made before the unique one goes.

No older code depends on the constraint: producers write `ON CONFLICT DO NOTHING` without naming it, and workers do not
read external ids. So everything since 0001 goes on, before, during and after.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0008"
down_revision = "0007"
compatible_from = "0001"

_IS_INVALID = text("""
SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('reelvec.videos_external_id') AND NOT indisvalid)
""")


def upgrade() -> None:
    with op.get_context().autocommit_block():
        _make_index()
    # Dropping takes the table's strongest lock, for a moment: whoever is in the way is not waited for, but tried again.
    op.execute("SET lock_timeout = '500ms'")
    op.execute("ALTER TABLE reelvec.videos DROP CONSTRAINT IF EXISTS videos_external_id_key")


def _make_index() -> None:
    connection = op.get_bind()
    # it waits for transactions that are older than itself, and nobody waits for it
    connection.execute(text("SET lock_timeout = 0"))
    if connection.execute(_IS_INVALID).scalar():  # left behind by a run that was broken off
        op.execute("DROP INDEX CONCURRENTLY reelvec.videos_external_id")
    op.execute(
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS videos_external_id ON reelvec.videos (external_id)"
    )
