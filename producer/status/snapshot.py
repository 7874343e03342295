"""One look at the ledger and the broker: everything `reelvec status` says, whatever the form."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import Engine

from db import session, settings
from db.canary import drifts
from db.canary.drifts import Drifts
from db.jobs import abilities, steering
from db.progress import ahead, census, fleet, halts, models, rates, shared_census
from db.progress.ahead import Ahead
from db.progress.census import Census, Progress, Waiting
from db.progress.fleet import Fleet
from db.progress.halts import Halts
from db.progress.models import ModelProgress
from db.progress.rates import Outage, Stages
from producer.status import bottleneck, verdict
from producer.status.bottleneck import Bottleneck
from producer.status.broker import Broker, Question
from producer.status.verdict import Facts, Verdict
from workers.settings import WorkerSettings


@dataclass(frozen=True)
class Snapshot:
    """`rows` begin with the total, `counts_age_seconds` is how long ago they were counted. `codes`
    are failed videos by code.

    `unclaimed_seconds`: how long videos have been ready without one being claimed. `bottleneck`
    only while videos are worked on.
    """

    verdict: Verdict
    bottleneck: Bottleneck | None
    stages: Stages
    rows: list[Progress]
    waiting: Waiting
    fleet: Fleet
    halts: Halts
    broker: Broker
    codes: list[tuple[str, int]]
    outages: list[Outage]
    unclaimed_seconds: float = 0.0
    counts_age_seconds: float = 0.0
    models: tuple[ModelProgress, ...] = ()
    drifts: Drifts = field(default_factory=Drifts)
    ahead: Ahead = field(default_factory=Ahead)

    def as_json(self) -> dict[str, Any]:
        return {
            **asdict(self.verdict),
            "unclaimed_seconds": self.unclaimed_seconds,
            "bottleneck": self.bottleneck and asdict(self.bottleneck),
            "stages": asdict(self.stages),
            "ahead": asdict(self.ahead),
            "counts_age_seconds": self.counts_age_seconds,
            "categories": [asdict(row) for row in self.rows],
            "models": [asdict(model) for model in self.models],
            "drifts": asdict(self.drifts),
            "waiting": asdict(self.waiting),
            "broker": asdict(self.broker),
            "fleet": asdict(self.fleet),
            "halts": asdict(self.halts),
            "failures": dict(self.codes),
            "outages": [asdict(outage) for outage in self.outages],
        }


def take(database: Engine, broker: Question) -> Snapshot:
    """Raises `UnavailableError` for a database that is away; a broker that is away is part of what
    is seen.
    """
    stale_seconds = settings.load(WorkerSettings).stale_seconds
    with session.transaction(database) as connection:
        counted = shared_census.look(connection)
        able = abilities.read(connection, stale_seconds=stale_seconds)
        counted = replace(counted, groups=models.hold(counted.groups, able))
        recent = rates.recent(connection)
        stages = rates.stages(connection)
        workers = fleet.read(connection, stale_seconds=stale_seconds)
        stopped = halts.read(connection, stale_seconds=stale_seconds)
        outages = rates.outages(connection, counted.groups)
        drifted = drifts.read(connection)
        sampled = ahead.read(connection)
        freed_seconds = steering.freed_seconds(connection)
    facts = Facts(
        census.progress(counted.categories),
        recent,
        workers,
        broker.answer(),
        waiting=census.waiting(counted.groups),
        halts=stopped,
        codes=census.failure_counts(counted.groups),
        outages=outages,
        unclaimed_seconds=unclaimed_seconds(counted, workers, freed_seconds),
        oldest_run_seconds=census.oldest_run_seconds(counted.groups),
        models=tuple(models.models(counted.groups, able)),
    )
    seen = _snapshot(facts, stages, sampled, counted.age_seconds)
    return replace(seen, drifts=drifted, ahead=sampled)


def unclaimed_seconds(counted: Census, workers: Fleet, freed_seconds: float | None) -> float:
    """How long videos have been ready without one being claimed; 0 while none is ready.

    `freed_seconds`: how long ago an operator made old videos ready again.
    """
    waiting = census.waiting(counted.groups)
    if not waiting.ready:
        return 0.0
    since = (census.last_claim_seconds(counted.groups), workers.last_claim_seconds, freed_seconds)
    return min([waiting.ready_seconds, *(seconds for seconds in since if seconds is not None)])


def _snapshot(facts: Facts, stages: Stages, sampled: Ahead, age_seconds: float) -> Snapshot:
    judged = verdict.judge(facts)
    found = None
    if judged.state in ("RUNNING", "FAILING"):
        have = bottleneck.capacity(facts.fleet, sampled, ready=facts.waiting.ready)
        found = bottleneck.limiting_stage(stages, have)
    return Snapshot(
        judged,
        found,
        stages,
        list(facts.rows),
        facts.waiting,
        facts.fleet,
        facts.halts,
        facts.broker,
        list(facts.codes),
        list(facts.outages),
        facts.unclaimed_seconds,
        age_seconds,
        tuple(facts.models),
    )
