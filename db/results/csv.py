"""Numbers as CSV, written by Postgres itself: it prints a float32 with as few digits as give it
back, and a hundred times as fast as Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO

from sqlalchemy import Connection

from db import copy
from db.encoders import Encoder
from db.results.scores import Scoring
from db.results.videos import BEST_TAG, COLUMNS

_POOLED = "m.embedding AS vector FROM reelvec.video_embeddings m"
_WINDOWS = """m.window_index, m.start_seconds, m.end_seconds, m.embedding AS vector
FROM reelvec.window_embeddings m"""
_SCORES = """translate(CAST(m.probabilities AS text), '{}', '[]') AS probabilities FROM reelvec.scores m"""
_WINDOW_SCORES = """window_number - 1 AS window_index, translate(
  CAST(array(SELECT unnest(m.window_probabilities[window_number:window_number])) AS text), '{}', '[]') AS probabilities
FROM reelvec.scores m CROSS JOIN LATERAL generate_subscripts(m.window_probabilities, 1) AS window_number"""


def write(
    connection: Connection,
    of: Encoder | Scoring,
    file: IO[bytes],
    *,
    windows: bool,
    tell: Callable[[int], None],
) -> None:
    """A header, and one row a video or window, whose numbers are one cell: `[0.1,0.2]`.

    `tell` hears now and then how many rows are written.
    """
    if isinstance(of, Scoring):
        numbers = _WINDOW_SCORES if windows else _SCORES
        whose = f"m.tagger_id = {of.tagger_id}"
    else:
        numbers = _WINDOWS if windows else _POOLED
        whose = f"m.encoder_id = {of.encoder_id}"
    order = "m.video_id, window_index" if windows else "m.video_id"
    lines = _Lines(file, tell)
    copy.run(
        connection,
        f"COPY (SELECT {COLUMNS}, {numbers} JOIN reelvec.videos v USING (video_id) "
        f"{BEST_TAG} WHERE {whose} ORDER BY {order}) TO STDOUT WITH (FORMAT csv, HEADER)",
        lines,
    )
    tell(lines.rows - 1)


class _Lines:
    """A file that is told how many lines went into it: the driver writes them one by one."""

    def __init__(self, file: IO[bytes], tell: Callable[[int], None]) -> None:
        self._file = file
        self._tell = tell
        self.rows = 0

    def write(self, line: bytes) -> int:
        self.rows += 1
        if self.rows % 10_000 == 0:
            self._tell(self.rows - 1)
        return self._file.write(line)
