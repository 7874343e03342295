"""What is written, whatever the form of the file: the numbers of videos, with what is known of
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from db import encoders
from db.encoders import Encoder
from db.errors import ReelvecError, UsageError
from db.results import maps, scores, vectors, videos
from db.results.scores import Scoring
from producer.results.ahead import ahead

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True)
class Rows:
    """Some videos: `facts` of each by the names of `db.results.videos.FACTS`, and `numbers` float32
    [n, d], or [n, w, d] of w windows; then of vectors also `spans_seconds` float32 [n, w, 2] from
    the beginning of the video. `places` float32 [n, 2] on the map, NaN where one has none; None:
    there is no map.
    """

    facts: dict[str, tuple[Any, ...]]
    numbers: npt.NDArray[np.float32]
    spans_seconds: npt.NDArray[np.float32] | None = None
    places: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Taken:
    """What is taken out: the vectors of an encoder, or the probabilities of a tagger. `shape` is
    that of one video's numbers: [d], or [w, d] of w windows. `map_id`: of an encoder that has a
    map.
    """

    of: Encoder | Scoring
    videos: int
    shape: tuple[int, ...]
    map_id: int | None = None

    @property
    def name(self) -> str:
        return self.of.tagger if isinstance(self.of, Scoring) else self.of.name

    @property
    def categories(self) -> list[str] | None:
        """What the numbers of a tagger are of."""
        return self.of.categories if isinstance(self.of, Scoring) else None

    @property
    def column(self) -> str:
        """What one row's numbers are called."""
        return "vector" if self.categories is None else "probabilities"

    @property
    def windows(self) -> bool:
        return len(self.shape) == 2

    @property
    def per_video(self) -> int:
        """Vectors of one video."""
        return self.shape[0] if self.windows else 1

    @property
    def vectors(self) -> int:
        return self.videos * self.per_video

    def count(self, connection: Connection, *, to: int | None = None) -> int:
        """How many vectors there are up to the video `to`."""
        if isinstance(self.of, Scoring):
            return scores.count(connection, self.of, to=to) * self.per_video
        return vectors.count(connection, self.of, windows=self.windows, to=to)

    @contextmanager
    def read(self, connection: Connection, *, after: int = 0) -> Iterator[Iterator[Rows]]:
        """All of it in blocks, ascending by video from behind the video `after`, each read while
        the one before it is written. Raises `ReelvecError` for videos that do not all have the same
        number of windows.
        """
        rows = (
            Rows(
                videos.facts(connection, ids.tolist()),
                numbers,
                spans,
                self._places(connection, ids),
            )
            for ids, numbers, spans in self._blocks(connection, after)
        )
        with ahead(rows) as read:
            yield read

    def _places(
        self, connection: Connection, ids: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32] | None:
        if self.map_id is None or isinstance(self.of, Scoring):
            return None
        return maps.places(connection, self.of, self.map_id, ids)

    def _blocks(
        self, connection: Connection, after: int
    ) -> Iterator[
        tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32] | None]
    ]:
        if isinstance(self.of, Scoring):
            for scored in scores.score_blocks(
                connection, self.of, windows=self.windows, after=after
            ):
                yield scored.video_ids, scored.probabilities, None
        elif self.windows:
            for found in vectors.window_blocks(connection, self.of, after=after):
                yield _by_video(found, self.shape, self.name)
        else:
            for pooled in vectors.pooled_blocks(connection, self.of, after=after):
                yield pooled.video_ids, pooled.vectors, None


def find(connection: Connection, name: str, *, windows: bool) -> Taken:
    """What an encoder or a tagger (its name has a slash in it) has to take out. Raises `UsageError`
    for a name that nothing has, and where there is nothing yet.
    """
    if encoders.fetch_encoder(connection, name) is None:
        _refuse_unknown(connection, name)
    taken = _of_tagger(connection, name, windows) if "/" in name else None
    taken = taken or _of_encoder(connection, name, windows)
    if not taken.videos:
        what = "windows" if windows else "scores" if "/" in name else "vectors"
        raise UsageError(f"{name} has no {what} yet: `reelvec status` says what is waiting")
    return taken


def _refuse_unknown(connection: Connection, name: str) -> None:
    """Raises `UsageError` for a name that neither an encoder nor a tagger has."""
    taggers = scores.names(connection)
    if name not in taggers:
        known = ", ".join(encoders.names(connection)) or "none yet: run enqueue"
        raise UsageError(
            f"there is no encoder and no tagger {name!r}; the encoders are {known}; the taggers "
            f"are {', '.join(taggers) or 'none'}"
        )


def _of_tagger(connection: Connection, name: str, windows: bool) -> Taken:
    scoring = scores.known_tagger(connection, name)
    shape = (scoring.windows,) if windows else ()
    return Taken(scoring, scores.count(connection, scoring), (*shape, len(scoring.categories)))


def _of_encoder(connection: Connection, name: str, windows: bool) -> Taken:
    encoder = encoders.known_encoder(connection, name)
    dim = vectors.dim(encoder)
    rows = vectors.count(connection, encoder, windows=windows)
    shown = maps.current(connection, encoder)
    map_id = shown.map_id if shown else None
    if not windows:
        return Taken(encoder, rows, (dim,), map_id)
    of_video = encoder.windows_per_video
    return Taken(encoder, rows // of_video, (of_video, dim), map_id)


def _by_video(
    found: vectors.Windows, shape: tuple[int, ...], name: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    windows = shape[0]
    videos_there, rest = divmod(len(found.video_ids), windows)
    expected = np.tile(np.arange(windows), videos_there)
    if rest or np.any(found.window_index != expected):
        raise ReelvecError(
            f"not every video has {windows} windows of {name}: reelvec doctor --data names those "
            "that have not"
        )
    return (
        found.video_ids[::windows],
        found.vectors.reshape(videos_there, *shape),
        found.spans_seconds.reshape(videos_there, windows, 2),
    )
