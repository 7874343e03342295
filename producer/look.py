"""One look at the ledger: everything `reelvec status` says, whatever the form."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Engine

from db import fleet, results, session
from db.fleet import Fleet
from db.results import Outage, Progress, Stages
from producer import bottleneck, verdict
from producer.bottleneck import Bottleneck
from producer.verdict import Verdict
from producer.wait import stale_seconds


@dataclass(frozen=True)
class Look:
    """`rows` begin with the total. `codes` are failed videos by code. `bottleneck` only while videos are worked on."""

    verdict: Verdict
    bottleneck: Bottleneck | None
    stages: Stages
    rows: list[Progress]
    fleet: Fleet
    codes: list[tuple[str, int]]
    outages: list[Outage]

    def as_json(self) -> dict[str, Any]:
        return {
            **asdict(self.verdict),
            "bottleneck": self.bottleneck and asdict(self.bottleneck),
            "stages": asdict(self.stages),
            "categories": [asdict(row) for row in self.rows],
            "fleet": asdict(self.fleet),
            "failures": dict(self.codes),
            "outages": [asdict(outage) for outage in self.outages],
        }


def take(engine: Engine) -> Look:
    """Raises `UnavailableError` for a database that is away."""
    with session.transaction(engine) as connection:
        groups = results.census(connection)
        recent = results.recent(connection)
        stages = results.stages(connection)
        workers = fleet.read(connection, stale_seconds=stale_seconds())
        outages = results.outages(connection, groups)
    rows, codes = results.progress(groups), results.failure_counts(groups)
    delayed = sum(group.videos for group in groups if group.delayed)
    runs = [group.oldest_start_seconds for group in groups if group.state == "running"]
    judged = verdict.judge(
        rows,
        recent,
        workers,
        codes=codes,
        outages=outages,
        delayed=delayed,
        oldest_run_seconds=max((seconds for seconds in runs if seconds is not None), default=None),
    )
    found = None
    if judged.state == "RUNNING":
        have = bottleneck.capacity(workers, taken=rows[0].running, ready=rows[0].waiting - delayed)
        found = bottleneck.find(stages, have)
    return Look(judged, found, stages, rows, workers, codes, outages)
