"""What a tagger said of videos, beside what their source says: the stored probabilities of all
videos whose category it knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, text

from db.results import arrays

BLOCK_ROWS = 8192


@dataclass(frozen=True)
class Judged:
    """A tagger that reads text, and how many of the videos it has scored have a category that it
    `knows`, one that is `unknown` to it, or `none`. `windows` a video; 0: of some videos only the
    mean over the windows is stored. Answers are read of one video of `every` so many. `weights` are
    its encoder's: what random ones say means nothing.
    """

    tagger_id: int
    tagger: str
    categories: tuple[str, ...]
    known: int
    unknown: int
    none: int
    windows: int
    weights: str
    every: int = 1


@dataclass(frozen=True)
class Answers:
    """Of n videos: `truth` int64 [n], the place of its category among the tagger's; `groups` int64
    [n], the same for videos that belong together; `probabilities` float32 [n, w, K].
    """

    truth: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Means:
    """Where only the mean over the windows is stored: `ranks` int64 [n] of the videos' categories
    (behind the last that is kept, where it is not among them), and `probability` float32 [n] of the
    best answer.
    """

    truth: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    ranks: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Cell:
    """How many videos of a category got which tag."""

    category: str
    tag: str
    videos: int


#: Videos of one channel, uploader or series share a number; one without is alone.
GROUP = "coalesce(hashtextextended(v.group_key, 0), v.video_id)"

_TAGGERS = text("""
SELECT t.tagger_id, t.tagger, t.categories, s.known, s.unknown, s.none, s.windows, e.weights
FROM reelvec.taggers t JOIN reelvec.label_sets USING (label_set_id) JOIN reelvec.encoders e USING (encoder_id)
CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE v.category = ANY (t.categories)) AS known,
    count(*) FILTER (WHERE v.category <> ALL (t.categories)) AS unknown,
    count(*) FILTER (WHERE v.category IS NULL) AS none,
    CASE WHEN min(coalesce(array_length(s.window_probabilities, 1), 0)) = max(array_length(s.window_probabilities, 1))
      THEN max(array_length(s.window_probabilities, 1)) ELSE 0 END AS windows
  FROM reelvec.scores s JOIN reelvec.videos v USING (video_id) WHERE s.tagger_id = t.tagger_id) s
WHERE s.known + s.unknown + s.none > 0 ORDER BY t.tagger_id
""")


def taggers(connection: Connection) -> list[Judged]:
    """Every tagger with a label set that has scored a video."""
    return [
        Judged(**{**row._mapping, "categories": tuple(row.categories)})
        for row in connection.execute(_TAGGERS)
    ]


_KNOWN = """
FROM reelvec.scores s JOIN reelvec.videos v USING (video_id) JOIN reelvec.taggers t USING (tagger_id)
WHERE s.tagger_id = {tagger_id} AND v.category = ANY (t.categories)
  AND ({every} = 1 OR (hashint8(s.video_id) & 2147483647) % {every} = 0) AND s.video_id > {after} AND s.video_id <= {to} ORDER BY s.video_id"""
_TRUTH = "array_position(t.categories, v.category)"

_WINDOWS = f"SELECT ({_TRUTH} - 1)::bigint, {GROUP}, s.window_probabilities {_KNOWN}"
# equal probabilities: the later category first, as `producer.results.figures.ranks` has it
_MEANS = f"""
SELECT ({_TRUTH} - 1)::bigint, {GROUP}, CASE WHEN s.tags IS NULL THEN (
    SELECT count(*) FROM unnest(s.probabilities) WITH ORDINALITY AS u (p, place)
    WHERE (u.p, u.place) >= (s.probabilities[{_TRUTH}], {_TRUTH}))
  ELSE coalesce(array_position(s.tags, v.category), cardinality(s.tags) + 1) END::bigint,
  s.probability {_KNOWN}"""  # noqa: S608
_BOUNDARY = text("""
SELECT max(video_id) FROM (
  SELECT video_id FROM reelvec.scores WHERE tagger_id = :tagger_id AND video_id > :after
  ORDER BY video_id LIMIT :rows) block
""")


def answers(connection: Connection, tagger: Judged) -> Answers:
    """All known answers of a tagger that has windows of every video, inside a snapshot."""
    shape = (tagger.windows, len(tagger.categories))
    found = Answers(
        np.empty(tagger.known, np.int64),
        np.empty(tagger.known, np.int64),
        np.empty((tagger.known, *shape), np.float32),
    )
    fields = [("truth", ">i8"), ("group", ">i8"), ("windows", arrays.real_array(*shape))]
    at = 0
    for block in _blocks(connection, _WINDOWS, tagger, fields):
        end = at + len(block)
        found.truth[at:end], found.groups[at:end] = block["truth"], block["group"]
        found.probabilities[at:end] = arrays.numbers(block["windows"])
        at = end
    return Answers(found.truth[:at], found.groups[:at], found.probabilities[:at])


def means(connection: Connection, tagger: Judged) -> Means:
    """The same of a tagger whose windows are not stored."""
    fields = [("truth", ">i8"), ("group", ">i8"), ("rank", ">i8"), ("probability", ">f4")]
    rows = np.concatenate(list(_blocks(connection, _MEANS, tagger, fields)))
    return Means(
        rows["truth"].astype(np.int64),
        rows["group"].astype(np.int64),
        rows["rank"].astype(np.int64),
        rows["probability"].astype(np.float32),
    )


_CONFUSION = text("""
SELECT v.category, s.tag, count(*) AS videos FROM reelvec.scores s JOIN reelvec.videos v USING (video_id)
WHERE s.tagger_id = :tagger_id AND v.category = ANY(CAST(:categories AS text[]))
GROUP BY v.category, s.tag ORDER BY videos DESC, v.category, s.tag
""")


def confusion(connection: Connection, tagger: Judged) -> tuple[Cell, ...]:
    """By the stored tags, the commonest first; what never happened is left out."""
    facts = {"tagger_id": tagger.tagger_id, "categories": list(tagger.categories)}
    return tuple(Cell(**row._mapping) for row in connection.execute(_CONFUSION, facts))


def has_categories(connection: Connection) -> bool:
    """Whether the source says a category of any video."""
    known = text("SELECT EXISTS (SELECT FROM reelvec.videos WHERE category IS NOT NULL)")
    return bool(connection.execute(known).scalar())


def _blocks(
    connection: Connection, statement: str, tagger: Judged, fields: list[arrays.Field]
) -> Iterator[npt.NDArray[np.void]]:
    after = 0
    while True:
        facts = {"tagger_id": tagger.tagger_id, "after": after, "rows": BLOCK_ROWS}
        to = connection.execute(_BOUNDARY, facts).scalar()
        if to is None:
            return
        chosen = statement.format(
            tagger_id=tagger.tagger_id, every=tagger.every, after=after, to=to
        )
        yield arrays.read(connection, chosen, fields)
        after = int(to)
