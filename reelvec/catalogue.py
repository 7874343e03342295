"""A catalogue of videos: everything that was made of them, for Python and notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import Engine

from db import encoders, schema, search, session
from db.errors import UsageError
from db.jobs.selection import Selection
from db.progress import rates
from db.progress.rates import Failed
from db.results import scores as stored_scores
from db.results import vectors as stored_vectors
from db.results import videos as stored_videos
from db.results.vectors import Windows
from db.search import Hit


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
    (`DATABASE_URL` and `CELERY_BROKER_URL`, or the local stack).

    Raises `db.errors.ReelvecError`: no address, no answer, a schema of another version.

        with reelvec.connect() as catalogue:
            ids, vectors = catalogue.vectors("vivit")
    """
    from db.stack import addresses

    url = database_url or addresses.resolve().database_url
    with session.connect(url, statement_seconds=float("inf")) as database:
        with session.transaction(database) as connection:
            schema.check(connection)
        yield Catalogue(database)


class Catalogue:
    """What `connect` gives. Each call is a short transaction of its own."""

    def __init__(self, database: Engine) -> None:
        self._database = database

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
            blocks = list(
                stored_vectors.window_blocks(
                    connection, encoders.known_encoder(connection, encoder)
                )
            )
        if not blocks:
            raise UsageError(f"{encoder} has no windows: its videos were queued with --no-windows")
        columns = ("video_ids", "window_index", "spans_seconds", "vectors")
        return Windows(*(np.concatenate([getattr(b, name) for b in blocks]) for name in columns))

    def frame(self, encoder: str) -> Any:
        """The same as a pandas `DataFrame`: one row a video, its id, address, category, title and
        best tag, and a column `vector` of float32 arrays [d]. Needs pandas.
        """
        import pandas

        with stored_vectors.snapshot(self._database) as connection:
            found = stored_vectors.pooled(connection, encoders.known_encoder(connection, encoder))
            facts = stored_videos.facts(connection, found.video_ids.tolist())
        table = pandas.DataFrame([vars(video) for video in facts])
        table["vector"] = list(found.vectors)
        return table

    def neighbours(self, video_id: int, encoder: str, k: int = 10) -> list[Hit]:
        """The `k` videos nearest to one, by 1 - cosine, the nearest first, without itself."""
        with session.transaction(self._database) as connection:
            return search.neighbours(connection, video_id, encoder, limit=k)

    def search(self, words: str, *, backbone: str = "siglip2", k: int = 10) -> list[Hit]:
        """The `k` videos nearest to words. Loads the model's text tower on the CPU, so it needs
        torch and the weights.
        """
        from producer.search import nearest_videos, searched_encoder

        encoder = searched_encoder(backbone, weights="pretrained", sampling="notebook")
        return nearest_videos(self._database, encoder, words, limit=k)

    def scores(self, tagger: str) -> Scores:
        """Probabilities of all videos that a tagger (`x-clip/en`) has scored."""
        with stored_vectors.snapshot(self._database) as connection:
            return Scores(*stored_scores.of_tagger(connection, tagger))

    def failures(self) -> list[Failed]:
        """Videos that failed for good, with code and reason."""
        with session.transaction(self._database) as connection:
            return rates.failures(connection, Selection(), limit=None)
