"""A catalogue to look at, without a worker: videos of every state with pictures, vectors, scores and
failures, a fleet, and what holds it up; and 40 strings that want to be more than text.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from uuid import UUID, uuid4

import numpy as np
from PIL import Image
from sqlalchemy import Connection, Engine, create_engine, text

from db import encoders, session
from db.encoders import Encoder
from db.jobs import outcome
from db.jobs.catalogue import Wanted
from db.jobs.outcome import EncoderRows, Outcome, TaggerRows
from db.labels import LabelSet
from db.stack.local_stack import StackState
from demo.photographs import PHOTOGRAPHS
from producer.results import mapping
from tests import exhibition_judged
from tests.ledgering import Row, declare, execute, record
from workers.sampling import drawing

DIM = 8
DONE, RUNNING, WAITING = 70, 3, 5
STALLED = "the engine gave no answer in 300 s: the device has stalled"
CATEGORIES = {
    "animals": ("Кошка на подоконнике", "A cat looks at the rain", "Котята", "The cat, again"),
    "design": (
        "Coffee cups, a short history",
        "Сверхдлинноназваниевидеороликабезединогопробела" * 2,
        "Tableware",
    ),
    "interview": (
        "Интервью с космонавтом: десять лет на орбите и возвращение домой",
        "An astronaut answers",
        "Q & A",
    ),
    "films": ("Rocket, part 1", "Rocket, part 2", "Ракета: старт", "The last launch", "Ignition"),
    None: ("IMG_2041", "motorbike, slow", "untitled"),
}
LABELS = {
    "en": LabelSet("en", ("a", "b", "c", "d", "e"), ("animals", "design", "interview", "films", "travel")),
    "ru": LabelSet("ru", ("а", "б", "в", "г", "д"), ("животные", "дизайн", "интервью", "фильмы", "путешествия")),
}  # fmt: skip
FAILURES = (
    (
        "truncated",
        "sample",
        "the file ends after 4.1 s of 93.0 s: fetch it again from where it came",
    ),
    ("not_found", "fetch", "there is no such object (any more)"),
    ("damaged", "sample", "31% of the frames are lost, or reported as damaged by the decoder"),
)

#: What a title, an error, a category, an id, a name of a file or of a worker may hold.
HOSTILE = (
    "<script>window.hit=1</script>", "<img src=x onerror=window.hit=2>", "\"><svg onload=window.hit=3>",
    "' onmouseover='window.hit=4", "javascript:window.hit=5", "</title><script>window.hit=6</script>",
    "</script><script>window.hit=7</script>", "<iframe src=javascript:window.hit=8>", "{{ 7 * 7 }}", "{% include 'x' %}",
    "${7*7}", "<style>*{display:none}</style>", "<link rel=stylesheet href=//evil.example/x.css>",
    "<base href=//evil.example/>", "<meta http-equiv=refresh content=0;url=//evil.example>",
    "<form action=//evil.example><button>ok</button></form>", "<a href=//evil.example>click</a>", "<b>bold</b>",
    "&lt;script&gt;window.hit=9&lt;/script&gt;", "&#60;script&#62;window.hit=10", "%3Cscript%3Ewindow.hit=11%3C/script%3E",
    "\u202egnp.exe", "\u2066isolated", "a\x1b[31mred", "first\r\ndata: second\r\n\r\nevent: look", "line\nline",
    "<!--", "]]>", "<details open ontoggle=window.hit=12>", "<video src onerror=window.hit=13>",
    "<math><mi//xlink:href=\"data:x,<script>window.hit=14</script>\">", "<input autofocus onfocus=window.hit=15>",
    "<body onload=window.hit=16>", "'; DROP TABLE reelvec.videos; --", "$(touch /tmp/hit)", "`touch /tmp/hit`", "; rm -rf /",
    "../../../etc/passwd", "data:text/html,<script>window.hit=17</script>", "Ж" * 300,
)  # fmt: skip


#: Which photograph stands for the videos of each category.
PICTURES = (1, 0, 4, 3, 5)


@contextmanager
def opened(stack: StackState, template: str) -> Iterator[tuple[str, Engine]]:
    """A filled database of one's own, for as many tests as only look at it: its address, and
    connections.
    """
    name = f"exhibition_{uuid4().hex[:12]}"
    url = stack.database_url.rsplit("/", 1)[0] + f"/{name}"
    admin = create_engine(stack.database_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy"))
    with session.connect(url) as engine:
        fill(engine)
        yield url, engine
    admin.dispose()  # Postgres may have been restarted
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@cache
def _photograph(number: int) -> Image.Image:
    return Image.open(PHOTOGRAPHS[number % len(PHOTOGRAPHS)].path).convert("RGB")


def picture(photograph: int, shift: float) -> bytes:
    """A strip that pans over a photograph."""
    image = _photograph(photograph)
    side = round(min(image.size) * (0.62 + 0.25 * shift))
    frames = np.zeros((96, 224, 224, 3), np.uint8)
    for place, slot in enumerate(drawing.STRIP_SLOTS):
        left = round((image.width - side) * min(1.0, 0.4 * place + 0.2 * shift))
        upper = round((image.height - side) * (0.15 + 0.7 * shift))
        part = image.crop((left, upper, left + side, upper + side))
        frames[slot] = np.asarray(part.resize((224, 224), Image.Resampling.BILINEAR))
    return drawing.strip(frames)


def bound(engine: Engine, name: str) -> Encoder:
    encoder_id = declare(engine, name)
    with session.transaction(engine) as connection:
        declared = encoders.fetch_encoders(connection, [encoder_id])[encoder_id]
        encoders.bind(connection, declared, weights_digest="aaa", dim=DIM, pooling="mean")
        return encoders.fetch_encoders(connection, [encoder_id])[encoder_id]


def fill(engine: Engine) -> None:
    """Videos 1, 2, ... in the order of `CATEGORIES`: those done, then failed, running and waiting."""
    made = [bound(engine, name) for name in ("vivit", "x-clip", "efficientnet")]
    ids = tuple(one.encoder_id for one in made)
    with session.transaction(engine) as connection:
        taggers = {
            name: encoders.declare_tagger(connection, ids[1], "x-clip", labels)
            for name, labels in LABELS.items()
        }
    named = [(category, title) for category, titles in CATEGORIES.items() for title in titles]
    named = [each for _ in range(5) for each in named][: DONE + len(FAILURES) + RUNNING + WAITING]
    rows = [
        Row(_uri(number, category), external_id=f"rt-{number}", category=category, title=title,
            size_bytes=18_300_000 + 731_000 * number)
        for number, (category, title) in enumerate(named, 1)
    ]  # fmt: skip
    for row in rows:  # one by one: ids in this order
        record(engine, [row], Wanted(ids, tuple(taggers.values())))
    fleet = [_worker(engine, f"gpu{number % 2}", f"node-{1 + number // 2}") for number in range(4)]
    _worker(engine, "gpu1", "node-3", age=400, error=STALLED)
    chance = np.random.default_rng(4)
    minutes = np.sort(chance.beta(1.1, 2.2, DONE) * 52)[::-1].tolist()
    order = list(CATEGORIES)
    for video_id, (category, _) in enumerate(named, 1):
        kind, worker = order.index(category), fleet[video_id % 4]
        with session.transaction(engine) as connection:
            if video_id <= DONE:
                finished = _finished(made, taggers, kind, chance)
                _end(
                    connection, video_id, worker, finished, minutes=minutes[video_id - 1], kind=kind
                )
                if video_id % 7:
                    _keep(connection, video_id, picture(PICTURES[kind], float(chance.random())))
            elif video_id <= DONE + len(FAILURES):
                _fail(
                    connection,
                    video_id,
                    worker,
                    *FAILURES[video_id - DONE - 1],
                    minutes=video_id - DONE,
                )
            elif video_id <= DONE + len(FAILURES) + RUNNING:
                _begin(connection, video_id, worker)
    exhibition_judged.copy_some(engine)
    exhibition_judged.learn(engine)
    _hold_up(engine)


def _uri(number: int, category: str | None) -> str:
    """The last one that waits lies in a place that is closed."""
    place = "old-archive" if number == DONE + len(FAILURES) + RUNNING + WAITING else "archive"
    return f"s3://{place}/{category or 'inbox'}/{number:04}.mp4"


def _finished(
    made: list[Encoder], taggers: dict[str, int], kind: int, chance: np.random.Generator
) -> Outcome:
    rows = []
    for number, encoder in enumerate(made):
        windows = (3, 3, 6)[number]
        centre = np.eye(DIM)[kind] * 2 + chance.normal(0, 0.5, DIM)
        spans = np.linspace(0, 60, windows + 1)
        assert encoder.encoder_id is not None
        rows.append(
            EncoderRows(
                encoder.encoder_id,
                centre.astype(np.float32),
                (centre + chance.normal(0, 0.1, (windows, DIM))).astype(np.float32),
                np.stack([spans[:-1], spans[1:] - 0.6], axis=1).astype(np.float32),
                "bf16",
            )
        )
    logits = chance.normal(0, 0.6, (3, 5)) + 2.4 * np.eye(5)[kind]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores = [
        TaggerRows(tagger, LABELS[name].categories, probabilities.astype(np.float32))
        for name, tagger in taggers.items()
    ]
    return Outcome(tuple(rows), tuple(scores))


def _end(
    connection: Connection, video_id: int, worker: UUID, made: Outcome, *, minutes: float, kind: int
) -> None:
    connection.execute(text("""
