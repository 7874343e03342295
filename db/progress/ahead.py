"""What is in hand in each stage: videos that are sampled ahead, and that are being sampled or
embedded.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class Ahead:
    """`waiting` videos are sampled and wait for a worker with a device; `embedding` ones are in its
    hands, `sampling` ones in those of a sampler node, all others, `whole`, in one worker's.
    """

    waiting: int = 0
    embedding: int = 0
    sampling: int = 0
    whole: int = 0


_AHEAD = text("""
SELECT (SELECT count(*) FROM reelvec.jobs WHERE state = 'pending' AND stage = 'frames')
  + (SELECT count(*) FROM reelvec.jobs WHERE state = 'queued' AND stage = 'frames') AS waiting,
  count(*) FILTER (WHERE j.stage = 'frames') AS embedding,
  count(*) FILTER (WHERE j.stage <> 'frames' AND w.stage = 'sample') AS sampling,
  count(*) FILTER (WHERE j.stage <> 'frames' AND w.stage IS DISTINCT FROM 'sample') AS whole
FROM reelvec.jobs j LEFT JOIN reelvec.workers w USING (worker_id) WHERE j.state = 'running'
""")


def read(connection: Connection) -> Ahead:
    """By index, whatever the number of jobs."""
    return Ahead(**connection.execute(_AHEAD).one()._mapping)
