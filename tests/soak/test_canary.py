"""A healthy fleet is never refused by its canary, however often it is checked, and a broken worker
is in every dtype.
"""

from __future__ import annotations

import pytest
import torch
from sqlalchemy import Engine as Database

from db.canary.drifts import Drifts
from tests.integration.test_drift import (
    VIVIT,
    Break,
    Start,
    assert_it_makes_nothing,
    damage_weight,
    known_frames,
    start,
    told,
    wrong_kernel,
)
from workers.backbones import tower

__all__ = ["known_frames", "start"]  # fixtures

#: Seven workers; with those at load more than a thousand checks.
HOURS = 143


def test_a_thousand_checks_refuse_nobody(
    engine: Database, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker of bfloat16 among those of float32, of two models."""
    nodes = [start("a", VIVIT), start("b", VIVIT)]
    monkeypatch.setattr(tower, "compute_dtype", lambda _: torch.bfloat16)
    nodes.append(start("c", VIVIT))
    nodes += [start(machine) for machine in "abcd"]
    checks = len(nodes)
    for _ in range(HOURS):
        for node in nodes:
            node.hour_passes()
            node.a_minute_passes()
            checks += 1
            assert not node.refuses
    assert checks > 1000
    assert told(engine) == Drifts()


@pytest.mark.parametrize(
    ("broken", "dtype"), [(damage_weight, "float32"), (wrong_kernel, "bfloat16")]
)
def test_a_broken_worker_makes_nothing(
    engine: Database, start: Start, monkeypatch: pytest.MonkeyPatch, broken: Break, dtype: str
) -> None:
    assert_it_makes_nothing(engine, start, monkeypatch, broken, dtype)
