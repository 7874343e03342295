"""Strikes a fleet as the fault matrix says, again and again, and keeps one line of each run.

    python -m bench.faults [STRIKE]... [--runs 10] [--workers 1 3] [--seed 1] [--defaults]
    python -m bench.faults --list
    python -m bench.faults --render      writes the table of docs/guarantees.md

A run: every place of every worker is taken, the strike falls and heals, every worker must finish a
video, then the fleet works off what there is and everything is checked. Lines are appended to
bench/results/faults.jsonl; a run that is there for this commit is not run again, so that a long
table can be broken off and gone on with. Exit 1: something did not hold.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from bench import faults_table
from tests import fleet as fleets
from tests import verdict
from tests.fleet import Fleet
from tests.footage import Footage
from tests.servers import Servers
from tests.strikes import STRIKES

#: Longer than this after everything is back, a worker counts as stuck: at short intervals, and at
#: the defaults.
STUCK_SECONDS, STUCK_AT_DEFAULTS_SECONDS = 60.0, 180.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("strikes", nargs="*", metavar="STRIKE", help="default: all")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 3])
    parser.add_argument(
        "--seed", type=int, default=1, help="of the first run; each run has its own"
    )
    parser.add_argument(
        "--defaults", action="store_true", help="the intervals users have, instead of 1/20 of them"
    )
    parser.add_argument("--list", action="store_true", help="say what there is and end")
    parser.add_argument(
        "--render", action="store_true", help="write the table of docs/guarantees.md and end"
    )
    chosen = parser.parse_args()
    if unknown := set(chosen.strikes) - STRIKES.keys():
        parser.error(f"no strike {', '.join(sorted(unknown))}; --list shows them")
    if chosen.list:
        for strike in STRIKES.values():
            print(f"{strike.name:22} {strike.rows:8} {strike.what}")
    elif chosen.render:
        faults_table.render()
    else:
        sys.exit(sum(not run["holds"] for run in runs(chosen)) > 0)


def runs(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Do what is missing, with one fleet for as long as it is whole."""
    for workers in chosen.workers:
        missing = list(_missing(chosen, workers))
        while missing:
            with (
                tempfile.TemporaryDirectory(prefix="reelvec-faults-") as folder,
                standing(Path(folder), workers, chosen) as fleet,
            ):
                while missing:
                    name, seed = missing.pop(0)
                    done = struck(fleet, name, seed)
                    faults_table.append(done)
                    print(json.dumps(done), flush=True)
                    yield done
                    if not done["holds"]:
                        break


def _missing(chosen: argparse.Namespace, workers: int) -> Iterator[tuple[str, int]]:
    keys = ("strike", "seed", "workers", "intervals", "commit")
    there = {tuple(row[key] for key in keys) for row in faults_table.rows()}
    for name in chosen.strikes or STRIKES:
        for seed in range(chosen.seed, chosen.seed + chosen.runs):
            if (name, seed, workers, _intervals(not chosen.defaults), commit()) not in there:
                yield name, seed


@contextmanager
def standing(
    folder: Path, workers: int, chosen: argparse.Namespace, *, sampling: int = 0
) -> Iterator[Fleet]:
    """Servers, videos and a fleet of their own; the folder is open to the servers' user. The last
    `sampling` workers only sample.
    """
    folder.chmod(0o755)
    with (
        Servers.started(folder) as servers,
        Footage.made(folder) as footage,
        fleets.running(
            servers,
            footage,
            folder / "fleet",
            size=workers,
            fast=not chosen.defaults,
            sampling=sampling,
        ) as fleet,
    ):
        yield fleet


def struck(fleet: Fleet, name: str, seed: int) -> dict[str, Any]:
    """One run, as a line of the results."""
    strike = STRIKES[name]
    before_ended, before = len(fleet.ended), _counted(fleet)
    fleet.supply()
    fleet.wait_until_busy()
    began = time.time()
    strike.hit(fleet, Random(f"{name} {seed}"))
    away_seconds = time.time() - began
    limit = STUCK_SECONDS if fleet.fast else STUCK_AT_DEFAULTS_SECONDS
    recovery_seconds, stuck = fleet.recover(time.time(), seconds=limit)
    found = verdict.judge(fleet, seconds=2 * limit)
    ended = fleet.ended[before_ended:]
    broken = [
        *found.broken,
        *(f"a worker ended with {code}" for code in ended if code not in strike.ends),
    ]
    reaped = found.reaped - before[0]
    if strike.spares and reaped:
        broken.append(f"{reaped} videos were taken from workers that lived")
    return {
        "strike": name,
        "seed": seed,
        "workers": fleet.size,
        "intervals": _intervals(fleet.fast),
        "commit": commit(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "holds": not (found.lost or found.doubled or found.wrong or broken or stuck),
        "videos": found.videos,
        "lost": found.lost,
        "doubled": found.doubled,
        "wrong": found.wrong,
        "stuck": len(stuck),
        "reaped": reaped,
        "claimed_again": found.claimed_again - before[1],
        "fenced": found.fenced - before[2],
        "away_seconds": round(away_seconds, 1),
        "recovery_seconds": round(recovery_seconds, 1),
        "ended": ended,
        "broken": broken,
    }


def _counted(fleet: Fleet) -> tuple[int, int, int]:
    """What a verdict counts from the fleet's start."""
    engine = fleet.servers.engine
    return verdict.reaped(engine), verdict.claimed_again(engine), verdict.fenced(fleet.said())


def _intervals(fast: bool) -> str:
    return "1/20" if fast else "default"


@functools.cache
def commit() -> str:
    """The last commit that changed what is measured, with a `+` if files differ from it."""
    product = ("--", "db", "workers", "producer")
    last = _git("log", "-1", "--format=%h", *product)
    return f"{last}+" if _git("status", "--porcelain", *product) else last


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], capture_output=True, text=True, check=True, cwd=faults_table.ROOT
    ).stdout.strip()


if __name__ == "__main__":
    main()
