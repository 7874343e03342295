"""Vectors as CSV, written by Postgres itself: it prints a number with as few digits as give it back,
and a hundred times as fast as Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO

from sqlalchemy import Connection

from db import copy
from db.encoders import Encoder
from db.results.videos import BEST_TAG, COLUMNS

_POOLED = """
SELECT {columns}, m.embedding AS vector FROM reelvec.video_embeddings m JOIN reelvec.videos v USING (video_id)
{best_tag} WHERE m.encoder_id = {encoder_id} ORDER BY m.video_id
"""
_WINDOWS = """
SELECT {columns}, m.window_index, m.start_seconds, m.end_seconds, m.embedding AS vector
FROM reelvec.window_embeddings m JOIN reelvec.videos v USING (video_id)
{best_tag} WHERE m.encoder_id = {encoder_id} ORDER BY m.video_id, m.window_index
"""


def write(
    connection: Connection,
    encoder: Encoder,
    file: IO[bytes],
    *,
    windows: bool,
    tell: Callable[[int], None],
) -> None:
    """A header, and one row a vector, which is one cell in pgvector's form: `[0.1,0.2]`.

    `tell` hears now and then how many rows are written.
    """
    statement = (_WINDOWS if windows else _POOLED).format(
        columns=COLUMNS, best_tag=BEST_TAG, encoder_id=encoder.encoder_id
    )
    lines = _Lines(file, tell)
    copy.run(connection, f"COPY ({statement}) TO STDOUT WITH (FORMAT csv, HEADER)", lines)
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
