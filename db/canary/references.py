"""Where a worker's canary stands among those of others: see `db.canary`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum, auto
from uuid import UUID

import numpy as np
from sqlalchemy import Connection, text

from db.canary.limits import FLOAT32, FLOOR, FloatArray, distance, limit_for


@dataclass(frozen=True, eq=False)
class Canary:
    """What one worker made of the frames with one encoder.

    `vector` [dim] is the pooled one in float32; `distance` is how far its own `dtype` is from its
    own float32. `worker` is how people know it (gpu0@node-3), `machine` what it computes on: a
    card's id or a host's name. Two of one machine do not confirm each other.
    """

    encoder_id: int
    worker_id: UUID
    worker: str
    machine: str
    device: str
    software: str
    dtype: str
    distance: float
    vector: FloatArray


class Verdict(Enum):
    """Go on; wait until it is settled who is right; leave the encoder to others."""

    FINE = auto()
    DISPUTED = auto()
    REFUSED = auto()


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    reason: str = ""


FINE = Judgement(Verdict.FINE)


@dataclass(frozen=True, eq=False)
class Known:
    """A vector that counts, or was proposed."""

    worker_id: UUID
    worker: str
    machine: str
    counts: bool
    vector: FloatArray


def judge_own(mine: Canary, limits: Mapping[str, float]) -> Judgement:
    """A worker's dtype against its own float32. Without a limit so far it sets the first."""
    limit = limits.get(mine.dtype, limit_for(mine.distance))
    if mine.distance <= limit:
        return FINE
    return Judgement(
        Verdict.REFUSED,
        f"its {mine.dtype} vectors of the known frames are {mine.distance:.2g} from its own "
        f"float32 (at most {limit:.2g})",
    )


def nearest(mine: Canary, known: Sequence[Known], limit: float) -> Known | None:
    """The first of the known vectors that is mine as far as can be told."""
    return next((one for one in known if distance(mine.vector, one.vector) <= limit), None)


def judge_by(reference: Known, mine: Canary, limit: float) -> Judgement:
    """A worker's float32 against the vector that counts."""
    far = distance(mine.vector, reference.vector)
    if far <= limit:
        return FINE
    return Judgement(
        Verdict.REFUSED,
        f"its vector of the known frames is {far:.2g} from the reference of {reference.worker} (at "
        f"most {limit:.2g})",
    )


def meet(connection: Connection, mine: Canary) -> Judgement:
    """Compare with what is known of this encoder, add to it what is new, and say what follows.

    Waits for other workers that do the same with this encoder, for some milliseconds.
    """
    limits = _limits(connection, mine.encoder_id)
    judgement = judge_own(mine, limits)
    if judgement is FINE:
        limit = limits.get(FLOAT32, FLOOR)
        known = _known(connection, mine.encoder_id)
        if known and known[0].counts:
            judgement = judge_by(known[0], mine, limit)
        else:
            judgement = _propose(connection, mine, known, limit)
    if judgement.verdict is Verdict.REFUSED:
        _write(connection, mine, "other", judgement.reason)
    else:
        _forgive(connection, mine)
    if judgement is FINE:
        _lower(connection, mine, limits)
    return judgement


def _propose(
    connection: Connection, mine: Canary, known: Sequence[Known], limit: float
) -> Judgement:
    """Where nothing counts yet: agree with what was proposed, or propose another one."""
    near = nearest(mine, known, limit)
    if near is not None and near.machine != mine.machine:
        count(connection, mine.encoder_id, near.worker_id, agreed_by=mine.worker)
        return FINE
    if near is None:
        _write(connection, mine, "proposed", None)
    others = [one.worker for one in known if one is not near]
    if not others:
        return FINE
    return Judgement(
        Verdict.DISPUTED,
        f"its vector of the known frames is not that of {' and '.join(others)}, and no third "
        "worker has agreed with either yet",
    )


_LIMITS = text("""
SELECT coalesce(canary_limits, '{}') FROM reelvec.encoders WHERE encoder_id = :encoder_id
FOR NO KEY UPDATE
""")


def redo_sql(theirs: Canary) -> str:
    """A statement by which everything that this worker has made with this encoder is made again."""
    return (
        "UPDATE reelvec.jobs j SET state = 'pending', force = true, "  # noqa: S608
        f"owes = ARRAY[{theirs.encoder_id}]::smallint[], attempts = 0, strikes = 0, finished_at = "
        "NULL, enqueued_at = now() FROM reelvec.video_embeddings m WHERE m.video_id = j.video_id AND "
        f"m.encoder_id = {theirs.encoder_id} AND m.worker_id = '{theirs.worker_id}' AND j.state = "
        "'done';"
    )


