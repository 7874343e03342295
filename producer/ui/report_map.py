"""The map inside a report: its points, the script that draws them, and pictures of some."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from db import session, strips
from db.encoders import Encoder
from db.results import looking
from db.results.charted import Speaker
from db.results.looking import Card
from db.results.maps import Map
from producer.ui import maps

if TYPE_CHECKING:
    from sqlalchemy import Engine

STATIC = Path(__file__).parent / "static"
STYLE = STATIC / "map.css"
#: In the order in which a page loads them.
SCRIPTS = [STATIC / name for name in ("points.js", "hand.js", "map.js")]
#: Videos whose picture is shown where one points at them.
PICTURED = 500


@dataclass(frozen=True)
class Part:
    """`packed`: the points, base64 of `maps.packed`; `cards`: of the videos with a picture."""

    encoder: Encoder
    made: Map
    speaker: Speaker | None
    packed: str
    script: Markup
    cards: Sequence[Card]


def part(database: Engine) -> Part | None:
    """Of the encoder that the page would show first; None: there is no map."""
    chosen = maps.Maps(database).choices({})
    if chosen.encoder is None or chosen.made is None:
        return None
    points = maps.read(database, chosen.encoder, chosen.made, chosen.speaker)
    with session.transaction(database) as connection:
        pictured = strips.first(connection, points.video_ids.tolist(), PICTURED)
        cards = looking.cards(connection, pictured)
    script = "".join(path.read_text("utf-8") for path in SCRIPTS)
    return Part(
        chosen.encoder,
        chosen.made,
        chosen.speaker,
        base64.b64encode(maps.packed(points)).decode(),
        Markup(script),  # noqa: S704 - files of this package; their hash is in the policy
        cards,
    )
