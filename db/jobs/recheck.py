"""Looking again at finished videos that an older sampler looked at: their jobs wait again, and owe
nothing but a look.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from db.jobs.sampler_version import UNNUMBERED, VERSION
from db.jobs.selection import Selection, condition

CHUNK_VIDEOS = 5_000

#: Finished videos that an older sampler looked at, over `jobs j` and `videos v`.
OUTDATED = f"j.state = 'done' AND coalesce(v.sampler_version, {UNNUMBERED}) < {VERSION}"


def count(connection: Connection, selection: Selection) -> int:
    """How many videos of the selection were looked at by an older sampler."""
    chosen, facts = condition(selection, moment="j.finished_at")
    statement = f"SELECT count(*) FROM reelvec.jobs j JOIN reelvec.videos v USING (video_id) WHERE {OUTDATED}{chosen}"  # noqa: S608
    return int(connection.execute(text(statement), facts).scalar_one())


def reopen(connection: Connection, selection: Selection, *, after_video_id: int) -> list[int]:
    """Have the next chunk of them above `after_video_id` looked at again; returns their ids, none
    at the end.

    After `catalogue.begin`, which makes the table that remembers a selection for `--wait`.
    """
    chosen, facts = condition(selection, moment="j.finished_at")
    statement = f"""
WITH chosen AS (
  SELECT j.video_id FROM reelvec.jobs j JOIN reelvec.videos v USING (video_id)
  WHERE j.video_id > :after AND {OUTDATED}{chosen}
  ORDER BY j.video_id LIMIT :room FOR UPDATE OF j
), reopened AS (
  UPDATE reelvec.jobs j SET state = 'pending', recheck = true, owes = '{{}}', attempts = 0, strikes = 0,
    not_before = NULL, finished_at = NULL, enqueued_at = now()
  FROM chosen WHERE j.video_id = chosen.video_id RETURNING j.video_id)
INSERT INTO selection SELECT video_id FROM reopened RETURNING video_id
"""  # noqa: S608
    found = connection.execute(
        text(statement), {**facts, "after": after_video_id, "room": CHUNK_VIDEOS}
    )
    return [int(row.video_id) for row in found]
