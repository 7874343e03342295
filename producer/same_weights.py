"""A model on this machine whose weights are those that stored vectors were made with."""

from __future__ import annotations

from db import settings
from db.encoders import Encoder
from db.errors import RefusedConfigurationError, UsageError
from workers.backbones import registry
from workers.backbones.base import Loaded, Weights
from workers.settings import WorkerSettings
from workers.weights import models_dir


def load(stored: Encoder, *, doing: str) -> Loaded:
    """The model of a bound encoder, on the CPU; `doing` says what it is for.

    Raises `RefusedConfigurationError` for weights that are not here or not those of its vectors,
    `UsageError` where torch is missing.
    """
    loaded = _loaded(stored, doing)
    refuse_others(stored, loaded.digest)
    return loaded


def refuse_others(stored: Encoder, digest: str) -> None:
    """Raises `RefusedConfigurationError` where `digest` is not that of the weights that the vectors
    of a bound encoder were made with.
    """
    if digest != stored.weights_digest:
        raise RefusedConfigurationError(
            f"{stored.name}: its vectors were made with weights {stored.weights_digest}, here are "
            f"{digest}: vectors of the two may not be compared. Copy models.lock of a machine that "
            "has those into REELVEC_MODELS_DIR and run `reelvec models fetch "
            f"{stored.backbone}`"
        )


def _loaded(stored: Encoder, doing: str) -> Loaded:
    folder = None
    if stored.weights == "pretrained":
        folder = models_dir.local_folder(
            models_dir.resolve(settings.load(WorkerSettings)), stored.backbone
        )
    try:
        return registry.module(stored.backbone).load(Weights(stored.weights, folder), "cpu")
    except ImportError as error:
        raise UsageError(
            f"{doing} needs torch and transformers ({error}): pip install '.[worker]'"
        ) from error
