"""Two renditions may have one id: the ordinary index is made before the unique one goes.

No older code depends on the constraint: producers write `ON CONFLICT DO NOTHING` without naming it, and workers do not
read external ids. So everything since 0001 goes on, before, during and after.
"""

from __future__ import annotations

from alembic import op

from db.migrations.concurrently import make_index

revision = "0008"
down_revision = "0007"
compatible_from = "0001"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        make_index("videos_external_id", "ON reelvec.videos (external_id)")
    # Dropping takes the table's strongest lock, for a moment: whoever is in the way is not waited for, but tried again.
    op.execute("SET lock_timeout = '500ms'")
    op.execute("ALTER TABLE reelvec.videos DROP CONSTRAINT IF EXISTS videos_external_id_key")
