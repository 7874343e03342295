"""`reelvec models accept`: an operator says whose vector counts, and leaves a record."""

from __future__ import annotations

from sqlalchemy import Connection, text

from db.canary.limits import CEILING, FLOAT32, FLOOR, limit_for
from db.canary.references import count, set_limits
from db.errors import UsageError
from db.jobs.steering import write_action

_ROW = text("""
SELECT c.encoder_id, c.worker_id, c.dtype, c.distance::double precision AS distance, c.standing
FROM reelvec.canaries c JOIN reelvec.encoders e USING (encoder_id)
WHERE e.encoder = :encoder AND :worker IN (c.worker, CAST(c.worker_id AS text))
ORDER BY c.judged_at DESC LIMIT 1
""")
_WORKERS = text("""
SELECT DISTINCT c.worker FROM reelvec.canaries c JOIN reelvec.encoders e USING (encoder_id)
WHERE e.encoder = :encoder ORDER BY 1
""")


def accept(
    connection: Connection, encoder: str, worker: str, *, who: str, reason: str | None
) -> None:
    """Make this worker's latest vector the encoder's reference, and its distance the limit of its
    dtype.

    `worker` as `status` names it (gpu0@node-3), or its id. Raises `UsageError` for one that has no
    vector of its own, and for one that its own float32 contradicts.
    """
    row = connection.execute(_ROW, {"encoder": encoder, "worker": worker}).first()
    if row is None:
        known = connection.execute(_WORKERS, {"encoder": encoder}).scalars().all()
        raise UsageError(
            f"{worker!r} has no vector of its own for {encoder!r}: a worker that agrees with the "
            f"reference needs none; there are those of {', '.join(known) or 'nobody'}"
        )
    if row.distance > CEILING:
        raise UsageError(
            f"the {row.dtype} vectors of {worker} are {row.distance:.2g} from its own float32, and "
            f"nobody may be further than {CEILING}: that worker is broken"
        )
    count(connection, row.encoder_id, row.worker_id, agreed_by=who)
    set_limits(connection, row.encoder_id, {FLOAT32: FLOOR, row.dtype: limit_for(row.distance)})
    said = f"{encoder} --worker {worker}" + (f" --reason {reason}" if reason else "")
    write_action(connection, "accept", who, said)
