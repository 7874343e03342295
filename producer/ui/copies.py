"""Near-duplicates as the page Judge shows them: groups of pictures, the one to keep first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from db import encoders, session
from db.administration import indexes
from db.errors import ReelvecError
from db.results import looking
from db.results.looking import Card
from producer.commands.dedupe import ABOVE, Kept
from producer.results import dedupe
from producer.results.dedupe import Group

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from db.encoders import Encoder

#: Copies are looked for of so many videos, those recorded last: all of a large one take hours.
NEWEST_VIDEOS, PAIRS = 500, 20_000
#: What is shown of them.
GROUPS, MEMBERS = 12, 6


@dataclass(frozen=True)
class Member:
    """A video of a group; `distance` is 1 - cosine from the one that is kept: None of that one, and
    where only other videos lie between.
    """

    card: Card
    is_kept: bool
    distance: float | None
    width_px: int | None
    height_px: int | None
    size_bytes: int | None


@dataclass(frozen=True)
class Shown:
    """A group: its first members, and how many `more` there are."""

    members: tuple[Member, ...]
    more: int
    spare_bytes: int


@dataclass(frozen=True)
class Copies:
    """By the vectors of one encoder: of `videos`, those recorded last, the groups that free the
    most; `groups` and `spare_bytes` count all. `trouble` says why nothing was looked for, and
    `command` mends it.
    """

    encoder: str
    videos: int = 0
    shown: tuple[Shown, ...] = ()
    groups: int = 0
    spare_bytes: int = 0
    trouble: str | None = None
    command: str | None = None


def every(database: Engine) -> tuple[Copies, ...]:
    """By each encoder that has vectors with a meaning."""
    with session.transaction(database) as connection:
        known = encoders.with_vectors(connection)
        slow = {one.encoder for one in indexes.unindexed(connection)}
    return tuple(
        _of(database, one, is_slow=one.name in slow)
        for one in known
        if not one.weights.startswith("random")  # to which all videos are alike
    )


def _of(database: Engine, encoder: Encoder, *, is_slow: bool) -> Copies:
    if is_slow:
        return Copies(
            encoder.name,
            trouble="It has no index, so each video would have to be compared with all others.",
            command=f"reelvec db index {encoder.name}",
        )
    try:
        videos, found = dedupe.among_newest(
            database, encoder, NEWEST_VIDEOS, above=ABOVE, keep=Kept.LARGEST, most=PAIRS
        )
    except ReelvecError as error:  # it took too long, for example; the others may be quick
        return Copies(encoder.name, trouble=str(error), command=f"reelvec dedupe {encoder.name}")
    ordered = sorted(found, key=lambda group: -group.spare_bytes)
    with session.transaction(database) as connection:
        shown = _drawn(connection, ordered[:GROUPS])
    spare_bytes = sum(group.spare_bytes for group in found)
    return Copies(encoder.name, videos, shown, len(found), spare_bytes)


def _drawn(connection: Connection, groups: Sequence[Group]) -> tuple[Shown, ...]:
    ids = [video.video_id for group in groups for video in group.videos[:MEMBERS]]
    cards = {card.video_id: card for card in looking.cards(connection, ids)}
    return tuple(
        Shown(
            tuple(
                Member(
                    cards[video.video_id],
                    video is group.kept,
                    group.distance(video),
                    video.width_px,
                    video.height_px,
                    video.size_bytes,
                )
                for video in group.videos[:MEMBERS]
                if video.video_id in cards  # it may have been removed meanwhile
            ),
            max(0, len(group.videos) - MEMBERS),
            group.spare_bytes,
        )
        for group in groups
    )
