"""The table `tombstones`: objects of the frame store that a row named which is gone.

One object may be the frames of two videos with the same bytes, so it is deleted only when no row
names it. Who records a pack and who deletes an object lock its name, both to the end of their
transaction: an object that is written after its row was committed is never deleted for an older
tombstone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, text

from db.frames.packs import OBJECT_LOCKS

#: Whoever sweeps holds this advisory lock: one process in the fleet.
SWEEP_LOCK = 7_120_431_019
#: A row that went before its object was written: that may still come. It is looked for again so
#: much later, which is longer than a store may take for one object.
AGAIN_SECONDS = 300
#: What could not be deleted is tried again so much later.
RETRY_SECONDS = 30

_DUE = text("""
WITH due AS MATERIALIZED (
  SELECT digest FROM reelvec.tombstones WHERE due_at <= now() ORDER BY due_at LIMIT :most
), names AS MATERIALIZED (SELECT DISTINCT digest FROM due ORDER BY digest)
SELECT digest, pg_advisory_xact_lock(:locks, hashtext(digest)) FROM names
""")
_NAMED = text("SELECT DISTINCT digest FROM reelvec.packs WHERE digest = ANY(:digests)")


def take(connection: Connection, most: int) -> tuple[list[str], list[str]] | None:
    """Objects that are due, at most so many: those to delete, and those that a row names again.
    Nobody records a pack of these names until the transaction ends. None: another process sweeps.
    """
    locked = connection.execute(
        text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": SWEEP_LOCK}
    ).scalar()
    if not locked:
        return None
    found = connection.execute(_DUE, {"most": most, "locks": OBJECT_LOCKS})
    digests = [str(row.digest) for row in found]
    # a statement of its own: it sees what was committed while the locks were waited for
    named = set(connection.execute(_NAMED, {"digests": digests}).scalars())
    return [digest for digest in digests if digest not in named], sorted(named)


_REMOVE = text("""
DELETE FROM reelvec.tombstones WHERE digest = ANY(:digests)
  AND (is_written OR buried_at <= now() - make_interval(secs => :again))
""")
_LOOK_AGAIN = text("""
UPDATE reelvec.tombstones SET due_at = buried_at + make_interval(secs => :again) WHERE digest = ANY(:digests)
""")
_POSTPONE = text("""
UPDATE reelvec.tombstones SET due_at = now() + make_interval(secs => :seconds) WHERE digest = ANY(:digests)
""")


def settle(
    connection: Connection, *, gone: Sequence[str], named: Sequence[str], failed: Collection[str]
) -> None:
    """What came of objects that were taken: `gone` are not in the store, `named` must stay, and
    `failed` could not be deleted.
    """
    facts = {"digests": [*gone, *named], "again": AGAIN_SECONDS}
    connection.execute(_REMOVE, facts)
    connection.execute(_LOOK_AGAIN, facts)
    connection.execute(_POSTPONE, {"digests": list(failed), "seconds": RETRY_SECONDS})
