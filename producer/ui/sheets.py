"""The 96 frames of one video, drawn when somebody asks to see them and kept for a moment."""

from __future__ import annotations

import io
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass

from sqlalchemy import Engine

from db import encoders, session
from db.errors import ReelvecError
from db.results import looking
from db.results.looking import Card
from producer.doctor import packages
from producer.ui.reading import Reader, told
from workers.sampling import policies
from workers.sources.retrying import Cancelled

#: Sheets that a browser may still ask for.
KEPT = 8
#: As WebP a sheet takes some hundred kB.
QUALITY = 80


@dataclass(frozen=True)
class Sheet:
    """`key`: what the picture is asked for by; None, and `trouble` says why there is none."""

    card: Card
    policy: str
    key: str | None = None
    width_px: int = 0
    height_px: int = 0
    trouble: str | None = None


class Sheets:
    """One is drawn at a time, by whoever calls `draw`."""

    def __init__(self, database: Engine, reader: Reader) -> None:
        self._database = database
        self._reader = reader
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def draw(self, video_id: int, stop: threading.Event) -> Sheet | None:
        """None: there is no such video. Raises `UnavailableError`."""
        with session.transaction(self._database) as connection:
            whole = looking.whole(connection, video_id)
            if whole is None:
                return None
            made = next(iter(whole.windows), None)
            policy = (
                encoders.known_encoder(connection, made.encoder).sampling
                if made
                else policies.DEFAULT
            )
        try:
            return self._drawn(whole.card, policy, stop)
        except (ReelvecError, Cancelled) as error:
            return Sheet(whole.card, policy, trouble=told(error))

    def _drawn(self, card: Card, policy: str, stop: threading.Event) -> Sheet:
        packages.require("drawing its frames", "av", "PIL")
        from producer.local.sample import drawn, sampled

        with self._reader.open(card.uri, stop) as source:
            made = sampled(source, card.address, policy, stop=stop)
        picture = drawn(made, card.title or card.address)
        file = io.BytesIO()
        picture.save(file, "webp", quality=QUALITY)
        key = secrets.token_urlsafe(12)
        self._kept[key] = file.getvalue()
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return Sheet(card, policy, key, *picture.size)

    def picture(self, key: str) -> bytes | None:
        """A WebP file; None: it is not kept any more."""
        return self._kept.get(key)
