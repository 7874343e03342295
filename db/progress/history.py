"""How many videos ended in each slice of time, lately: what a rate over time is drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from db.progress.rates import WINDOW_SECONDS

SLICES = 60
#: The shortest of these that holds all that ended within the longest.
SPANS_SECONDS = (600.0, 3_600.0, 21_600.0, 86_400.0)


@dataclass(frozen=True)
class Slice:
    """Videos that ended in one slice of time."""

    done: int
    failed: int


@dataclass(frozen=True)
class History:
    """`slices` of `slice_seconds` each; the last one ends at `until`: now, or with the last video
    where none has ended for long. Empty where none ever has.
    """

    slice_seconds: float
    until: datetime | None
    slices: tuple[Slice, ...] = ()

    @property
    def span_seconds(self) -> float:
        return self.slice_seconds * len(self.slices)


_ENDS = text("""
WITH latest AS (
  SELECT finished_at AS at FROM reelvec.jobs WHERE finished_at IS NOT NULL AND state IN ('done', 'failed')
  ORDER BY finished_at DESC LIMIT 1)
SELECT CASE WHEN at > now() - make_interval(secs => :idle) THEN now() ELSE at END AS until,
  extract(epoch FROM at - (SELECT min(finished_at) FROM reelvec.jobs
    WHERE finished_at >= at - make_interval(secs => :longest)))::double precision AS seconds,
  extract(epoch FROM now() - at)::double precision AS idle_seconds
FROM latest
""")
_SLICES = text("""
SELECT floor(extract(epoch FROM CAST(:until AS timestamptz) - finished_at) / :seconds)::int AS back,
  count(*) FILTER (WHERE state = 'done') AS done, count(*) FILTER (WHERE state = 'failed') AS failed
FROM reelvec.jobs
WHERE finished_at > CAST(:until AS timestamptz) - make_interval(secs => :seconds * :slices)
  AND finished_at <= :until AND state IN ('done', 'failed')
GROUP BY 1
""")


def read(connection: Connection) -> History:
    """The latest hours or minutes. Both statements go by the index of what ended."""
    ends = connection.execute(_ENDS, {"idle": WINDOW_SECONDS, "longest": SPANS_SECONDS[-1]}).first()
    if ends is None:
        return History(0.0, None)
    whole = ends.seconds + (ends.idle_seconds if ends.idle_seconds < WINDOW_SECONDS else 0.0)
    span = next((span for span in SPANS_SECONDS if span >= whole), SPANS_SECONDS[-1])
    facts = {"until": ends.until, "seconds": span / SLICES, "slices": SLICES}
    found = {row.back: Slice(row.done, row.failed) for row in connection.execute(_SLICES, facts)}
    slices = tuple(found.get(back, Slice(0, 0)) for back in reversed(range(SLICES)))
    return History(span / SLICES, ends.until, slices)
