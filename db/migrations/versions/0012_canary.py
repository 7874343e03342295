"""Reference vectors of each encoder, and how far workers may be from them.

A small table beside `encoders` and one nullable column in it: workers of older versions know
neither and lose nothing.
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
compatible_from = "0001"

STATEMENTS = (
    # whoever waits for a lock holds up everybody who comes after (`db/migrations/env.py`)
    "SET lock_timeout = '500ms'",
    "ALTER TABLE reelvec.encoders ADD COLUMN IF NOT EXISTS canary_limits jsonb",
    """
    CREATE TABLE IF NOT EXISTS reelvec.canaries (
      encoder_id smallint NOT NULL REFERENCES reelvec.encoders ON DELETE CASCADE,
      worker_id  uuid NOT NULL,
      worker     text NOT NULL,
      machine    text NOT NULL,
      device     text NOT NULL,
      software   text NOT NULL,
      dtype      text NOT NULL,
      distance   double precision NOT NULL,
      vector     real[] NOT NULL,
      standing   text NOT NULL CHECK (standing IN ('proposed', 'reference', 'other')),
      refusal    text,
      agreed_by  text,
      made_at    timestamptz NOT NULL DEFAULT now(),
      judged_at  timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (encoder_id, worker_id)
    )""",
    """
    CREATE UNIQUE INDEX IF NOT EXISTS canaries_reference ON reelvec.canaries (encoder_id)
    WHERE standing = 'reference'""",
)

COMMENTS = {
    "TABLE reelvec.canaries": "What workers made of the canary, 96 known frames, where it is the"
    " reference of an encoder or differs from it. Workers that agree have no row.",
    "COLUMN reelvec.canaries.worker": "How people know it, such as gpu0@node-3.",
    "COLUMN reelvec.canaries.machine": "What it computes on: a card's id, or the host's name."
    " Workers of one machine do not confirm each other.",
    "COLUMN reelvec.canaries.software": "The version of torch.",
    "COLUMN reelvec.canaries.distance": "How far its own dtype is from its own float32, as a part"
    " of the vector's length.",
    "COLUMN reelvec.canaries.vector": "The pooled vector of the frames, computed in float32.",
    "COLUMN reelvec.canaries.standing": "proposed: nobody else has made it yet; reference: it"
    " counts; other: another one counts, or its maker has drifted.",
    "COLUMN reelvec.canaries.refusal": "Why this worker makes nothing of the encoder; NULL: it"
    " may.",
    "COLUMN reelvec.canaries.agreed_by": "The worker or the operator by whom it counts.",
    "COLUMN reelvec.canaries.judged_at": "When its maker or its standing was last judged anew.",
    "COLUMN reelvec.encoders.canary_limits": "By dtype, how far a worker's vectors of the known"
    " frames may be from its float32, and float32 from the reference.",
}


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    for what, comment in COMMENTS.items():
        quoted = comment.replace("'", "''")
        op.execute(f"COMMENT ON {what} IS '{quoted}'")
