"""Which stage limits the fleet, and what would help. Pure: means and counts in, a sentence out.

A worker holds `in_flight` videos, each in a thread of its own. A thread leases a sampler process,
fetches and decodes its video there one after the other, then waits for the engine, which has one
thread per worker and device. So

    all samplers at work finish   samplers / (fetch + decode seconds)   videos/s
    on all cores are decoded      cores / decode seconds                videos/s
    all devices at work finish    devices / device seconds              videos/s

and the lowest of the three is the pace of a fleet that has enough to do. Decoding needs a core
while it lasts, fetching does not: that decides which of the two the samplers lack, and whether
there are more samplers than can run.

Sampler nodes have samplers and cores and no device; what they sample takes slots of its own where
it is embedded. The sum of all samplers is then set against the devices, and what is missing is
said in nodes of either kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from producer.wording import plural

if TYPE_CHECKING:
    from db.progress.ahead import Ahead
    from db.progress.fleet import Fleet
    from db.progress.rates import Stages

#: With fewer videos one odd file decides.
MIN_VIDEOS = 20
#: Slots are free and videos ready: their messages do not get through.
_LISTENING = (
    "check that the broker answers and that the workers listen to the queue reelvec (no -Q)"
)


@dataclass(frozen=True)
class Capacity:
    """What the workers that take videos have: `slots` for videos in hand, `taken` of them, `ready`
    videos wait for one. Of the samplers and cores `nodes` sampler nodes have theirs.

    `sides`: slots taken, and slots there are, for whole videos, for frames and for sampling alone,
    where there is more than the first of them.
    """

    samplers: int
    cores: float
    devices: int
    gpus: int
    slots: int
    taken: int
    ready: int
    nodes: int = 0
    node_samplers: int = 0
    node_cores: float = 0.0
    sides: tuple[tuple[int, int], ...] = ()

    @property
    def is_idle(self) -> bool:
        """Whether most slots of each kind are free."""
        sides = self.sides or ((self.taken, self.slots),)
        return bool(self.slots) and all(2 * taken < slots or not slots for taken, slots in sides)

    @property
    def crowd(self) -> str:
        """What to do where there are more samplers than cores, and not only because each worker
        needs one; else empty.
        """
        if self.samplers <= max(self.cores, self.devices) or not self.devices:
            return ""
        best = max(1, math.floor(self.cores / self.devices) - 1)
        cores = f"{self.cores:g} {'core' if self.cores == 1 else 'cores'}"
        return (
            f"; {plural(self.samplers, 'sampler')} are too many for {cores}: "
            f"REELVEC_SAMPLERS={best} (per worker)"
        )


@dataclass(frozen=True)
class Bottleneck:
    """`stage` is fetch, decode, device, nothing (too little to do) or unknown.

    Shares are of all samplers' and all devices' time at `videos_per_second`, the pace the timings
    allow; all three and the pace are None unless a stage limits. `gain_videos_per_second` is what
    `advice` would add.
    """

    stage: str
    advice: str
    fetch_share: float | None = None
    decode_share: float | None = None
    device_share: float | None = None
    videos_per_second: float | None = None
    gain_videos_per_second: float | None = None

    @property
    def line(self) -> str:
        if self.fetch_share is None or self.decode_share is None or self.device_share is None:
            return f"bottleneck: {self.stage}: {self.advice}"
        decode, fetch, device = (
            f"{100 * share:.0f} %"
            for share in (self.decode_share, self.fetch_share, self.device_share)
        )
        shares = f"samplers {decode} decode, {fetch} fetch; devices {device} busy"
        return f"bottleneck: {self.stage} ({shares}): {self.advice}"


def capacity(fleet: Fleet, ahead: Ahead, *, ready: int) -> Capacity:
    """The fleet's, from what workers say with every beat and from what is in hand."""
    workers = [worker for worker in fleet.workers if not worker.draining]
    nodes = fleet.sampler_nodes
    of_nodes = sum(node.in_flight for node in nodes)
    for_packs = sum(worker.pack_slots for worker in workers)
    return Capacity(
        samplers=sum(worker.samplers for worker in workers),
        cores=sum(worker.cores for worker in workers),
        devices=len(workers) - len(nodes),
        gpus=fleet.gpus,
        slots=fleet.in_flight,
        taken=ahead.whole + ahead.embedding + ahead.sampling,
        ready=ready,
        nodes=len(nodes),
        node_samplers=sum(node.samplers for node in nodes),
        node_cores=sum(node.cores for node in nodes),
        sides=(
            (ahead.whole, fleet.in_flight - for_packs - of_nodes),
            (ahead.embedding, for_packs),
            (ahead.sampling, of_nodes),
        ),
    )


def limiting_stage(stages: Stages, have: Capacity) -> Bottleneck:
    """The stage that limits, as far as the data says; `unknown` or `nothing` with the reason where
    it does not.
    """
    if have.is_idle:
        wait = (
            f" although {have.ready:,} videos are ready: {_LISTENING}"
            if have.ready > have.slots
            else ""
        )
        return Bottleneck(
            "nothing", f"only {have.taken} of {have.slots} slots of the workers are taken{wait}"
        )
    if not have.devices:
        lone = "there are only sampler nodes: nobody embeds what they sample"
        return Bottleneck("unknown", lone if have.nodes else "no worker takes videos")
    if stages.videos < MIN_VIDEOS:
        return Bottleneck(
            "unknown",
            f"too few finished in the last 10 minutes to say ({stages.videos} of {MIN_VIDEOS})",
        )
    limits = _Limits(stages, have)
    pace = min(limits.frames, limits.devices)
    if math.isinf(pace):
        return Bottleneck("unknown", "the finished videos took no measurable time")
    if (
        stages.held_seconds * pace > 2 * have.slots
    ):  # the videos in hand go by at less than half that pace
        return Bottleneck("unknown", _unexplained(stages, have))
    if limits.devices <= limits.frames:
        stage, advice, gain = "device", *_more_devices(limits)
    elif stages.fetch_seconds > stages.decode_seconds and not limits.crowded:
        stage, advice, gain = "fetch", *_more_streams(limits)
    else:
        stage, advice, gain = "decode", *_more_cores(limits)
    if have.nodes:
        advice, gain = _more_nodes(limits)
    return Bottleneck(
        stage,
        advice,
        fetch_share=pace * stages.fetch_seconds / have.samplers,
        decode_share=pace * stages.decode_seconds / have.samplers,
        device_share=pace * stages.device_seconds / have.devices,
        videos_per_second=pace,
        gain_videos_per_second=gain,
    )


