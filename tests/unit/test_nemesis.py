"""The seed alone decides what the nemesis does, and the table of faults counts what was run."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bench import faults_table
from tests.soak import nemesis
from tests.strikes import STRIKES


def test_the_same_seed_is_the_same_plan() -> None:
    plan = nemesis.plan(7, 3, 4)
    assert plan == nemesis.plan(7, 3, 4)
    assert plan != nemesis.plan(8, 3, 4)


def test_half_an_hour_has_what_has_to_be_shown() -> None:
    plan = nemesis.plan(1, 30, 4)
    counts = Counter(action.name for action in plan)
    assert counts["kill"] > 250
    assert counts["sampler-kill"] > 200
    assert counts.keys() == {*nemesis.WORKER_ACTIONS, *nemesis.SERVER_ACTIONS}
    assert nemesis.SPARED not in {
        action.worker for action in plan if action.name in ("kill", "stop", "term")
    }
    assert nemesis.SPARED in {action.worker for action in plan if action.name == "sampler-kill"}


def run(strike: str, seed: int, commit: str = "a", **facts: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(("lost", "doubled", "wrong", "stuck"), 0)
    return {"strike": strike, "seed": seed, "workers": 1, "intervals": "1/20", "commit": commit, "recovery_seconds": 2.0,
            "broken": [], **nothing, **facts}  # fmt: skip


def test_a_row_is_all_runs_of_the_newest_commit() -> None:
    old = [run("worker-kill", seed, commit="old", lost=5) for seed in range(4)]
    new = [
        run("worker-kill", 1),
        run("worker-kill", 2, recovery_seconds=9.0, lost=1),
        run("worker-kill", 3, broken=["x"]),
    ]
    said = faults_table.table([*old, *new]).splitlines()
    assert said[0] == "At commit a."
    what = STRIKES["worker-kill"].what
    assert (
        said[-1]
        == f"| `worker-kill`: {what} | 1-6 | 1 | 1/20 | 3 | 1-3 | 1 | 0 | 0 | 0 | 1 | 2.0 | 9.0 |"
    )


def test_every_strike_says_what_it_does() -> None:
    assert all(strike.what and strike.rows for strike in STRIKES.values())
