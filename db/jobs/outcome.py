"""What one attempt at a video leaves behind, and how it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, text

from db import copy
from db.errors import ErrorClass
from db.jobs.sampler_version import VERSION
from db.media import MEDIA_COLUMNS, Media

ERROR_TEXT_CHARACTERS = 2000
#: Of a tagger with more categories than this only a video's best are kept, by name: all windows of
#: 1,000 would be 52 KB a video.
WHOLE_CATEGORIES, KEPT_TAGS = 200, 20


@dataclass(frozen=True)
class EncoderRows:
    """What one encoder made of one video: `pooled` [d], `windows` [w, d], `spans_seconds` [w, 2],
    float32; `context` float16 [w, tokens, d], if it is to be kept.
    """

    encoder_id: int
    pooled: npt.NDArray[np.float32]
    windows: npt.NDArray[np.float32]
    spans_seconds: npt.NDArray[np.float32]
    dtype: str
    context: npt.NDArray[np.float16] | None = None


@dataclass(frozen=True)
class TaggerRows:
    """`window_probabilities` [w, K] float32 in the order of `categories`."""

    tagger_id: int
    categories: tuple[str, ...]
    window_probabilities: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Failure:
    stage: str
    code: str
    error_class: ErrorClass
    message: str
    encoder: str | None = None


@dataclass(frozen=True)
class Outcome:
    """Everything `finish` writes: rows that succeeded, the failure if there was one, facts of the
    media and of the run.

    `strip`: a WebP picture of some of its frames; None: none is to be kept. `is_sampled`: nothing
    was embedded, but packs of its frames are written (`bytes_written`), so that another worker goes
    on. `frames_bytes`, `frames_seconds`: what reading such packs took.
    """

    encoder_rows: tuple[EncoderRows, ...] = ()
    tagger_rows: tuple[TaggerRows, ...] = ()
    failure: Failure | None = None
    media: Media | None = None
    strip: bytes | None = None
    is_sampled: bool = False
    bytes_written: int | None = None
    frames_bytes: int | None = None
    frames_seconds: float | None = None
    bytes_read: int | None = None
    fetch_seconds: float | None = None
    decode_seconds: float | None = None
    wait_seconds: float | None = None
    device_seconds: float | None = None


_MEDIA = ", ".join(MEDIA_COLUMNS)
#: Steps of the statement that finishes a video, if its row is still ours (`ended`): rows that are
#: made anew go, and with a vector the tags that heads made of it, all of them where the video is
#: noise; its media facts and its picture are written. One version has one picture, however many
#: models look at it.
REPLACED = f"""gone AS (
  DELETE FROM reelvec.video_embeddings WHERE video_id = :video_id AND EXISTS (SELECT FROM ended)
    AND (:is_noise OR encoder_id = ANY(CAST(:encoders AS smallint[]))) RETURNING 1
), gone_windows AS (
  DELETE FROM reelvec.window_embeddings WHERE video_id = :video_id AND EXISTS (SELECT FROM ended)
    AND (:is_noise OR encoder_id = ANY(CAST(:encoders AS smallint[])))
), gone_scores AS (
  DELETE FROM reelvec.scores WHERE video_id = :video_id AND EXISTS (SELECT FROM ended)
    AND (:is_noise OR tagger_id = ANY(CAST(:taggers AS smallint[]) || ARRAY(
      SELECT h.tagger_id FROM reelvec.heads h WHERE h.encoder_ids && CAST(:encoders AS smallint[]))))
), known_media AS (
  UPDATE reelvec.videos v SET ({_MEDIA}) = (
    SELECT {_MEDIA} FROM jsonb_populate_record(v, CAST(:media AS jsonb)))
  WHERE video_id = :video_id AND CAST(:media AS jsonb) IS NOT NULL AND EXISTS (SELECT FROM ended)
), gone_strip AS (
  DELETE FROM reelvec.strips WHERE video_id = :video_id AND :is_noise AND EXISTS (SELECT FROM ended)
), kept_strip AS (
  INSERT INTO reelvec.strips (video_id, etag, strip)
  SELECT video_id, :etag, strip FROM ended, (SELECT CAST(:strip AS bytea) AS strip) drawn WHERE strip IS NOT NULL
  ON CONFLICT (video_id) DO UPDATE SET etag = excluded.etag, strip = excluded.strip, made_at = now()
  WHERE strips.etag IS DISTINCT FROM excluded.etag OR excluded.etag IS NULL
)"""  # noqa: S608
#: What the error of a video of noise says of vectors that were made of it; else nothing.
REMOVED_NOISE = """(
  SELECT CASE WHEN :is_noise AND count(*) > 0
    THEN format(' (%s vectors that were made of it are removed)', count(*)) ELSE '' END FROM gone)"""


def clean_text(message: str) -> str:
    """Postgres text holds no NUL and no lone surrogates; an error text is for people, so it is also
    cut.
    """
    return message.replace("\0", "").encode("utf-8", "replace").decode()[:ERROR_TEXT_CHARACTERS]


def copy_rows(connection: Connection, video_id: int, worker_id: UUID, outcome: Outcome) -> None:
    """Write this video's rows of the encoders and taggers that succeeded; older ones are gone."""
    if outcome.encoder_rows:
        _copy_encoder_rows(connection, video_id, worker_id, outcome.encoder_rows)
    if outcome.tagger_rows:
        _copy_tagger_rows(connection, video_id, worker_id, outcome.tagger_rows)


