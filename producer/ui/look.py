"""What the pages Look and Search show: filters as an address says them, and what stands beside a
video.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from sqlalchemy import Connection, Engine

from db import search, session
from db.results import looking
from db.results.looking import Card, Filters, Whole
from db.search import Hit

#: Cards on one page, and neighbours of one model.
PAGE_CARDS, NEIGHBOURS = 48, 6
#: By name, as an address says it: the words, and from how many seconds on to below how many.
DURATIONS: Mapping[str, tuple[str, float | None, float | None]] = {
    "10s": ("under 10 s", None, 10.0),
    "1min": ("10 s to 1 min", 10.0, 60.0),
    "10min": ("1 to 10 min", 60.0, 600.0),
    "1h": ("10 min to 1 h", 600.0, 3600.0),
    "long": ("1 h and longer", 3600.0, None),
}
#: What an address may ask for, in the order of the form.
NAMES = ("category", "tag", "tagger", "held_out", "model", "error", "duration")


@dataclass(frozen=True)
class Asked:
    """The filters as they stand in an address; what is empty or unknown asks nothing."""

    chosen: Mapping[str, str]
    before: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked:
        """Nothing that anybody may type here is an error."""
        chosen = {name: query[name][:500] for name in NAMES if query.get(name)}
        if chosen.get("duration") not in DURATIONS:
            chosen.pop("duration", None)
        before = query.get("before", "")
        return cls(
            {name: words.replace("\0", "") for name, words in chosen.items()},
            int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None,
        )

    @property
    def filters(self) -> Filters:
        _, least, most = DURATIONS.get(self.chosen.get("duration", ""), ("", None, None))
        category, tag, tagger, held_out, encoder, error = map(self.chosen.get, NAMES[:-1])
        return Filters(category, tag, tagger, held_out, encoder, error, least, most)

    def address(self, before: int) -> str:
        """Of the page behind this one."""
        return "/look?" + urlencode({**self.chosen, "before": before})


@dataclass(frozen=True)
class Grid:
    """One page of videos; `next_page` is the address of those behind them."""

    cards: Sequence[Card]
    next_page: str | None


@dataclass(frozen=True)
class Neighbours:
    """The videos nearest to one by the vectors of one encoder, with their distances."""

    encoder: str
    near: Sequence[tuple[Card, float]]


@dataclass(frozen=True)
class Page:
    """One video, and what is near it."""

    whole: Whole
    neighbours: Sequence[Neighbours]


def grid(database: Engine, asked: Asked) -> Grid:
    with session.transaction(database) as connection:
        found = looking.found(connection, asked.filters, before=asked.before, limit=PAGE_CARDS + 1)
        cards = looking.cards(connection, found[:PAGE_CARDS])
    more = len(found) > PAGE_CARDS
    return Grid(cards, asked.address(found[PAGE_CARDS - 1]) if more else None)


def page(database: Engine, video_id: int) -> Page | None:
    """None: there is no such video."""
    with session.transaction(database) as connection:
        whole = looking.whole(connection, video_id)
        if whole is None:
            return None
        near = [
            Neighbours(
                made.encoder,
                near_cards(
                    connection,
                    search.neighbours(connection, video_id, made.encoder, limit=NEIGHBOURS),
                ),
            )
            for made in whole.windows
        ]
    return Page(whole, near)


def near_cards(connection: Connection, hits: Sequence[Hit]) -> list[tuple[Card, float]]:
    """Hits as cards, with their distances."""
    distances = {hit.video_id: hit.distance for hit in hits}
    return [(card, distances[card.video_id]) for card in looking.cards(connection, list(distances))]
