"""Whether anybody has the weights of what is to be queued: this machine, or a worker that lives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Engine

from db import session, settings
from db.errors import RefusedConfigurationError, UnavailableError
from db.progress import fleet
from db.progress.fleet import FleetWorker
from producer.request import Request, declared_encoder
from workers.backbones import registry
from workers.settings import WorkerSettings
from workers.weights import inventory, models_dir


def missing(database: Engine, request: Request) -> list[str]:
    """A sentence for each model that waits for its weights, and what to do about it. Raises
    `UnavailableError`.
    """
    chosen = settings.load(WorkerSettings)
    with session.transaction(database) as connection:
        workers = fleet.read(connection, stale_seconds=chosen.stale_seconds).workers
    here: set[str] = set()
    if request.weights == "pretrained":
        try:
            here = set(inventory.versions(models_dir.resolve(chosen)))
        except (
            RefusedConfigurationError,
            UnavailableError,
        ):  # a bucket of models that this desk may not read
            here = set(registry.names())
    return list(judge(request, workers, here))


def judge(request: Request, workers: Sequence[FleetWorker], here: set[str]) -> Iterator[str]:
    """`here`: backbones whose pretrained weights this machine has. Workers of older versions say
    nothing, and may.
    """
    for backbone in request.backbones:
        encoder = declared_encoder(backbone, request.weights, request.sampling)
        spec = registry.get(backbone)
        needs_files = spec.checkpoint is not None and request.weights == "pretrained"
        has_here = backbone in here or not needs_files
        if any(_may_make(worker, encoder.model, encoder.name) for worker in workers) or (
            has_here and not workers
        ):
            continue
        if workers:
            many = f"none of the {len(workers):,} live workers can load it"
            who = many if len(workers) > 1 else "the one live worker cannot load it"
            who += (
                ", though its weights are on this machine"
                if has_here
                else ", and its weights are not here either"
            )
        else:
            who = "its weights are not on this machine, and no worker is alive"
        cure = (
            f"run {spec.brought_by} on a worker's machine"
            if needs_files
            else "start a worker that can"
        )
        yield (
            f"{encoder.name}: {who}: its videos wait until a worker has it; {cure}, or withdraw it "
            f"with reelvec cancel --backbone {backbone}"
        )


def _may_make(worker: FleetWorker, model: str, encoder: str) -> bool:
    return worker.models is None or (model in worker.models and encoder not in worker.refused)
