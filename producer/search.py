"""What `reelvec search` does: whatever was asked for becomes a vector of one embedding space, and
the videos or windows whose stored vectors are nearest to it are found.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from db import encoders, search, session, settings
from db.encoders import Encoder
from db.errors import RefusedConfigurationError, UsageError
from db.search import Hit, Stored
from producer import same_weights
from producer.request import checked_backbones, declared_encoder
from producer.sought import File, Sought, Words
from workers.backbones import registry
from workers.backbones.base import FloatArray, ReadsText
from workers.sampling import policies
from workers.settings import WorkerSettings
from workers.weights import inventory, models_dir

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


@dataclass(frozen=True)
class Space:
    """Which embedding space was asked for, as it was typed: `backbone` may be an encoder's name.
    None: nothing was said.
    """

    backbone: str | None = None
    weights: str | None = None
    sampling: str | None = None


@dataclass(frozen=True)
class Asked:
    """How many of what: `category`, as videos have it, or any; `windows` instead of videos."""

    limit: int
    category: str | None = None
    windows: bool = False


def checked(space: Space) -> Space:
    """Raises `UsageError` for a kind of weights or a sampling that there is not, and
    `RefusedConfigurationError` (license): both before any server is asked.
    """
    named = [space.backbone] if space.backbone in registry.names() else [registry.DEFAULT_SEARCHED]
    checked_backbones(
        named,
        weights=space.weights or "pretrained",
        sampling=space.sampling or policies.DEFAULT,
    )
    return space


def find(
    database: Engine, sought: Sought, space: Space, asked: Asked, say: Callable[[str], None]
) -> Sequence[Hit]:
    """The nearest, the nearest first. `say` hears which space is searched, and why that.

    Raises `UsageError`, `RefusedConfigurationError` for weights that are not here or not those of
    the stored vectors, `VideoError` for a file that cannot be embedded.
    """
    if isinstance(sought, Words):
        if not any(character.isspace() for character in sought.text):
            say(f"no video has the number, id or address {sought.text!r}: it is taken as a word")
        encoder = searched_encoder(
            space.backbone or registry.DEFAULT_SEARCHED,
            weights=space.weights or "pretrained",
            sampling=space.sampling or policies.DEFAULT,
        )
        return nearest_videos(database, encoder, sought.text, asked)
    with session.transaction(database) as connection:
        able = searchable(connection, sought, space)
        encoder, *others = able
        say(_choice(sought, encoder, others))
        if isinstance(sought, Stored):
            return _near_video(connection, sought, encoder, asked)
    vector = _file_vector(encoder, sought)
    with session.transaction(database) as connection:
        return _near_vector(connection, encoder, vector, asked)


def _choice(sought: Stored | File, encoder: Encoder, others: Sequence[Encoder]) -> str:
    what = f"video {sought.video_id}, {sought.uri}" if isinstance(sought, Stored) else sought.name
    line = f"nearest to {what} by {encoder.name}"
    if encoder.weights.startswith("random"):
        line += ", whose random weights mean nothing"
    if others:
        line += f". Other models: {', '.join(f'--backbone {other.name}' for other in others)}"
    return line


def searchable(connection: Connection, sought: Stored | File, space: Space) -> list[Encoder]:
    """The encoders that can be searched for it, as far as they were asked for; the first is taken.
    Raises `UsageError` where there is none.
    """
    if space.backbone is not None:
        name = space.backbone
        if name in registry.names():
            name = registry.encoder_name(
                name, space.weights or "pretrained", space.sampling or policies.DEFAULT
            )
        encoder = encoders.fetch_encoder(connection, name)
        if encoder is None and space.backbone not in registry.names():
            encoders.known_encoder(connection, name)  # says which there are
        wanted = [encoder] if encoder is not None else []
    else:
        name = "the kind that was asked for" if space.weights or space.sampling else "any model"
        wanted = [
            encoder
            for encoder in encoders.with_vectors(connection)
            if space.weights in (None, encoder.weights)
            and space.sampling in (None, encoder.sampling)
        ]
    if isinstance(sought, Stored):
        able = [encoder for encoder in wanted if encoder.name in sought.encoders]
        if not able:
            raise UsageError(_no_vector(sought, name))
        return able
    able = [encoder for encoder in wanted if encoder.dim and _is_here(encoder)]
    if not able:
        there = ", ".join(encoder.name for encoder in wanted if encoder.dim) or "none"
        raise UsageError(
            f"{sought.name} is not in the catalogue, and cannot be embedded here: that needs the "
            f"weights of a model that the catalogue has vectors of (of {name}: {there}); reelvec "
            "models list shows which are here, reelvec models fetch brings them"
        )
    return able


def _no_vector(video: Stored, name: str) -> str:
    why = f"its job is {video.state}" if video.state else "it was never queued"
    why += f" ({video.error_code})" if video.error_code else ""
    has = f"; it has one of {', '.join(video.encoders)}" if video.encoders else ""
    return f"video {video.video_id}, {video.uri}, has no vector of {name}: {why}{has}"


def _is_here(encoder: Encoder) -> bool:
    """Whether this machine has the weights to compute a vector of it: a look."""
    if encoder.backbone not in registry.names() or encoder.weights == encoders.IMPORTED:
        return False
    try:
        inventory.require(
            models_dir.resolve(settings.load(WorkerSettings)), encoder.backbone, encoder.weights
        )
    except (RefusedConfigurationError, UsageError):
        return False
    return True


def _near_video(
    connection: Connection, video: Stored, encoder: Encoder, asked: Asked
) -> Sequence[Hit]:
    if not asked.windows:
        return search.neighbours(
            connection, video.video_id, encoder.name, limit=asked.limit, category=asked.category
        )
    return _near_vector(
        connection,
        encoder,
        search.vector_of(connection, video.video_id, encoder) or [],
        asked,
        leave_out=video.video_id,
    )


def _near_vector(
    connection: Connection,
    encoder: Encoder,
    vector: Sequence[float] | FloatArray,
    asked: Asked,
    leave_out: int | None = None,
) -> Sequence[Hit]:
    if asked.windows:
        return search.nearest_windows(
            connection,
            encoder,
            vector,
            limit=asked.limit,
            category=asked.category,
            leave_out=leave_out,
        )
    return search.nearest(connection, encoder, vector, limit=asked.limit, category=asked.category)


def _file_vector(stored: Encoder, file: File) -> FloatArray:
    """float32 [dim]: the pooled vector of a video or picture, of the weights of the stored ones."""
    from producer.local.vectors import FileVectors
    from producer.local.videos import LocalVideos

    chosen = settings.load(WorkerSettings)
    with (
        FileVectors(chosen, device=chosen.device) as vectors,
        LocalVideos([file.name], stills=True) as here,
        here.open(0) as source,
    ):
        return vectors.pooled(source, stored, threading.Event())


def searched_encoder(backbone: str, *, weights: str, sampling: str) -> Encoder:
    """The embedding space to search, as the registry declares it.

    Raises `UsageError` for a backbone whose texts have no vectors of their own,
    `RefusedConfigurationError` (license).
    """
    checked_backbones([backbone], weights=weights, sampling=sampling)
    spec = registry.get(backbone)
    if not spec.text_alone:
        why = (
            "its text depends on the video it is compared with"
            if spec.has_text
            else "it reads no text"
        )
        able = [name for name in registry.names() if registry.get(name).text_alone]
        raise UsageError(
            f"{backbone} cannot search by words: {why}; {', '.join(able)} can: enqueue --backbone "
            f"{able[0]}, then search"
        )
    return declared_encoder(backbone, weights, sampling)


def nearest_videos(database: Engine, encoder: Encoder, words: str, asked: Asked) -> Sequence[Hit]:
    """At most as many as asked for, the nearest to `words` first.

    Raises `UsageError` (no vectors yet, words too long), `RefusedConfigurationError` for weights
    that are not here or not those the stored vectors were made with.
    """
    with session.transaction(database) as connection:
        stored = encoders.fetch_encoder(connection, encoder.name)
    if stored is None or stored.weights_digest is None:
        options = f"--backbone {encoder.backbone}"
        options += f" --weights {encoder.weights}" if encoder.weights != "pretrained" else ""
        options += f" --sampling {encoder.sampling}" if encoder.sampling != policies.DEFAULT else ""
        raise UsageError(
            f"no video has a vector of {encoder.name} yet: run enqueue {options}, and a worker"
        )
    reader = cast(ReadsText, same_weights.load(stored, doing="searching by words"))
    vector = reader.text_vectors([words])[0]
    with session.transaction(database) as connection:
        return _near_vector(connection, stored, vector, asked)
