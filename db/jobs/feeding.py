"""Which waiting videos are sent next, and by which queue: sets of encoders, places and rows take
turns, in each stage by itself.

Videos that owe the same encoders go the same way (`db.jobs.abilities`), and there are few such
sets, whatever each has waiting: a million videos that nobody can make cost one look at an index.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, text

from db.jobs import places
from db.jobs.abilities import Abilities
from db.jobs.stages import Queue

FEED_LOCK = 7_120_431_004
#: Places that one pass looks at: finding the next one costs some 10 microseconds.
TURN_PLACES = 20_000
#: Passes that fill the room when most places have less to give than their share.
FEED_PASSES = 4
#: Different sets of owed encoders that are looked at. A fleet has a handful.
MOST_SETS = 200

_SETS = text("""
WITH RECURSIVE sets AS (
  SELECT min(coalesce(owes, encoders)) AS owed, 1 AS found FROM reelvec.jobs
  WHERE state = 'pending' AND stage = :stage
  UNION ALL
  SELECT (SELECT min(coalesce(owes, encoders)) FROM reelvec.jobs
          WHERE state = 'pending' AND stage = :stage AND coalesce(owes, encoders) > sets.owed), found + 1
  FROM sets WHERE sets.owed IS NOT NULL AND found < :most
)
SELECT owed FROM sets WHERE owed IS NOT NULL
""")

_PENDING = (
    "FROM reelvec.jobs WHERE state = 'pending' AND stage = :stage AND coalesce(owes, encoders) = "
    "CAST(:owed AS smallint[])"
)

# Frames that are sampled already need nothing of their place.
_OPEN = """(:stage = 'frames' OR NOT EXISTS (
  SELECT FROM reelvec.places p WHERE p.place_id = {}.place_id AND closed_at IS NOT NULL))"""

# Places take turns, beginning anywhere: each pass gives every open place with waiting videos an
# equal share of the room. The next place is found by one probe of the index, however many videos
# the last one has.
_FEED = text(f"""
WITH RECURSIVE begin AS MATERIALIZED (
  SELECT floor(random() * coalesce(max(place_id), 0))::int AS place_id FROM reelvec.places
), later AS (
  SELECT (SELECT min(place_id) {_PENDING} AND place_id > begin.place_id) AS place_id,
    1 AS looks, 0 AS found FROM begin
  UNION ALL
  SELECT (SELECT min(place_id) {_PENDING} AND place_id > later.place_id), looks + 1,
    found + ({_OPEN.format("later")})::int
  FROM later WHERE later.place_id IS NOT NULL AND looks < :looks AND found < :room
), earlier AS (
  SELECT (SELECT min(place_id) {_PENDING}) AS place_id, max(looks) AS looks,
    max(found) AS found FROM later
  UNION ALL
  SELECT (SELECT min(place_id) {_PENDING} AND place_id > earlier.place_id), looks + 1,
    found + ({_OPEN.format("earlier")})::int
  FROM earlier WHERE earlier.place_id <= (SELECT place_id FROM begin) AND looks < :looks AND found < :room
), turn AS MATERIALIZED (
  SELECT place_id FROM (
    SELECT place_id FROM later UNION SELECT place_id FROM earlier WHERE place_id <= (SELECT place_id FROM begin)) t
  WHERE place_id IS NOT NULL
    AND {_OPEN.format("t")}
), next AS (
  SELECT dealt.video_id, row_number() OVER (PARTITION BY turn.place_id ORDER BY dealt.video_id) AS round FROM turn, LATERAL (
    SELECT video_id FROM reelvec.jobs j
    WHERE state = 'pending' AND stage = :stage AND coalesce(owes, encoders) = CAST(:owed AS smallint[])
      AND j.place_id = turn.place_id
      AND (not_before IS NULL OR not_before <= now()) AND NOT EXISTS (SELECT FROM reelvec.control WHERE paused)
    ORDER BY video_id LIMIT (SELECT greatest(1, :room / greatest(1, count(*))) FROM turn) FOR UPDATE SKIP LOCKED) dealt
  LIMIT :room
)
UPDATE reelvec.jobs j SET state = 'queued', queued_at = now(), queue = :queue FROM next WHERE j.video_id = next.video_id
RETURNING next.round, j.place_id, j.video_id
""")  # noqa: S608


def feed(
    connection: Connection, fleet: Abilities, *, rooms: Mapping[Queue, int]
) -> dict[Queue, list[int]]:
    """Mark pending videos queued, up to the room of each queue; the caller commits, then publishes
    them by queue.

    The queues of rare encoders come first: a video that owes another one too, which everybody can
    make, is left to the common queue only where its rare one is full. Empty while another feeder is
    at it.
    """
    if not connection.execute(
        text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": FEED_LOCK}
    ).scalar():
        return {}
    places.adopt(connection)
    dealt: dict[Queue, list[int]] = {}
    for stage in sorted({queue.stage for queue in rooms}):  # frames before videos
        facts = {"most": MOST_SETS, "stage": stage}
        sets = [tuple(row.owed) for row in connection.execute(_SETS, facts)]
        routes = {owed: fleet.route(owed) for owed in sets}
        mine = [queue for queue in rooms if queue.stage == stage]
        for queue in sorted(mine, key=lambda queue: (queue.encoder_id is None, queue)):
            if queue.encoder_id is None:
                chosen = [owed for owed in sets if routes[owed].common]
            else:
                chosen = [owed for owed in sets if routes[owed].rare == queue.encoder_id]
            dealt[queue] = _fill(connection, chosen, rooms[queue], queue)
    return {queue: video_ids for queue, video_ids in dealt.items() if video_ids}


def send_by(
    connection: Connection, fleet: Abilities, video_ids: Collection[int]
) -> dict[Queue, list[int]]:
    """The queues by which these queued videos, chosen by others, go."""
    sent: defaultdict[Queue, list[int]] = defaultdict(list)
    owed = text(
        "SELECT video_id, stage, coalesce(owes, encoders) AS owed FROM reelvec.jobs WHERE video_id = "
        "ANY(:video_ids)"
    )
    for row in connection.execute(owed, {"video_ids": list(video_ids)}).all() if video_ids else ():
        sent[Queue(fleet.route(row.owed).rare, row.stage)].append(int(row.video_id))
    for queue, members in sent.items():
        connection.execute(
            text("UPDATE reelvec.jobs SET queue = :queue WHERE video_id = ANY(:video_ids)"),
            {"queue": queue.encoder_id, "video_ids": members},
        )
    return sent


def _fill(
    connection: Connection, sets: Sequence[Collection[int]], room: int, queue: Queue
) -> list[int]:
    """Sets take turns, too: each gets an equal share of what is left."""
    fed: list[int] = []
    active = list(sets)
    for _ in range(FEED_PASSES):
        for left, owed in zip(range(len(active), 0, -1), list(active), strict=True):
            share = -(-(room - len(fed)) // left)
            if share <= 0:
                return fed
            facts = {
                "owed": list(owed),
                "stage": queue.stage,
                "room": share,
                "looks": TURN_PLACES,
                "queue": queue.encoder_id,
            }
            dealt = connection.execute(_FEED, facts).all()
            fed += [int(row.video_id) for row in sorted(dealt)]
            if not dealt:
                active.remove(owed)
    return fed


_OUTSTANDING = text("""
SELECT (SELECT count(*) FROM reelvec.jobs WHERE state = 'pending' AND stage = 'frames')
  + (SELECT count(*) FROM reelvec.jobs WHERE state = 'queued' AND stage = 'frames')
  + (SELECT count(*) FROM reelvec.jobs WHERE state = 'running' AND stage = 'frames')
""")


def outstanding(connection: Connection) -> int:
    """Videos whose frames are sampled and not embedded yet."""
    return int(connection.execute(_OUTSTANDING).scalar_one())