def _limits(connection: Connection, encoder_id: int) -> dict[str, float]:
    """By dtype. Locks the encoder's row against other meetings, not against its vectors."""
    found = connection.execute(_LIMITS, {"encoder_id": encoder_id}).scalar_one()
    return {dtype: float(limit) for dtype, limit in found.items()}


def _lower(connection: Connection, mine: Canary, limits: Mapping[str, float]) -> None:
    """Store limits that there are none of yet, or only larger ones."""
    new = {FLOAT32: limits.get(FLOAT32, FLOOR)}
    new[mine.dtype] = min(limits.get(mine.dtype, np.inf), limit_for(mine.distance))
    if any(new[dtype] != limits.get(dtype) for dtype in new):
        set_limits(connection, mine.encoder_id, new)


_SET_LIMITS = text("""
UPDATE reelvec.encoders SET canary_limits = coalesce(canary_limits, '{}')
  || (SELECT jsonb_object_agg(dtype, allowed)
      FROM unnest(CAST(:dtypes AS text[]), CAST(:allowed AS double precision[])) AS n (dtype, allowed))
WHERE encoder_id = :encoder_id
""")


def set_limits(connection: Connection, encoder_id: int, limits: Mapping[str, float]) -> None:
    """Store these limits; those of other dtypes stay."""
    facts = {"dtypes": list(limits), "allowed": list(limits.values()), "encoder_id": encoder_id}
    connection.execute(_SET_LIMITS, facts)


_KNOWN = text("""
SELECT worker_id, worker, machine, standing = 'reference' AS counts, vector FROM reelvec.canaries
WHERE encoder_id = :encoder_id AND standing IN ('reference', 'proposed')
ORDER BY counts DESC, made_at, worker_id
""")


def _known(connection: Connection, encoder_id: int) -> list[Known]:
    """The one that counts first, then those proposed, the oldest first."""
    rows = connection.execute(_KNOWN, {"encoder_id": encoder_id})
    return [
        Known(row.worker_id, row.worker, row.machine, row.counts, np.array(row.vector, np.float32))
        for row in rows
    ]


_WRITE = text("""
INSERT INTO reelvec.canaries AS c (encoder_id, worker_id, worker, machine, device, software, dtype,
  distance, vector, standing, refusal)
VALUES (:encoder_id, :worker_id, :worker, :machine, :device, :software, :dtype, :distance,
  CAST(:vector AS real[]), :standing, :refusal)
ON CONFLICT (encoder_id, worker_id) DO UPDATE SET distance = excluded.distance,
  refusal = excluded.refusal, judged_at = now(),
  standing = CASE WHEN c.standing = 'reference' THEN c.standing ELSE excluded.standing END
""")


def _write(connection: Connection, mine: Canary, standing: str, refusal: str | None) -> None:
    """What makes this worker known. A vector that counts goes on to do so, whatever its maker does
    later.
    """
    facts = {**asdict(mine), "vector": mine.vector.tolist()}
    connection.execute(_WRITE, {**facts, "standing": standing, "refusal": refusal})


_FORGIVE = text("""
UPDATE reelvec.canaries SET refusal = NULL, judged_at = now()
WHERE encoder_id = :encoder_id AND worker_id = :worker_id AND refusal IS NOT NULL
""")


def _forgive(connection: Connection, mine: Canary) -> None:
    connection.execute(_FORGIVE, {"encoder_id": mine.encoder_id, "worker_id": mine.worker_id})


_NO_MORE = text("""
UPDATE reelvec.canaries SET standing = 'other', judged_at = now()
WHERE encoder_id = :encoder_id AND worker_id <> :worker_id AND standing <> 'other'
""")
_COUNTS = text("""
UPDATE reelvec.canaries
SET standing = 'reference', agreed_by = :agreed_by, refusal = NULL, judged_at = now()
WHERE encoder_id = :encoder_id AND worker_id = :worker_id
""")


def count(connection: Connection, encoder_id: int, worker_id: UUID, *, agreed_by: str) -> None:
    """From now on this worker's vector is the reference, and no other is."""
    facts = {"encoder_id": encoder_id, "worker_id": worker_id, "agreed_by": agreed_by}
    connection.execute(_NO_MORE, facts)
    connection.execute(_COUNTS, facts)
