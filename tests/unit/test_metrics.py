"""Metrics in Prometheus's text format, as its parser reads them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from db.progress.census import Progress, Waiting
from db.progress.fleet import Fleet, FleetWorker
from db.progress.halts import Halts, PausedBackbone, RefusingWorker
from db.progress.models import ModelProgress
from db.progress.rates import Outage, Stages
from producer.status import metrics
from producer.status.bottleneck import Bottleneck
from producer.status.broker import Broker
from producer.status.snapshot import Snapshot
from producer.status.verdict import Verdict

LINE = re.compile(r"(reelvec_[a-z_]+)(\{[^{}]*\})? (\S+)")

WORKER = FleetWorker("gpu-1", 7, 'cuda:0 (a '
'"card")', draining=False, in_flight=34, samplers=15, cores=15.5,
                    videos_per_batch=4, queued_windows=36, running_windows=12, name="gpu0", beat_seconds=1.5,
                    claimed_seconds=2.5, videos_done=70, videos_failed=3, videos_per_second=0.5,
                    last_error="truncated: ...", last_error_seconds=60.0)  # fmt: skip
SILENT = replace(WORKER, host="gpu-9", beat_seconds=99.0)
LOOK = Snapshot(
    Verdict(
        "RUNNING",
        "RUNNING ...",
        0,
        videos_per_second=2.25,
        failed_per_second=0.25,
        seconds_left=3600.0,
    ),
    Bottleneck("decode", "more cores"),
    Stages(40, fetch_seconds=0.2, decode_seconds=2.2, wait_seconds=0.5, device_seconds=0.04),
    [Progress("(all)", 1_234_580, 1_234_567, 2, 3, 4, 4), Progress("films", 9, 9, 0, 0, 0, 0)],
    Waiting(ready=1, ready_seconds=9.0, delayed=2, delay_seconds=240.0, closed=1),
    Fleet(3, 1, 68, 2, 1.5, stale=(SILENT,), workers=(WORKER,)),
    Halts(
        closed_places=17,
        workers=(RefusingWorker("gpu-1", "gpu0", 7, "s3://b", 30.0, "access_denied", "no"),),
        backbones=(PausedBackbone("vivit", "device_error", 90.0),),
    ),
    Broker("redis://h", messages=12),
    [("truncated", 2)],
    [Outage("no_bucket", 3, 1.0, 60.0, "gone")],
    unclaimed_seconds=4.0,
    counts_age_seconds=6.5,
    models=(
        ModelProgress("siglip2", wanted=9, embedded=4, failed=2, waiting=3, waiting_for_weights=3),
    ),
)


def samples(look: Snapshot) -> dict[str, float]:
    """Every line is a comment or a sample, and samples of one name stand together below their
    type.
    """
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
        'waiting_videos{for="ready"}': 1, 'waiting_videos{for="delayed"}': 2,
        'waiting_videos{for="closed"}': 1, 'waiting_videos{for="paused"}': 0,
        'waiting_videos{for="weights"}': 0, 'model_videos{model="siglip2",state="embedded"}': 4,
        'model_videos{model="siglip2",state="failed"}': 2, 'model_videos{model="siglip2",state="waiting"}': 3,
        'model_videos{model="siglip2",state="waiting_for_weights"}': 3, "counts_age_seconds": 6.5,
        'failed_videos{code="truncated"}': 2, 'outage_videos{code="no_bucket"}': 3,
        "videos_per_second": 2.25, "failed_per_second": 0.25, "left_seconds": 3600, "unclaimed_seconds": 4,
        'stage_seconds{stage="fetch"}': 0.2, 'stage_seconds{stage="decode"}': 2.2,
        'stage_seconds{stage="wait"}': 0.5, 'stage_seconds{stage="device"}': 0.04, 'bottleneck{stage="decode"}': 1,
        "broker_up": 1, "broker_messages": 12, "closed_places": 17, 'paused_backbone_seconds{backbone="vivit"}': 90,
        'workers{state="working"}': 2, 'workers{state="draining"}': 1, 'workers{state="silent"}': 1,
        "last_beat_seconds": 1.5, 'worker_refuses_seconds{place="s3://b",worker="gpu-1:7"}': 30,
    }  # fmt: skip
    of_worker = {"worker_in_flight": 34, "worker_samplers": 15, "worker_cores": 15.5, "worker_batch_videos": 4,
                 "engine_queued_windows": 36, "engine_running_windows": 12, "worker_videos_done": 70,
                 "worker_videos_failed": 3, "worker_videos_per_second": 0.5, "worker_beat_seconds": 1.5,
                 "worker_claim_seconds": 2.5, "worker_error_seconds": 60}  # fmt: skip
    labels = r'{device="cuda:0 (a \"card\")",name="gpu0",worker="gpu-1:7"}'
    expected |= {name + labels: value for name, value in of_worker.items()}
    assert found == {f"reelvec_{name}": pytest.approx(value) for name, value in expected.items()}


def test_what_is_not_known_is_left_out() -> None:
    old = replace(
        WORKER, queued_windows=None, running_windows=None, name=None, claimed_seconds=None
    )
    stalled = replace(LOOK.verdict, state="STALLED", exit_code=1, seconds_left=None)
    nobody = replace(
        LOOK, verdict=stalled, bottleneck=None, stages=Stages(0), rows=[], codes=[], outages=[], halts=Halts(),
        fleet=Fleet(0, 0, 0, 0, None, workers=(old,)), broker=Broker("redis://h", error="refused"),
    )  # fmt: skip
    text = metrics.text(nobody)
    assert (samples(nobody)["reelvec_healthy"], samples(nobody)["reelvec_broker_up"]) == (0, 0)
    for name in ("videos{", "waiting", "left", "stage", "bottleneck", "last_beat", "engine", "failed_videos", "outage",
                 "broker_messages", "worker_claim", "worker_refuses", "paused_backbone"):  # fmt: skip
        assert f"reelvec_{name}" not in text
    assert text.endswith("\n")


def test_nothing_but_the_look_is_told() -> None:
    """No counters of this process, no registry that others share."""
    assert "python_info" not in metrics.text(LOOK)
    assert metrics.text(LOOK) == metrics.text(LOOK)


def test_labels_are_escaped() -> None:
    odd = replace(LOOK, codes=[('a\\b"c\nd', 1)])
    assert 'reelvec_failed_videos{code="a\\\\b\\"c\\nd"} 1.0\n' in metrics.text(odd)
