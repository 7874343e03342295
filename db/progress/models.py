"""Progress of each model, from jobs that were counted by what they want and owe, and what waits for
weights alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from db.jobs.abilities import Abilities, Route
from db.progress.census import WAITING_STATES, Group


def hold(groups: Iterable[Group], fleet: Abilities) -> tuple[Group, ...]:
    """The same groups, of which those are held that no live worker can begin with."""
    return tuple(
        replace(group, held="weights", delayed=False)
        if group.state in WAITING_STATES
        and group.held is None
        and fleet.route(group.owed) == Route()
        else group
        for group in groups
    )


@dataclass(frozen=True)
class ModelProgress:
    """Videos of one encoder, as in the view `model_progress`: each that wants it is embedded,
    failed or waiting.

    Of the waiting ones `waiting_for_weights` wait for a worker that can load it.
    """

    encoder: str
    wanted: int
    embedded: int
    failed: int
    waiting: int
    waiting_for_weights: int


def models(groups: Iterable[Group], fleet: Abilities) -> list[ModelProgress]:
    """For each encoder that any video wants, in the order they were declared."""
    lacking = {makers.encoder_id for makers in fleet.lacking()}
    counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for group in groups:
        for encoder_id in group.encoders:
            state = "embedded"
            if encoder_id in group.owed:
                state = "failed" if group.state == "failed" else "waiting"
            counts[encoder_id][state] += group.videos
    return [
        ModelProgress(
            makers.encoder,
            wanted=found.total(),
            embedded=found["embedded"],
            failed=found["failed"],
            waiting=found["waiting"],
            waiting_for_weights=found["waiting"] if makers.encoder_id in lacking else 0,
        )
        for makers in fleet.encoders
        if (found := counts[makers.encoder_id])
    ]
