"""What `reelvec map` does: a place in two dimensions for every vector of an encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from db import encoders, session
from db.errors import UsageError
from db.results import maps, vectors
from db.results.maps import Made
from producer.results import projection
from producer.results.ahead import ahead
from producer.results.projection import METHODS, PACMAP, PCA, Moments

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from db.encoders import Encoder
    from db.results.linear import Floats
    from db.results.maps import Axes

Tell = Callable[[int, int], None]
"""Told how many vectors of how many are worked through. A map that is made anew begins twice: it
reads all vectors, then it places them."""


@dataclass(frozen=True)
class Mapped:
    """A map as it is now: `points`, of which `new` were placed in this run; `anew`: so was the
    whole map. It was made of `vectors` vectors at `made_at`; `variance_share`: of its two axes,
    where it is a PCA.
    """

    encoder: str
    method: str
    points: int
    new: int
    anew: bool
    vectors: int
    variance_share: float | None
    made_at: datetime


def names(database: Engine) -> list[str]:
    """The encoders that have vectors."""
    with session.transaction(database) as connection:
        return [one.name for one in encoders.with_vectors(connection)]


def make(
    database: Engine, name: str, method: str | None, *, anew: bool, who: str, tell: Tell
) -> Mapped:
    """Bring the map of the encoder `name` up to its vectors. Without `method`: the one by which its
    map was made before, else PCA.

    What is new is placed on the axes that the map has, and nothing else moves. PaCMAP has none: it
    places all of them anew, if any is new. Raises `UsageError` for an encoder that is not there or
    has no vectors, for another method's name, and as `projection.pacmap` does.
    """
    if method is not None and method not in METHODS:
        raise UsageError(f"--method {method}: there are {', '.join(METHODS)}")
    with session.transaction(database) as connection:
        encoder = encoders.known_encoder(connection, name)
        vectors.dim(encoder)
        total, known = vectors.count(connection, encoder), maps.current(connection, encoder)
        new = total - (maps.count(connection, encoder, known.map_id) if known else 0)
    if not total:
        raise UsageError(f"{name} has no vectors yet: `reelvec status` says what is waiting")
    chosen = method or (known.method if known else PCA)
    if known is None or anew or chosen != known.method or (new and known.axes is None):
        made = _make_pca if chosen == PCA else _make_pacmap
        made(database, encoder, total, who, tell)
        anew = True
    elif new:
        assert known.axes is not None
        _place(database, encoder, known.map_id, known.axes, new, tell)
    return _mapped(database, encoder, new, anew=anew)


def _make_pca(database: Engine, encoder: Encoder, total: int, who: str, tell: Tell) -> None:
    axes = _axes(database, encoder, 2, total, tell)
    with session.transaction(database) as connection:
        map_id = maps.begin(connection, encoder, method=PCA, vectors=total, axes=axes, who=who)
    _place(database, encoder, map_id, axes, total, tell)
    _show(database, encoder, map_id)


def _make_pacmap(database: Engine, encoder: Encoder, total: int, who: str, tell: Tell) -> None:
    """In memory are 50 numbers of each vector, and what PaCMAP needs: some 10 KB a video."""
    axes = _axes(database, encoder, projection.PACMAP_AXES, total, tell)
    parts: list[Made] = []
    with vectors.snapshot(database) as connection:
        for block in maps.blocks(connection, encoder):
            reduced = projection.placed(block.vectors, axes)
            parts.append(Made(block.video_ids, block.made_at, reduced))
            tell(sum(len(part.video_ids) for part in parts), total)
    places = projection.pacmap(np.concatenate([part.vectors for part in parts]))
    with session.transaction(database) as connection:
        map_id = maps.begin(
            connection, encoder, method=PACMAP, vectors=len(places), axes=None, who=who
        )
    at = 0
    for part in parts:
        end = at + len(part.video_ids)
        _write(database, map_id, part, places[at:end])
        at = end
    _show(database, encoder, map_id)


def _axes(database: Engine, encoder: Encoder, most: int, total: int, tell: Tell) -> Axes:
    """The principal axes of all vectors."""
    moments = Moments(vectors.dim(encoder))
    with vectors.snapshot(database) as connection, ahead(maps.blocks(connection, encoder)) as read:
        for block in read:
            moments.add(block.vectors)
            tell(moments.count, total)
    return moments.axes(most)


def _place(
    database: Engine, encoder: Encoder, map_id: int, axes: Axes, total: int, tell: Tell
) -> None:
    """Every vector that has no point on this map yet."""
    done = 0
    with (
        vectors.snapshot(database) as connection,
        ahead(maps.blocks(connection, encoder, without=map_id)) as read,
    ):
        for block in read:
            _write(database, map_id, block, projection.placed(block.vectors, axes))
            done += len(block.video_ids)
            tell(done, total)


def _write(database: Engine, map_id: int, made: Made, places: Floats) -> None:
    def attempt() -> None:
        with session.transaction(database) as connection:
            maps.write(connection, map_id, made, places)

    session.retrying(attempt)


def _show(database: Engine, encoder: Encoder, map_id: int) -> None:
    with session.transaction(database) as connection:
        maps.show(connection, encoder, map_id)


def _mapped(database: Engine, encoder: Encoder, new: int, *, anew: bool) -> Mapped:
    with session.transaction(database) as connection:
        now = maps.current(connection, encoder)
        assert now is not None
        points = maps.count(connection, encoder, now.map_id)
    share = now.axes.variance_share if now.axes else None
    return Mapped(encoder.name, now.method, points, new, anew, now.vectors, share, now.made_at)
