"""Whether what came out is right: tags against the table in `photographs`, neighbours against the
other clip of the same picture. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from demo.photographs import PHOTOGRAPHS

#: An accepted tag among so many is right.
FIRST_TAGS = 5
#: Of all photographs so many may be taken for something else.
MISTAKES = 1


def twin(title: str) -> str:
    """The other clip of the same photograph."""
    photograph, _, movement = title.rpartition(" ")
    return f"{photograph} {'pan' if movement == 'zoom' else 'zoom'}"


def titles() -> list[str]:
    """Those of the photographs' clips."""
    return [f"{one.title} {movement}" for one in PHOTOGRAPHS for movement in ("pan", "zoom")]


def mistaken(tags: Mapping[str, Sequence[str]]) -> list[str]:
    """Photographs with a clip that has no accepted tag among its first five. `tags`: those of each
    title, the best first.
    """
    return [
        one.title
        for one in PHOTOGRAPHS
        if not all(
            set(one.accepted) & set(tags.get(f"{one.title} {movement}", ())[:FIRST_TAGS])
            for movement in ("pan", "zoom")
        )
    ]


def strangers(nearest: Mapping[str, str]) -> list[str]:
    """Clips whose nearest neighbour is not their twin. `nearest`: title by title."""
    return [title for title in titles() if nearest.get(title) != twin(title)]


def verdict(
    tags: Mapping[str, Sequence[str]], nearest: Mapping[str, str]
) -> tuple[bool, list[str]]:
    """Whether this is what was promised, and what is to be said of it."""
    wrong, lost = mistaken(tags), strangers(nearest)
    return (
        len(wrong) <= MISTAKES and not lost,
        [
            *_lines(
                len(PHOTOGRAPHS),
                wrong,
                "photographs have a right tag among the first five of both clips",
            ),
            *_lines(
                len(titles()), lost, "clips have their photograph's other clip as nearest neighbour"
            ),
        ],
    )


def _lines(count: int, wrong: Sequence[str], what: str) -> Iterator[str]:
    yield f"{count - len(wrong)} of {count} {what}" + (
        f", not: {', '.join(wrong)}" if wrong else ""
    )
