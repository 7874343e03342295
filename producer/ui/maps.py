"""The page Map: what can be chosen, and the points as bytes, read once for all who look."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from db import session
from db.encoders import Encoder
from db.results import charted, looking, maps, vectors
from db.results.charted import Charted, Speaker
from db.results.looking import Card
from db.results.maps import Map

if TYPE_CHECKING:
    from sqlalchemy import Engine

#: Of a larger map a sample is drawn.
MOST_POINTS = 100_000
#: Cards that are asked for at once: what a rectangle has selected.
MOST_CARDS = 24
#: Points are read again when they are older, or when the map is another one.
KEPT_SECONDS = 60.0
KEPT_MAPS = 4


@dataclass(frozen=True)
class Choices:
    """What the page offers and what was chosen; no encoder: there is no map yet."""

    encoders: Sequence[Encoder]
    encoder: Encoder | None
    made: Map | None
    speakers: Sequence[Speaker]
    speaker: Speaker | None


class Maps:
    """One map is read at a time, and kept for everybody who looks at it meanwhile."""

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._kept: dict[tuple[int, int], tuple[float, bytes]] = {}
        self._lock = threading.Lock()

    def choices(self, query: Mapping[str, str]) -> Choices:
        """By the names in an address; one that there is not chooses the first."""
        with session.transaction(self._database) as connection:
            found, speakers = charted.mapped(connection), charted.speakers(connection)
            encoder = next(
                (one for one in found if one.name == query.get("model")), next(iter(found), None)
            )
            made = maps.current(connection, encoder) if encoder else None
        asked = query.get("tagger")
        speaker = next((one for one in speakers if one.tagger == asked), next(iter(speakers), None))
        return Choices(found, encoder, made, speakers, speaker)

    def points(self, query: Mapping[str, str]) -> bytes | None:
        """The points of what `choices` chooses, as `packed` has them; None: there is no map."""
        with self._lock:
            chosen = self.choices(query)
            if chosen.encoder is None or chosen.made is None:
                return None
            key = (chosen.made.map_id, chosen.speaker.tagger_id if chosen.speaker else 0)
            read_at, kept = self._kept.pop(key, (0.0, b""))
            if not kept or time.monotonic() - read_at > KEPT_SECONDS:
                read_at = time.monotonic()
                kept = packed(read(self._database, chosen.encoder, chosen.made, chosen.speaker))
            self._kept[key] = (read_at, kept)
            while len(self._kept) > KEPT_MAPS:
                del self._kept[next(iter(self._kept))]
            return kept

    def cards(self, asked: str) -> list[Card]:
        """Of the videos of these numbers, parted by commas; whatever is none is left out."""
        ids = [int(one) for one in asked.split(",") if one.isascii() and one.isdigit()]
        known = [one for one in ids if one < 2**63]
        with session.transaction(self._database) as connection:
            return looking.cards(connection, known[:MOST_CARDS])


def read(database: Engine, encoder: Encoder, made: Map, speaker: Speaker | None) -> Charted:
    """The points of a map as a page shows them."""
    with vectors.snapshot(database) as connection:
        return charted.read(connection, encoder, made, speaker, most=MOST_POINTS)


def packed(points: Charted) -> bytes:
    """Points for a browser, which takes them apart without an object for each.

    Little-endian: the lengths of a head in JSON (blanks make it a multiple of 8) and of the lists
    as uint32; the head; then `ids` uint32, or float64 where one is too `wide`, `x` and `y` float32,
    `category` and `tag` int16.
    """
    wide = bool(len(points.video_ids)) and int(points.video_ids.max()) > np.iinfo(np.uint32).max
    facts = {
        "wide": wide,
        "categories": points.categories,
        "tags": points.tags,
        "total": points.total,
        "unplaced": points.unplaced,
    }
    head = json.dumps(facts, ensure_ascii=False).encode()
    head += b" " * (-len(head) % 8)
    parts = [
        np.array([len(head), len(points.video_ids)], "<u4").tobytes(),
        head,
        points.video_ids.astype("<f8" if wide else "<u4").tobytes(),
        np.ascontiguousarray(points.places.T).astype("<f4").tobytes(),
        points.category.astype("<i2").tobytes(),
        points.tag.astype("<i2").tobytes(),
    ]
    return b"".join(parts)
