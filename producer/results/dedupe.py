"""What `reelvec dedupe` does: pairs of near-duplicates become groups, and of each group one is
kept.

Two videos are in one group where a chain of pairs leads from one to the other, so that two of them
may be less similar than asked for: such two have no distance.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, TextIO

from db import encoders
from db.errors import UsageError
from db.jobs.selection import Selection
from db.results import duplicates, vectors
from db.results.duplicates import Copy, Pair
from producer.tables import json_text

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from db.encoders import Encoder

#: Groups whose facts are asked for at once.
GROUPS = 1000

#: What is sorted first is kept, by name.
KEEP: Mapping[str, Callable[[Copy], Any]] = {
    "largest": lambda video: (
        -(video.width_px or 0) * (video.height_px or 0),
        -(video.size_bytes or 0),
        video.added_at,
        video.video_id,
    ),
    "oldest": lambda video: (video.added_at, video.video_id),
}

Tell = Callable[[int, int], None]
"""Told of how many videos of how many the near ones were looked for."""


@dataclass(frozen=True)
class Group:
    """`videos` with the one to keep first, and the pairs by which they are one group."""

    videos: list[Copy]
    pairs: list[Pair]

    @property
    def kept(self) -> Copy:
        return self.videos[0]

    @property
    def spare_bytes(self) -> int:
        """What those that are not kept take."""
        return sum(video.size_bytes or 0 for video in self.videos[1:])

    def distance(self, video: Copy) -> float | None:
        """From the one to keep; None where other videos lie between, and for that one itself."""
        ends = sorted((video.video_id, self.kept.video_id))
        return next(
            (pair.distance for pair in self.pairs if [pair.video_id, pair.other_id] == ends), None
        )


def among_newest(
    database: Engine, encoder: Encoder, videos: int, *, above: float, keep: str, most: int
) -> tuple[int, list[Group]]:
    """How many videos were looked at, the newest ones and at most so many; and the groups in which
    one of these is, made of at most `most` pairs.
    """
    with vectors.snapshot(database) as connection:
        ids = duplicates.newest(connection, encoder, videos)
        found = set(duplicates.pairs(connection, encoder, above, ids, most=most))
        return len(ids), list(_with_facts(connection, list(linked(found)), keep))


def groups(
    database: Engine, name: str, selection: Selection, *, above: float, keep: str, tell: Tell
) -> Iterator[Group]:
    """Groups in which a video of the selection is, by the lowest video.

    Raises `UsageError` for an encoder that is not there or has no vectors, and a similarity that is
    no cosine.
    """
    if not 0 < above <= 1:
        raise UsageError(f"--above {above} is no similarity: give a cosine, above 0 and up to 1")
    with vectors.snapshot(database) as connection:
        encoder = encoders.known_encoder(connection, name)
        if encoder.dim is None:
            raise UsageError(f"{name} has no vectors yet: `reelvec status` says what is waiting")
        total, done, found = duplicates.count(connection, encoder, selection), 0, set[Pair]()
        for ids in duplicates.blocks(connection, encoder, selection):
            found.update(duplicates.pairs(connection, encoder, above, ids))
            done += len(ids)
            tell(done, total)
        yield from _with_facts(connection, list(linked(found)), keep)


def linked(pairs: set[Pair]) -> Iterator[list[Pair]]:
    """The pairs of each group (a union of sets that share a video), ascending."""
    above: dict[int, int] = {}

    def root(video: int) -> int:
        while (next_up := above.setdefault(video, video)) != video:
            above[video] = video = above[next_up]
        return video

    for pair in pairs:
        low, high = sorted((root(pair.video_id), root(pair.other_id)))
        above[high] = low  # so that a group's root is its lowest video
    of: dict[int, list[Pair]] = {}
    for pair in sorted(pairs, key=lambda pair: (pair.video_id, pair.other_id)):
        of.setdefault(root(pair.video_id), []).append(pair)
    yield from (of[lowest] for lowest in sorted(of))


def _with_facts(
    connection: Connection, linked_pairs: Sequence[list[Pair]], keep: str
) -> Iterator[Group]:
    for start in range(0, len(linked_pairs), GROUPS):
        some = linked_pairs[start : start + GROUPS]
        members = [
            {video for pair in pairs for video in (pair.video_id, pair.other_id)} for pairs in some
        ]
        known = duplicates.copies(connection, sorted(set().union(*members)))
        for ids, pairs in zip(members, some, strict=True):
            yield Group(sorted((known[video] for video in ids), key=KEEP[keep]), pairs)


def write_csv(file: TextIO, found: Iterable[Group]) -> None:
    """A header, and a line a video: the number of its group, whether to keep it, how far it is from
    the one that is kept, and its facts.
    """
    lines = csv.writer(file, lineterminator="\n")
    facts = [field.name for field in fields(Copy)]
    lines.writerow(["group", "keep", "distance", *facts])
    for number, group in enumerate(found, 1):
        for video in group.videos:
            kept = "yes" if video is group.kept else "no"
            own = [getattr(video, name) for name in facts]
            lines.writerow([number, kept, group.distance(video), *own])


def write_json(file: TextIO, found: Iterable[Group]) -> None:
    """A line a group, with all its pairs."""
    for number, group in enumerate(found, 1):
        line = {"group": number, "keep": group.kept.video_id, **asdict(group)}
        file.write(f"{json_text(line)}\n")