UPDATE reelvec.jobs SET state = 'done', attempts = 1, started_at = now() - make_interval(secs => :s + 6.4),
  finished_at = now() - make_interval(secs => :s), bytes_read = 9100000 + 77000 * video_id, fetch_seconds = 0.9 + video_id % 5 * 0.1,
  decode_seconds = 1.6, wait_seconds = 2.9, device_seconds = 0.35 WHERE video_id = :video_id"""),
        {"video_id": video_id, "s": 60 * minutes})  # fmt: skip
    connection.execute(text("""
UPDATE reelvec.videos SET etag = 'e1', codec = 'h264', width_px = 1280, height_px = 720, fps = 25, sampler_version = 1,
  duration_seconds = (ARRAY[7.8, 42, 93, 560, 5400])[:kind + 1] WHERE video_id = :video_id"""),
        {"video_id": video_id, "kind": kind})  # fmt: skip
    outcome.copy_rows(connection, video_id, worker, made)


def _begin(connection: Connection, video_id: int, worker: UUID) -> None:
    connection.execute(text("""
UPDATE reelvec.jobs SET state = 'running', attempts = 1, token = 1, worker_id = :worker, started_at = now(),
  deadline_at = now() + interval '1 h' WHERE video_id = :video_id"""), {"video_id": video_id, "worker": worker})  # fmt: skip


def _fail(
    connection: Connection,
    video_id: int,
    worker: UUID,
    code: str,
    stage: str,
    error: str,
    *,
    minutes: float,
) -> None:
    facts = {
        "video_id": video_id,
        "code": code,
        "error": error,
        "s": 60 * minutes,
        "worker": worker,
        "stage": stage,
    }
    connection.execute(text("""
