"""The page Search: a video by its name, and videos by words; the models that read text are loaded
once and kept.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from db import encoders, search, session
from db.encoders import Encoder
from db.errors import ReelvecError, UnavailableError
from db.results import looking
from db.results.looking import Card
from producer import same_weights
from producer.ui import look
from producer.ui.look import Page
from workers.backbones import registry
from workers.backbones.base import Loaded, ReadsText

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

HITS = 24


@dataclass(frozen=True)
class Answer:
    """`spaces`: the encoders that words can be searched by, `models` those that a file can; `space`
    the one that was; `file`: its name, if one was sent; `named`: the video whose number or id the
    words are; `hits`: the nearest videos and their distances; `trouble`: why there are none.
    """

    spaces: Sequence[Encoder]
    models: Sequence[Encoder]
    space: Encoder | None
    file: str | None = None
    named: Page | None = None
    hits: Sequence[tuple[Card, float]] = ()
    trouble: str | None = None


class Words:
    """One text is encoded at a time: a page is no reason to take more than one core."""

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._loaded: dict[str, Loaded] = {}
        self._lock = threading.Lock()

    def answer(self, words: str, model: str) -> Answer:
        """What is found by `words`, by the vectors of the encoder `model` where it can be searched.
        Raises `UnavailableError`.
        """
        with session.transaction(self._database) as connection:
            spaces, models = spaces_of(connection), encoders.with_vectors(connection)
            video_id = looking.named(connection, words) if words else None
        named = None if video_id is None else look.page(self._database, video_id)
        space = next((one for one in spaces if one.name == model), next(iter(spaces), None))
        if not words or space is None:
            return Answer(spaces, models, space, named=named)
        try:
            hits = self._nearest(space, words)
        except UnavailableError:
            raise
        except ReelvecError as error:  # no torch here, no weights, words too long
            return Answer(spaces, models, space, named=named, trouble=str(error))
        return Answer(spaces, models, space, named=named, hits=hits)

    def _nearest(self, space: Encoder, words: str) -> Sequence[tuple[Card, float]]:
        with self._lock:
            if space.name not in self._loaded:
                self._loaded[space.name] = same_weights.load(space, doing="searching by words")
            vector = cast(ReadsText, self._loaded[space.name]).text_vectors([words])[0]
        with session.transaction(self._database) as connection:
            return look.near_cards(
                connection, search.nearest(connection, space, vector, limit=HITS)
            )


def spaces_of(connection: Connection) -> list[Encoder]:
    """The encoders that have vectors and read text without a video."""
    stored = [encoders.known_encoder(connection, name) for name in encoders.names(connection)]
    return [
        one
        for one in stored
        if one.weights_digest is not None
        and one.backbone in registry.names()
        and registry.get(one.backbone).text_alone
    ]
