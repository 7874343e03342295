"""What a checkpoint's config.json must say, so that our forward computes what the published class
would. Pure.

Whatever else it says (activations, norms, biases, layers, heads) is left to the published class,
which is run as it is. The same checks serve loading, with every default filled in, and `models list
--verify`, which reads the file alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.backbones.base import Spec
from workers.sampling.plan import SIDE_PX


def problem(spec: Spec, settings: Mapping[str, Any]) -> str | None:
    """What of `settings` (nested as in config.json) a backbone cannot be run with; None if all is
    well.

    A value that is not there is the published class's own default, which loading knows.
    """
    if (model_type := settings.get("model_type")) not in (None, spec.model_type):
        return f"model_type is {model_type!r}; {spec.name} is {spec.model_type!r}"
    for name, expected in needs(spec).items():
        value = _found(settings, name)
        if value is not None and value != expected:
            return f"{name} is {value!r}; {spec.name} needs {expected}"
    for name, values in spec.choices.items():
        value = _found(settings, name)
        if value is not None and value not in values:
            return f"{name} is {value!r}; {spec.name} knows {', '.join(values)}"
    for one, other in spec.same:
        left, right = _found(settings, one), _found(settings, other)
        if left is not None and right is not None and left != right:
            return (
                f"{one} is {left!r} and {other} is {right!r}; {spec.name} needs them to be the same"
            )
    width, heads = _found(settings, "hidden_size"), _found(settings, "num_attention_heads")
    if spec.even_heads and width is not None and heads is not None and width % (2 * heads):
        return (
            f"hidden_size is {width} numbers for {heads} heads; {spec.name} needs an even number "
            "for each"
        )
    return _uneven(spec, settings)


def needs(spec: Spec) -> Mapping[str, Any]:
    """By dotted name; by default the frames and pictures of `spec` under their usual names."""
    return spec.needs or {
        "num_frames": spec.frames_per_window,
        "image_size": SIDE_PX,
        "num_channels": 3,
    }


def _uneven(spec: Spec, settings: Mapping[str, Any]) -> str | None:
    """Patches and tubelets are cut as a grid: what would not fill it is left over, and positions
    are for whole ones.
    """
    for prefix in ("", "vision_config."):
        patch, tubelet = (
            _found(settings, f"{prefix}patch_size"),
            _found(settings, f"{prefix}tubelet_size"),
        )
        if patch is not None and not _divides(patch, SIDE_PX):
            return (
                f"{prefix}patch_size is {patch!r}; {spec.name} needs one number that divides "
                f"{SIDE_PX}"
            )
        sizes = tubelet if isinstance(tubelet, list | tuple) else (tubelet,)
        wholes = (spec.frames_per_window, SIDE_PX, SIDE_PX)
        if tubelet is not None and not all(map(_divides, sizes, wholes)):
            return (
                f"{prefix}tubelet_size is {tubelet!r}; {spec.name} needs what divides "
                f"{' and '.join(map(str, wholes[:2]))}"
            )
    return None


def _divides(part: Any, whole: int) -> bool:
    return isinstance(part, int) and 0 < part <= whole and whole % part == 0


def _found(settings: Mapping[str, Any], dotted: str) -> Any:
    value: Any = settings
    for name in dotted.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
