"""The videos or windows nearest to a stored video, or to a vector that is no video's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, TextClause, text

from db.encoders import Encoder


@dataclass(frozen=True)
class Hit:
    """A video and how far its vector is: `distance` is 1 - cosine, 0 to 2."""

    video_id: int
    distance: float
    external_id: str | None
    category: str | None
    title: str | None
    uri: str


@dataclass(frozen=True)
class WindowHit(Hit):
    """A window of a video, how far its vector is, and where in the video it begins and ends."""

    window_index: int
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Stored:
    """A recorded video. `encoders`: names of those of which it has a vector, those with a meaning
    first. `state`, `error_code`: of its job; None: it was never queued, nothing failed.
    """

    video_id: int
    uri: str
    encoders: tuple[str, ...]
    state: str | None
    error_code: str | None


_FACTS = "n.distance, v.external_id, v.category, v.title, v.uri"
_NEAREST = text(f"""
SELECT video_id, {_FACTS}
FROM reelvec.nearest_to(CAST(:vector AS real[]), :encoder, :limit, category => :category) n
JOIN reelvec.videos v USING (video_id) ORDER BY n.distance, video_id
""")  # noqa: S608

_NEIGHBOURS = text(f"""
SELECT video_id, {_FACTS} FROM reelvec.nearest(:video_id, :encoder, :limit, :category) n
JOIN reelvec.videos v USING (video_id) ORDER BY n.distance, video_id
""")  # noqa: S608

_WINDOWS = text(f"""
SELECT video_id, {_FACTS}, n.window_index, n.start_seconds, n.end_seconds
FROM reelvec.nearest_windows_to(CAST(:vector AS real[]), :encoder, :limit, :leave_out, :category) n
JOIN reelvec.videos v USING (video_id) ORDER BY n.distance, video_id, n.window_index
""")  # noqa: S608

_VIDEO = """
SELECT v.video_id, v.uri, j.state, j.error_code, ARRAY(
  SELECT e.encoder FROM reelvec.video_embeddings m JOIN reelvec.encoders e USING (encoder_id)
  WHERE m.video_id = v.video_id ORDER BY starts_with(e.weights, 'random'), e.encoder_id) AS encoders
FROM reelvec.videos v LEFT JOIN reelvec.jobs j USING (video_id) WHERE {condition}
ORDER BY NOT EXISTS (SELECT FROM reelvec.video_embeddings m WHERE m.video_id = v.video_id), v.video_id LIMIT 1
"""
_BY_NUMBER = text(_VIDEO.format(condition="v.video_id = :named"))
_BY_ID = text(_VIDEO.format(condition="v.external_id = :named"))
_BY_URI = text(_VIDEO.format(condition="md5(v.uri) = md5(:named) AND v.uri = :named"))

#: The largest number that a video may have.
_MAX_VIDEO_ID = 2**63 - 1


def find_by_number(connection: Connection, video_id: int) -> Stored | None:
    """The video of this number."""
    return _stored(connection, _BY_NUMBER, video_id) if video_id <= _MAX_VIDEO_ID else None


def find_by_id(connection: Connection, external_id: str) -> Stored | None:
    """The first of the videos that the user knows by this id, one with vectors before others."""
    return _stored(connection, _BY_ID, external_id)


def find_by_uri(connection: Connection, uri: str) -> Stored | None:
    """The video that was recorded under this canonical uri."""
    return _stored(connection, _BY_URI, uri)


def _stored(connection: Connection, statement: TextClause, named: str | int) -> Stored | None:
    row = connection.execute(statement, {"named": named}).first()
    return Stored(**{**row._mapping, "encoders": tuple(row.encoders)}) if row else None


def neighbours(
    connection: Connection, video_id: int, encoder: str, *, limit: int, category: str | None = None
) -> list[Hit]:
    """Videos by the distance of their pooled vectors to that of `video_id`, without itself;
    `category`: only those of it.

    Raises `DBAPIError` with the database's own words for a video or encoder that is not there.
    """
    facts = {"video_id": video_id, "encoder": encoder, "limit": limit, "category": category}
    return [Hit(**row._mapping) for row in connection.execute(_NEIGHBOURS, facts)]


def nearest(
    connection: Connection,
    encoder: Encoder,
    vector: Iterable[float],
    *,
    limit: int,
    category: str | None = None,
) -> list[Hit]:
    """Videos by the distance of their pooled vectors to `vector`, which has the `dim` numbers of a
    bound encoder.

    The database's own function finds them, as it does for everybody who asks in SQL.
    """
    facts = {**_asked(encoder, vector, limit), "category": category}
    return [Hit(**row._mapping) for row in connection.execute(_NEAREST, facts)]


def nearest_windows(
    connection: Connection,
    encoder: Encoder,
    vector: Iterable[float],
    *,
    limit: int,
    category: str | None = None,
    leave_out: int | None = None,
) -> list[WindowHit]:
    """Windows by the distance of their vectors to `vector`; `leave_out`: a video whose own are not
    wanted.
    """
    facts = {**_asked(encoder, vector, limit), "category": category, "leave_out": leave_out}
    return [WindowHit(**row._mapping) for row in connection.execute(_WINDOWS, facts)]


def _asked(encoder: Encoder, vector: Iterable[float], limit: int) -> dict[str, object]:
    return {"vector": [float(value) for value in vector], "encoder": encoder.name, "limit": limit}


_VECTOR = text("""
SELECT embedding::real[] FROM reelvec.video_embeddings WHERE encoder_id = :encoder_id AND video_id = :video_id
""")


def vector_of(connection: Connection, video_id: int, encoder: Encoder) -> list[float] | None:
    """A video's pooled vector; None: it has none of this encoder."""
    facts = {"encoder_id": encoder.encoder_id, "video_id": video_id}
    return connection.execute(_VECTOR, facts).scalar()
