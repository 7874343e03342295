"""How often a worker waits for Postgres' answer over one video: each time costs the network's own
delay, and nothing else about a far database does.
"""

from __future__ import annotations

import math
import threading
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from db import encoders, ledger, session
from db.jobs.catalogue import Wanted
from db.jobs.outcome import Outcome
from db.media import Media, MediaFacts
from producer.doctor.postgres import ROUND_TRIPS
from tests.ledgering import LABELS, Row, Unwatched, declare, one, record, scores, vectors, worker
from tests.proxy import Direction, Proxy
from workers import tasks
from workers.delivery.refusals import Refusals
from workers.models import Models
from workers.settings import WorkerSettings
from workers.tally import Tally

MEDIA = Media("a", 9, MediaFacts("h264", 64, 48, 25.0, 1.5), 0.0, 1)


class CountingProxy(Proxy):
    """Counts how often the client spoke after it had heard an answer."""

    round_trips = 0
    answered = True

    async def _pass_on(self, link: Any, direction: Direction, data: bytes, sink: Any) -> None:
        if direction == "request":
            self.round_trips += self.answered
        self.answered = direction == "answer"
        await super()._pass_on(link, direction, data, sink)


def test_a_video_costs_as_many_round_trips_as_the_doctor_says(
    database_url: str, engine: Engine
) -> None:
    encoder_id = declare(engine)
    with session.transaction(engine) as connection:
        tagger_id = encoders.declare_tagger(connection, encoder_id, "probe", LABELS)
    rows = [Row(f"file:///v{number}") for number in range(2)]
    record(engine, rows, Wanted((encoder_id,), (tagger_id,)))
    bound = SimpleNamespace(digest="d" * 64, dim=4, pooling="mean")
    outcome = Outcome((vectors(encoder_id),), (scores(tagger_id),), media=MEDIA, strip=b"picture")
    url = make_url(database_url)
    with (
        CountingProxy(f"{url.host}:{url.port}") as proxy,
        session.connect(proxy.url(database_url), pool_size=2) as database,
    ):
        made: Any = SimpleNamespace(
            database=database,
            worker_id=worker(engine),
            engine=object(),
            frame_store=None,
            draining=threading.Event(),
            settings=WorkerSettings(),
            refusals=Refusals(beat_seconds=10.0),
            tally=Tally(),
            models=Models(database, Unwatched(lambda _: bound), WorkerSettings(), Tally()),  # type: ignore[arg-type]
        )
        spent = []
        for video_id in (1, 2):  # the first one loads the model
            before = proxy.round_trips
            claimed = tasks._claim(made, video_id)
            assert claimed is not None
            assert claimed.encoders == (encoder_id,)
            assert len(made.models.owed(claimed)) == 1
            claims = proxy.round_trips - before
            assert tasks._finish(made, claimed, outcome, give_up_at=math.inf) == "done"
            spent.append((claims, proxy.round_trips - before))
    assert spent[1] == (1, ROUND_TRIPS)
    assert one(engine, "SELECT count(*) FROM reelvec.video_embeddings") == 2
    assert one(engine, "SELECT count(*) FROM reelvec.scores") == 2
    assert one(engine, "SELECT count(*) FROM reelvec.strips") == 2
    assert one(engine, "SELECT min(fps) FROM reelvec.videos WHERE etag = 'a'") == 25.0


def test_a_statement_alone_is_committed_and_its_successor_begins_anew(engine: Engine) -> None:
    encoder_id = declare(engine)
    record(engine, [Row("file:///v")], Wanted((encoder_id,), ()))
    with session.one_statement(engine) as connection:
        assert ledger.claim(connection, 1, worker(engine), job_seconds=9.0) is not None
        assert one(engine, "SELECT state FROM reelvec.jobs") == "running"
    with session.transaction(engine) as connection:
        connection.exec_driver_sql("UPDATE reelvec.jobs SET state = 'failed'")
        assert one(engine, "SELECT state FROM reelvec.jobs") == "running"
        connection.rollback()
    assert one(engine, "SELECT state FROM reelvec.jobs") == "running"
