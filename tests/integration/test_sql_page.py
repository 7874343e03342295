"""Every query of docs/sql.md, as printed, gives the right answer on a small catalogue that was made
through the ledger.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from db import encoders, session
from db.errors import ErrorClass
from db.jobs.outcome import EncoderRows, Failure, Outcome, TaggerRows
from db.labels import LabelSet
from db.progress import rates
from producer.results import mapping
from tests import ledgering
from tests.ledgering import Row, execute
from tests.vectors import bound

PAGE = Path(__file__).parents[2] / "docs/sql.md"
TAGS = ("films", "animals")
#: Videos 41 to 49, rt-71 to rt-79: category, direction and the probability of films; or why it failed.
VIDEOS: list[tuple[str, tuple[float, ...] | str, float]] = [
    ("films", (1, 0, 0, 0), 0.9),
    ("films", (1, 0.1, 0, 0), 0.8),
    ("films", (0.6, 0.8, 0, 0), 0.05),
    ("animals", (0, 1, 0, 0), 0.03),
    ("animals", (0, 0, 1, 0), 0.6),
    ("animals", "truncated", 0),
    ("films", (0.8, 0, 0.6, 0), 0.45),
    ("films", "truncated", 0),
    ("films", "no_video", 0),
]


def outcome(
    encoder_ids: list[int], tagger_id: int, made: tuple[float, ...] | str, films: float
) -> Outcome:
    """Windows are the video's direction, turned on by one axis each."""
    if isinstance(made, str):
        return Outcome(failure=Failure("sample", made, ErrorClass.PERMANENT, f"it is {made}"))
    pooled = np.array(made, np.float32)
    windows = np.stack([np.roll(pooled, turn) for turn in range(3)])
    spans = np.array([[0, 9], [10, 19], [20, 29]], np.float32)
    return Outcome(
        tuple(EncoderRows(one, pooled, windows, spans, "float32") for one in encoder_ids),
        (TaggerRows(tagger_id, TAGS, np.tile(np.array([films, 1 - films], np.float32), (3, 1))),),
        bytes_read=1_000_000,
        decode_seconds=36.0,
        device_seconds=7.2,
    )


@pytest.fixture
def ask(engine: Engine, with_ids: bool) -> Callable[[str], list[tuple[Any, ...]]]:
    """Runs what `reelvec db sql` would. Without ids it is a catalogue from a bucket."""
    execute(engine, "ALTER TABLE reelvec.videos ALTER video_id RESTART WITH 41")
    made = [bound(engine, name, 4).encoder_id or 0 for name in ("vivit", "x-clip")]
    with session.transaction(engine) as connection:
        labels = LabelSet("en", ("a film", "an animal"), TAGS)
        tagger = encoders.declare_tagger(connection, made[1], "x-clip", labels)
    worker = ledgering.worker(engine)
    for number, (category, what, films) in enumerate(VIDEOS):
        own = f"rt-{71 + number}" if with_ids else None
        row = Row(f"s3://bucket/{number}.mp4", external_id=own, category=category)
        ledgering.record(engine, [row], ledgering.Wanted(tuple(made), (tagger,)))
        claimed = ledgering.claim(engine, 41 + number, worker)
        assert claimed is not None
        ledgering.finish(engine, claimed, outcome(made, tagger, what, films))
    execute(
        engine,
        "INSERT INTO reelvec.videos (uri, category) VALUES ('s3://bucket/new.mp4', 'animals')",
    )

    execute(  # of one hour, one after the other
        engine,
        "UPDATE reelvec.jobs SET finished_at = date_trunc('hour', now()) - interval '1 hour' + video_id * interval '1 s'",
    )

    mapping.make(engine, "vivit", None, anew=False, who="me", tell=lambda *_: None)

    def answer(query: str) -> list[tuple[Any, ...]]:
        with engine.connect() as connection:
            found = rates.query(connection, query, write=query.startswith("DELETE"), tell=str)[1]
            connection.commit()
            connection.invalidate()  # a session that may not write
        return [tuple(_plain(cell) for cell in row) for row in found]

    return answer


def _plain(cell: Any) -> Any:
    return cell if isinstance(cell, str | int | list) or cell is None else _number(cell)


def _number(cell: Any) -> Any:
    try:
        return round(float(cell), 3)
    except TypeError:
        return "a time"


