"""The backbones there are, by name. Nothing here loads weights, torch or transformers."""

from __future__ import annotations

import difflib
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from db.errors import RefusedConfigurationError, UsageError
from workers.sampling import policies

if TYPE_CHECKING:
    from workers.backbones.base import Backbone, Spec
    from workers.weights.models_dir import ModelsDir

#: One line per backbone: its name and its module.
BACKBONES = {
    "vivit": "workers.backbones.vivit",
    "timesformer": "workers.backbones.timesformer",
    "videomae": "workers.backbones.videomae",
    "x-clip": "workers.backbones.xclip",
    "vjepa2": "workers.backbones.vjepa2",
    "siglip2": "workers.backbones.siglip2",
    "efficientnet": "workers.backbones.efficientnet",
    "probe": "workers.backbones.probe",
}

#: Those whose checkpoints allow commercial use: the default where no weights are there to say
#: otherwise.
DEFAULT_PERMISSIVE = ("vivit", "x-clip")
#: Whose vectors are searched by words unless another is named.
DEFAULT_SEARCHED = "siglip2"

#: For the option `--backbone` of commands that run models.
DEFAULT_HELP = f"those whose weights are on this machine, else {' and '.join(DEFAULT_PERMISSIVE)}."
HELP = f"The model: {', '.join(BACKBONES)}. Repeatable. Default: {DEFAULT_HELP}"

#: How frames became 224 px (stored with every encoder): Pillow's bilinear filter, short edge 224,
#: centre crop.
PREPROCESSING = "pil-bilinear-224-centre"


def names() -> tuple[str, ...]:
    return tuple(BACKBONES)


def module(name: str) -> Backbone:
    """The module of a backbone. Raises `UsageError` for an unknown name, with the nearest."""
    return cast("Backbone", import_module(BACKBONES[known(name)]))


def known(name: str) -> str:
    """The name itself. Raises `UsageError` where it is no backbone's, with the nearest."""
    if name not in BACKBONES:
        if model := next((one for one in BACKBONES if name in _encoders_of(one)), None):
            raise UsageError(
                f"{name!r} is an encoder, and no backbone; write {model}, its backbone"
            )
        near = difflib.get_close_matches(name, BACKBONES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(BACKBONES)}"
        raise UsageError(f"{name!r} is no backbone; {hint}")
    return name


def _encoders_of(backbone: str) -> list[str]:
    """Names of all embedding spaces that a backbone can have."""
    from workers.weights.kinds import WEIGHTS_KINDS

    return [
        encoder_name(backbone, weights, sampling)
        for weights in WEIGHTS_KINDS
        for sampling in policies.POLICIES
    ]


def get(name: str) -> Spec:
    """The facts of a backbone. Raises `UsageError` for an unknown name, with the nearest."""
    return module(name).SPEC


def specs() -> list[Spec]:
    """The facts of all backbones."""
    return [get(name) for name in BACKBONES]


def refuse_license(name: str, allowed: str) -> None:
    """Raise `RefusedConfigurationError` for non-commercial weights where `allowed`
    (REELVEC_LICENSE) is commercial.
    """
    spec = get(name)
    if not spec.is_allowed(allowed):
        raise RefusedConfigurationError(
            f"{name}: its weights are {spec.license}, and REELVEC_LICENSE=commercial allows "
            f"commercial use only; choose among {', '.join(DEFAULT_PERMISSIVE)}"
        )


def encoder_name(
    backbone: str, weights: str = "pretrained", sampling: str = policies.DEFAULT
) -> str:
    """Name of an embedding space: what is not the default is said, `vivit`,
    `vivit-random-tiny-uniform`. Raises `UsageError` for an unknown backbone.
    """
    parts = [known(backbone)]
    parts += [weights] if weights != "pretrained" else []
    parts += [sampling] if sampling != policies.DEFAULT else []
    return "-".join(parts)


def default_backbones(where: ModelsDir | None, weights: str = "pretrained") -> list[str]:
    """Those whose weights are there; else those whose weights an installed package ships; else the
    permissive ones. `probe` has none and is never a default.

    Of a bucket models.lock alone is read. Raises as `Bucket.lock` does.
    """
    with_weights = [spec.name for spec in specs() if spec.in_models_dir]
    if isinstance(where, Path):
        present = [name for name in with_weights if (where / name).is_dir()]
    else:
        listed = where.lock() if where is not None else {}
        present = [name for name in with_weights if name in listed]
    shipped = [spec.name for spec in specs() if spec.package and spec.package.path]
    installed = shipped if weights == "pretrained" else []
    return present or installed or list(DEFAULT_PERMISSIVE)
