"""What an operator sees and clears of the frame store: rows by policy, and rows and objects that do
not belong together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from db.frames.packs import NEVER_WRITTEN
from db.jobs.selection import Selection, condition

PAGE_ROWS = 10_000


@dataclass(frozen=True)
class Held:
    """The packs of one sampling policy. `unwritten`: their objects are not in the store (yet)."""

    policy: str
    packs: int
    kept: int
    unwritten: int
    size_bytes: int


def held(connection: Connection, selection: Selection) -> list[Held]:
    """Of the videos that are selected; `since` is when a pack was recorded."""
    where, facts = condition(selection, moment="p.recorded_at")
    statement = f"""
        SELECT policy, count(*), count(*) FILTER (WHERE kept), count(*) FILTER (WHERE written_at IS NULL),
          sum(p.size_bytes)::bigint
        FROM reelvec.packs p JOIN reelvec.videos v USING (video_id) LEFT JOIN reelvec.jobs j USING (video_id)
        WHERE true{where} GROUP BY 1 ORDER BY 1"""  # noqa: S608
    return [Held(*row) for row in connection.execute(text(statement), facts)]


def waiting(connection: Connection) -> int:
    """Objects that workers are still to delete."""
    statement = text("SELECT count(DISTINCT digest) FROM reelvec.tombstones")
    return int(connection.execute(statement).scalar_one())


def unknown(connection: Connection, names: Sequence[str]) -> list[str]:
    """Those of these objects that neither a pack names nor a tombstone."""
    statement = text("""
        SELECT name FROM unnest(CAST(:names AS text[])) name
        WHERE NOT EXISTS (SELECT FROM reelvec.packs WHERE digest = name)
          AND NOT EXISTS (SELECT FROM reelvec.tombstones WHERE digest = name)""")
    return [str(name) for name in connection.execute(statement, {"names": list(names)}).scalars()]


def moment(connection: Connection) -> datetime:
    """The database's time."""
    found: datetime = connection.execute(text("SELECT now()")).scalar_one()
    return found


def written(connection: Connection, before: datetime) -> Iterator[tuple[str, int]]:
    """Digest and size of every object that was written before then, as the packs say."""
    statement = text("""
        SELECT digest, max(size_bytes) FROM reelvec.packs WHERE written_at < :before AND digest > :after
        GROUP BY 1 ORDER BY 1 LIMIT :most""")
    after = ""
    while rows := connection.execute(
        statement, {"before": before, "after": after, "most": PAGE_ROWS}
    ).all():
        yield from ((str(name), int(size_bytes)) for name, size_bytes in rows)
        after = rows[-1][0]


def never_written(connection: Connection) -> int:
    """Packs whose objects should have been written an hour ago."""
    statement = text(f"SELECT count(*) FROM reelvec.packs WHERE {NEVER_WRITTEN}")  # noqa: S608
    return int(connection.execute(statement).scalar_one())


def forget_never_written(connection: Connection) -> int:
    """Remove these rows; returns how many."""
    statement = text(f"DELETE FROM reelvec.packs WHERE {NEVER_WRITTEN}")  # noqa: S608
    return connection.execute(statement).rowcount


def forget(connection: Connection, digests: Sequence[str], *, before: datetime) -> int:
    """Remove the rows of objects that are of no use, unless they were written again since; returns
    how many.
    """
    statement = text(
        "DELETE FROM reelvec.packs WHERE digest = ANY(:digests) AND written_at < :before"
    )
    return connection.execute(statement, {"digests": list(digests), "before": before}).rowcount


def forget_selected(connection: Connection, selection: Selection) -> int:
    """Remove the rows of packs that are selected, kept ones too, but no more than `PAGE_ROWS`;
    returns how many.
    """
    where, facts = condition(selection, moment="p.recorded_at")
    statement = f"""
        DELETE FROM reelvec.packs WHERE (video_id, policy) IN (
          SELECT video_id, policy FROM reelvec.packs p JOIN reelvec.videos v USING (video_id)
          LEFT JOIN reelvec.jobs j USING (video_id) WHERE true{where} LIMIT :most)"""  # noqa: S608
    return connection.execute(text(statement), {**facts, "most": PAGE_ROWS}).rowcount


def bury(connection: Connection, digests: Sequence[str]) -> None:
    """Have these objects deleted, unless a pack names them by then."""
    statement = text(
        "INSERT INTO reelvec.tombstones (digest) SELECT unnest(CAST(:digests AS text[]))"
    )
    connection.execute(statement, {"digests": list(digests)})


def hasten(connection: Connection) -> None:
    """What could not be deleted is tried at once."""
    connection.execute(text("UPDATE reelvec.tombstones SET due_at = now() WHERE due_at > now()"))
