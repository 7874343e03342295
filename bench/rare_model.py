"""A fleet of which one worker has a model: what its videos cost beside everybody else's, on the
real ledger.

    python -m bench.rare_model [--workers 20] [--videos 200]

Simulated workers take turns on a private Postgres: a turn is one video each. The queues are lists
in memory, filled by the feeder's own statements; nothing is computed. Prints the table of
bench/RESULTS.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import deque
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Engine

from db import ledger, schema, session
from db.jobs import abilities, feeding, liveness
from db.jobs.abilities import Ability
from db.jobs.catalogue import Wanted
from db.jobs.outcome import Outcome
from db.jobs.stages import COMMON, Queue
from db.stack.local_stack import LocalStack
from tests.ledgering import Row, declare, execute, one, record, saying, vectors

#: Turns between two feeds; the broker holds at most so many messages a queue.
FEED_TURNS, ROOM = 20, 400


def turns(engine: Engine, abilities_of: list[Ability], rare: int) -> tuple[int, int]:
    """Turns until nothing wants the rare model, and claims that found nothing to make meanwhile."""
    workers = []
    for ability in abilities_of:
        me = saying(uuid4())
        with session.transaction(engine) as connection:
            liveness.beat(connection, _able(me, ability), draining=False, gap_seconds=20.0)
        workers.append((me.worker_id, ability))
    queues: dict[int | None, deque[int]] = {}
    wasted = turn = 0
    while one(
        engine,
        "SELECT count(*) FROM reelvec.jobs WHERE :rare = ANY(encoders) AND state <> 'done'",
        rare=rare,
    ):
        if turn % FEED_TURNS == 0:
            _feed(engine, queues)
        turn += 1
        for worker_id, ability in workers:
            makes_rare = "siglip2" in (ability.models or ())
            for queue in (
                (rare, None) if makes_rare else (None,)
            ):  # rare ones first, as `workers.delivery.transport` reads them
                if not queues.get(queue):
                    continue
                video_id = queues[queue].popleft()
                with session.transaction(engine) as connection:
                    claimed = ledger.claim(
                        connection, video_id, worker_id, job_seconds=60, ability=ability
                    )
                    if claimed is None:
                        wasted += 1
                        continue
                    outcome = Outcome(tuple(vectors(encoder_id) for encoder_id in claimed.encoders))
                    ledger.finish(connection, claimed, outcome, first_delay_seconds=5)
                break
    return turn, wasted


def _able(me: liveness.Worker, ability: Ability) -> liveness.Worker:

    return replace(me, models=list(ability.models or ()))


def _feed(engine: Engine, queues: dict[Queue, deque[int]]) -> None:
    with session.transaction(engine) as connection:
        fleet = abilities.read(connection, stale_seconds=3600.0)
        wanted = [COMMON, *(Queue(makers.encoder_id) for makers in fleet.rare())]
        rooms = {queue: ROOM - len(queues.get(queue, ())) for queue in wanted}
        for queue, video_ids in feeding.feed(connection, fleet, rooms=rooms).items():
            queues.setdefault(queue, deque()).extend(video_ids)


def measure(engine: Engine, workers: int, videos: int) -> None:

    vivit, siglip2 = declare(engine, "vivit"), declare(engine, "siglip2")
    both, without = Ability(("siglip2", "vivit")), Ability(("vivit",))
    print("| what | turns | claims with nothing to make |\n|---|---|---|")
    for what, fleet, others in (
        ("that worker alone", [both], 0),
        (
            f"1 of {workers}, beside {videos * workers:,} videos of all",
            [both] + (workers - 1) * [without],
            videos * workers,
        ),
    ):
        execute(engine, "TRUNCATE reelvec.videos, reelvec.workers CASCADE")
        record(
            engine, [Row(f"s3://a/{index}.mp4") for index in range(others)], Wanted((vivit,), ())
        )
        record(
            engine,
            [Row(f"s3://b/{index}.mp4") for index in range(videos)],
            Wanted((vivit, siglip2), ()),
        )
        took, wasted = turns(engine, fleet, siglip2)
        print(
            f"| {videos} videos that want vivit and siglip2, {what} | {took} | {wasted} |",
            flush=True,
        )


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--workers", type=int, default=20)
    options.add_argument("--videos", type=int, default=200)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        stack = LocalStack(Path(name) / "stack", disposable=True)
        state = stack.up()
        try:
            schema.upgrade(state.database_url)
            with session.connect(state.database_url) as engine:
                measure(engine, chosen.workers, chosen.videos)
        finally:
            stack.down()


if __name__ == "__main__":
    main()
