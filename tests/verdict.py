"""Whether the nine invariants of a struck fleet hold (docs/guarantees.md, "What is checked"), in
numbers and words.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
from sqlalchemy import Engine, text

from db import session
from db.administration import invariants
from db.stack.server_process import wait_until
from tests.fleet import Fleet
from tests.footage import Vector
from tests.golden_run import stored_vectors
from tests.servers import PATIENCE_SECONDS, QUEUE
from tests.strikes import Strike

#: Nothing of ours holds a transaction open for longer than its own few statements take.
IDLE_SECONDS = 10.0
#: What a worker says of a result that comes too late (`workers/tasks.py`).
FENCED = "another worker has it now: result dropped"


@dataclass(frozen=True)
class Verdict:
    """`lost`: not done although there was time. `doubled`: committed more than once. `wrong`:
    vectors that are not the calm run's, and rows that break a rule of `reelvec doctor --data`.
    `broken` says in words what else does not hold.

    `reaped`: times a video was taken from a worker that was held to be dead. `claimed_again`:
    claims beyond the first of a video. `fenced`: results thrown away because somebody else had it.
    """

    videos: int
    lost: int
    doubled: int
    wrong: int
    reaped: int
    claimed_again: int
    fenced: int
    broken: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not (self.lost or self.doubled or self.wrong or self.broken)


def judge(fleet: Fleet, *, seconds: float = PATIENCE_SECONDS) -> Verdict:
    """Let the fleet finish what there is, for `seconds` at most, and check everything. The fleet
    goes on living.
    """
    fleet.dry()
    finished = wait_until(lambda: _works_off(fleet), seconds)
    said = fleet.said()
    broken = [
        f"{secret[:3]}... (a password) is in a log"
        for secret in fleet.servers.passwords
        if secret in said
    ]
    broken += _failures(fleet.servers.engine)
    if finished:
        broken += _leftovers(fleet)
    return Verdict(
        videos=len(fleet.footage.golden),
        lost=_lost(fleet),
        doubled=sum(count - 1 for count in fleet.commits().values()),
        wrong=wrong(fleet.servers.engine, fleet.footage.golden),
        reaped=reaped(fleet.servers.engine),
        claimed_again=claimed_again(fleet.servers.engine),
        fenced=fenced(said),
        broken=broken,
    )


def assert_survives(fleet: Fleet, strike: Strike, *, seconds: float = 90.0) -> None:
    """Strike a fleet whose places are all taken: within `seconds` every worker must have taken and
    finished a video, then all is done and nothing is lost.
    """
    fleet.supply()
    fleet.wait_until_busy()
    strike.hit(fleet, Random(strike.name))
    recovery_seconds, stuck = fleet.recover(time.time(), seconds=seconds)
    print(f"{strike.name}: all at work again after {recovery_seconds:.1f} s")
    assert not stuck, f"after {strike.name} workers {stuck} take no work any more"
    found = judge(fleet)
    assert found.holds, f"after {strike.name}: {found}"
    assert set(fleet.ended) <= strike.ends, (
        f"after {strike.name} workers have ended with {fleet.ended}"
    )
    fleet.ended.clear()


def _works_off(fleet: Fleet) -> bool:
    fleet.revive()
    return fleet.unfinished() == 0


def claimed_again(engine: Engine) -> int:
    """Claims beyond the first of each video."""
    return _count(engine, "SELECT coalesce(sum(greatest(token - 1, 0)), 0) FROM reelvec.jobs")


def reaped(engine: Engine) -> int:
    """Times a video was taken from a worker that was held to be dead."""
    return _count(engine, "SELECT coalesce(sum(lost_count), 0) FROM reelvec.jobs")


def fenced(said: str) -> int:
    """Results that workers, which have logged this, have thrown away because somebody else had the
    video: computed again although the process lived.
    """
    return said.count(FENCED)


def _count(engine: Engine, query: str) -> int:
    with session.transaction(engine) as connection:
        return int(connection.execute(text(query)).scalar_one())


def _lost(fleet: Fleet) -> int:
    """I1: every video that was recorded is done; those that were never recorded are no promise."""
    return _count(fleet.servers.engine, "SELECT count(*) FROM reelvec.jobs WHERE state <> 'done'")


def wrong(engine: Engine, golden: dict[str, Vector]) -> int:
    """I2 and I3: rows are complete and unique, and every vector is bit by bit that of the calm
    run.
    """
    stored = stored_vectors(engine)
    wrong = sum(not np.array_equal(vector, golden[uri]) for uri, vector in stored.items())
    checks = invariants.check_all(engine, timeout_seconds=60)
    return wrong + sum(check.count or 0 for check in checks if check.invariant.severity == "fail")


def _failures(engine: Engine) -> list[str]:
    """I4: no fault of ours is put down to a video."""
    with session.transaction(engine) as connection:
        rows = connection.execute(
            text(
                "SELECT error_code, count(*), min(error) FROM reelvec.attempts WHERE error_code = "
                "'internal' GROUP BY 1"
            )
        )
        return [f"{count} attempts failed with {code}: {error}" for code, count, error in rows]


def _leftovers(fleet: Fleet) -> list[str]:
    """I5 and I9: nothing is left in temporary folders, in open transactions or in the broker."""
    broken = []
    if left := [
        str(path) for folder in fleet.folder.glob("temporary*") for path in folder.iterdir()
    ]:
        broken.append(f"temporary files: {left}")
    if idle := fleet.servers.idle_in_transaction(older_than_seconds=IDLE_SECONDS):
        broken.append(f"{idle} sessions idle in transaction")
    with fleet.servers.broker() as client:
        if not wait_until(lambda: client.llen(QUEUE) == 0, PATIENCE_SECONDS):
            broken.append(f"{client.llen(QUEUE)} messages wait although nothing is owed")
    return broken


def stray_processes(folder: Path) -> list[int]:
    """Processes of a stopped fleet that are still there: their temporary folder or, as it is a
    worker's, their current folder gives them away.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words, at = (process / "environ").read_bytes(), (process / "cwd").readlink()
        except OSError:
            continue  # gone meanwhile, or another user's
        if at == folder or f"TMPDIR={folder}/temporary".encode() in words:
            found.append(int(process.name))
    return found
