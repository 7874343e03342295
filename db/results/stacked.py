"""The vectors of several encoders side by side, and the videos whose category is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, text

from db.encoders import Encoder
from db.results import arrays, vectors


@dataclass(frozen=True)
class Labelled:
    """Of n videos, ascending: `video_ids`, `truth` (the place of its category in `categories`) and
    `groups` (the same for videos that belong together), int64 [n].
    """

    categories: tuple[str, ...]
    video_ids: npt.NDArray[np.int64]
    truth: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]


_FIELDS = [("video_id", ">i8"), ("truth", ">i8"), ("group", ">i8")]
# numbered in the order in which Python sorts: folds come out as for who has texts
_NUMBERED = """SELECT v.video_id, dense_rank() OVER (ORDER BY v.category COLLATE "C"),
  dense_rank() OVER (ORDER BY v.group_key COLLATE "C", CASE WHEN v.group_key IS NULL THEN v.video_id END)"""
_WITH_ALL = """FROM reelvec.videos v WHERE v.category IS NOT NULL AND (
  SELECT count(*) FROM reelvec.video_embeddings m WHERE m.video_id = v.video_id AND m.encoder_id = ANY ('{{{ids}}}')) = {count}"""


def labelled(connection: Connection, encoders: Sequence[Encoder]) -> Labelled:
    """All videos that have a category and a vector of each of `encoders`."""
    ids = [encoder.encoder_id for encoder in encoders]
    chosen = _WITH_ALL.format(ids=",".join(map(str, ids)), count=len(ids))
    names = connection.execute(text(f"SELECT DISTINCT v.category {chosen}")).scalars()
    rows = arrays.read(connection, f"{_NUMBERED} {chosen} ORDER BY v.video_id", _FIELDS)
    columns = {name: rows[name].astype(np.int64) for name, _ in _FIELDS}
    return Labelled(
        tuple(sorted(names)), columns["video_id"], columns["truth"] - 1, columns["group"]
    )


def stack(
    connection: Connection, encoders: Sequence[Encoder], video_ids: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """One float32 array [n, sum of dims] of `video_ids`, which ascend, and which of its rows are
    whole [n]: outside a snapshot a vector may be gone since its video was looked up.
    """
    dims = [encoder.dim or 0 for encoder in encoders]
    stacked = np.empty((len(video_ids), sum(dims)), np.float32)
    parts = np.zeros(len(video_ids), np.int64)
    start = 0
    for encoder, dim in zip(encoders, dims, strict=True):
        for block in vectors.pooled_blocks(connection, encoder, after=int(video_ids[0]) - 1):
            places = np.searchsorted(video_ids, block.video_ids)
            places[places == len(video_ids)] = 0
            wanted = video_ids[places] == block.video_ids
            stacked[places[wanted], start : start + dim] = block.vectors[wanted]
            parts[places[wanted]] += 1
            if block.video_ids[-1] >= video_ids[-1]:
                break
        start += dim
    return stacked, parts == len(encoders)
