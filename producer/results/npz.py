"""`.npz` with the notebook's keys, written piece by piece, as numpy's own writer wants each array
whole in memory. No pickles.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from db.results.videos import VideoFacts
from producer import categories
from producer.results.rows import Rows


def write(file: BinaryIO, blocks: Iterable[Rows], shape: tuple[int, int]) -> None:
    """`labels`, `filenames` and `embeddings` as the notebook's `EmbeddingStorage` reads them; with
    them `video_ids`, `uris`, `categories`, and of windows `window_index` and `spans_seconds`.

    `shape`: of all embeddings, float32. A label is the category's id, -1 where it has none.
    """
    facts: list[VideoFacts] = []
    windows: list[npt.NDArray[np.int16]] = []
    spans: list[npt.NDArray[np.float32]] = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("embeddings.npy", "w", force_zip64=True) as member:
            head = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_2_0(member, head)
            for block in blocks:
                member.write(block.vectors.astype("<f4", copy=False).tobytes())
                facts += block.videos
                if block.window_index is not None and block.spans_seconds is not None:
                    windows.append(block.window_index)
                    spans.append(block.spans_seconds)
        arrays = _of_videos(facts)
        if windows:
            arrays |= {
                "window_index": np.concatenate(windows),
                "spans_seconds": np.concatenate(spans),
            }
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(values), allow_pickle=False)


def _of_videos(facts: list[VideoFacts]) -> dict[str, npt.NDArray[np.generic]]:
    ids = {category.slug: category.id for category in categories.load_shipped().all}
    labels = [ids.get(fact.category or "") for fact in facts]
    return {
        "labels": np.array([-1 if label is None else label for label in labels], np.int64),
        "filenames": np.array([PurePosixPath(fact.address).name for fact in facts], np.str_),
        "video_ids": np.array([fact.video_id for fact in facts], np.int64),
        "uris": np.array([fact.uri for fact in facts], np.str_),
        "categories": np.array([fact.category or "" for fact in facts], np.str_),
    }
