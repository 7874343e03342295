"""A catalogue of videos: everything that was made of them, for Python and notebooks."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from db import encoders, schema, search, session
from db.errors import ReelvecError, UsageError
from db.jobs import catalogue as jobs
from db.jobs.selection import Selection
from db.progress import rates
from db.progress.rates import Failed
from db.results import scores as stored_scores
from db.results import vectors as stored_vectors
from db.results.vectors import Windows
from db.search import Hit
from workers.sampling import policies

if TYPE_CHECKING:
    import pyarrow

    from producer.enqueue import Report
    from producer.wait import Ended


log = logging.getLogger(__name__)


class Vectors(NamedTuple):
    """`ids` int64 [n], ascending; `vectors` float32 [n, d]: row i is of video `ids[i]`."""

    ids: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]


class Scores(NamedTuple):
    """`ids` int64 [n], ascending; `probabilities` float32 [n, K] in the order of `categories`."""

    ids: npt.NDArray[np.int64]
    categories: list[str]
    probabilities: npt.NDArray[np.float32]


@contextmanager
def connect(database_url: str | None = None) -> Iterator[Catalogue]:
    """The catalogue in a database: the one given, or the one that the commands would use here
    (`REELVEC_DATABASE_URL` and `REELVEC_BROKER_URL`, or the local stack).

    Raises `db.errors.ReelvecError`: no address, no answer, a schema of another version.

        with reelvec.connect() as catalogue:
            ids, vectors = catalogue.vectors("vivit")
    """
    from db.stack import addresses

    found = None if database_url else addresses.resolve()
    url = found.database_url if found else str(database_url)
    with session.connect(url, statement_seconds=math.inf) as database:
        with session.transaction(database) as connection:
            schema.check(connection)
        catalogue = Catalogue(database, broker_url=found.broker_url if found else None)
        try:
            yield catalogue
        finally:
            catalogue.close()


class Catalogue:
    """What `connect` gives. Each call that reads is a short transaction of its own."""

    def __init__(self, database: Engine, *, broker_url: str | None) -> None:
        self._database = database
        self._broker_url = broker_url
        #: Remembers which videos `wait` waits for.
        self._queued: Connection | None = None

    def close(self) -> None:
        if self._queued is not None:
            self._queued.close()

    def encoders(self) -> list[str]:
        """Names of the embedding spaces that were ever asked for."""
        with session.transaction(self._database) as connection:
            return encoders.names(connection)

    def vectors(self, encoder: str) -> Vectors:
        """All vectors of an encoder, one a video, as one array. Ids and vectors are of one moment.

        Raises `UsageError` for a name that no encoder has, and for one without vectors.
        """
        with stored_vectors.snapshot(self._database) as connection:
            found = stored_vectors.pooled(connection, encoders.known_encoder(connection, encoder))
        return Vectors(found.video_ids, found.vectors)

    def windows(self, encoder: str) -> Windows:
        """All vectors of windows of an encoder: stored as float16, given as float32."""
        with stored_vectors.snapshot(self._database) as connection:
            return stored_vectors.all_windows(
                connection, encoders.known_encoder(connection, encoder)
            )

    def frame(self, name: str, *, windows: bool = False) -> pyarrow.Table:
        """The table that `reelvec export NAME --to FILE.parquet` writes: one row a video (or
        window) with its id, address, category, title, best tag and `vector`, a list of d float32;
        of a tagger `probabilities` instead. `.to_pandas()` makes a DataFrame of it.

        Needs pyarrow. Raises `UsageError` for a name that no encoder and no tagger has.
        """
        from producer.results import parquet, rows

        with stored_vectors.snapshot(self._database) as connection:
            taken = rows.find(connection, name, windows=windows)
            with taken.read(connection) as blocks:
                return parquet.whole(blocks, taken)

    def neighbours(
        self, video_id: int, encoder: str, k: int = 10, category: str | None = None
    ) -> list[Hit]:
        """The `k` videos nearest to one, by 1 - cosine, the nearest first, without itself;
        `category`: only those of it.

        Raises `ReelvecError` with the database's own words for a video or encoder that is not
        there.
        """
        with self._read() as connection:
            within = _recorded(connection, category)
            return search.neighbours(connection, video_id, encoder, limit=k, category=within)

    def search(
        self,
        sought: str | Path,
        *,
        backbone: str | None = None,
        k: int = 10,
        category: str | None = None,
        windows: bool = False,
    ) -> list[Hit]:
        """What `reelvec search` finds: the `k` videos (or windows: `db.search.WindowHit`) nearest
        to a recorded video (its number, your own id, its address), to a video file, or to words.

        Words and files need torch and the weights of a model whose vectors are there; `backbone`
        names it, or any encoder. Raises `UsageError` where nothing of the kind is there,
        `VideoError` for a file that cannot be embedded, `RefusedConfigurationError` for other
        weights than those of the stored vectors.
        """
        from producer import search as desk
        from producer.sought import recognised

        space = desk.checked(desk.Space(backbone))
        with self._read() as connection:
            found = recognised(connection, str(sought), log.warning)
            asked = desk.Asked(k, _recorded(connection, category), windows)
        return list(desk.find(self._database, found, space, asked, log.info))

    def scores(self, tagger: str) -> Scores:
        """Probabilities of all videos that a tagger (`x-clip/en`) has scored.

        Raises `UsageError` for a name that no tagger has, and for a tagger of more than 200
        categories, of which the best 20 of a video are kept by name.
        """
        with stored_vectors.snapshot(self._database) as connection:
            scoring = stored_scores.known_tagger(connection, tagger)
            found = stored_scores.whole(connection, scoring)
        return Scores(found.video_ids, scoring.categories, found.probabilities)

    def failures(self) -> list[Failed]:
        """Videos that failed for good, with code and reason, the latest first."""
        with session.transaction(self._database) as connection:
            return rates.failures(connection, Selection(), limit=None)

    def enqueue(
        self,
        *sources: str | Path,
        categories: Sequence[str] = (),
        as_category: str | None = None,
        match: str | None = None,
        labels: Path | None = None,
        backbones: Sequence[str] = (),
        weights: str = "pretrained",
        sampling: str = policies.DEFAULT,
        limit: int | None = None,
        sample: int | None = None,
        force: bool = False,
        dry_run: bool = False,
    ) -> Report:
        """Record videos and queue them, as the command `enqueue` does with the options of these
        names (`categories` is its `--category`, `as_category` its `--as`).

        What happened is in the report: `listed` rows, `bad` ones with `first_errors`, and `counts`
        of what is queued, done and waiting. Twice adds nothing. Raises `UsageError` for what the
        command would refuse, `UnavailableError` where the broker does not answer: the videos are
        recorded then, and workers queue them.
        """
        from producer import enqueue, named_categories
        from producer.request import Options, checked
        from workers import feeder
        from workers.app import app

        self._broker()
        request = checked(
            Options(
                sources=[str(source) for source in sources],
                only_categories=categories,
                as_category=as_category,
                match=match,
                labels=labels,
                backbones=backbones,
                weights=weights,
                sampling=sampling,
                limit=limit,
                sample=sample,
                force=force,
            )
        )
        if as_category is not None:
            with self._read() as connection:
                new = named_categories.made_anew(connection, request)
            if new is not None:
                log.warning("%s", new)
        if dry_run:
            with self._database.connect() as connection:
                return enqueue.run(connection, request, dry_run=True, advance=lambda _rows: None)
        self._queued = self._queued or self._database.connect()
        report = enqueue.run(self._queued, request, dry_run=False, advance=lambda _rows: None)
        feeder.feed(self._database, app)
        return report

    def wait(self) -> Ended:
        """Wait until the videos of the last `enqueue` have ended; without one, all that wait now.

        Says on stderr what holds them up. Raises `ReelvecError` if nothing goes on for two
        minutes; the videos stay queued.
        """
        from producer import wait

        broker_url = self._broker()
        if self._queued is None:
            self._queued = self._database.connect()
            with self._queued.begin():
                jobs.begin(self._queued)
                jobs.select_waiting(self._queued)
        ended = wait.follow(self._database, self._queued, broker_url)
        if ended.left:
            raise ReelvecError(ended.stalled)
        return ended

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        """A transaction whose errors are in this project's words."""
        try:
            with session.transaction(self._database) as connection:
                yield connection
        except DBAPIError as error:
            raise session.translated(self._database, error) from error

    def _broker(self) -> str:
        if self._broker_url is None:
            raise UsageError(
                "a catalogue that was connected by its address can only be read: to queue videos "
                "set REELVEC_DATABASE_URL and REELVEC_BROKER_URL, and connect() without an address"
            )
        return self._broker_url


def _recorded(connection: Connection, category: str | None) -> str | None:
    """The category as videos have it, whatever it was called."""
    from producer.selectors import recorded_category

    return None if category is None else recorded_category(connection, category)
