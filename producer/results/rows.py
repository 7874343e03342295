"""What is written, whatever the form of the file: rows of vectors with the videos they are of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from db.encoders import Encoder
from db.results import vectors, videos
from db.results.videos import VideoFacts

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True)
class Rows:
    """Some rows: `videos` of n of them, `vectors` float32 [n, d]; where a row is a window, also
    `window_index` int16 [n] and `spans_seconds` float32 [n, 2] from the beginning of the video.
    """

    videos: list[VideoFacts]
    vectors: npt.NDArray[np.float32]
    window_index: npt.NDArray[np.int16] | None = None
    spans_seconds: npt.NDArray[np.float32] | None = None

    def columns(self) -> dict[str, list[object]]:
        """Everything but the vectors, by column."""
        names = [field.name for field in fields(VideoFacts)]
        found: dict[str, list[object]] = {
            name: [getattr(video, name) for video in self.videos] for name in names
        }
        if self.window_index is not None and self.spans_seconds is not None:
            found["window_index"] = self.window_index.tolist()
            found["start_seconds"] = self.spans_seconds[:, 0].tolist()
            found["end_seconds"] = self.spans_seconds[:, 1].tolist()
        return found


def read(
    connection: Connection, encoder: Encoder, *, windows: bool, after: int = 0
) -> Iterator[Rows]:
    """All rows of a bound encoder, in blocks, ascending by video from behind the video `after`."""
    if not windows:
        for pooled in vectors.pooled_blocks(connection, encoder, after=after):
            yield Rows(videos.facts(connection, pooled.video_ids.tolist()), pooled.vectors)
        return
    for found in vectors.window_blocks(connection, encoder, after=after):
        ids, places = np.unique(found.video_ids, return_inverse=True)
        facts = videos.facts(connection, ids.tolist())
        yield Rows(
            [facts[place] for place in places],
            found.vectors,
            found.window_index,
            found.spans_seconds,
        )