@dataclass(frozen=True)
class _Limits:
    """Videos/s that samplers, cores and devices allow, now and with more of them."""

    stages: Stages
    have: Capacity

    @property
    def samplers(self) -> float:
        return _rate(self.have.samplers, self.stages.fetch_seconds + self.stages.decode_seconds)

    @property
    def cores(self) -> float:
        return _rate(self.have.cores, self.stages.decode_seconds)

    @property
    def crowded(self) -> bool:
        """Whether samplers wait for cores."""
        return self.cores < self.samplers

    @property
    def frames(self) -> float:
        """What comes before the device."""
        return min(self.samplers, self.cores)

    def frames_of(self, samplers: float, cores: float) -> float:
        """The same of so many samplers and cores alone."""
        stages = self.stages
        return min(
            _rate(samplers, stages.fetch_seconds + stages.decode_seconds),
            _rate(cores, stages.decode_seconds),
        )

    @property
    def devices(self) -> float:
        return self.with_devices(self.have.devices)

    def with_devices(self, count: int) -> float:
        return _rate(count, self.stages.device_seconds)

    def more_samplers(self) -> tuple[int, float, str]:
        """How many more, or cores for those there are, are worth having, the gain, and what limits
        then.

        At most as many again: beyond that we guess.
        """
        now, most = (
            (self.have.cores, min(self.samplers, self.devices))
            if self.crowded
            else (self.have.samplers, self.devices)
        )
        wanted = now * most / self.frames
        if wanted > 2 * now:
            return math.ceil(now), self.frames, ""
        then = " (then the device limits)" if most == self.devices else ""
        return max(1, math.ceil(round(wanted - now, 6))), most - self.frames, then


def _rate(count: float, seconds: float) -> float:
    return count / seconds if seconds > 0 else math.inf


def _more(gain: float) -> str:
    return (
        f"would give about {gain:.1f} videos/s more"
        if gain < 10
        else f"would give about {gain:,.0f} videos/s more"
    )


def _more_cores(limits: _Limits) -> tuple[str, float]:
    count, gain, then = limits.more_samplers()
    cores = "1 more core" if count == 1 else f"{count} more cores"
    return f"{cores} for samplers {_more(gain)}{then}{limits.have.crowd}", gain


def _more_streams(limits: _Limits) -> tuple[str, float]:
    """A sampler that waits for bytes needs no core: more of them on the same machine read more at
    once.
    """
    count, gain, then = limits.more_samplers()
    workers = limits.have.devices
    now, wanted = (
        limits.have.samplers / workers,
        math.ceil((limits.have.samplers + count) / workers),
    )
    speed = limits.stages.bytes_read / limits.stages.fetch_seconds / 1e6
    return (
        f"one sampler reads {speed:.1f} MB/s; if the network has room, REELVEC_SAMPLERS={wanted} "
        f"(now {now:.0f} per worker) {_more(gain)}{then}; or move the workers nearer to the videos"
    ), gain


def _more_devices(limits: _Limits) -> tuple[str, float]:
    have = limits.have
    if not have.gpus:
        gain = limits.devices / have.devices
        return f"a GPU would help; another node like these {_more(gain)}", gain
    reached = limits.with_devices(have.devices + 1)
    gain = min(reached, limits.frames) - limits.devices
    stage = "fetch" if limits.stages.fetch_seconds > limits.stages.decode_seconds else "decode"
    then = f" (then {stage} limits)" if reached >= limits.frames else ""
    return f"another GPU {_more(gain)}{then}", gain


def _more_nodes(limits: _Limits) -> tuple[str, float]:
    """What one more node of each kind is worth, as they are on average."""
    have = limits.have
    pace = min(limits.frames, limits.devices)
    sampling, whole = have.nodes, have.devices
    node = limits.frames_of(have.node_samplers / sampling, have.node_cores / sampling)
    worker = limits.frames_of(
        (have.samplers - have.node_samplers) / whole, (have.cores - have.node_cores) / whole
    )
    more_sampling = min(limits.frames + node, limits.devices) - pace
    more_devices = min(limits.frames + worker, limits.with_devices(whole + 1)) - pace
    kind = "GPU" if have.gpus else "node that embeds"
    return (
        f"one more sampler node {_more(more_sampling)}, one more {kind} {more_devices:.1f}"
    ), max(more_sampling, more_devices)


def _unexplained(stages: Stages, have: Capacity) -> str:
    return (
        f"a worker holds a video for {stages.held_seconds:.1f} s, longer than fetch "
        f"{stages.fetch_seconds:.1f}, decode {stages.decode_seconds:.1f} and the engine "
        f"{stages.wait_seconds:.1f} explain{have.crowd or '; do other programs use the cores?'}"
    )
