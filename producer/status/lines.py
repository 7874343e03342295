"""The lines above and below the table of categories. Pure: what was seen in, sentences out."""

from __future__ import annotations

from collections.abc import Sequence

from db.canary.drifts import Drifts
from db.progress.ahead import Ahead
from db.progress.fleet import Fleet, FleetWorker
from db.progress.halts import Halts
from db.progress.models import ModelProgress
from db.progress.rates import Outage, Stages
from producer.status.broker import Broker
from producer.wording import SHOWN, ago, duration, first_line, listed, plural

EXAMPLE_CHARACTERS = 200
#: Counts that are younger need no word about their age.
MOMENT_SECONDS = 2.0

#: What to do about each code of class INFRA.
REMEDIES = {
    "access_denied": "let the workers' key read these videos",
    "bad_credentials": "fix the key on the workers",
    "no_bucket": "check the bucket's name and the workers' endpoint and region",
    "unreachable": "check the address, and name service and network on the workers",
    "unavailable": "check that Postgres answers the workers",
    "store_unavailable": "check what REELVEC_FRAMES names, and its keys and space",
}


def waiting(outages: Sequence[Outage]) -> str | None:
    """What videos wait for that is no fault of theirs, and what to do about the commonest; None:
    nothing.
    """
    if not outages:
        return None
    first = outages[0]
    example = first_line(first.example)[:EXAMPLE_CHARACTERS]
    shown = [f"{first.error_code} {first.videos:,} ({example})"]
    shown += [f"{outage.error_code} {outage.videos:,}" for outage in outages[1:]]
    remedy = REMEDIES[first.error_code]
    count = sum(outage.videos for outage in outages)
    waiting = plural(count, "video waits", "videos wait")
    return f"WAITING  {waiting} for: {', '.join(shown)}; no attempts are used up; {remedy}"


def halted(halts: Halts) -> list[str]:
    """A line for each closed place, each worker that alone fails at one, and each paused
    backbone.
    """
    lines = [
        f"CLOSED  {place.place} for {duration(place.closed_seconds)}: "
        f"{_error(place.error_code, place.error)}; one video is tried every 10 s, and all go on "
        "when it succeeds"
        for place in halts.places[:SHOWN]
    ]
    if halts.closed_places > len(lines):
        lines.append(
            f"CLOSED  {plural(halts.closed_places - len(lines), 'more place')}: reelvec status "
            "--json"
        )
    lines += [
        f"REFUSED  {named(worker.host, worker.name, worker.pid)} could not read {worker.place} for "
        f"{duration(worker.failing_seconds)}, but others can: "
        f"{_error(worker.error_code, worker.error)}"
        for worker in halts.workers[:SHOWN]
    ]
    if len(halts.workers) > SHOWN:
        lines.append(f"REFUSED  {len(halts.workers) - SHOWN:,} more: reelvec status --workers")
    lines += [
        f"PAUSED  {paused.backbone} for {duration(paused.paused_seconds)}: "
        f"{first_line(paused.reason)}; go on with: reelvec pause --backbone {paused.backbone} "
        "--resume"
        for paused in halts.backbones
    ]
    return lines


def weights(models: Sequence[ModelProgress], seen: Drifts) -> list[str]:
    """A line for each model that videos wait for and no live worker can load, but for those that
    `drifts` tells of.
    """
    told = {one.encoder for one in seen.refused} | {one.encoder for one in seen.disputed}
    return [
        f"WEIGHTS  {model.waiting_for_weights:,} videos wait for {model.encoder}: no live worker "
        f"can load it; reelvec models fetch {model.encoder} on a worker's machine (reelvec status "
        "--workers shows what each can load), or withdraw it: reelvec cancel --backbone "
        f"{model.encoder}"
        for model in models
        if model.waiting_for_weights and model.encoder not in told
    ]


def drifts(seen: Drifts) -> list[str]:
    """A line for each worker that computes something else than it should, and for each encoder
    whose workers differ while nobody knows who is right.
    """
    lines = [
        f"DRIFTED  {drift.worker} ({drift.device}, {drift.software}) makes nothing of "
        f"{drift.encoder}: {first_line(drift.reason)}; if it is right and the others are not: "
        f"reelvec models accept {drift.encoder} --worker {drift.worker}"
        for drift in seen.refused[:SHOWN]
    ]
    if len(seen.refused) > SHOWN:
        lines.append(f"DRIFTED  {len(seen.refused) - SHOWN:,} more: reelvec status --json")
    lines += [
        f"DISPUTED  {' and '.join(dispute.workers)} make different vectors of the same frames with "
        f"{dispute.encoder}, and make nothing else with it: one more worker on another machine "
        f"settles it, or you do: reelvec models accept {dispute.encoder} --worker NAME"
        for dispute in seen.disputed
    ]
    return lines