UPDATE reelvec.jobs SET state = 'failed', attempts = 2, error_code = :code, error = :error, started_at = now() - make_interval(secs => :s + 2),
  finished_at = now() - make_interval(secs => :s) WHERE video_id = :video_id"""), facts)  # fmt: skip
    connection.execute(text("""
INSERT INTO reelvec.attempts (video_id, attempt, stage, error_code, error, worker_id, at)
SELECT :video_id, n, :stage, :code, :error, :worker, now() - make_interval(secs => :s + 60 * (2 - n)) FROM generate_series(1, 2) n
"""), facts)  # fmt: skip


def _keep(connection: Connection, video_id: int, strip: bytes) -> None:
    connection.execute(
        text("INSERT INTO reelvec.strips (video_id, etag, strip) VALUES (:video_id, 'e1', :strip)"),
        {"video_id": video_id, "strip": strip},
    )


def _worker(engine: Engine, name: str, host: str, **more: object) -> UUID:
    facts = {
        "id": uuid4(),
        "name": name,
        "host": host,
        "error": None,
        "device": "cuda:0 NVIDIA H200",
        "age": 2,
        **more,
    }
    execute(engine, """
INSERT INTO reelvec.workers (worker_id, host, pid, device, version, in_flight, samplers, cores, videos_per_batch, name, claimed_at,
  videos_done, videos_failed, videos_per_second, last_error, last_error_at, models, beat_at)
