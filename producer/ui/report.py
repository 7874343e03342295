"""The same parts as one file, to be sent around: it asks nothing, and runs nothing
but the script that draws the map."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from db import session, strips
from db.results import looking
from db.results.looking import Card, Filters
from producer.ui import look, pages, report_map
from producer.ui.judge import Judging
from producer.ui.now import Looking

if TYPE_CHECKING:
    from sqlalchemy import Engine

STATIC = Path(__file__).parent / "static"
STYLES = ("page.css", "judge.css")
#: The newest videos, and how many of them are shown with their neighbours.
NEWEST, WITH_NEIGHBOURS = 200, 12
#: Of pictures and the points of the map; pictures are left out beyond it, so that the file can be
#: sent: 10 MB with all that is around.
PICTURE_BYTES = 8_000_000


class _Pictures:
    """Pictures inside the file, each read once, of so many bytes in all."""

    def __init__(self, database: Engine, most_bytes: int) -> None:
        self._database = database
        self._known: dict[int, str] = {}
        self._left_bytes = most_bytes

    def __call__(self, card: Card) -> str | None:
        if card.strip_version is None:
            return None
        if card.video_id not in self._known:
            with session.one_statement(self._database) as connection:
                strip = strips.fetch(connection, card.video_id) or b""
            self._known[card.video_id] = base64.b64encode(strip).decode()
        data = self._known[card.video_id]
        if not data or len(data) > self._left_bytes:
            return None
        self._left_bytes -= len(data)
        return f"data:image/webp;base64,{data}"


def html(database: Engine, *, broker_url: str, shown: str) -> str:
    """The file. `shown`: the servers in use, secrets masked. Raises `UnavailableError`."""
    with session.transaction(database) as connection:
        newest = looking.found(connection, Filters(), before=None, limit=NEWEST)
        cards = looking.cards(connection, newest)
    done = [card.video_id for card in cards if card.state == "done"]
    chosen = done[:: max(1, len(done) // WITH_NEIGHBOURS)][:WITH_NEIGHBOURS]
    shown_map = report_map.part(database)
    style = "".join((STATIC / name).read_text("utf-8") for name in STYLES)
    if shown_map:
        style += report_map.STYLE.read_text("utf-8")
    pictures = _Pictures(database, PICTURE_BYTES - len(shown_map.packed if shown_map else ""))
    templates = pages.environment()
    templates.globals |= {"has_pages": False, "picture": pictures, "shown": shown}
    return templates.get_template("report.html").render(
        now=Looking(database, broker_url).look(),
        judgement=Judging(database).take(),
        cards=cards,
        map=shown_map,
        shown_whole=[page for one in chosen if (page := look.page(database, one))],
        style=Markup(style),  # noqa: S704 - files of this package; their hash is in the policy
        style_hash=_hash(style),
        script_hash=_hash(shown_map.script) if shown_map else None,
    )


def _hash(words: str) -> str:
    """As a policy names what it allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(words.encode()).digest()).decode()}"
