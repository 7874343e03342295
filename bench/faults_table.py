"""The results of `bench.faults`: one line a run in a file, one row a strike in
docs/guarantees.md.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from tests.strikes import STRIKES

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench/results/faults.jsonl"
PAGE = ROOT / "docs/guarantees.md"
BEGIN, END = "<!-- faults: written by python -m bench.faults --render -->", "<!-- end of faults -->"
HEAD = (
    "| strike | matrix | workers | intervals | runs | seeds | lost | doubled | wrong | stuck | "
    "other | recovery, s: median"
    " | worst |\n|---|---|--:|---|--:|---|--:|--:|--:|--:|--:|--:|--:|"
)


def rows() -> list[dict[str, Any]]:
    """Every run there is, oldest first."""
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]


def append(row: dict[str, Any]) -> None:
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def render() -> None:
    """Put the table of the newest commit's runs between the marks of the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(rows())}\n\n{END}{after}", encoding="utf-8")


def table(runs: list[dict[str, Any]]) -> str:
    """Of each strike the runs of the commit that was measured last with that strike, workers and
    intervals.
    """
    grouped: dict[tuple[str, int, str], dict[str, list[dict[str, Any]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for run in runs:
        group = grouped[run["strike"], run["workers"], run["intervals"]]
        newest = group.pop(run["commit"], [])
        group[run["commit"]] = [*newest, run]
    order = {name: place for place, name in enumerate(STRIKES)}
    lines = [
        _line(key, list(by_commit.values())[-1])
        for key, by_commit in sorted(
            grouped.items(), key=lambda item: (order.get(item[0][0], 999), *item[0][1:])
        )
    ]
    commits = sorted({list(by_commit)[-1] for by_commit in grouped.values()})
    said = f"At commit {', '.join(commits)}." if commits else "No run yet."
    return "\n".join([said, "", HEAD, *lines])


def _line(key: tuple[str, int, str], runs: list[dict[str, Any]]) -> str:
    name, workers, intervals = key
    strike = STRIKES.get(name)
    seeds = [run["seed"] for run in runs]
    recovery = [run["recovery_seconds"] for run in runs]
    numbers = [sum(run[what] for run in runs) for what in ("lost", "doubled", "wrong", "stuck")]
    cells: list[object] = [
        f"`{name}`: {strike.what}" if strike else f"`{name}`",
        strike.rows if strike else "",
        workers,
        intervals,
        len(runs),
        f"{min(seeds)}-{max(seeds)}",
        *numbers,
        sum(bool(run["broken"]) for run in runs),
        f"{median(recovery):.1f}",
        f"{max(recovery):.1f}",
    ]
    return f"| {' | '.join(map(str, cells))} |"
