"""What `reelvec evaluate` does: how right the tags are that we have, and those that a trained head
would give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from db.errors import UsageError
from db.results import vectors
from producer.results import zero_shot
from producer.results.zero_shot import ZeroShot

if TYPE_CHECKING:
    from sqlalchemy import Engine

Tell = Callable[[int, int], None]
"""Told how many steps of how many are done."""


@dataclass(frozen=True)
class Evaluation:
    """All that was judged."""

    zero_shot: tuple[ZeroShot, ...]


def evaluate(database: Engine, *, taggers: Sequence[str], tell: Tell) -> Evaluation:
    """Judge `taggers`, or all, by the categories that the sources say.

    Raises `UsageError` for an unknown tagger, and where no video has both a category and scores.
    """
    with vectors.snapshot(database) as connection:
        chosen = zero_shot.chosen_taggers(connection, taggers)
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            tell(done, len(chosen))

        found = zero_shot.evaluate(connection, chosen, step)
    if not found:
        raise UsageError(
            "nothing to compare with: no video that a tagger has scored has a category that the "
            "tagger knows; categories come from folders, from the column `category` of a list, or "
            "from enqueue --as"
        )
    return Evaluation(tuple(found))
