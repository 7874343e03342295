"""Whether a video that waits for its source is at fault itself.

A wrong key or a bucket that is gone fails every video of the place, and none of them is to blame:
they wait. But where another object of the same bucket or host was read since, the one that still
may not be read never will.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from db.jobs import retries


@dataclass(frozen=True)
class Waited:
    """`seconds` since the first error of class INFRA. `is_alone`: long enough, and others of its
    place were read.
    """

    seconds: float
    is_alone: bool


_WAITED = text("""
SELECT extract(epoch FROM now() - me.infra_since)::double precision AS seconds,
  me.infra_since < now() - make_interval(secs => :long_enough) AND EXISTS (
    SELECT FROM reelvec.jobs other WHERE other.place_id = me.place_id AND other.state = 'done'
      AND other.finished_at > me.infra_since AND other.started_at > me.infra_since) AS is_alone
FROM reelvec.jobs me WHERE me.video_id = :video_id AND me.infra_since IS NOT NULL
""")


def waited(connection: Connection, video_id: int, *, first_delay_seconds: float) -> Waited | None:
    """How long this video has waited for its source; None: it does not."""
    facts = {
        "video_id": video_id,
        "long_enough": retries.infra_delay_seconds(first_delay_seconds),
    }
    row = connection.execute(_WAITED, facts).first()
    return None if row is None else Waited(row.seconds, row.is_alone)