VALUES (:id, :host, 4711, :device, '0.1.0', 9, 4, 8, 4, :name, now(), 1204, 3, 4.6, :error, now() - interval '4 min',
  ARRAY['vivit', 'x-clip', 'efficientnet'], now() - make_interval(secs => :age))""", **facts)  # fmt: skip
    return facts["id"]  # type: ignore[return-value]


def _hold_up(engine: Engine) -> None:
    """A closed place, and a paused backbone."""
    execute(engine, "UPDATE reelvec.places SET closed_at = now() - interval '3 min', error_code = 'access_denied',"
                    " error = 'old-archive: the key may not read this bucket' WHERE place LIKE '%old-archive%'")  # fmt: skip
    execute(engine, "INSERT INTO reelvec.paused_backbones (backbone, paused, reason, at)"
                    " VALUES ('efficientnet', true, 'device_error on 3 workers within a minute', now())")  # fmt: skip


def put_on_map(engine: Engine, video_ids: list[int]) -> None:
    """Make a map of vivit, on which these videos are, too: each where one of the others is.
    Three of those have a tag that is wrong.
    """
    execute(engine, """
INSERT INTO reelvec.video_embeddings
SELECT m.encoder_id, v.video_id, m.embedding, m.dtype, m.worker_id, now()
FROM unnest(CAST(:ids AS bigint[])) WITH ORDINALITY AS v (video_id, place) JOIN reelvec.video_embeddings m ON m.video_id = v.place
WHERE m.encoder_id = (SELECT encoder_id FROM reelvec.encoders WHERE encoder = 'vivit')""", ids=video_ids)  # fmt: skip
    execute(engine, "UPDATE reelvec.scores SET tag = 'travel' WHERE video_id <= 3 AND tagger_id ="
                    " (SELECT tagger_id FROM reelvec.taggers WHERE tagger = 'x-clip/en')")  # fmt: skip
    mapping.make(engine, "vivit", None, anew=False, who="tests", tell=lambda *_: None)


def add_hostile(engine: Engine) -> list[int]:
    """A video, a failure, a worker, a tag and a place of each hostile string; returns the videos."""
    video_ids = []
    with session.transaction(engine) as connection:
        encoder_id = connection.execute(
            text("SELECT encoder_id FROM reelvec.encoders WHERE encoder = 'x-clip'")
        ).scalar_one()
        labels = LabelSet("mine " + HOSTILE[0], HOSTILE, HOSTILE)
        tagger = encoders.declare_tagger(connection, encoder_id, "x-clip", labels)
    for words, other in zip(HOSTILE, itertools.chain(HOSTILE[1:], HOSTILE[:1]), strict=True):
        row = Row(
            f"file:///{words}",
            external_id=words,
            category=other,
            title=words,
            group=words,
            attributes={words: words},
        )
        record(engine, [row], Wanted((encoder_id,), (tagger,)))
        with session.transaction(engine) as connection:
            video_id = connection.execute(
                text("SELECT max(video_id) FROM reelvec.videos")
            ).scalar_one()
            video_ids.append(video_id)
            _fail(connection, video_id, uuid4(), "undecodable", "sample", words, minutes=1)
            probabilities = np.full((1, len(HOSTILE)), 1 / len(HOSTILE), np.float32)
            outcome.copy_rows(
                connection,
                video_id,
                uuid4(),
                Outcome((), (TaggerRows(tagger, HOSTILE, probabilities),)),
            )
        _worker(engine, words, other, device=words, error=words)
    execute(
        engine,
        "UPDATE reelvec.places SET closed_at = now(), error_code = place, error = place || E'\\n' || place",
    )
    execute(engine, "INSERT INTO reelvec.control VALUES ('all', true, :why, now())", why=HOSTILE[0])
    return video_ids
