"""Which models this machine could load, by a look at what is there: nothing is loaded, no file is
read through.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from db.errors import RefusedConfigurationError
from workers.backbones import registry
from workers.backbones.base import WEIGHTS_KINDS, Weights
from workers.weights.bucket import Bucket
from workers.weights.loading import folder_of, weight_files


def with_weights(models_dir: Path | Bucket | None) -> set[str]:
    """Backbones whose pretrained weights are there. Of a bucket models.lock alone is read; raises
    as `Bucket.lock` does.
    """
    names = [name for name in registry.names() if registry.get(name).checkpoint is not None]
    if isinstance(models_dir, Bucket):
        return set(names) & models_dir.lock().keys()
    return {name for name in names if _has_files(name, models_dir)}


def _has_files(name: str, models_dir: Path | None) -> bool:
    spec = registry.get(name)
    try:
        weight_files(spec, folder_of(spec, Weights("pretrained", models_dir)))
    except (RefusedConfigurationError, OSError):
        return False
    return True


def loadable(held: set[str], allowed_license: str) -> set[str]:
    """Models by name (`encoders.model`) that a worker here may try to load, where it holds the
    weights of `held`.
    """
    has_torch = all(find_spec(package) for package in ("torch", "transformers"))
    return {
        registry.encoder_name(name, kind)
        for name in registry.names()
        if _is_allowed(name, allowed_license) and (has_torch or not registry.get(name).needs_torch)
        for kind in WEIGHTS_KINDS
        if kind != "pretrained" or name in held or registry.get(name).checkpoint is None
    }


def _is_allowed(name: str, allowed_license: str) -> bool:
    try:
        registry.refuse_license(name, allowed_license)
    except RefusedConfigurationError:
        return False
    return True
