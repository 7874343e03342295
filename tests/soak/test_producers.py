"""Four people enqueue the same 20,000 videos with titles of their own while a worker makes vectors
of them.
"""

from __future__ import annotations

import csv
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.conftest import Desk, WorkerProcess
from tests.fleet import until
from tests.footage import Footage
from tests.ledgering import one
from tests.verdict import wrong

PRODUCERS, VIDEOS = 4, 20_000


def lists(folder: Path, footage: Footage) -> list[Path]:
    """One list a producer: the same addresses in another order and with other titles."""
    uris = [row.uri for row in footage.more(VIDEOS)]
    paths = []
    for producer in range(PRODUCERS):
        random.Random(producer).shuffle(uris)
        path = folder / f"list{producer}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(("uri", "title"))
            rows.writerows((uri, f"{uri} of {producer}") for uri in uris)
        paths.append(path)
    return paths


@pytest.mark.timeout(600)
def test_nobody_is_in_anybody_else_s_way(
    desk: Desk, tmp_path: Path, start_worker: Callable[..., WorkerProcess], engine: Engine
) -> None:
    with Footage.made(tmp_path) as footage, ThreadPoolExecutor(PRODUCERS) as pool:
        worker = start_worker(REELVEC_HTTP_ALLOW_PRIVATE="true")

        def produce(path: Path) -> int:
            told = desk.run("enqueue", str(path), "--backbone", "probe", "--json", anew=True)
            return int(json.loads(told.stdout)["queued"])

        queued = list(pool.map(produce, lists(tmp_path, footage)))
        print(f"queued by each: {queued}; done meanwhile: {done(engine)}")
        assert sum(queued) == VIDEOS
        assert done(engine) > 0, "the worker was busy meanwhile"
        until(lambda: done(engine) >= 100, "the worker goes on")

        desk.run("reelvec", "cancel")
        until(
            lambda: one(
                engine, "SELECT bool_and(state IN ('done', 'cancelled')) FROM reelvec.jobs"
            ),
            "what was begun is finished",
        )
        assert worker.stop() == 0
        assert one(engine, "SELECT count(*) FROM reelvec.jobs JOIN reelvec.videos USING (video_id)") == VIDEOS  # fmt: skip
        assert one(engine, "SELECT count(*) FROM reelvec.attempts") == 0
        commits = Counter(re.findall(r"video (\d+): done", worker.log()))
        assert set(commits.values()) == {1}
        assert wrong(engine, footage.golden) == 0


def done(engine: Engine) -> int:
    return int(str(one(engine, "SELECT count(*) FROM reelvec.jobs WHERE state = 'done'")))