def write_attempt(
    connection: Connection, video_id: int, worker_id: UUID, attempt: int, failure: Failure
) -> None:
    """One row per failed attempt: the history of a video that ended `failed`, or is tried again."""
    connection.execute(
        text(
            "INSERT INTO reelvec.attempts (video_id, attempt, stage, error_code, error, encoder, "
            "worker_id, sampler_version) VALUES (:video_id, :attempt, :stage, :code, :error, "
            ":encoder, :worker_id, :sampler_version)"
        ),
        {
            "video_id": video_id,
            "attempt": attempt,
            "stage": failure.stage,
            "code": failure.code,
            "error": clean_text(failure.message),
            "encoder": failure.encoder,
            "worker_id": worker_id,
            "sampler_version": VERSION,
        },
    )


def _copy_encoder_rows(
    connection: Connection, video_id: int, worker_id: UUID, results: tuple[EncoderRows, ...]
) -> None:
    copy.copy_rows(
        connection,
        "reelvec.video_embeddings",
        {
            "encoder_id": copy.smallint,
            "video_id": copy.bigint,
            "embedding": copy.halfvec,
            "dtype": copy.text,
            "worker_id": copy.uuid,
        },
        [(rows.encoder_id, video_id, rows.pooled, rows.dtype, worker_id) for rows in results],
    )
    copy.copy_rows(
        connection,
        "reelvec.window_embeddings",
        {
            "encoder_id": copy.smallint,
            "video_id": copy.bigint,
            "window_index": copy.smallint,
            "start_seconds": copy.real,
            "end_seconds": copy.real,
            "embedding": copy.halfvec,
        },
        [
            (rows.encoder_id, video_id, index, span[0], span[1], window)
            for rows in results
            for index, (window, span) in enumerate(
                zip(rows.windows, rows.spans_seconds, strict=True)
            )
        ],
    )
    kept = [rows for rows in results if rows.context is not None]
    if kept:
        copy.copy_rows(
            connection,
            "reelvec.contexts",
            {
                "encoder_id": copy.smallint,
                "video_id": copy.bigint,
                "vectors": copy.numbers,
                "context": copy.numbers,
            },
            [(rows.encoder_id, video_id, rows.windows, rows.context) for rows in kept],
        )


def _copy_tagger_rows(
    connection: Connection, video_id: int, worker_id: UUID, results: tuple[TaggerRows, ...]
) -> None:
    lines = [score_row(rows, video_id, worker_id) for rows in results]
    copy.copy_rows(connection, "reelvec.scores", SCORE_COLUMNS, lines)


SCORE_COLUMNS: Mapping[str, copy.Encoder] = {
    "tagger_id": copy.smallint,
    "video_id": copy.bigint,
    "probabilities": copy.real_array,
    "window_probabilities": copy.real_array,
    "tags": copy.text_array,
    "tag": copy.text,
    "probability": copy.real,
    "worker_id": copy.uuid,
}


def score_row(rows: TaggerRows, video_id: int, worker_id: UUID | None) -> tuple[Any, ...]:
    """One row of `SCORE_COLUMNS`. The mean over windows decides."""
    probabilities, tags, tag, probability = kept(
        rows.categories, rows.window_probabilities.mean(axis=0)
    )
    windows = rows.window_probabilities if tags is None else None
    return rows.tagger_id, video_id, probabilities, windows, tags, tag, probability, worker_id


def kept(
    categories: Sequence[str], probabilities: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], list[str] | None, str, float]:
    """What is stored of a video's probabilities float32 [K]: all of them, or the best with their
    names; and the best category with its own, in columns, so that the common query needs no
    unnest.
    """
    best = np.argsort(-probabilities, kind="stable")[:KEPT_TAGS]
    tag, probability = categories[best[0]], float(probabilities[best[0]])
    if len(categories) <= WHOLE_CATEGORIES:
        return probabilities, None, tag, probability
    return probabilities[best], [categories[index] for index in best], tag, probability
