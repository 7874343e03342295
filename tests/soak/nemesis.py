"""A seeded nemesis: strikes a working fleet at random for as long as one likes, and checks that
nothing was lost.

    python -m tests.soak.nemesis [--seed 1] [--minutes 3] [--workers 4] [--samplers 0] [--pace 1]
    [--defaults] [--log FILE]
    python -m tests.soak.nemesis --replay FILE      the same actions at the same times

Two lanes strike at once: one at workers and samplers, the other at servers, connections and
messages, waiting each time until every worker that lives on has finished a video. With `--samplers`
so many of the workers only sample, and the frame store between them and the others is struck, too;
10 minutes after the end nothing may be left in it. The seed alone decides what is struck and when. Worker 0 is never killed: its memory and descriptors are written
down, to show that they stay flat. Every action and, at the end, the verdict are lines of the log.
Exit 1: something was lost, doubled, wrong or stuck.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, TextIO

import psutil

from bench.faults import STUCK_AT_DEFAULTS_SECONDS, STUCK_SECONDS, commit, standing
from db.errors import UnavailableError
from db.exit_codes import ExitCode
from tests import verdict
from tests.fleet import Fleet, until
from tests.soak.people import PEOPLE
from tests.soak.stores import STORES, objects
from tests.strikes import STRIKES, WATCHED

#: The lane of workers: what, how often of 100, and how long it waits afterwards (before `--pace`).
WORKER_ACTIONS = {"kill": 53, "sampler-kill": 41, "stop": 4, "term": 2}
WORKER_GAP_SECONDS = (0.5, 5.0)
#: The other lane: every strike there is but those of workers, once.
LEFT_OUT = {"sampler-kill", "worker-kill", "worker-kill-all", "worker-term", "worker-stop"} | {
    f"postgres-away-{seconds}" for seconds in (35, 40, 60, 90, 300)
}
SERVER_ACTIONS = [*(name for name in STRIKES if name not in LEFT_OUT), *PEOPLE]
SERVER_GAP_SECONDS = (1.0, 8.0)
OTHERS = {**PEOPLE, **STORES}
#: So long after the end nothing may be left in the frame store.
SWEPT_SECONDS = 600.0
#: What the first line of a log says, so that it can be carried out again.
PLANNED = ("seed", "minutes", "workers", "samplers")
#: Worker 0 lives as long as the fleet.
SPARED = 0
MEASURE_SECONDS = 10.0


@dataclass(frozen=True)
class Action:
    """One strike: at the earliest `at_seconds` after the start. `worker` is the one to strike, or
    -1.
    """

    lane: str
    at_seconds: float
    name: str
    worker: int
    seed: int


def plan(
    seed: int, minutes: float, workers: int, *, pace: float = 1.0, samplers: int = 0
) -> list[Action]:
    """What will be done, by lane and time. Pure: the same seed gives the same plan."""
    random = Random(seed)
    at_servers = [*SERVER_ACTIONS, *(2 * list(STORES) if samplers else ())]
    actions = []
    for lane, gap in (("workers", WORKER_GAP_SECONDS), ("servers", SERVER_GAP_SECONDS)):
        at_seconds = 0.0
        while (at_seconds := at_seconds + pace * random.uniform(*gap)) < 60 * minutes:
            if lane == "workers":
                name = random.choices(list(WORKER_ACTIONS), list(WORKER_ACTIONS.values()))[0]
                first = SPARED if name == "sampler-kill" else SPARED + 1
                worker = random.randrange(first, workers)
            else:
                name, worker = random.choice(at_servers), -1
            actions.append(
                Action(lane, round(at_seconds, 2), name, worker, random.randrange(1 << 30))
            )
    return actions


class Log:
    """JSON lines, one for each thing that happened, written at once."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._started = time.monotonic()
        self._lock = threading.Lock()

    def write(self, what: str, **facts: Any) -> None:
        line = json.dumps(
            {"what": what, "seconds": round(time.monotonic() - self._started, 1), **facts}
        )
        with self._lock:
            print(line, file=self._file, flush=True)