def _error(code: str | None, text: str | None) -> str:
    return f"{code or 'unknown'} ({first_line(text or '')[:EXAMPLE_CHARACTERS]})"


def workers(fleet: Fleet, *, running: int) -> str:
    """Who works, how full their hands are, and who went missing."""
    draining = f" ({fleet.draining} draining)" if fleet.draining else ""
    alive = f"workers alive {fleet.alive}{draining}" if fleet.alive else "no worker is alive"
    line = f"{alive}, {plural(running, 'video')} in hand"
    if fleet.last_beat_seconds is not None:  # nothing is kept of workers that ended in order
        line += f", last beat {ago(fleet.last_beat_seconds)}"
    if not fleet.stale:
        return line
    gone = [
        f"{worker.host} pid {worker.pid} ({duration(worker.beat_seconds)})"
        for worker in fleet.stale
    ]
    return f"{line} · without a heartbeat {len(gone)}: {listed(gone)}"


def frames(fleet: Fleet, ahead: Ahead, stages: Stages) -> str | None:
    """How far sampling is ahead, and what of a video goes through the frame store; None: nothing
    does.
    """
    if not (fleet.sampler_nodes or ahead.waiting or ahead.embedding):
        return None
    nodes = plural(len(fleet.sampler_nodes), "sampler node")
    return (
        f"frames: {nodes}, {plural(ahead.sampling, 'video')} being sampled there, "
        f"{ahead.waiting:,} sampled ahead, {ahead.embedding:,} being embedded; "
        f"a video: {stages.bytes_read / 1e6:.1f} MB of it read, "
        f"{stages.bytes_written / 1e6:.1f} MB of frames written, "
        f"{stages.frames_bytes / 1e6:.1f} MB read"
    )


def broker(seen: Broker) -> str:
    """The broker's answer, or that there is none."""
    if seen.error is not None:
        return f"broker {seen.address} {seen.problem}"
    return f"broker answers, {plural(seen.messages or 0, 'message waits', 'messages wait')} in it"


def failures(codes: Sequence[tuple[str, int]]) -> str | None:
    """Failed videos by code, with the command that shows the commonest; None: none failed."""
    if not codes:
        return None
    shown = " · ".join(f"{code} {count:,}" for code, count in codes)
    return f"failures {shown}  → reelvec status --failed --error {codes[0][0]}"


def counts(age_seconds: float) -> str | None:
    """Said of shared counts that are older than a moment."""
    return f"counted {ago(age_seconds)}" if age_seconds >= MOMENT_SECONDS else None


def named(host: str, name: str | None, pid: int) -> str:
    """How people call a worker: `gpu0 on node-3`."""
    return f"{name or f'pid {pid}'} on {host}"


#: Columns of `status --workers`; the last two are wide.
WORKER_COLUMNS = (
    "host",
    "name",
    "pid",
    "device",
    "state",
    "beat",
    "last claim",
    "videos/s",
    "done",
    "failed",
    "models",
    "takes nothing of",
    "last error",
)


def worker_cells(worker: FleetWorker, *, is_alive: bool, refuses: Sequence[str]) -> list[str]:
    """One worker in the order of `WORKER_COLUMNS`; `-` for what it did not say."""
    state = "silent" if not is_alive else "draining" if worker.draining else "working"
    error = (
        ""
        if worker.last_error is None
        else f"{ago(worker.last_error_seconds)}: {first_line(worker.last_error)}"
    )
    rate = "-" if worker.videos_per_second is None else f"{worker.videos_per_second:,.1f}"
    done, failed = (
        "-" if count is None else f"{count:,}"
        for count in (worker.videos_done, worker.videos_failed)
    )
    return [
        worker.host,
        worker.name or "-",
        str(worker.pid),
        worker.device,
        state,
        ago(worker.beat_seconds),
        ago(worker.claimed_seconds),
        rate,
        done,
        failed,
        _loadable(worker),
        listed(refuses) if refuses else "-",
        error or "-",
    ]


def _loadable(worker: FleetWorker) -> str:
    """The models it can load, and those whose weights are not the ones that are wanted; random ones
    go without saying. A sampler node needs none.
    """
    if worker.stage == "sample":
        return "only samples"
    if worker.models is None:
        return "-"
    named = [model for model in worker.models if "-random-" not in model]
    return " ".join(named + [f"(not {encoder})" for encoder in worker.refused]) or "none"
