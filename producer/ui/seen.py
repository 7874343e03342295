"""Search by a file that somebody sends, a video or a picture: it is embedded as `reelvec search
FILE` does it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, BinaryIO

from db import encoders, search, session
from db.encoders import Encoder
from db.errors import ReelvecError
from producer import search as desk
from producer.doctor import packages
from producer.sought import File
from producer.ui import look
from producer.ui.reading import Reader, told
from producer.ui.words import HITS, Answer, spaces_of
from workers.backbones.base import FloatArray
from workers.sources.retrying import Cancelled

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from producer.local.vectors import FileVectors


class Seen:
    """Models are loaded with the first file, on the CPU, and kept: the GPUs are the workers'. One
    file at a time, by whoever calls `answer`.
    """

    def __init__(self, database: Engine, reader: Reader) -> None:
        self._database = database
        self._reader = reader
        self._vectors: FileVectors | None = None

    def answer(self, file: BinaryIO, name: str, model: str, stop: threading.Event) -> Answer:
        """What is near a file, which nobody opens but a sampler; `name` is what its sender calls
        it. Raises `UnavailableError`.
        """
        with session.transaction(self._database) as connection:
            spaces, models = spaces_of(connection), encoders.with_vectors(connection)
            try:
                packages.require("searching by a file", *packages.NEEDED)
                chosen = desk.Space(model) if model else desk.Space()
                space = desk.searchable(connection, File(name), chosen)[0]
            except ReelvecError as error:
                return Answer(spaces, models, None, name, trouble=told(error))
        try:
            vector = self._made(space, file, stop)
        except (ReelvecError, Cancelled) as error:
            return Answer(spaces, models, space, name, trouble=told(error))
        with session.transaction(self._database) as connection:
            hits = search.nearest(connection, space, vector, limit=HITS)
            near = look.near_cards(connection, hits)
        return Answer(spaces, models, space, name, hits=near)

    def _made(self, space: Encoder, file: BinaryIO, stop: threading.Event) -> FloatArray:
        from producer.local.vectors import FileVectors

        if self._vectors is None:
            self._vectors = FileVectors(self._reader.settings, device="cpu")
        return self._vectors.pooled(self._reader.sent(file), space, stop)

    def close(self) -> None:
        if self._vectors is not None:
            self._vectors.close()
        self._vectors = None