class Nemesis:
    """Carries out a plan on a fleet. `counts`: how often each action was done. `problems`: what did
    not go as it must.
    """

    def __init__(self, fleet: Fleet, log: Log, *, seconds: float) -> None:
        self._fleet = fleet
        self._log = log
        self._started = time.monotonic()
        self._end = self._started + seconds
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []

    def run(self, actions: Iterable[Action]) -> None:
        """Both lanes to their ends, or until the time is over."""
        lanes = {
            "workers": self._strike_worker,
            "servers": self._strike_servers,
            "measure": self._measure,
        }
        chosen = {
            lane: [action for action in actions if action.lane == lane]
            for lane in ("workers", "servers")
        }
        ticks = range(int((self._end - self._started) / MEASURE_SECONDS))
        chosen["measure"] = [
            Action("measure", tick * MEASURE_SECONDS, "measure", SPARED, 0) for tick in ticks
        ]
        threads = [
            threading.Thread(target=self._lane, args=(lanes[lane], chosen[lane]), name=lane)
            for lane in lanes
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _lane(self, do: Any, actions: list[Action]) -> None:
        for action in actions:
            wait_seconds = self._started + action.at_seconds - time.monotonic()
            if time.monotonic() > self._end:
                return
            time.sleep(max(0.0, wait_seconds))
            try:
                facts = do(action)
            except UnavailableError as error:  # the other lane has just struck Postgres
                facts = {"away": str(error)}
            except Exception as error:  # noqa: BLE001 - it is told, and the lane goes on
                facts = {"error": f"{type(error).__name__}: {error}"}
                self.problems.append(f"{action.name}: {facts['error']}")
            self.counts[action.name] += 1
            self._log.write("did", **asdict(action), **facts)

    def _strike_worker(self, action: Action) -> dict[str, Any]:
        """Only one that is at work is worth it; while a server is away, none is."""
        fleet, index = self._fleet, action.worker
        busy = self._wait_busy(index)
        if action.name == "kill":
            fleet.kill(index)
        elif action.name == "sampler-kill":
            for sampler in fleet.samplers(index):
                sampler.kill()
        elif action.name == "term":
            code = fleet.drain(index)
            assert code == 0, f"exit {code} after SIGTERM"
        else:
            process = psutil.Process(fleet.workers[index].process.pid)
            process.suspend()
            time.sleep(Random(action.seed).uniform(0.5, 5.0))
            process.resume()
        return {"busy": busy}

    def _wait_busy(self, index: int) -> bool:
        try:
            until(lambda: self._fleet.is_at_work(index), "busy", seconds=20)
        except (AssertionError, UnavailableError):
            return False
        return True

    def _strike_servers(self, action: Action) -> dict[str, Any]:
        fleet = self._fleet
        hit = OTHERS.get(action.name) or STRIKES[action.name].hit
        hit(fleet, Random(action.seed))
        limit = STUCK_SECONDS if fleet.fast else STUCK_AT_DEFAULTS_SECONDS
        recovery_seconds, stuck = fleet.recover(time.time(), seconds=limit)
        if stuck:
            self.problems.append(
                f"after {action.name} workers {stuck} took no work for {limit:g} s"
            )
        return {"recovery_seconds": round(recovery_seconds, 1), "stuck": stuck}

    def _measure(self, action: Action) -> dict[str, Any]:
        process = psutil.Process(self._fleet.workers[SPARED].process.pid)
        return {
            "pid": process.pid,
            "resident_mib": round(process.memory_info().rss / (1 << 20), 1),
            "descriptors": process.num_fds(),
            "threads": process.num_threads(),
            "videos": len(self._fleet.footage.golden) - self._fleet.unfinished(),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--samplers", type=int, default=0, help="how many of them only sample")
    parser.add_argument("--pace", type=float, default=1.0, help="2: half as many strikes")
    parser.add_argument(
        "--defaults", action="store_true", help="the intervals users have, instead of 1/20 of them"
    )
    parser.add_argument("--log", type=Path, default=Path("nemesis.jsonl"))
    parser.add_argument("--replay", type=Path, help="a log whose plan is carried out again")
    chosen = parser.parse_args()
    actions = plan(
        chosen.seed, chosen.minutes, chosen.workers, pace=chosen.pace, samplers=chosen.samplers
    )
    if chosen.replay:
        first = json.loads(chosen.replay.read_text(encoding="utf-8").splitlines()[0])
        actions = [Action(**action) for action in first["plan"]]
        for name in PLANNED:
            setattr(chosen, name, first.get(name, 0))
    with (
        chosen.log.open("w", encoding="utf-8") as file,
        tempfile.TemporaryDirectory(prefix="reelvec-soak-") as folder,
        standing(Path(folder), chosen.workers, chosen, sampling=chosen.samplers) as fleet,
    ):
        sys.exit(soak(fleet, Log(file), actions, chosen))


def soak(fleet: Fleet, log: Log, actions: list[Action], chosen: argparse.Namespace) -> int:
    """Strike, let the fleet finish, judge; 0 if everything holds."""
    facts = {name: getattr(chosen, name) for name in PLANNED}
    log.write("plan", **facts, commit=commit(), plan=[asdict(action) for action in actions])
    nemesis = Nemesis(fleet, log, seconds=60 * chosen.minutes)
    nemesis.run(actions)
    found = verdict.judge(fleet, seconds=300)
    if fleet.frames is not None:
        nemesis.problems += left_in(fleet.frames)
    # one that is started while Postgres is away ends with 69, and is started again
    good = (
        found.holds
        and not nemesis.problems
        and set(fleet.ended) <= WATCHED | {ExitCode.UNAVAILABLE}
    )
    counts = dict(nemesis.counts)
    log.write(
        "verdict",
        holds=good,
        counts=counts,
        problems=nemesis.problems,
        ended=fleet.ended,
        **asdict(found),
    )
    print(
        json.dumps(
            {"holds": good, "problems": nemesis.problems, "ended": fleet.ended, **asdict(found)},
            indent=2,
        )
    )
    return 0 if good else 1


def left_in(store: Path) -> list[str]:
    """Objects of the frame store that nobody has swept when it is time."""
    end = time.monotonic() + SWEPT_SECONDS
    while (left := objects(store)) and time.monotonic() < end:
        time.sleep(1.0)
    return [f"{len(left)} objects are left in the frame store"] if left else []


if __name__ == "__main__":
    main()
