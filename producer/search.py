"""What `reelvec search` does: words to a vector, and the videos whose stored vectors are nearest to
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from db import encoders, search, session
from db.encoders import Encoder
from db.errors import UsageError
from db.search import Hit
from producer import same_weights
from producer.request import checked_backbones, declared_encoder
from workers.backbones import registry
from workers.backbones.base import ReadsText
from workers.sampling import policies

if TYPE_CHECKING:
    from sqlalchemy import Engine


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


def nearest_videos(database: Engine, encoder: Encoder, words: str, *, limit: int) -> list[Hit]:
    """At most `limit` videos, the nearest first.

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
        return search.nearest(connection, stored, vector, limit=limit)