NEAR_42 = [("rt-71", 0.005), ("rt-77", 0.204), ("rt-73", 0.323), ("rt-74", 0.901), ("rt-75", 1.0)]
URI = {f"rt-{71 + number}": f"s3://bucket/{number}.mp4" for number in range(9)}
#: What the page says to write for a video that has no id.
BY_ADDRESS = ("external_id = 'rt-77'", f"uri = '{URI['rt-77']}'")
COST = ("3906 kB", 0.04, 0.008)
#: What each section's queries answer; times stand as "a time".
ANSWERS: dict[str, list[list[tuple[Any, ...]]]] = {
    "The best tag of each video": [[
        ("rt-71", "films", 0.9, "x-clip/en"), ("rt-72", "films", 0.8, "x-clip/en"),
        ("rt-73", "animals", 0.95, "x-clip/en"), ("rt-74", "animals", 0.97, "x-clip/en"),
        ("rt-75", "films", 0.6, "x-clip/en"), ("rt-77", "animals", 0.55, "x-clip/en"),
    ]],
    "The best three, keyed by your own id": [[
        ("rt-71", ["films", "animals"]), ("rt-72", ["films", "animals"]),
        ("rt-73", ["animals", "films"]), ("rt-74", ["animals", "films"]),
        ("rt-75", ["films", "animals"]), ("rt-77", ["animals", "films"]),
    ]],
    "The videos nearest to one": [
        [(int(name[-2:]) - 30, name, distance) for name, distance in NEAR_42],
        [("rt-71", 0.2), ("rt-72", 0.204), ("rt-75", 0.4), ("rt-73", 0.52), ("rt-74", 1.0)],
    ],
    "The nearest within a category": [NEAR_42[3:]],
    "Where videos lie on the map": [[("rt-73", 0.635), ("rt-77", 0.492), ("rt-71", 0.276), ("rt-72", 0.229)]],
    "Duplicates": [[("rt-71", "rt-72", 0.005)]],
    "Uploads that are probably in the wrong category": [[("rt-73", "films", "animals", 0.95)]],
    "Which category is taken for which": [[
        ("animals", "animals", 1), ("animals", "films", 1), ("films", "animals", 2), ("films", "films", 2),
    ]],
    "How far each model has come": [
        [("vivit", "animals", 2, 4), ("vivit", "films", 4, 6), ("x-clip", "animals", 2, 4), ("x-clip", "films", 4, 6)],
        [(46, "failed", "truncated"), (48, "failed", "truncated"), (49, "failed", "no_video"),
         (50, "never queued", None)],
    ],
    "What failed, and an example of each": [[
        ("truncated", 2, "s3://bucket/5.mp4", "it is truncated"), ("no_video", 1, "s3://bucket/8.mp4", "it is no_video"),
    ]],
    "What it cost, by hour and by category": [[
        ("a time", "animals", 2, "1953 kB", 0.02, 0.004), ("a time", "films", 4, *COST),
    ]],
    "What is new since the last time": [[
        ("rt-71", "a time", "films", 0.9), ("rt-72", "a time", "films", 0.8), ("rt-73", "a time", "animals", 0.95),
        ("rt-74", "a time", "animals", 0.97), ("rt-75", "a time", "films", 0.6), ("rt-77", "a time", "animals", 0.55),
    ]],
    "Where the numbers come from": [[("vivit", 4, "MIT", None), ("x-clip", 4, "MIT", None)]],
    "A takedown": [[(47, "s3://bucket/6.mp4")]],
    "When there are many": [[("rt-72", 0.0), ("rt-71", 0.005), ("rt-73", 0.323)]],
}  # fmt: skip


def sections() -> dict[str, list[str]]:
    """The queries of each section that has any."""
    parts = re.split(r"^## (.+)\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    found = {
        title: re.findall(r"^```sql\n(.*?)^```", body, re.MULTILINE | re.DOTALL)
        for title, body in zip(parts[::2], parts[1::2], strict=True)
    }
    return {title: queries for title, queries in found.items() if queries}


def shown(answer: list[tuple[Any, ...]], with_ids: bool) -> list[tuple[Any, ...]]:
    """What is answered where videos have no ids: their addresses take the place of these."""
    return answer if with_ids else [tuple(_address(cell) for cell in row) for row in answer]


def _address(cell: Any) -> Any:
    return URI.get(cell, cell) if isinstance(cell, str) else cell


@pytest.mark.parametrize("with_ids", [True, False], ids=["list", "bucket"])
def test_every_query_of_the_page_answers_what_it_says(
    ask: Callable[[str], list[tuple[Any, ...]]], with_ids: bool
) -> None:
    found = sections()
    (windows,) = found.pop("The moments nearest to a moment")
    near = ask(windows)
    assert len(near) == 10
    # of a twin's beginning, and of another's end, which has turned into it
    twins = [("rt-71", 0, 0.0, 9.0, 0.005), ("rt-75", 2, 20.0, 29.0, 0.005)]
    assert sorted(near[:2]) == shown(twins, with_ids)
    assert list(found) == list(ANSWERS)
    for title, queries in found.items():
        asked = queries if with_ids else [query.replace(*BY_ADDRESS) for query in queries]
        assert [ask(query) for query in asked] == [
            shown(answer, with_ids) for answer in ANSWERS[title]
        ], title
    assert ask("SELECT count(*) FROM embeddings WHERE video_id = 47") == [(0,)]
