"""Metrics in Prometheus's text format, as its parser reads them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from db.fleet import Fleet, LiveWorker, StaleWorker
from db.results import Outage, Progress, Stages
from producer import metrics
from producer.bottleneck import Bottleneck
from producer.look import Look
from producer.verdict import Verdict

LINE = re.compile(r"(reelvec_[a-z_]+)(\{[^{}]*\})? (\S+)")

WORKER = LiveWorker("gpu-1", 7, 'cuda:0 (a "card")', draining=False, in_flight=34, samplers=15, cores=15.5,
                    videos_per_batch=4, queued_windows=36, running_windows=12)  # fmt: skip
LOOK = Look(
    Verdict("RUNNING", "RUNNING ...", 0, videos_per_second=2.25, seconds_left=3600.0),
    Bottleneck("decode", "more cores"),
    Stages(40, fetch_seconds=0.2, decode_seconds=2.2, wait_seconds=0.5, device_seconds=0.04),
    [Progress("(all)", 1_234_580, 1_234_567, 2, 3, 4, 4), Progress("films", 9, 9, 0, 0, 0, 0)],
    Fleet(3, 1, 68, 2, 1.5, stale=(StaleWorker("gpu-9", 1, 99.0),), workers=(WORKER,)),
    [("truncated", 2)],
    [Outage("no_bucket", 3, 1.0, 60.0, "gone")],
)


def samples(look: Look) -> dict[str, float]:
    """Every line is a comment or a sample, and samples of one name stand together below their type."""
    found: dict[str, float] = {}
    typed: list[str] = []
    for line in metrics.text(look).splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in typed
            assert kind == "gauge"
            typed.append(name)
        elif not line.startswith("# HELP "):
            match = LINE.fullmatch(line)
            assert match, line
            assert match[1] == typed[-1]
            found[match[1] + (match[2] or "")] = float(match[3])
    return found


def test_a_fleet_at_work() -> None:
    found = samples(LOOK)
    expected = {
        "healthy": 1, 'state{state="RUNNING"}': 1,
        'videos{state="done"}': 1_234_567, 'videos{state="failed"}': 2, 'videos{state="running"}': 3,
        'videos{state="waiting"}': 4, 'videos{state="cancelled"}': 4,
        'failed_videos{code="truncated"}': 2, 'outage_videos{code="no_bucket"}': 3,
        "videos_per_second": 2.25, "left_seconds": 3600, 'bottleneck{stage="decode"}': 1,
        'stage_seconds{stage="fetch"}': 0.2, 'stage_seconds{stage="decode"}': 2.2,
        'stage_seconds{stage="wait"}': 0.5, 'stage_seconds{stage="device"}': 0.04,
        'workers{state="working"}': 2, 'workers{state="draining"}': 1, 'workers{state="silent"}': 1,
        "last_beat_seconds": 1.5,
    }  # fmt: skip
    of_worker = {"worker_in_flight": 34, "worker_samplers": 15, "worker_cores": 15.5, "worker_batch_videos": 4,
                 "engine_queued_windows": 36, "engine_running_windows": 12}  # fmt: skip
    labels = r'{worker="gpu-1:7",device="cuda:0 (a \"card\")"}'
    expected |= {name + labels: value for name, value in of_worker.items()}
    assert found == {f"reelvec_{name}": pytest.approx(value) for name, value in expected.items()}


def test_what_is_not_known_is_left_out() -> None:
    old = replace(WORKER, queued_windows=None, running_windows=None)
    stalled = Verdict("STALLED", "", 1, videos_per_second=0.0, seconds_left=None)
    nobody = replace(LOOK, verdict=stalled, bottleneck=None, stages=Stages(0), rows=[], codes=[], outages=[],
                     fleet=Fleet(0, 0, 0, 0, None, workers=(old,)))  # fmt: skip
    text = metrics.text(nobody)
    assert samples(nobody)["reelvec_healthy"] == 0
    for name in ("videos{", "left", "stage", "bottleneck", "last_beat", "engine", "failed", "outage"):
        assert f"reelvec_{name}" not in text
    assert text.endswith("\n")


def test_labels_are_escaped() -> None:
    odd = replace(LOOK, codes=[('a\\b"c\nd', 1)])
    assert 'reelvec_failed_videos{code="a\\\\b\\"c\\nd"} 1\n' in metrics.text(odd)
