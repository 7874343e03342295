"""Probabilities in bulk, as one numpy array."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, text

from db.errors import UsageError
from db.jobs.outcome import KEPT_TAGS, WHOLE_CATEGORIES
from db.results import arrays


@dataclass(frozen=True)
class Scoring:
    """A tagger as its scores are read: `categories` name the K columns of its probabilities,
    `windows` of which there are for each video.
    """

    tagger_id: int
    tagger: str
    categories: list[str]
    windows: int


@dataclass(frozen=True)
class Probabilities:
    """`video_ids` int64 [n], ascending; `probabilities` float32 [n, K], or [n, windows, K]."""

    video_ids: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]


_TAGGER = text("""
SELECT tagger_id, tagger, categories, 96 / frames_per_window AS windows
FROM reelvec.taggers JOIN reelvec.encoders USING (encoder_id) WHERE tagger = :tagger
""")


def known_tagger(connection: Connection, tagger: str) -> Scoring:
    """Raises `UsageError` for a name that no tagger has, and for a tagger of which not every
    probability is kept.
    """
    found = connection.execute(_TAGGER, {"tagger": tagger}).first()
    if found is None:
        known = ", ".join(names(connection)) or "none"
        raise UsageError(f"there is no tagger {tagger!r}; there are {known}")
    if len(found.categories) > WHOLE_CATEGORIES:
        raise UsageError(
            f"{tagger} has {len(found.categories):,} categories, of which only the best "
            f"{KEPT_TAGS} of a video are kept, by name: read them from the view tags"
        )
    return Scoring(found.tagger_id, found.tagger, list(found.categories), found.windows)


def names(connection: Connection) -> list[str]:
    """Of all taggers."""
    return list(connection.execute(text("SELECT tagger FROM reelvec.taggers ORDER BY 1")).scalars())


def count(connection: Connection, scoring: Scoring, *, to: int | None = None) -> int:
    """How many videos a tagger has scored, up to the video `to`."""
    return arrays.count(connection, *_of(scoring), to=to)


def score_blocks(
    connection: Connection, scoring: Scoring, *, windows: bool = False, after: int = 0
) -> Iterator[Probabilities]:
    """Of all videos that a tagger has scored, inside a `vectors.snapshot`, in blocks."""
    categories = len(scoring.categories)
    field = (
        ("window_probabilities", arrays.real_array(scoring.windows, categories))
        if windows
        else ("probabilities", arrays.real_array(categories))
    )
    fields = (arrays.VIDEO_ID, field)
    for found in arrays.read_blocks(connection, *_of(scoring), fields, after=after):
        yield Probabilities(found["video_id"].astype(np.int64), arrays.numbers(found[field[0]]))


def whole(connection: Connection, scoring: Scoring) -> Probabilities:
    """Of all videos that a tagger has scored, inside a `vectors.snapshot`."""
    rows = count(connection, scoring)
    shape = (rows, len(scoring.categories))
    found = Probabilities(np.empty(rows, np.int64), np.empty(shape, np.float32))
    at = 0
    for block in score_blocks(connection, scoring):
        end = at + len(block.video_ids)
        found.video_ids[at:end] = block.video_ids
        found.probabilities[at:end] = block.probabilities
        at = end
    return found


def _of(scoring: Scoring) -> tuple[str, str]:
    return "reelvec.scores", f"tagger_id = {scoring.tagger_id}"
