"""${message}

Rules: one transaction; nothing that rewrites or locks a large table for long; expand first, contract a release later.
`compatible_from` is the oldest revision whose workers still write correct rows under this one.
"""

from __future__ import annotations

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
compatible_from = ${repr(down_revision)}


def upgrade() -> None:
    ${upgrades if upgrades else "op.execute('')"}
