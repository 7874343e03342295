"""A look at the ledger as metrics in Prometheus's text format, for the textfile collector of node_exporter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from producer.look import Look

#: A sample: labels and value.
Sample = tuple[Mapping[str, str], float]


def text(look: Look) -> str:
    """Gauges only: the ledger knows what is, not what was. One without samples is left out."""
    lines: list[str] = []
    for name, meaning, samples in _gauges(look):
        shown = [f"reelvec_{name}{_labels(labels)} {_number(value)}" for labels, value in samples]
        if shown:
            lines += [f"# HELP reelvec_{name} {meaning}", f"# TYPE reelvec_{name} gauge", *shown]
    return "\n".join(lines) + "\n"


def _gauges(look: Look) -> Iterator[tuple[str, str, Iterable[Sample]]]:
    verdict, fleet, stages, found = look.verdict, look.fleet, look.stages, look.bottleneck
    total = look.rows[:1]
    yield "healthy", "0 when somebody has to do something.", [({}, int(verdict.exit_code == 0))]
    yield "state", "The verdict of reelvec status.", [({"state": verdict.state}, 1)]
    states = ("done", "failed", "running", "waiting", "cancelled")
    yield "videos", "Videos by state.", [({"state": state}, getattr(row, state)) for row in total for state in states]
    yield "failed_videos", "Failed videos by code.", [({"code": code}, count) for code, count in look.codes]
    outages = [({"code": outage.error_code}, outage.videos) for outage in look.outages]
    yield "outage_videos", "Videos that wait for a service or a key.", outages
    yield "videos_per_second", "Videos ended, over the last 10 minutes.", [({}, verdict.videos_per_second)]
    left = verdict.seconds_left
    yield "left_seconds", "Time to finish at this rate.", [] if left is None else [({}, left)]
    timings = ("fetch", "decode", "wait", "device") if stages.videos else ()
    means = [({"stage": stage}, getattr(stages, f"{stage}_seconds")) for stage in timings]
    yield "stage_seconds", "Mean time of a video in a stage; wait is for the engine, device in it.", means
    yield "bottleneck", "The stage that limits.", [({"stage": found.stage}, 1)] if found else []
    kinds = {"working": fleet.alive - fleet.draining, "draining": fleet.draining, "silent": len(fleet.stale)}
    yield "workers", "Worker processes; silent ones beat no more.", [({"state": k}, n) for k, n in kinds.items()]
    beat = fleet.last_beat_seconds
    yield "last_beat_seconds", "Age of the youngest beat.", [] if beat is None else [({}, beat)]
    for name, fact, meaning in (
        ("worker_in_flight", "in_flight", "Videos a worker process works on at once."),
        ("worker_samplers", "samplers", "Its sampler processes."),
        ("worker_cores", "cores", "Its share of its machine's cores."),
        ("worker_batch_videos", "videos_per_batch", "Most videos of one batch on its device."),
        ("engine_queued_windows", "queued_windows", "Windows that wait for its device."),
        ("engine_running_windows", "running_windows", "Windows its device computes."),
    ):
        facts = (({"worker": f"{w.host}:{w.pid}", "device": w.device}, getattr(w, fact)) for w in fleet.workers)
        yield name, meaning, [(labels, value) for labels, value in facts if value is not None]


def _labels(labels: Mapping[str, str]) -> str:
    quoted = (f'{name}="{_escape(value)}"' for name, value in labels.items())
    return f"{{{','.join(quoted)}}}" if labels else ""


def _number(value: float) -> str:
    """Counts are exact; timings were stored with seven digits."""
    return str(value) if isinstance(value, int) else f"{value:.7g}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
