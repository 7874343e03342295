"""The backbones there are, by name. Nothing here loads weights, torch or transformers."""

from __future__ import annotations

import difflib
from importlib import import_module
from pathlib import Path
from typing import cast

from db.errors import UsageError
from workers.backbones.base import Backbone, Spec

#: One line per backbone: its name and its module.
BACKBONES = {
    "vivit": "workers.backbones.vivit",
    "timesformer": "workers.backbones.timesformer",
    "videomae": "workers.backbones.videomae",
    "x-clip": "workers.backbones.xclip",
    "probe": "workers.backbones.probe",
}

#: Those whose checkpoints allow commercial use: the default where no models folder says otherwise.
DEFAULT_PERMISSIVE = ("vivit", "x-clip")

#: How frames became 224 px (stored with every encoder): Pillow's bilinear filter, short edge 224, centre crop.
PREPROCESSING = "pil-bilinear-224-centre"


def names() -> tuple[str, ...]:
    return tuple(BACKBONES)


def module(name: str) -> Backbone:
    """The module of a backbone. Raises `UsageError` for an unknown name, with the nearest."""
    if name not in BACKBONES:
        near = difflib.get_close_matches(name, BACKBONES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(BACKBONES)}"
        raise UsageError(f"{name!r} is no backbone; {hint}")
    return cast(Backbone, import_module(BACKBONES[name]))


def get(name: str) -> Spec:
    """The facts of a backbone. Raises `UsageError` for an unknown name, with the nearest."""
    return module(name).SPEC


def encoder_name(backbone: str, weights: str = "pretrained", sampling: str = "notebook") -> str:
    """Name of an embedding space: what is not the default is said, `vivit`, `vivit-random-tiny-uniform`."""
    parts = [get(backbone).name]
    parts += [weights] if weights != "pretrained" else []
    parts += [sampling] if sampling != "notebook" else []
    return "-".join(parts)


def default_backbones(models_dir: Path | None) -> list[str]:
    """Those with a folder in `models_dir`, else the permissive ones. `probe` has no weights and is never a default."""
    if models_dir is not None:
        present = [name for name in BACKBONES if get(name).checkpoint and (models_dir / name).is_dir()]
        if present:
            return present
    return list(DEFAULT_PERMISSIVE)
