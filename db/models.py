"""The tables as SQLAlchemy sees them. A test holds them equal to the migrations, which are what runs."""

from __future__ import annotations

from typing import Any

from pgvector.sqlalchemy import HALFVEC, VECTOR
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL, TIMESTAMP, UUID

SCHEMA = "reelvec"
METADATA = MetaData(schema=SCHEMA)


def _time(name: str, *, default_now: bool = False) -> Column[Any]:
    if default_now:
        return Column(name, TIMESTAMP(timezone=True), nullable=False, server_default=func.now())
    return Column(name, TIMESTAMP(timezone=True))


def _number(name: str, default: str, kind: Any = SmallInteger) -> Column[Any]:
    return Column(name, kind, nullable=False, server_default=text(default))


def _video(**options: Any) -> Column[Any]:
    return Column("video_id", BigInteger, ForeignKey(f"{SCHEMA}.videos.video_id", ondelete="CASCADE"), **options)


def _encoder(**options: Any) -> Column[Any]:
    return Column("encoder_id", SmallInteger, ForeignKey(f"{SCHEMA}.encoders.encoder_id"), **options)


SCHEMA_REVISIONS = Table(
    "schema_revisions",
    METADATA,
    Column("revision", Text, primary_key=True),
    Column("compatible_from", Text, nullable=False),
)

VIDEOS = Table(
    "videos",
    METADATA,
    Column("video_id", BigInteger, Identity(always=True), primary_key=True),
    Column("uri", Text, nullable=False),
    Column("external_id", Text, unique=True),
    Column("category", Text),
    Column("title", Text),
    Column("group_key", Text),
    Column("attributes", JSONB, nullable=False, server_default=text("'{}'")),
    Column("etag", Text),
    Column("size_bytes", BigInteger),
    Column("codec", Text),
    Column("width_px", Integer),
    Column("height_px", Integer),
    Column("fps", REAL),
    Column("duration_seconds", REAL),
    _time("added_at", default_now=True),
    Index("videos_uri", text("md5(uri)"), unique=True),
    Index("videos_category", "category"),
)

ENCODERS = Table(
    "encoders",
    METADATA,
    Column("encoder_id", SmallInteger, Identity(always=True), primary_key=True),
    Column("encoder", Text, nullable=False, unique=True),
    Column("backbone", Text, nullable=False),
    Column("checkpoint", Text, nullable=False),
    Column("ref", Text, nullable=False),
    Column("weights", Text, nullable=False),
    Column("license", Text, nullable=False),
    Column("frames_per_window", SmallInteger, nullable=False),
    Column("sampling", Text, nullable=False),
    Column("preprocessing", Text, nullable=False),
    Column("weights_digest", Text),
    Column("dim", Integer),
    Column("pooling", Text),
    UniqueConstraint("backbone", "checkpoint", "ref", "weights", "sampling", "preprocessing", name="encoders_identity"),
)

LABEL_SETS = Table(
    "label_sets",
    METADATA,
    Column("label_set_id", SmallInteger, Identity(always=True), primary_key=True),
    Column("label_set", Text, nullable=False, unique=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("prompts", ARRAY(Text), nullable=False),
    Column("prompt_categories", ARRAY(Text), nullable=False),
)

TAGGERS = Table(
    "taggers",
    METADATA,
    Column("tagger_id", SmallInteger, Identity(always=True), primary_key=True),
    Column("tagger", Text, nullable=False, unique=True),
    _encoder(nullable=False),
    Column("label_set_id", SmallInteger, ForeignKey(f"{SCHEMA}.label_sets.label_set_id"), nullable=False),
    Column("categories", ARRAY(Text), nullable=False),
    UniqueConstraint("encoder_id", "label_set_id", name="taggers_identity"),
)

WORKERS = Table(
    "workers",
    METADATA,
    Column("worker_id", UUID, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("device", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("in_flight", Integer, nullable=False),
    Column("draining", Boolean, nullable=False, server_default=text("false")),
    Column("samplers", Integer),
    Column("cores", REAL),
    Column("videos_per_batch", Integer),
    Column("queued_windows", Integer),
    Column("running_windows", Integer),
    _time("started_at", default_now=True),
    _time("beating_since", default_now=True),
    _time("beat_at", default_now=True),
)

JOBS = Table(
    "jobs",
    METADATA,
    _video(primary_key=True, autoincrement=False),
    Column("encoders", ARRAY(SmallInteger), nullable=False),
    Column("taggers", ARRAY(SmallInteger), nullable=False, server_default=text("'{}'")),
    Column("state", Text, nullable=False, server_default=text("'pending'")),
    Column("force", Boolean, nullable=False, server_default=text("false")),
    _number("token", "0", BigInteger),
    Column("worker_id", UUID),
    _number("attempts", "0"),
    _number("strikes", "0"),
    _number("lost_count", "0"),
    _time("not_before"),
    _time("deadline_at"),
    Column("error_code", Text),
    Column("error", Text),
    _time("enqueued_at", default_now=True),
    _time("queued_at"),
    _time("started_at"),
    _time("finished_at"),
    Column("bytes_read", BigInteger),
    Column("fetch_seconds", REAL),
    Column("decode_seconds", REAL),
    Column("wait_seconds", REAL),
    Column("device_seconds", REAL),
    _time("infra_since"),
    Index("jobs_pending", "video_id", postgresql_where=text("state = 'pending'")),
    Index("jobs_queued", "queued_at", postgresql_where=text("state = 'queued'")),
    Index("jobs_running", "worker_id", postgresql_where=text("state = 'running'")),
    Index("jobs_finished", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
)

ATTEMPTS = Table(
    "attempts",
    METADATA,
    _video(nullable=False),
    Column("attempt", SmallInteger, nullable=False),
    Column("stage", Text, nullable=False),
    Column("error_code", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("encoder", Text),
    Column("worker_id", UUID, nullable=False),
    _time("at", default_now=True),
    Index("attempts_video", "video_id"),
)

CONTROL = Table(
    "control",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("paused", Boolean, nullable=False, server_default=text("false")),
    Column("reason", Text),
    _time("at", default_now=True),
)

EMBEDDINGS = Table(
    "embeddings",
    METADATA,
    _encoder(primary_key=True, autoincrement=False),
    _video(primary_key=True, autoincrement=False),
    Column("embedding", VECTOR, nullable=False),
    Column("dtype", Text, nullable=False),
    Column("worker_id", UUID, nullable=False),
    _time("created_at", default_now=True),
    Index("embeddings_video", "video_id"),
)

WINDOW_EMBEDDINGS = Table(
    "window_embeddings",
    METADATA,
    _video(primary_key=True, autoincrement=False),
    _encoder(primary_key=True, autoincrement=False),
    Column("window_index", SmallInteger, primary_key=True, autoincrement=False),
    Column("start_seconds", REAL, nullable=False),
    Column("end_seconds", REAL, nullable=False),
    Column("embedding", HALFVEC, nullable=False),
)

SCORES = Table(
    "scores",
    METADATA,
    Column("tagger_id", SmallInteger, ForeignKey(f"{SCHEMA}.taggers.tagger_id"), primary_key=True, autoincrement=False),
    _video(primary_key=True, autoincrement=False),
    Column("probabilities", ARRAY(REAL), nullable=False),
    Column("window_probabilities", ARRAY(REAL), nullable=False),
    Column("tag", Text, nullable=False),
    Column("probability", REAL, nullable=False),
    Column("worker_id", UUID, nullable=False),
    _time("created_at", default_now=True),
    Index("scores_tag", "tagger_id", "tag", text("probability DESC")),
    Index("scores_video", "video_id"),
)
