"""Which workers stand outside, and which encoders wait for a third: what people read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class Drift:
    """`worker` makes nothing of `encoder`, and why."""

    encoder: str
    worker: str
    device: str
    software: str
    reason: str


@dataclass(frozen=True)
class Dispute:
    """Workers that make different vectors of the same frames, while none of them counts."""

    encoder: str
    workers: tuple[str, ...]


@dataclass(frozen=True)
class Drifts:
    refused: tuple[Drift, ...] = ()
    disputed: tuple[Dispute, ...] = ()


# One that ended for it is told for a day.
_REFUSED = text("""
SELECT e.encoder, c.worker, c.device, c.software, c.refusal AS reason
FROM reelvec.canaries c JOIN reelvec.encoders e USING (encoder_id)
WHERE c.refusal IS NOT NULL AND (c.judged_at > now() - interval '1 day'
  OR EXISTS (SELECT FROM reelvec.workers w WHERE w.worker_id = c.worker_id))
ORDER BY e.encoder, c.worker
""")
_DISPUTED = text("""
SELECT e.encoder, array_agg(c.worker ORDER BY c.made_at, c.worker) AS workers
FROM reelvec.canaries c JOIN reelvec.encoders e USING (encoder_id)
WHERE c.standing = 'proposed' GROUP BY e.encoder HAVING count(*) > 1 ORDER BY 1
""")


def read(connection: Connection) -> Drifts:
    refused: Sequence[Drift] = [Drift(**row._mapping) for row in connection.execute(_REFUSED)]
    disputed = [Dispute(row.encoder, tuple(row.workers)) for row in connection.execute(_DISPUTED)]
    return Drifts(tuple(refused), tuple(disputed))
