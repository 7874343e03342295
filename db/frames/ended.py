"""Packs of frames that nothing waits for any more."""

from __future__ import annotations

from sqlalchemy import Connection, text

#: Rows that go in one round: their tombstones are swept in the next ones.
MOST = 5_000

_DROP_OF = text("""
DELETE FROM reelvec.packs p USING reelvec.jobs j
WHERE p.video_id = :video_id AND j.video_id = p.video_id AND NOT p.kept AND j.keep_frames IS NOT TRUE
""")


def drop_of(connection: Connection, video_id: int) -> None:
    """Forget the packs of a video that has just ended, unless they are kept."""
    connection.execute(_DROP_OF, {"video_id": video_id})


_DROP = text("""
WITH ended AS (
  SELECT p.video_id FROM reelvec.packs p JOIN reelvec.jobs j USING (video_id)
  WHERE NOT p.kept AND j.keep_frames IS NOT TRUE AND j.state IN ('done', 'failed', 'cancelled')
  LIMIT :most
)
DELETE FROM reelvec.packs p USING ended WHERE p.video_id = ended.video_id AND NOT p.kept
""")


def drop(connection: Connection) -> int:
    """Forget packs of videos that have ended, as whoever ends one usually does itself; returns how
    many.
    """
    return connection.execute(_DROP, {"most": MOST}).rowcount
