"""The page Judge: how right tags are, what is mistaken for what, and which videos are nearly the
same; all of it by the functions of `reelvec evaluate` and `reelvec dedupe`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import urlencode

from sqlalchemy import Engine

from db import session
from db.errors import ReelvecError
from db.results import heads, judged
from db.results.heads import Kept
from db.results.judged import Cell
from producer.results.evaluate import zero_shots
from producer.results.figures import Bin, Calibration, Share
from producer.results.zero_shot import Way, ZeroShot
from producer.ui import copies
from producer.ui.copies import Copies
from producer.wording import listed, plural

log = logging.getLogger(__name__)

#: Judging takes seconds on a large catalogue, and says little new a minute later.
PAUSE_SECONDS = 300.0
STATEMENT_SECONDS = 60.0
#: Of a label set; the probabilities of so many with 47 categories and three windows take 60 MB.
VIDEOS = 100_000
LEARN = "reelvec evaluate --encoder {} --save genres"


@dataclass(frozen=True)
class Judged:
    """One tagger. `kind` is None of one that reads texts, else how the head was learnt, from the
    vectors of `encoders`; a head's figures are of videos that its like had not seen. `ways` are the
    other ways to take a video's windows together. `cells` are None where none were kept.
    """

    tagger: str
    kind: str | None
    encoders: tuple[str, ...]
    videos: int
    categories: int
    shares: tuple[Share, ...]
    calibration: Calibration
    cells: tuple[Cell, ...] | None
    ways: tuple[Way, ...] = ()
    remarks: tuple[str, ...] = ()

    def share(self, k: int) -> Share | None:
        """Of the videos whose category is among the first `k`; None: there are no more categories
        than that.
        """
        return next((one for one in self.shares if one.k == k), None)

    def address(self, cell: Cell) -> str:
        """Where the videos of a cell are to be seen."""
        said_by = "tagger" if self.kind is None else "held_out"
        asked = {"category": cell.category, "tag": cell.tag, said_by: self.tagger}
        return "/look?" + urlencode(asked)


@dataclass(frozen=True)
class Lacking:
    """What is not there to be judged, and the command that brings it."""

    words: str
    command: str


@dataclass(frozen=True)
class Judgement:
    """`away` says why there is nothing newer, `took_seconds` how long it was in the making."""

    judged: tuple[Judged, ...]
    copies: tuple[Copies, ...]
    lacking: tuple[Lacking, ...]
    made_at: datetime
    took_seconds: float
    away: str | None = None

    def chosen(self, tagger: str | None) -> Judged | None:
        """The one of this name, else the one that is right most often."""
        named = [one for one in self.judged if one.tagger == tagger]
        return max(named or self.judged, key=lambda one: one.shares[0].percent, default=None)


class Judging:
    """Makes one judgement after the other, of at most a statement at a time."""

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._last = Judgement((), (), (), datetime.now(UTC), 0.0)

    def take(self) -> Judgement:
        """Never raises: a page says what is wrong, and shows what it had."""
        try:
            self._last = self.look()
        except ReelvecError as error:
            self._last = replace(self._last, away=str(error))
        except Exception as error:
            log.exception("the page Judge could not be made")
            self._last = replace(self._last, away=f"{type(error).__name__}: {error}")
        return self._last

    def look(self) -> Judgement:
        """Raises `UnavailableError`."""
        started = time.monotonic()
        with session.transaction(self._database) as connection:
            has_categories = judged.has_categories(connection)
            learnt = [_head(one) for one in heads.kept(connection)]
        read = [_text(one) for one in zero_shots(self._database, (), _unheard, most=VIDEOS)]
        alike = copies.every(self._database)
        names = [one.encoder for one in alike]
        return Judgement(
            (*read, *learnt),
            alike,
            tuple(
                lacking(
                    names,
                    has_categories=has_categories,
                    has_texts=bool(read),
                    has_heads=bool(learnt),
                )
            ),
            datetime.now(UTC),
            time.monotonic() - started,
        )


def _unheard(_steps: int) -> Callable[[], None]:
    return lambda: None


def _text(found: ZeroShot) -> Judged:
    remarks = []
    if found.every > 1:
        remarks.append(
            f"Judged is one of {found.every} videos, to spare memory: reelvec evaluate reads all."
        )
    if found.unknown:
        remarks.append(f"Left out: {plural(found.unknown, 'video')} of categories it has not.")
    if found.small:
        few = listed([f"{category} {count}" for category, count in found.small.items()])
        remarks.append(f"Few videos, so chance decides much there: {few}.")
    if found.missing:
        remarks.append(f"{found.missing[:1].upper()}{found.missing[1:]}.")
    *others, whole = found.ways
    return Judged(
        found.tagger,
        None,
        (found.tagger.partition("/")[0],),
        found.videos,
        found.categories,
        whole.shares,
        found.calibration,
        found.confusion,
        tuple(others),
        tuple(remarks),
    )


def _head(row: Kept) -> Judged:
    found: Mapping[str, object] = row.judgement
    return Judged(
        row.tagger,
        row.kind,
        row.encoders,
        row.videos,
        len(row.categories),
        tuple(Share(**one) for one in row.judgement["shares"]),
        Calibration(
            row.judgement["calibration"]["error"],
            tuple(Bin(**one) for one in row.judgement["calibration"]["bins"]),
        ),
        _cells(row) if "confusion" in found else None,
    )


def _cells(row: Kept) -> tuple[Cell, ...]:
    return tuple(
        Cell(category, tag, videos)
        for category, counts in zip(row.categories, row.judgement["confusion"], strict=True)
        for tag, videos in zip(row.categories, counts, strict=True)
        if videos
    )


def lacking(
    encoders: Sequence[str], *, has_categories: bool, has_texts: bool, has_heads: bool
) -> list[Lacking]:
    """What would have to be there to judge more; `encoders` are those with a vector."""
    found = []
    if not has_categories:
        found.append(
            Lacking(
                "No video has a category, so there is nothing to compare tags with. Categories "
                "come from folders, from the column category of a list, or by name:",
                "enqueue ./films --as films",
            )
        )
    elif not has_texts:
        found.append(
            Lacking(
                "No tagger has scored a video of a category that it knows. One that reads texts "
                "comes with x-clip; your own categories come as a list:",
                "enqueue --backbone x-clip --labels tags.csv",
            )
        )
    if not encoders:
        found.append(Lacking("No video has a vector yet.", "reelvec status"))
    elif has_categories and not has_heads:
        found.append(
            Lacking(
                "No head is kept. A head learns your own categories from vectors, within minutes:",
                LEARN.format(encoders[0]),
            )
        )
    return found
