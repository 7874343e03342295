"""A thousand videos that kill, hang, starve or misuse their sampler: each costs itself, and nothing
is left behind.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests import media
from tests.samplers import CODES, Held, endure, faulty_pool, is_gone, resident_bytes, seed_of

#: What this process may have more after nine hundred of them than after one hundred.
SLACK_BYTES = 8 << 20


def settled() -> Held:
    """What is held once no process is being started or buried any more."""
    while (held := Held.now()) != (time.sleep(2), Held.now())[1]:
        pass
    return held


@pytest.mark.timeout(1800)
def test_a_thousand_faults_leave_nothing_behind(tmp_path: Path) -> None:
    tiny = media.make_clip(
        tmp_path / "tiny.mp4", seconds=0.4, width=64, height=64, seed=7
    ).read_bytes()
    weights = [
        1 if code == "sampler_timeout" else 3 for code in CODES.values()
    ]  # those last seconds
    faults = random.Random(5).choices(list(CODES), weights, k=1000)
    before = Held.now()
    with faulty_pool(tmp_path, 2, wall_seconds=5, cpu_seconds=1) as pool:
        endure(pool, tiny, faults[:100])
        warm, warm_bytes = settled(), resident_bytes()
        endure(pool, tiny, faults[100:])
        assert settled() == warm
        print(
            f"{len(faults)} faults: {warm} stays, {warm_bytes >> 10} KiB become "
            f"{resident_bytes() >> 10} KiB"
        )
        assert resident_bytes() - warm_bytes < SLACK_BYTES
        pids = pool.pids()
        assert seed_of(pool, tiny) == 7
    assert Held.now() == before
    assert all(map(is_gone, pids))
