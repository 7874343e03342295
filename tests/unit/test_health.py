"""What follows from what a process knows of itself, for one and for many, and where that is
served.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.asynchronous import Hub
from prometheus_client.parser import text_string_to_metric_families

from db import settings
from db.errors import UsageError
from workers import health
from workers.app import HubPulse
from workers.engine.engine import Load
from workers.health import metrics, node, pulse
from workers.health.address import Tcp, parse
from workers.health.facts import (
    HUB_SECONDS,
    STALL_GRACE_SECONDS,
    Facts,
    why_not_alive,
    why_not_ready,
)
from workers.health.node import Look, Pages, judge
from workers.health.process import facts_of
from workers.health.server import Answer
from workers.settings import WorkerSettings

FINE = Facts(
    hub_seconds=0.5, heartbeat_alive=True, beat_seconds=9.0, stale_seconds=45.0, batch_seconds=0.0,
    stall_seconds=300.0, slots=34, in_hand=3, oldest_video_seconds=2.5, queued_windows=36, running_windows=12, samplers=15,
    ended={"done": 7, "failed": 1, "pending": 2},
)  # fmt: skip


# --- addresses


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("127.0.0.1:9100", Tcp("127.0.0.1", 9100)),
        ("0.0.0.0:9100", Tcp("0.0.0.0", 9100)),
        ("localhost:9100", Tcp("localhost", 9100)),
        ("node-1.example.net:1", Tcp("node-1.example.net", 1)),
        ("[::1]:9100", Tcp("::1", 9100)),
        ("[fe80::1%eth0]:9100", Tcp("fe80::1%eth0", 9100)),
        (":65535", Tcp("", 65535)),
        ("9100", Tcp("127.0.0.1", 9100)),
        (" 9100 ", Tcp("127.0.0.1", 9100)),
        ("/run/reelvec/health.sock", Path("/run/reelvec/health.sock")),
    ],
)
def test_every_form_of_an_address(value: str, address: Tcp | Path) -> None:
    assert parse(value) == address
    assert settings.load(WorkerSettings, health=value).health_address == address
    if isinstance(address, Tcp) and address.host:
        assert parse(str(address)) == address


@pytest.mark.parametrize(
    "value",
    ["localhost", "host:", "::1:9100", ":0", "65536", "host:port", "http://host:9100", "a b:1"],
)
def test_what_is_no_address_is_refused_with_the_forms(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELVEC_HEALTH", value)
    with pytest.raises(UsageError, match=r"REELVEC_HEALTH=.*host:port, \[IPv6\]:port"):
        settings.load(WorkerSettings)


def test_nothing_is_served_unless_an_address_is_set() -> None:
    assert settings.load(WorkerSettings).health_address is None
    untouched = SimpleNamespace(name="gpu0", environment={}, said="")
    with health.of_node(None, [untouched]), health.of_process(None, lambda: None):  # type: ignore[list-item]
        assert untouched.environment == {}


# --- facts to verdicts


def test_one_that_works_is_alive_and_ready() -> None:
    assert (why_not_alive(FINE), why_not_ready(FINE)) == ([], [])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hub_seconds": HUB_SECONDS + 1}, "event loop has not turned for 61 s"),
        ({"heartbeat_alive": False}, "heartbeat has ended"),
        ({"batch_seconds": 300.0 + STALL_GRACE_SECONDS + 1}, "on the device for 331 s"),
    ],
)
def test_what_no_waiting_mends_is_the_end_of_a_process(change: dict[str, Any], reason: str) -> None:
    for reasons in (why_not_alive(replace(FINE, **change)), why_not_ready(replace(FINE, **change))):
        (said,) = reasons
        assert reason in said


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (None, "preparing"),
        ({"hub_seconds": None}, "the broker is not connected"),
        ({"beat_seconds": 46.0}, "no heartbeat for 46 s"),
        ({"beat_seconds": None}, "no heartbeat yet"),
        ({"draining": True}, "draining"),
        ({"draining": True, "heartbeat_alive": False, "hub_seconds": 99.0}, "draining"),
    ],
)
def test_one_that_waits_lives_but_takes_no_work(change: dict[str, Any] | None, reason: str) -> None:
    facts = None if change is None else replace(FINE, **change)
    assert why_not_alive(facts) == []
    (said,) = why_not_ready(facts)
    assert reason in said


def test_a_long_batch_within_its_limit_is_no_reason() -> None:
    assert why_not_alive(replace(FINE, batch_seconds=299.0, beat_seconds=1e6)) == []


def test_the_facts_are_those_of_the_moment() -> None:
    draining = threading.Event()
    draining.set()
    runtime = SimpleNamespace(
        settings=WorkerSettings(samplers=15, device="cuda:0", beat_seconds=2), draining=draining,
        engine=SimpleNamespace(batch_seconds=lambda: 1.5), load=Load(36, 12),
        samplers=SimpleNamespace(pids=lambda: [1, 2]),
        heart=(threading.current_thread(),), beat_seconds=lambda: 4.0,
        in_hand=lambda: [5], longest_active_seconds=lambda: 2.5,
        tally=SimpleNamespace(said=lambda: {"videos_done": 2, "videos_failed": 1}),
    )  # fmt: skip
    connected, now = pulse.Pulse(clock=lambda: now[0]), [0.0]
    connected.turn()
    now[0] += 3.0
    expected = Facts(
        hub_seconds=3.0, heartbeat_alive=True, beat_seconds=4.0, stale_seconds=9.0, batch_seconds=1.5,
        stall_seconds=300.0, slots=34, in_hand=1, oldest_video_seconds=2.5, queued_windows=36, running_windows=12,
        samplers=2, draining=True, ended={"done": 2, "failed": 1},
    )  # fmt: skip
    assert facts_of(runtime, connected) == expected  # type: ignore[arg-type]
    connected.disconnect()
    assert facts_of(runtime, connected) == replace(expected, hub_seconds=None)  # type: ignore[arg-type]


def test_the_hub_itself_is_seen_turning(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(pulse.PULSE, "_clock", lambda: now[0])
    hub, step = Hub(), HubPulse(SimpleNamespace())
    try:
        assert pulse.PULSE.seconds() is None
        step.register_with_event_loop(None, hub)
        assert pulse.PULSE.seconds() == 0.0
        now[0] += 70.0
        assert pulse.PULSE.seconds() == 70.0, "a hub that does not turn"
        loop = hub.create_loop()
        while pulse.PULSE.seconds() != 0.0:
            next(loop)
        step.stop(None)
        assert pulse.PULSE.seconds() is None
    finally:
        hub.close()


# --- metrics


def samples(text: str) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_the_metrics_of_one_process() -> None:
    found = samples(metrics.of_this_process(FINE))
    ours = {
        name.removeprefix("reelvec_worker_"): value
        for name, value in found.items()
        if name.startswith("reelvec_")
    }
    assert ours == {
        "up": 1, "ready": 1, "draining": 0, "broker_connected": 1, "hub_age_seconds": 0.5, "beat_age_seconds": 9,
        "batch_age_seconds": 0, "slots": 34, "videos_in_hand": 3, "oldest_video_seconds": 2.5, "queued_windows": 36,
        "running_windows": 12, "sampler_processes": 15, "videos_total{outcome=done}": 7, "videos_total{outcome=failed}": 1,
    }  # fmt: skip
    assert found["process_resident_memory_bytes"] > 1 << 20
    assert found["process_open_fds"] >= 3


def test_ages_of_what_never_was_are_left_out() -> None:
    found = samples(metrics.of_this_process(replace(FINE, hub_seconds=None, beat_seconds=None)))
    assert {"reelvec_worker_hub_age_seconds", "reelvec_worker_beat_age_seconds"}.isdisjoint(found)
    assert (found["reelvec_worker_up"], found["reelvec_worker_ready"]) == (1, 0)
    preparing = {
        name for name in samples(metrics.of_this_process(None)) if name.startswith("reelvec_")
    }
    assert preparing == {"reelvec_worker_up", "reelvec_worker_ready"}


def test_the_metrics_of_a_node_have_the_gpu_and_each_family_once() -> None:
    other = metrics.of_this_process(replace(FINE, slots=6))
    text = metrics.of_all({"gpu0": metrics.of_this_process(FINE), "gpu1": None, 'gpu"2"': other})
    found = samples(text)
    up = {name: value for name, value in found.items() if name.startswith("reelvec_worker_up")}
    assert up == {
        "reelvec_worker_up{gpu=gpu0}": 1, "reelvec_worker_up{gpu=gpu1}": 0, 'reelvec_worker_up{gpu=gpu"2"}': 1
    }  # fmt: skip
    assert found["reelvec_worker_ready{gpu=gpu1}"] == 0
    assert found["reelvec_worker_videos_total{gpu=gpu0,outcome=done}"] == 7
    assert (found["reelvec_worker_slots{gpu=gpu0}"], found['reelvec_worker_slots{gpu=gpu"2"}']) == (
        34,
        6,
    )
    assert "reelvec_worker_slots{gpu=gpu1}" not in found
    assert found["process_open_fds{gpu=gpu0}"] > 0
    types = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))


# --- a node


def pages(alive: int, ready: int, told: str) -> Pages:
    alive_page, ready_page = (
        Answer(status, "ok\n" if status == 200 else told) for status in (alive, ready)
    )
    return Pages(alive_page, ready_page, Answer(200, "m"))


def test_what_a_process_answers_is_what_is_said_of_it() -> None:
    assert judge(pages(200, 200, "")) == Look(True, True, "ok", "ok", "m")
    assert judge(pages(200, 503, "draining\nand more\n")) == Look(
        True, False, "ok", "draining; and more", "m"
    )
    assert judge(pages(503, 503, "stuck\n")) == Look(False, False, "stuck", "stuck", "m")


GOOD, STUCK = judge(pages(200, 200, "")), judge(pages(503, 503, "stuck\n"))
AGAIN = Look(
    True,
    False,
    "ended with 71; starting it again in 5 s",
    "ended with 71; starting it again in 5 s",
)


@pytest.mark.parametrize(
    ("looks", "alive", "ready"),
    [
        ({"gpu0": GOOD, "gpu1": GOOD}, (200, "gpu0: ok\ngpu1: ok\n"), 200),
        ({"gpu0": GOOD, "gpu1": STUCK}, (503, "gpu0: ok\ngpu1: not healthy: stuck\n"), 200),
        (
            {"gpu0": node.STARTING, "gpu1": AGAIN},
            (200, f"gpu0: starting\ngpu1: {AGAIN.why_not_alive}\n"),
            503,
        ),
        ({"gpu0": node.silent()}, (503, "gpu0: not healthy: it gave no answer in 2 s\n"), 503),
    ],
)
def test_a_node_is_alive_with_all_and_ready_with_one(
    looks: dict[str, Look], alive: tuple[int, str], ready: int
) -> None:
    served = node.pages_of([SimpleNamespace(name=name, seen=look) for name, look in looks.items()])  # type: ignore[misc]
    assert served["/healthz"]()[:2] == alive
    status, body, _ = served["/readyz"]()
    assert status == ready
    assert body.splitlines() == [
        f"{name}: ok" if look.ready else f"{name}: not ready: {look.why_not_ready}"
        for name, look in looks.items()
    ]
