"""A look as metrics in Prometheus's text format, for the textfile collector of node_exporter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from db.progress.fleet import FleetWorker
from producer.status.snapshot import Snapshot

#: A sample: labels and value.
Sample = tuple[Mapping[str, str], float]


def text(snapshot: Snapshot) -> str:
    """Gauges only: the ledger knows what is, not what was. One without samples is left out."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Gauges(snapshot))
    return generate_latest(registry).decode()


class _Gauges(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, meaning, samples in (
            *_videos(self._snapshot),
            *_services(self._snapshot),
            *_workers(self._snapshot),
        ):
            family = GaugeMetricFamily(f"reelvec_{name}", meaning)
            for labels, value in samples:
                family.add_sample(f"reelvec_{name}", dict(labels), value)
            if family.samples:
                yield family


def _videos(snapshot: Snapshot) -> Iterator[tuple[str, str, Iterable[Sample]]]:
    verdict, stages, waiting = snapshot.verdict, snapshot.stages, snapshot.waiting
    yield "healthy", "0 when somebody has to act.", [({}, int(verdict.exit_code == 0))]
    yield "state", "The verdict of reelvec status.", [({"state": verdict.state}, 1)]
    states = ("done", "failed", "running", "waiting", "cancelled")
    total = snapshot.rows[:1]
    yield (
        "videos",
        "Videos by state.",
        [({"state": state}, getattr(row, state)) for row in total for state in states],
    )
    reasons = ("ready", "delayed", "closed", "paused", "weights")
    waits = [({"for": reason}, getattr(waiting, reason)) for reason in reasons] if total else []
    yield (
        "waiting_videos",
        "Waiting videos: ready, tried again later, behind closed places, paused, for weights.",
        waits,
    )
    progress = ("embedded", "failed", "waiting", "waiting_for_weights")
    by_model = [
        ({"model": model.encoder, "state": s}, getattr(model, s))
        for model in snapshot.models
        for s in progress
    ]
    yield (
        "model_videos",
        "Videos that want a model, by state; those that wait for weights count as waiting.",
        by_model,
    )
    yield (
        "counts_age_seconds",
        "How long ago videos were counted.",
        [({}, snapshot.counts_age_seconds)],
    )
    yield (
        "failed_videos",
        "Failed videos by code.",
        [({"code": code}, count) for code, count in snapshot.codes],
    )
    outages = [({"code": outage.error_code}, outage.videos) for outage in snapshot.outages]
    yield "outage_videos", "Videos that wait for a service or a key.", outages
    yield (
        "videos_per_second",
        "Videos done, over the last 10 minutes.",
        [({}, verdict.videos_per_second)],
    )
    yield (
        "failed_per_second",
        "Videos failed, over the last 10 minutes.",
        [({}, verdict.failed_per_second)],
    )
    left = verdict.seconds_left
    yield "left_seconds", "Time to finish at this rate.", [] if left is None else [({}, left)]
    unclaimed = "How long videos have been ready without one being claimed."
    yield "unclaimed_seconds", unclaimed, [({}, snapshot.unclaimed_seconds)]
    timings = ("fetch", "decode", "wait", "device") if stages.videos else ()
    means = [({"stage": stage}, getattr(stages, f"{stage}_seconds")) for stage in timings]
    yield (
        "stage_seconds",
        "Mean time of a video in a stage; wait: for the engine; device: in the engine.",
        means,
    )
    found = snapshot.bottleneck
    yield "bottleneck", "The stage that limits.", [({"stage": found.stage}, 1)] if found else []


def _services(snapshot: Snapshot) -> Iterator[tuple[str, str, Iterable[Sample]]]:
    fleet, halts, broker = snapshot.fleet, snapshot.halts, snapshot.broker
    yield (
        "broker_up",
        "0 when the broker does not answer or refuses.",
        [({}, int(broker.error is None))],
    )
    messages = broker.messages
    yield (
        "broker_messages",
        "Messages that wait in the broker.",
        [] if messages is None else [({}, messages)],
    )
    yield "closed_places", "Buckets and hosts that fail every worker.", [({}, halts.closed_places)]
    paused = [
        ({"backbone": backbone.backbone}, backbone.paused_seconds) for backbone in halts.backbones
    ]
    yield "paused_backbone_seconds", "How long a backbone has been paused.", paused
    kinds = {
        "working": fleet.alive - fleet.draining,
        "draining": fleet.draining,
        "silent": len(fleet.stale),
    }
    yield (
        "workers",
        "Worker processes; silent ones send no heartbeat any more.",
        [({"state": k}, n) for k, n in kinds.items()],
    )
    beat = fleet.last_beat_seconds
    yield "last_beat_seconds", "Age of the latest heartbeat.", [] if beat is None else [({}, beat)]


def _workers(snapshot: Snapshot) -> Iterator[tuple[str, str, Iterable[Sample]]]:
    for name, fact, meaning in (
        ("worker_in_flight", "in_flight", "Videos a worker process works on at once."),
        ("worker_samplers", "samplers", "Its sampler processes."),
        ("worker_cores", "cores", "Its share of its machine's cores."),
        ("worker_batch_videos", "videos_per_batch", "Most videos of one batch on its device."),
        ("engine_queued_windows", "queued_windows", "Windows that wait for its device."),
        ("engine_running_windows", "running_windows", "Windows its device computes."),
        ("worker_videos_done", "videos_done", "Videos it has finished since it started."),
        ("worker_videos_failed", "videos_failed", "Its attempts that ended with an error."),
        (
            "worker_videos_per_second",
            "videos_per_second",
            "Videos it has finished, over the last 10 minutes.",
        ),
        ("worker_beat_seconds", "beat_seconds", "Age of its last heartbeat."),
        ("worker_claim_seconds", "claimed_seconds", "How long ago it claimed a video."),
        ("worker_error_seconds", "last_error_seconds", "How long ago it met an error."),
    ):
        facts = ((_labels(worker), getattr(worker, fact)) for worker in snapshot.fleet.workers)
        yield name, meaning, [(labels, value) for labels, value in facts if value is not None]
    refusals = [
        ({"worker": f"{worker.host}:{worker.pid}", "place": worker.place}, worker.failing_seconds)
        for worker in snapshot.halts.workers
    ]
    yield (
        "worker_refuses_seconds",
        "How long it has taken no video from a place that other workers can read.",
        refusals,
    )


def _labels(worker: FleetWorker) -> dict[str, str]:
    return {
        "worker": f"{worker.host}:{worker.pid}",
        "name": worker.name or "",
        "device": worker.device,
    }
