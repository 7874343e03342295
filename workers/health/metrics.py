"""The metrics of a worker process for Prometheus, and those of several processes under one roof.
The library does the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import Metric, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from workers.health.facts import Facts, why_not_alive, why_not_ready

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def of_this_process(facts: Facts | None) -> str:
    """What Prometheus reads of one process; None: it is preparing. Memory and descriptors have the
    names they have everywhere.
    """
    found = [*_verdicts(alive=not why_not_alive(facts), ready=not why_not_ready(facts))]
    if facts is not None:
        gauges = _gauges(facts)
        found += [
            GaugeMetricFamily(f"reelvec_worker_{name}", told, value)
            for name, value, told in gauges
            if value is not None
        ]
        videos = CounterMetricFamily(
            "reelvec_worker_videos", "Videos done, and attempts that failed.", labels=["outcome"]
        )
        for outcome in ("done", "failed"):
            videos.add_metric([outcome], facts.ended.get(outcome, 0))
        found.append(videos)
    return _text([*found, *ProcessCollector(registry=None).collect()])


def of_all(texts: Mapping[str, str | None]) -> str:
    """The metrics of several processes, each with its `gpu`; None: that one gives none now, so it
    is neither up nor ready.
    """
    merged: dict[str, Metric] = {}
    for gpu, text in texts.items():
        own = (
            _verdicts(alive=False, ready=False)
            if text is None
            else text_string_to_metric_families(text)
        )
        for family in own:
            whole = merged.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            whole.samples += [
                sample._replace(labels={**sample.labels, "gpu": gpu}) for sample in family.samples
            ]
    return _text(merged.values())


def _verdicts(*, alive: bool, ready: bool) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "reelvec_worker_up", "1 while the process can make progress (/healthz).", float(alive)
    )
    yield GaugeMetricFamily(
        "reelvec_worker_ready", "1 while it takes work (/readyz).", float(ready)
    )


def _gauges(facts: Facts) -> Iterator[tuple[str, float | None, str]]:
    yield "draining", facts.draining, "1 from SIGTERM on."
    yield "broker_connected", facts.connected, "1 while its consumer is connected to the broker."
    yield (
        "hub_age_seconds",
        facts.hub_seconds,
        "Since Celery's event loop last turned; it does so every second.",
    )
    yield "beat_age_seconds", facts.beat_seconds, "Since Postgres last accepted a heartbeat."
    yield (
        "batch_age_seconds",
        facts.batch_seconds,
        "How long the oldest batch has been on the device.",
    )
    yield "slots", facts.slots, "Videos it may work on at once."
    yield "videos_in_hand", facts.in_hand, "Videos it works on."
    yield (
        "oldest_video_seconds",
        facts.oldest_video_seconds,
        "How long it has worked on the oldest of them.",
    )
    yield "queued_windows", facts.queued_windows, "Windows that wait for its device."
    yield "running_windows", facts.running_windows, "Windows its device computes."
    yield "sampler_processes", facts.samplers, "Sampler processes it has."


class _Once(Collector):
    """Families as the library wants to be given them; no registry, which is global, is in it."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _text(families: Iterable[Metric]) -> str:
    return generate_latest(_Once(families)).decode()
