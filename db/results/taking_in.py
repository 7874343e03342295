"""Vectors that were made elsewhere, into an encoder of their own: which videos they are of, and
their rows. Runs in the caller's transaction.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, text

from db import copy
from db.encoders import Encoder
from db.errors import UsageError
from db.results import arrays, vectors
from db.results.videos import FILE_NAME

#: What a row says of where its vector was computed.
DTYPE, WORKER = b"imported", UUID(int=0)
_FIELDS = (
    ("encoder_id", ">i2"),
    arrays.VIDEO_ID,
    ("dtype", f"S{len(DTYPE)}"),
    ("worker_id", "V16"),
)


STORE = f"""
COPY reelvec.video_embeddings ({", ".join(name for name, _ in _FIELDS)}, embedding) FROM STDIN BINARY
"""


@dataclass(frozen=True)
class NewVideo:
    """A video that nobody has recorded yet."""

    uri: str
    category: str | None
    title: str | None


_SAID: dict[str, copy.Encoder] = {
    "place": copy.bigint,
    "uri": copy.text,
    "file_name": copy.text,
    "category": copy.text,
}


def begin(connection: Connection) -> None:
    """Make room for what a file says of its rows."""
    connection.exec_driver_sql(
        "CREATE TEMP TABLE said (place bigint, uri text, file_name text, category text) ON COMMIT "
        "DROP"
    )


def say(
    connection: Connection,
    first: int,
    *,
    uris: Sequence[str | None],
    names: Sequence[str | None],
    categories: Sequence[str | None],
) -> None:
    """What the rows from number `first` on say, after `begin`."""
    places = range(first, first + len(uris))
    rows = zip(places, uris, names, categories, strict=True)
    copy.copy_rows(connection, "said", _SAID, rows)


_BY_URI = """
SELECT place, video_id, count(*) OVER (PARTITION BY video_id) AS meant
FROM said JOIN reelvec.videos v ON md5(v.uri) = md5(said.uri)
"""
_BY_NAME = f"""
SELECT place, video_id, greatest(count(*) OVER (PARTITION BY place), count(*) OVER (PARTITION BY video_id)) AS meant
FROM said JOIN (SELECT video_id, category, {FILE_NAME} AS file_name FROM reelvec.videos) v
  ON v.file_name = said.file_name AND coalesce(v.category = said.category, true)
"""  # noqa: S608


def matched(connection: Connection, rows: int, *, by_uri: bool) -> npt.NDArray[np.int64]:
    """The video of each of the `rows` that were said, [rows]: its id, 0 for none, -1 where a name
    is that of several videos or several rows. By its address, or by its file name unless the two
    have different categories.
    """
    chosen = f"SELECT DISTINCT place, CASE WHEN meant = 1 THEN video_id ELSE -1 END FROM ({_BY_URI if by_uri else _BY_NAME}) m"  # noqa: S608
    found = arrays.read(connection, chosen, (("place", ">i8"), arrays.VIDEO_ID))
    video_ids = np.zeros(rows, np.int64)
    video_ids[found["place"].astype(np.int64)] = found["video_id"]
    return video_ids


_RECORD = text("""
INSERT INTO reelvec.videos (uri, category, title)
SELECT uri, category, title FROM unnest(CAST(:uris AS text[]), CAST(:categories AS text[]), CAST(:titles AS text[]))
  AS new (uri, category, title) ORDER BY md5(uri) ON CONFLICT DO NOTHING
""")
_CATEGORISE = text("""
UPDATE reelvec.videos v SET category = new.category
FROM unnest(CAST(:ids AS bigint[]), CAST(:categories AS text[])) AS new (video_id, category)
WHERE v.video_id = new.video_id AND v.category IS NULL
""")


def record(connection: Connection, videos: Sequence[NewVideo]) -> int:
    """Record videos without a job: nothing is wanted of them yet. Returns how many are new."""
    facts = {
        "uris": [video.uri for video in videos],
        "categories": [video.category for video in videos],
        "titles": [video.title for video in videos],
    }
    return connection.execute(_RECORD, facts).rowcount


def uncategorised(connection: Connection) -> npt.NDArray[np.int64]:
    """Ids of all videos without a category."""
    lacking = "SELECT video_id FROM reelvec.videos WHERE category IS NULL"
    found = arrays.read(connection, lacking, (arrays.VIDEO_ID,))
    return found["video_id"].astype(np.int64)


def categorise(connection: Connection, video_ids: Sequence[int], categories: Sequence[str]) -> None:
    """Give videos without a category this one."""
    connection.execute(_CATEGORISE, {"ids": list(video_ids), "categories": list(categories)})


def stream(encoder: Encoder, found: vectors.Pooled) -> io.BytesIO:
    """What `store` sends. It needs no connection, so that a thread can prepare it."""
    fields = (*_FIELDS, vectors.stored(encoder))
    values = {
        "encoder_id": encoder.encoder_id,
        "video_id": found.video_ids,
        "dtype": DTYPE,
        "worker_id": np.void(WORKER.bytes),
        "embedding": found.vectors,
    }
    return arrays.stream(fields, values, len(found.video_ids))


def store(connection: Connection, sent: io.BytesIO) -> int:
    """Write vectors of videos that have none of this encoder: what `stream` made of them. Returns
    how many.
    """
    return copy.run(connection, STORE, sent)


def known(connection: Connection, encoder: Encoder, found: vectors.Pooled) -> npt.NDArray[np.bool_]:
    """Which of these videos have exactly this vector already, [n]. Raises `UsageError` where one
    has another.
    """
    fields = (arrays.VIDEO_ID, vectors.stored(encoder))
    ids = ", ".join(map(str, found.video_ids.tolist()))
    stored = arrays.read(
        connection,
        f"SELECT video_id, embedding FROM reelvec.video_embeddings WHERE encoder_id = {encoder.encoder_id} "  # noqa: S608
        f"AND video_id IN ({ids})",
        fields,
    )
    place = {int(video_id): number for number, video_id in enumerate(found.video_ids.tolist())}
    places = np.array([place[int(video_id)] for video_id in stored["video_id"]], np.int64)
    ours = found.vectors[places].astype(stored["embedding"]["elements"].dtype)
    other = np.any(stored["embedding"]["elements"] != ours, axis=1)
    if np.any(other):
        raise UsageError(
            f"video {stored['video_id'][int(np.argmax(other))]} has another vector of "
            f"{encoder.name} already: give another name with --as"
        )
    mask = np.zeros(len(found.video_ids), np.bool_)
    mask[places] = True
    return mask
