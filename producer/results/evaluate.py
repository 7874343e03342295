"""What `reelvec evaluate` does: how right the tags are that we have, and those that a trained head
would give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from db import encoders as spaces
from db import session
from db.errors import UsageError
from db.results import heads as rows
from db.results import stacked, vectors
from db.results.heads import Head
from db.results.linear import Floats, Linear, unit
from db.results.stacked import Labelled
from producer.results import folds, kinds, zero_shot
from producer.results.folds import Judgement, Small
from producer.results.zero_shot import ZeroShot

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from db.encoders import Encoder

#: What is kept of a judgement with the head, for whoever looks at it later.
KEPT = ("shares", "calibration", "sure", "confusion", "examples")

Begin = Callable[[int], Callable[[], None]]
"""Told how many steps come; what it gives hears of each."""


@dataclass(frozen=True)
class Asked:
    """What to judge: `taggers` by name, or all; heads of `kinds` on `encoders`, in `folds` folds;
    and the name under which the head on all encoders is to be kept.

    Raises `UsageError` for what does not go together.
    """

    taggers: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    kinds: tuple[str, ...] = (kinds.DEFAULT,)
    folds: int = 5
    save: str | None = None

    def __post_init__(self) -> None:
        if not self.encoders:
            if self.save is not None or self.kinds != (kinds.DEFAULT,):
                raise UsageError("heads learn from vectors: say whose with --encoder")
            return
        for kind in self.kinds:
            kinds.learner(kind)
        if self.save is not None and (len(self.kinds) > 1 or kinds.UNSAVED in self.kinds):
            raise UsageError(
                f"--save keeps one head that is numbers: give one --kind, not {kinds.UNSAVED}, "
                "which is all of its videos"
            )


@dataclass(frozen=True)
class Evaluation:
    """All that was judged. `categories` are those that heads were taught, `small` those that were
    left out; `saved` is the head's NAME@VERSION, and whether it is new.
    """

    zero_shot: tuple[ZeroShot, ...]
    heads: tuple[Judgement, ...] = ()
    categories: tuple[str, ...] = ()
    small: tuple[Small, ...] = ()
    saved: tuple[str, bool] | None = None


def evaluate(database: Engine, asked: Asked, begin: Begin, *, who: str) -> Evaluation:
    """Judge what was asked for, by the categories that the sources say.

    Raises `UsageError`: an unknown tagger or encoder, too few videos, nothing to compare with.
    """
    zero_shot = zero_shots(database, asked.taggers, begin)
    if not asked.encoders:
        if not zero_shot:
            raise UsageError(
                "nothing to compare: no video that a tagger has scored has a category that the "
                "tagger knows; categories come from folders, from the column `category` of a "
                "list, or from enqueue --as. Heads learn your own categories: --encoder. Taggers "
                "of random weights mean nothing, and are judged only if --tagger names them"
            )
        return Evaluation(zero_shot)
    taught = teach(database, asked.encoders, asked.folds)
    heads = judge(taught, asked.kinds, asked.folds, begin)
    saved = None
    if asked.save is not None:
        step = begin(1)
        saved = save(database, taught, heads[-1], asked.save, who=who)
        step()
    return Evaluation(zero_shot, heads, taught.found.categories, taught.small, saved)


def zero_shots(
    database: Engine, taggers: Sequence[str], begin: Begin, *, most: int | None = None
) -> tuple[ZeroShot, ...]:
    """`taggers`, or all of trained weights that have scored a video, by the categories that the
    sources say; each by about `most` videos, or all. Raises `UsageError` for an unknown one.
    """
    with vectors.snapshot(database) as connection:
        chosen = zero_shot.chosen_taggers(connection, taggers)
        return tuple(zero_shot.evaluate(connection, chosen, begin(len(chosen)), most=most))


@dataclass(frozen=True)
class Taught:
    """What heads learn from: `found`, and the unit `vectors` float32 [n, sum of dims] of
    `encoders`, side by side.
    """

    encoders: tuple[Encoder, ...]
    found: Labelled
    vectors: Floats
    small: tuple[Small, ...]

    def columns(self, encoder: Encoder) -> slice:
        """Those of one encoder."""
        start = sum(one.dim or 0 for one in self.encoders[: self.encoders.index(encoder)])
        return slice(start, start + (encoder.dim or 0))


def teach(database: Engine, encoders: Sequence[str], count: int) -> Taught:
    """Read all videos that have a category and a vector of each of `encoders`, for `count` folds.

    Raises `UsageError` for an unknown encoder, one without vectors, and too few videos.
    """
    with vectors.snapshot(database) as connection:
        chosen = tuple(_bound(connection, name) for name in dict.fromkeys(encoders))
        found, small = folds.kept(stacked.labelled(connection, chosen), count)
        values, _ = stacked.stack(connection, chosen, found.video_ids)
    unit(values, [encoder.dim or 0 for encoder in chosen])
    return Taught(chosen, found, values, tuple(small))


def _bound(connection: Connection, name: str) -> Encoder:
    encoder = spaces.known_encoder(connection, name)
    if not vectors.count(connection, encoder):
        raise UsageError(f"{name} has no vectors yet: `reelvec status` says what is waiting")
    return encoder


def judge(taught: Taught, names: Sequence[str], count: int, begin: Begin) -> tuple[Judgement, ...]:
    """Heads of each kind of `names`, on each encoder and, of several, on all of them side by
    side, in `count` folds.
    """
    every = tuple(one.name for one in taught.encoders)
    parts: list[tuple[tuple[str, ...], slice]] = [
        ((one.name,), taught.columns(one)) for one in taught.encoders
    ]
    if len(parts) > 1:
        parts.append((every, slice(0, taught.vectors.shape[1])))
    step = begin(len(parts) * len(names) * count)
    fold = folds.split(taught.found, count)
    judgements = []
    for encoders, columns in parts:
        for kind in names:
            answers = folds.out_of_fold(
                kinds.learner(kind), taught.vectors, columns, taught.found, fold, step
            )
            judgements.append(folds.judge(taught.found, answers, encoders, kind))
    return tuple(judgements)


def save(
    database: Engine, taught: Taught, judged: Judgement, name: str, *, who: str
) -> tuple[str, bool]:
    """Learn the head that was `judged` from all its videos and store it: `NAME@VERSION`, and
    whether it is new. The vectors of `taught` are of no more use afterwards.

    Raises `UsageError` for a name that cannot be a head's.
    """
    learn = kinds.learner(judged.kind)
    with folds.heard([]):  # what there is to say was said of the folds
        model = learn(taught.vectors, taught.found.truth, len(taught.found.categories))
    assert isinstance(model, Linear)
    facts = asdict(judged)
    head = Head(
        name,
        judged.kind,
        taught.encoders,
        taught.found.categories,
        model,
        float(np.float32(judged.temperature)),
        judged.videos,
        {part: facts[part] for part in KEPT},
    )
    with session.transaction(database) as connection:
        return rows.save(connection, head, who=who)
