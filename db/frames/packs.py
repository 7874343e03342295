"""The table `packs`: one row per video and sampling policy whose frames are in the store.

A row is written before its object, so that no object is unknown; a row that goes, whatever removes
it, leaves a tombstone (a trigger), by which the object is deleted.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

#: The first half of an advisory lock's key; the second is made of a digest.
OBJECT_LOCKS = 712_043
#: Of a row: whoever was to write its object has given up long ago.
NEVER_WRITTEN = "written_at IS NULL AND recorded_at < now() - interval '1 hour'"


@dataclass(frozen=True)
class PackRow:
    """`digest` names the object, `etag` the version of the video, `recipe` how its pixels were
    made. `kept`: it stays when nothing is owed. `written`: the object is in the store.
    """

    video_id: int
    policy: str
    digest: str
    size_bytes: int
    recipe: str
    etag: str | None
    kept: bool
    written: bool = False


_LOCK = text("SELECT pg_advisory_xact_lock(:locks, hashtext(:digest))")

_RECORD = text("""
INSERT INTO reelvec.packs (video_id, policy, digest, size_bytes, recipe, etag, kept)
SELECT video_id, :policy, :digest, :size_bytes, :recipe, :etag, :kept FROM reelvec.videos
WHERE video_id = :video_id FOR KEY SHARE
ON CONFLICT (video_id, policy) DO UPDATE SET digest = excluded.digest, size_bytes = excluded.size_bytes,
  recipe = excluded.recipe, etag = excluded.etag, kept = packs.kept OR excluded.kept,
  recorded_at = now(), written_at = NULL
RETURNING 1
""")


def record(connection: Connection, row: PackRow) -> bool:
    """To be committed before the object is written: this video's frames will be in this object.
    Another pack of this video and policy is replaced. False: the video is gone, write nothing.

    Waits where a sweeper deletes an object of this name right now (`db.frames.tombstones`): what is
    written after the commit stays.
    """
    connection.execute(_LOCK, {"locks": OBJECT_LOCKS, "digest": row.digest})
    return connection.execute(_RECORD, vars(row)).first() is not None


_MARK_WRITTEN = text("""
WITH marked AS (
  UPDATE reelvec.packs SET written_at = now()
  WHERE video_id = :video_id AND policy = :policy AND digest = :digest RETURNING 1
), buried AS (
  INSERT INTO reelvec.tombstones (digest) SELECT CAST(:digest AS text) WHERE NOT EXISTS (SELECT FROM marked)
)
SELECT EXISTS (SELECT FROM marked)
""")


def mark_written(connection: Connection, row: PackRow) -> bool:
    """The object is in the store. False: the row is gone or names another object by now, and a
    tombstone sees to this one.
    """
    return bool(connection.execute(_MARK_WRITTEN, vars(row)).scalar_one())


_COLUMNS = (
    "video_id, policy, digest, size_bytes, recipe, etag, kept, written_at IS NOT NULL AS written"
)
_OF_VIDEO = text(f"SELECT {_COLUMNS} FROM reelvec.packs WHERE video_id = :video_id ORDER BY policy")  # noqa: S608


def of_video(connection: Connection, video_id: int) -> list[PackRow]:
    """What is recorded of a video, by policy."""
    return [
        PackRow(**row._mapping) for row in connection.execute(_OF_VIDEO, {"video_id": video_id})
    ]


def drop(connection: Connection, video_id: int, policies: list[str]) -> int:
    """Forget a video's packs of these policies, kept ones too; the sweeper deletes their objects.
    Returns how many.
    """
    statement = text(
        "DELETE FROM reelvec.packs WHERE video_id = :video_id AND policy = ANY(:policies)"
    )
    return connection.execute(statement, {"video_id": video_id, "policies": policies}).rowcount
