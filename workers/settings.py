"""Settings of a worker. They change its speed and its limits, never the vectors: those are decided
at enqueue.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from db import machine
from db.settings import DatabaseSettings, Settings, refuse_unknown_variables
from workers.health import address
from workers.health.address import Address
from workers.node import shape
from workers.node.shape import Shape
from workers.sources.retrying import Limits

#: Variables of the layer above; a worker must not refuse them (a test holds this set against
#: producer.settings).
PRODUCER_VARIABLES = {"REELVEC_SOURCE"}

#: What was a setting until 2026-11, and what to do about it: a warning for one release.
REMOVED_VARIABLES = {
    "REELVEC_BROKER_LOOK_SECONDS": "it is three times REELVEC_BEAT_SECONDS now",
    "REELVEC_IDLE_SECONDS": "it is six times REELVEC_BEAT_SECONDS now",
    "REELVEC_QUEUED_SECONDS": "it is sixty times REELVEC_BEAT_SECONDS now",
    "REELVEC_STUCK_SECONDS": "it follows from REELVEC_JOB_SECONDS now",
}
#: How many beats must be missing before a worker counts as dead.
STALE_BEATS = 4.5
#: A thread that is past its video's deadline may take this long to give it up.
STUCK_SPARE_SECONDS = 400.0


class WorkerSettings(Settings):
    """One field per variable; defaults suit one GPU node of a fleet."""

    models_dir: str | None = Field(
        None,
        description="Pretrained weights, as `reelvec models fetch` or save_pretrained writes them: "
        "a folder with one"
        " folder per backbone (vivit/, x-clip/ ...), or s3://bucket/prefix. Default: models in the "
        "local stack's folder.",
    )
    license: Literal["any", "commercial"] = Field(
        "any", description="`commercial` refuses non-commercial weights."
    )
    device: str | None = Field(
        None,
        description="Torch device, for example cuda:0 or cpu; default: the GPU if there is one.",
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether torch compiles the models' layers, which takes some seconds at the "
        "start. auto: only on a"
        " GPU, where it is worth it.",
    )
    samplers: int | None = Field(
        None,
        ge=1,
        description="Sampler processes per worker process. Default: one per core that the worker "
        "may use, less one for the"
        " engine and the task threads; fewer if the memory does not hold so many.",
    )
    videos_per_batch: int | None = Field(
        None,
        ge=1,
        description="Largest number of videos in one batch on the device. Default: 1 on the CPU; "
        "on a GPU 4, with less than"
        " 16 GB of memory 2, with less than 8 GB 1.",
    )
    stage: Literal["video", "sample"] = Field(
        "video",
        description="sample: this process only samples videos, writes their frames into the frame "
        "store and leaves the rest to workers with a GPU; set by `reelvec worker --stage sample`.",
    )
    processes: int = Field(
        1,
        ge=1,
        description="Worker processes that share this machine's cores and memory; `reelvec worker` "
        "sets it to the number"
        " it starts.",
    )
    file_roots: str = Field(
        "",
        description="Folders from which workers may read files, separated by ':'; with the local "
        "stack every folder is"
        " allowed.",
    )
    fetch_seconds: float = Field(
        10.0, gt=0, description="Deadline for reading one block (1 MiB), including retries."
    )
    fetch_bytes_per_second: float = Field(
        100_000.0,
        gt=0,
        description="Minimum speed of a source where more than one block has to be read at once.",
    )
    spool_bytes: int = Field(
        4 << 30,
        ge=1,
        description="Largest video that is read from a server that does not serve ranges; it is "
        "kept in a temporary file"
        " without a name.",
    )
    http_allow_private: bool = Field(
        False,
        description="true: http sources may have private and loopback addresses. The S3 endpoint "
        "may always have one.",
    )
    frames: str | None = Field(
        None,
        description="The frame store, where sampled frames wait for a GPU or are kept: "
        "s3://bucket/prefix, or a folder that all nodes see under the same name. Default: none.",
    )
    frames_endpoint: str | None = Field(
        None,
        description="S3 service of the frame store, where it is not that of the sources: "
        "https://host or http://host:port. Default: as for the sources.",
    )
    frames_access_key_id: str | None = Field(
        None, description="Key for the frame store's service; default: as for the sources."
    )
    frames_secret_access_key: SecretStr | None = Field(
        None, description="The secret that belongs to REELVEC_FRAMES_ACCESS_KEY_ID."
    )
    frames_region: str = Field(
        "", description="Region of the frame store's bucket; default: as for the sources."
    )
    sampling_wall_seconds: float = Field(
        120.0, gt=0, description="Deadline for sampling one video."
    )
    sampling_cpu_seconds: int = Field(
        60, ge=1, description="CPU time that sampling one video may use."
    )
    engine_seconds: float | None = Field(
        None,
        gt=0,
        description="Longest wait for the engine; default: 300 on a GPU, 1800 on the CPU.",
    )
    job_seconds: float = Field(
        3600.0,
        gt=0,
        description="Deadline for a whole video; after it another worker may take the video.",
    )
    beat_seconds: float = Field(10.0, gt=0, description="Interval of heartbeat, reaper and feeder.")
    stale_seconds: float = Field(
        default_factory=lambda known: STALE_BEATS * float(known["beat_seconds"]),
        gt=0,
        description="A worker without a heartbeat for this long counts as dead. Default: 4.5 times "
        "REELVEC_BEAT_SECONDS; more than twice is needed, as one beat may be late.",
    )
    drain_seconds: float = Field(
        25.0,
        gt=0,
        description="A worker that was told to end is stopped after this time at the latest; it "
        "usually needs less than"
        " 10 s.",
    )
    spot_notice: str | None = Field(
        None,
        description="How to learn that this node will be taken away: a shell command that then "
        "ends with 0, or an http(s)"
        " address that then answers 200 with a text other than FALSE. It is asked every 5 s; on "
        "such an answer the worker"
        " drains. docs/guide.md has examples for AWS, Google and Azure.",
    )
    recycle_videos: int | None = Field(
        None,
        ge=1,
        description="A worker process is replaced by a new one after this many videos. Default: "
        "never.",
    )
    recycle_bytes: int | None = Field(
        None,
        ge=1,
        description="The same, once it holds this much memory, without its samplers. Default: "
        "never.",
    )
    lifeline_fd: int | None = Field(
        None,
        description="Set by `reelvec worker` for its processes: a pipe that ends when `reelvec "
        "worker` ends; then they"
        " drain.",
    )
    health: str | None = Field(
        None,
        description="Address that serves /healthz, /readyz and /metrics, for example "
        "127.0.0.1:9100; :9100 means every"
        " interface, 9100 this machine only, and a /path a Unix socket. There is no "
        "authentication. Default: none.",
    )
    canary_seconds: float = Field(
        3600.0,
        gt=0,
        description="How often a worker checks that its device still computes what it should; it "
        "costs one video each time.",
    )
    retry_seconds: float = Field(
        5.0, gt=0, description="Delay before a video is first tried again; it doubles each time."
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.stale_seconds <= self.gap_seconds:
            raise ValueError(
                f"REELVEC_STALE_SECONDS={self.stale_seconds:g} does not fit "
                f"REELVEC_BEAT_SECONDS={self.beat_seconds:g}: a worker that beats so rarely would "
                f"count as dead; set it to more than {self.gap_seconds:g}, or leave it out"
            )
        if self.sampling_wall_seconds >= self.job_seconds:
            raise ValueError(
                f"REELVEC_JOB_SECONDS={self.job_seconds:g} does not fit "
                f"REELVEC_SAMPLING_WALL_SECONDS={self.sampling_wall_seconds:g}: sampling alone may "
                "take as long as the whole video; set the first to more than the second"
            )
        return self

    @model_validator(mode="after")
    def _frames_have_both_keys(self) -> Self:
        if (self.frames_access_key_id is None) != (self.frames_secret_access_key is None):
            raise ValueError(
                "of REELVEC_FRAMES_ACCESS_KEY_ID and REELVEC_FRAMES_SECRET_ACCESS_KEY one is set "
                "and the other is not: set both, or neither"
            )
        return self

    @field_validator("health")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None:
            address.parse(value)
        return value

    @property
    def health_address(self) -> Address | None:
        return None if self.health is None else address.parse(self.health)

    @property
    def gap_seconds(self) -> float:
        """Two beats this far apart: one was missed, so this process has seen an outage, or was
        one.
        """
        return 2 * self.beat_seconds

    @property
    def broker_look_seconds(self) -> float:
        """A broker seen empty for this long although messages were sent has lost them."""
        return 3 * self.beat_seconds

    @property
    def idle_seconds(self) -> float:
        """With free slots and messages waiting, a worker that took none for so long connects again;
        after the same time again it ends.
        """
        return 6 * self.beat_seconds

    @property
    def queued_seconds(self) -> float:
        """A message queued for longer is lost if a later one has been taken already."""
        return 60 * self.beat_seconds

    @property
    def stuck_seconds(self) -> float:
        """A worker that has held a video for so long, past its deadline, ends itself."""
        return self.job_seconds + STUCK_SPARE_SECONDS

    @property
    def on_gpu(self) -> bool:
        """Whether the device will be a GPU, as far as can be told without torch."""
        if self.stage == "sample":
            return False
        return (
            bool(machine.visible_gpus()) if self.device is None else self.device.startswith("cuda")
        )

    @property
    def engine_wait_seconds(self) -> float:
        """Longest wait for the engine; a batch that takes longer has stalled."""
        return self.engine_seconds or (300.0 if self.on_gpu else 1800.0)

    @cached_property
    def shape(self) -> Shape:
        """Chosen from this machine and what was set."""
        return shape.choose(
            cores=machine.cores(),
            memory_bytes=machine.memory_bytes(),
            processes=self.processes,
            on_gpu=self.on_gpu,
            samplers=self.samplers,
            videos_per_batch=self.videos_per_batch,
            only_samples=self.stage == "sample",
        )

    @property
    def in_flight(self) -> int:
        """Videos worked on at once."""
        return self.shape.in_flight

    @property
    def pack_slots(self) -> int:
        """Packs of frames worked on at once besides: with slots of their own they never wait for
        videos that take long.
        """
        return self.shape.pack_slots if self.frames and self.stage == "video" else 0

    @property
    def video_slots(self) -> int | None:
        """Of all slots those that are for videos; None: all of them."""
        return self.in_flight if self.pack_slots else None

    @property
    def slots(self) -> int:
        """Of both; Celery's concurrency."""
        return self.in_flight + self.pack_slots

    @property
    def fetch_limits(self) -> Limits:
        return Limits(self.fetch_seconds, self.fetch_bytes_per_second, self.spool_bytes)

    @property
    def roots(self) -> tuple[Path, ...]:
        return tuple(Path(part).resolve() for part in self.file_roots.split(":") if part)


def known_variables() -> set[str]:
    return DatabaseSettings.variables() | WorkerSettings.variables() | PRODUCER_VARIABLES


def refuse_unknown() -> None:
    """`UsageError` for a mistyped `REELVEC_` variable; a warning for one that was a setting."""
    refuse_unknown_variables(known_variables(), REMOVED_VARIABLES)
