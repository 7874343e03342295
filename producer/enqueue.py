"""From a source to recorded jobs: select, declare, record, feed. Plain functions; the command is
only an edge.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import TypeVar

from sqlalchemy import Connection

from db import encoders, session, settings
from db.errors import UsageError
from db.jobs import catalogue
from db.jobs.catalogue import Counts, Wanted
from producer import named_categories
from producer.named_categories import CATEGORIES_SHOWN
from producer.request import Request, declared_encoder
from producer.sources.absent import Absent
from producer.sources.reading import RowError, Unmatched, VideoRow, read_source
from producer.wording import plural
from workers.backbones import registry
from workers.settings import WorkerSettings
from workers.sources.s3_endpoint import endpoint
from workers.sources.storage import Storage

T = TypeVar("T")

CHUNK_ROWS = 5_000
ERRORS_SHOWN = 20
#: `--sample` draws the same videos from the same source every time.
SAMPLE_SEED = 0


@dataclass
class Report:
    """What happened, exactly: `listed` rows were read, `bad` of them refused, `counts.selected`
    recorded.

    `unmatched` videos were passed over by `--match`; `other_categories` are the first few of those
    that `--category` passed over, and `without_category` had none. `taggers`: names one would
    expect, and those that scores get. `absent`: local files that a list names in vain.
    """

    listed: int = 0
    bad: int = 0
    warned: int = 0
    first_warning: str | None = None
    counts: Counts = field(default_factory=Counts)
    first_errors: list[RowError] = field(default_factory=list)
    unmatched: Unmatched = field(default_factory=Unmatched)
    other_categories: list[str] = field(default_factory=list)
    without_category: int = 0
    taggers: list[tuple[str, str]] = field(default_factory=list)
    absent: Absent = field(default_factory=Absent)


def declare(connection: Connection, request: Request) -> Wanted:
    """Write down the encoders and taggers asked for; returns their ids."""
    encoder_ids: list[int] = []
    tagger_ids: list[int] = []
    for backbone in dict.fromkeys(request.backbones):
        encoder = declared_encoder(backbone, request.weights, request.sampling)
        encoder_id = encoders.declare_encoder(connection, encoder)
        encoder_ids.append(encoder_id)
        tagger_ids += [
            encoders.declare_tagger(connection, encoder_id, encoder.name, labels)
            for labels in registry.get(backbone).scored(request.label_sets)
        ]
    return Wanted(
        tuple(encoder_ids),
        tuple(tagger_ids),
        request.force,
        strips=request.thumbnails,
        keep_context=request.keep_context,
        keep_frames=request.keep_frames,
    )


def _renamed(connection: Connection, request: Request, wanted: Wanted) -> list[tuple[str, str]]:
    """Label sets that are scored under another name than their file's: it was edited, or the same
    labels had a name.
    """
    names = {labels.digest: labels.name for labels in request.label_sets}
    taggers = encoders.fetch_taggers(connection, wanted.taggers).values()
    expected = [
        (names[t.label_set.digest], t.name.removesuffix(f"/{t.label_set.name}"), t.name)
        for t in taggers
        if t.label_set.digest in names
    ]
    return [
        (f"{encoder}/{name}", real)
        for name, encoder, real in expected
        if f"{encoder}/{name}" != real
    ]


def run(
    connection: Connection, request: Request, *, dry_run: bool, advance: Callable[[int], None]
) -> Report:
    """Record everything selected. `connection` remembers the selection afterwards.

    `advance` hears of every row read. A dry run does it all and rolls back. Raises `UsageError`:
    nothing was selected by a category nobody knows, every row was bad, a source does not exist, or
    none was named and no video is recorded.
    """
    report = _Recording(connection, request, dry_run, advance).report_of_all()
    if dry_run:
        connection.rollback()
    if report.bad and report.bad == report.listed and not report.unmatched.count:
        first = report.first_errors[0]
        raise UsageError(
            f"all {plural(report.bad, 'row')} refused; the first is {first.where}: {first.reason}"
        )
    if not report.listed and not request.sources and request.only_categories:
        recorded = sorted(catalogue.known_categories(connection))
        raise UsageError(
            f"no recorded video has category {' or '.join(map(repr, request.only_categories))}; "
            f"they have: {', '.join(recorded[:CATEGORIES_SHOWN]) or 'none'}. Name a SOURCE to "
            "record others"
        )
    return report


@dataclass
class _Recording:
    """One run. `chosen`: slugs that `--category` means; None: all."""

    _connection: Connection
    _request: Request
    _dry_run: bool
    _advance: Callable[[int], None]
    _report: Report = field(default_factory=Report)

    def report_of_all(self) -> Report:
        connection, request = self._connection, self._request
        if not request.sources:
            _refuse_nothing(connection)
        chosen = named_categories.chosen(connection, request, lambda: _categories_of(request))
        if self._dry_run:
            session.allow_pauses(connection)
        # a source that is not there leaves nothing behind, no encoder either
        rows = _rows(request, self._report.unmatched) if request.sources else None
        self._step(lambda: catalogue.begin(connection))
        wanted = self._step(lambda: declare(connection, request))
        self._report.taggers = self._step(lambda: _renamed(connection, request, wanted))
        if rows is not None:
            self._record_sources(rows, chosen, wanted)
        else:
            self._record_recorded(chosen, wanted)
        return self._report

    def _step(self, change: Callable[[], T]) -> T:
        """A transaction of its own, and again where it met another producer's or a worker's."""
        if self._dry_run:
            return change()
        return session.retrying(lambda: _committed(self._connection, change))

    @property
    def _room(self) -> int:
        """How many videos the next transaction may queue; 0 when the limit is reached."""
        limit = self._request.limit
        left = CHUNK_ROWS if limit is None else max(0, limit - self._report.counts.queued)
        return min(left, CHUNK_ROWS)

    def _record_sources(
        self, rows: Iterator[VideoRow | RowError], chosen: frozenset[str] | None, wanted: Wanted
    ) -> None:
        selected = self._selected(rows, chosen)
        if self._request.sample is not None:
            selected = iter(_draw(selected, self._request.sample))
        while chunk := list(islice(selected, self._room)):
            record = functools.partial(
                catalogue.record, self._connection, chunk, wanted, rehearsal=self._dry_run
            )
            self._report.counts.add(self._step(record))

    def _record_recorded(self, chosen: frozenset[str] | None, wanted: Wanted) -> None:
        categories = None if chosen is None else sorted(chosen)
        after: int | None = 0
        while after is not None and self._room:
            record = functools.partial(
                catalogue.record_known,
                self._connection,
                wanted,
                categories=categories,
                after_video_id=after,
                room=self._room,
            )
            counts, after = self._step(record)
            self._report.listed += counts.selected
            self._advance(counts.selected)
            self._report.counts.add(counts)

    def _selected(
        self, rows: Iterator[VideoRow | RowError], chosen: frozenset[str] | None
    ) -> Iterator[VideoRow]:
        request, report = self._request, self._report
        for row in rows:
            report.listed += 1
            self._advance(1)
            if isinstance(row, RowError):
                report.bad += 1
                if len(report.first_errors) < ERRORS_SHOWN:
                    report.first_errors.append(row)
            elif chosen is None or row.category in chosen:
                if row.warning is not None:
                    report.warned += 1
                    report.first_warning = report.first_warning or row.warning
                report.absent.look(row)
                yield _said(row, request.as_category) if request.as_category else row
            else:
                self._pass_over(row.category)

    def _pass_over(self, category: str | None) -> None:
        shown = self._report.other_categories
        if category is None:
            self._report.without_category += 1
        elif len(shown) < CATEGORIES_SHOWN and category not in shown:
            shown.append(category)


def _refuse_nothing(connection: Connection) -> None:
    is_any = catalogue.is_any_recorded(connection)
    connection.rollback()
    if not is_any:
        raise UsageError(
            "nothing is recorded yet, so there is nothing to queue: name a SOURCE (a folder, "
            "s3://bucket/prefix, a list such as videos.csv, a video file or URL, or - for a list "
            "on stdin), or set REELVEC_SOURCE"
        )


def _said(row: VideoRow, category: str) -> VideoRow:
    """The row with the category that the user gave, which counts as one that a list says."""
    return replace(row, category=category, derived=row.derived - {"category"})


def _committed(connection: Connection, change: Callable[[], T]) -> T:
    with session.transaction(connection):
        return change()


def _categories_of(request: Request) -> set[str]:
    return {
        row.category
        for row in _rows(request)
        if isinstance(row, VideoRow) and row.category is not None
    }


def _rows(request: Request, unmatched: Unmatched | None = None) -> Iterator[VideoRow | RowError]:
    """All sources, opened before the first row, so that a wrong one stops the command while nothing
    is recorded.
    """
    storage = Storage(settings.load(WorkerSettings), roots=None)
    opened = [
        read_source(
            source,
            categories=request.categories,
            match=request.match,
            s3_endpoint=endpoint().host,
            storage=storage,
            unmatched=unmatched,
        )
        for source in request.sources
    ]
    return _closing(storage, chain.from_iterable(opened))


def _closing(
    storage: Storage, rows: Iterator[VideoRow | RowError]
) -> Iterator[VideoRow | RowError]:
    with storage:
        yield from rows


def _draw(rows: Iterable[VideoRow], size: int) -> list[VideoRow]:
    """`size` rows drawn evenly from a stream (reservoir sampling), in the order of the source."""
    chance = random.Random(SAMPLE_SEED)  # noqa: S311 - repeatable on purpose
    kept: list[tuple[int, VideoRow]] = []
    for index, row in enumerate(rows):
        if index < size:
            kept.append((index, row))
        elif (slot := chance.randrange(index + 1)) < size:
            kept[slot] = (index, row)
    return [row for _, row in sorted(kept, key=lambda pair: pair[0])]
