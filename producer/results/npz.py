"""`.npz` with the notebook's keys, written piece by piece, as numpy's own writer wants each array
whole in memory. No pickles.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from producer import categories
from producer.results.rows import Rows, Taken


def write(
    file: BinaryIO, blocks: Iterable[Rows], taken: Taken, *, longest: Mapping[str, int]
) -> None:
    """One row a video: `labels`, `filenames` and `embeddings`, [n, d] or [n, w, d], as the
    notebook's `EmbeddingStorage` reads them; with them `video_ids`, `uris`, `categories`, of
    windows `spans_seconds`, and of a tagger `tags`, the names of its d probabilities.

    A label is the category's id, -1 where it has none. `longest`: characters of the texts, as a
    numpy array gives all the same room.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive, ExitStack() as stack:
        beside: dict[str, tuple[npt.NDArray[Any], IO[bytes]]] = {}
        with archive.open("embeddings.npy", "w", force_zip64=True) as member:
            _head(member, np.dtype(np.float32), (taken.videos, *taken.shape))
            for block in blocks:
                member.write(block.numbers.tobytes())
                for name, values in _of_videos(block, longest):
                    if name not in beside:
                        beside[name] = (values[:0], stack.enter_context(tempfile.TemporaryFile()))
                    beside[name][1].write(values.tobytes())
        for name, (form, values_file) in beside.items():
            values_file.seek(0)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                _head(member, form.dtype, (taken.videos, *form.shape[1:]))
                shutil.copyfileobj(values_file, member)
        if taken.categories is not None:
            with archive.open("tags.npy", "w") as member:
                np.lib.format.write_array(member, np.array(taken.categories), allow_pickle=False)


def _head(member: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    told = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_2_0(member, told)


def _of_videos(rows: Rows, longest: Mapping[str, int]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    facts = rows.facts
    ids = {category.slug: category.id for category in categories.load_shipped().all}
    labels = [ids.get(slug) for slug in facts["category"]]
    yield "labels", np.array([-1 if label is None else label for label in labels], np.int64)
    yield "filenames", np.array(facts["filename"], f"<U{max(1, longest['filename'])}")
    yield "video_ids", np.array(facts["video_id"], np.int64)
    yield "uris", np.array(facts["uri"], f"<U{max(1, longest['uri'])}")
    slugs = [slug or "" for slug in facts["category"]]
    yield "categories", np.array(slugs, f"<U{max(1, longest['category'])}")
    if rows.spans_seconds is not None:
        yield "spans_seconds", rows.spans_seconds
