"""Settings of a worker. They change its speed and its limits, never the vectors: those are decided at enqueue."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from db.settings import DatabaseSettings, Settings, refuse_unknown_variables
from workers.stores.limits import Limits

#: Variables of the layer above; a worker must not refuse them (a test holds this set against producer.settings).
PRODUCER_VARIABLES = {"REELVEC_SOURCE"}


def default_samplers() -> int:
    """One sampler process per core, leaving one core to the engine and the task threads."""
    return max(1, (os.cpu_count() or 2) - 1)


#: Videos whose windows the engine holds in one batch.
VIDEOS_PER_BATCH = 1


class WorkerSettings(Settings):
    """One field per variable; defaults suit one GPU node of a fleet."""

    models_dir: str | None = Field(
        None,
        description="Pretrained weights, as `reelvec models fetch` or save_pretrained writes them: a folder with vivit/,"
        " timesformer/, videomae/, x-clip/, or s3://bucket/prefix. Default: models in the local stack's folder.",
    )
    license: Literal["any", "commercial"] = Field("any", description="commercial refuses non-commercial weights.")
    device: str | None = Field(
        None, description="Torch device, for example cuda:0 or cpu; default: the GPU if there is one."
    )
    samplers: int = Field(default_factory=default_samplers, ge=1, description="Sampler processes per worker.")
    file_roots: str = Field(
        "", description="Folders file: sources may be read from, separated by ':'; the local stack allows every folder."
    )
    fetch_seconds: float = Field(10.0, gt=0, description="Deadline of one block read (1 MiB), its retries included.")
    fetch_bytes_per_second: float = Field(
        100_000.0, gt=0, description="Slowest source that is waited for where more than a block has to come at once."
    )
    spool_bytes: int = Field(
        4 << 30,
        ge=1,
        description="Largest video taken from a server without ranges; it lies in a nameless temporary file.",
    )
    http_allow_private: bool = Field(
        False, description="true: http sources may be on private and loopback addresses. The S3 endpoint always may."
    )
    sampling_wall_seconds: float = Field(120.0, gt=0, description="Deadline of sampling one video.")
    sampling_cpu_seconds: int = Field(60, ge=1, description="CPU time one video's sampler may use.")
    engine_seconds: float | None = Field(
        None, gt=0, description="Longest wait for the engine; default: 300 on a GPU, 1800 on the CPU."
    )
    job_seconds: float = Field(3600.0, gt=0, description="Deadline of a whole video; then another worker may have it.")
    beat_seconds: float = Field(10.0, gt=0, description="Interval of heartbeat, reaper and feeder.")
    stale_seconds: float = Field(45.0, gt=0, description="A worker without a beat for this long is dead.")
    broker_look_seconds: float = Field(
        30.0, gt=0, description="An empty broker seen twice this far apart has lost its messages."
    )
    queued_seconds: float = Field(600.0, gt=0, description="A queued message older than this may be lost.")
    drain_seconds: float = Field(25.0, gt=0, description="Hard exit this long after SIGTERM.")
    stuck_seconds: float = Field(
        4000.0, gt=0, description="A worker whose threads make no progress for this long ends itself."
    )

    retry_seconds: float = Field(5.0, gt=0, description="First delay before a video is tried again; it doubles.")

    @property
    def in_flight(self) -> int:
        """Videos worked on at once: every sampler has its next one waiting while the engine holds a batch."""
        return 2 * self.samplers + VIDEOS_PER_BATCH

    @property
    def fetch_limits(self) -> Limits:
        return Limits(self.fetch_seconds, self.fetch_bytes_per_second, self.spool_bytes)

    @property
    def roots(self) -> tuple[Path, ...]:
        return tuple(Path(part).resolve() for part in self.file_roots.split(":") if part)


def known_variables() -> set[str]:
    return DatabaseSettings.variables() | WorkerSettings.variables() | PRODUCER_VARIABLES


def refuse_unknown() -> None:
    """`UsageError` for a mistyped `REELVEC_` variable."""
    refuse_unknown_variables(known_variables())
