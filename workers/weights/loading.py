"""Models with their weights, on the CPU in float32: from a folder, or seeded random numbers.

Files that models.lock lists are held against it before anything of them is loaded.

A checkpoint is refused unless every parameter of the model comes from it: transformers fills what
is missing with random numbers and says so only in a report (the published ViViT has no pooler;
loaded the plain way its `pooler_output` differs from load to load).
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from db.errors import RefusedConfigurationError
from workers.backbones.base import Spec, Weights
from workers.weights import lock
from workers.weights.config import problem
from workers.weights.digest import StoredTensor, stored_digest, stored_tensors
from workers.weights.random_weights import fill

log = logging.getLogger(__name__)

#: Keys named in a refusal; the rest is counted.
NAMED_KEYS = 5


def transformers() -> Any:
    """The transformers library: no network, no reports and no progress bars on stderr."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when the library is first imported
    import transformers as library

    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library


def folder_of(spec: Spec, weights: Weights) -> Path:
    """The folder of a backbone's files. Raises `RefusedConfigurationError` naming what is not
    there.
    """
    if weights.models_dir is None:
        raise RefusedConfigurationError(
            f"{spec.name}: there are no weights, as REELVEC_MODELS_DIR is not set and this user "
            f"has no data folder; set it to a folder and run `reelvec models fetch {spec.name}`, "
            "or use random weights"
        )
    folder = weights.models_dir / spec.name
    for path in (folder, folder / "config.json"):
        if not path.exists():
            raise RefusedConfigurationError(
                f"{spec.name}: {path} does not exist; run `reelvec models fetch {spec.name}`, or "
                f"set REELVEC_MODELS_DIR to a folder that holds {spec.name}/ with config.json and "
                f"model.safetensors as save_pretrained writes them ({spec.checkpoint}, {spec.ref})"
            )
    return folder


def weight_files(spec: Spec, folder: Path) -> list[Path]:
    """The safetensors files, one or cut into shards. Raises `RefusedConfigurationError` naming what
    is missing.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        return [single]
    if index.exists():
        shards = [folder / name for name in sorted(set(_read_json(index)["weight_map"].values()))]
        for shard in shards:
            if not shard.exists():
                raise RefusedConfigurationError(
                    f"{spec.name}: {shard} does not exist, though {index.name} names it"
                )
        return shards
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    if pickles:
        raise RefusedConfigurationError(
            f"{spec.name}: {single} does not exist, and {pickles[0]} is refused, as reading a .bin "
            "file can run code; load it once where you trust it and write it again with "
            "save_pretrained"
        )
    raise RefusedConfigurationError(
        f"{spec.name}: {single} does not exist; write it with save_pretrained"
    )


def obtain(spec: Spec, weights: Weights) -> tuple[Any, str]:
    """The model, of the class that `spec.published` names, and its digest.

    Raises `RefusedConfigurationError` for a folder that is not whole, of another shape than `spec`,
    or holds other weights.
    """
    published = spec.published
    assert published is not None
    library = transformers()
    model_class, config_class = (
        getattr(library, name) for name in (published.model, published.config)
    )
    if weights.kind != "pretrained":
        tiny = weights.kind == "random-tiny"
        made = model_class(config_class(**(published.tiny if tiny else published.full)))
        return made.float().eval(), randomise(made, spec, weights)
    folder = folder_of(spec, weights)
    entry = lock.read(folder.parent).get(spec.name)
    if entry is not None:
        lock.verify(spec, folder, entry)
    tensors = stored_tensors(weight_files(spec, folder))
    settings = _checked_config(spec, folder, config_class)
    loaded = _from_pretrained(spec, folder, model_class, settings, tensors)
    digest = stored_digest(tensors)
    if entry is not None and digest != entry.weights_digest:
        raise RefusedConfigurationError(
            f"{spec.name}: {folder} has weights {digest}, not {entry.weights_digest} as "
            f"{lock.LOCK_NAME} says; `reelvec models fetch {spec.name}` writes both again"
        )
    return loaded.eval(), digest


def randomise(model: Any, spec: Spec, weights: Weights) -> str:
    """Fill a model with random numbers, loudly; returns their digest."""
    log.warning("%s: %s weights; its vectors and tags mean nothing", spec.name, weights.kind)
    return fill(model)


def config_problem(spec: Spec, folder: Path) -> str | None:
    """What a config.json says by which the backbone cannot be run. Raises
    `RefusedConfigurationError` for none at all.
    """
    path = folder / "config.json"
    found = problem(spec, _read_json(path))
    return f"{path}: {found}" if found else None


def refuse_config(spec: Spec, folder: Path) -> None:
    """Raise `RefusedConfigurationError` for such a config.json, and for one that does not say whose
    it is.
    """
    path = folder / "config.json"
    found = config_problem(spec, folder)
    if found is None and _read_json(path).get("model_type") is None:
        found = f"{path}: model_type is None; {spec.name} is {spec.model_type!r}"
    if found:
        raise RefusedConfigurationError(found)


def _checked_config(spec: Spec, folder: Path, config_class: Any) -> Any:
    """The settings in config.json, defaults filled in. Raises `RefusedConfigurationError` as
    `refuse_config`.
    """
    refuse_config(spec, folder)
    path = folder / "config.json"
    try:
        config = config_class.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        raise RefusedConfigurationError(f"{path}: {error}") from error
    if found := problem(spec, config.to_dict()):
        raise RefusedConfigurationError(f"{path}: {found}")
    return config


def _from_pretrained(
    spec: Spec, folder: Path, model_class: Any, config: Any, tensors: list[StoredTensor]
) -> Any:
    import torch

    extra = {}
    part, argument = (spec.published and spec.published.optional_part) or (None, "")
    if part is not None and not any(part in tensor.name.split(".") for tensor in tensors):
        extra[argument] = False  # else it would be there, with random numbers
    try:
        model, report = model_class.from_pretrained(
            str(folder),
            config=config,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # to name them below
            dtype=torch.float32,
            **extra,
        )
    except Exception as error:
        raise RefusedConfigurationError(
            f"{spec.name}: {folder} cannot be loaded: {error}"
        ) from error
    _check_report(spec, folder, report)
    return model


def _check_report(spec: Spec, folder: Path, report: Mapping[str, Collection[Any]]) -> None:
    """Raises `RefusedConfigurationError` unless every parameter was filled and nothing foreign was
    left over.
    """
    for name, stored, expected in sorted(report["mismatched_keys"]):
        raise RefusedConfigurationError(
            f"{spec.name}: {folder}: {name} has shape {tuple(stored)}, but config.json means "
            f"{tuple(expected)}"
        )
    if report["missing_keys"]:
        raise RefusedConfigurationError(
            f"{spec.name}: {folder} lacks {_some(report['missing_keys'])}; it does not hold "
            f"{spec.checkpoint}"
        )
    allowed = re.compile("|".join(spec.allowed_unexpected))
    foreign = [key for key in report["unexpected_keys"] if not allowed.fullmatch(key)]
    if foreign:
        raise RefusedConfigurationError(
            f"{spec.name}: {folder} has keys of another model: {_some(foreign)}; it does not hold "
            f"{spec.checkpoint}"
        )


def _some(keys: Collection[str]) -> str:
    named = ", ".join(sorted(keys)[:NAMED_KEYS])
    return named + (f" and {len(keys) - NAMED_KEYS} more" if len(keys) > NAMED_KEYS else "")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise RefusedConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RefusedConfigurationError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise RefusedConfigurationError(f"{path} holds no JSON object")
    return content
