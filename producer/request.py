"""What one enqueue was asked for: everything that can be refused without a database is refused
here.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from db import settings
from db.encoders import Encoder
from db.errors import UsageError
from db.labels import LabelSet
from producer import categories as category_lists
from producer.categories import Categories
from producer.settings import ProducerSettings
from workers.backbones import base, prompts, registry
from workers.sampling import policies
from workers.settings import WorkerSettings
from workers.weights import inventory, models_dir


@dataclass(frozen=True, kw_only=True)
class Options:
    """What one enqueue was asked for, as it was typed. Without `sources` it means every video
    recorded so far.
    """

    sources: Sequence[str] = ()
    only_categories: Sequence[str] = ()
    as_category: str | None = None
    match: str | None = None
    labels: Path | None = None
    backbones: Sequence[str] = ()
    weights: str = "pretrained"
    sampling: str = policies.DEFAULT
    limit: int | None = None
    sample: int | None = None
    force: bool = False
    thumbnails: bool = True
    keep_context: bool = False
    keep_frames: bool = False


@dataclass(frozen=True, kw_only=True)
class Request(Options):
    """The same with its defaults filled in. `categories`: how sources are read; `label_sets`: what
    is scored.
    """

    categories: Categories
    label_sets: tuple[LabelSet, ...]

    @property
    def context_bytes(self) -> int:
        """What `--keep-context` takes of a video."""
        return sum(registry.get(name).context_bytes for name in self.backbones)


def checked(options: Options) -> Request:
    """Raises `UsageError`, `RefusedConfigurationError` (license)."""
    if options.limit is not None and options.sample is not None:
        raise UsageError(
            "--limit takes the first videos, --sample chooses at random: give only one of them"
        )
    default_source = settings.load(ProducerSettings).source
    sources = options.sources or ([default_source] if default_source else [])
    if not sources and (options.match or options.sample or options.as_category):
        raise UsageError("--match, --sample and --as need a SOURCE")
    categories, label_sets = _labels(options.labels)
    chosen = checked_backbones(
        options.backbones, weights=options.weights, sampling=options.sampling
    )
    if options.labels is not None:
        refuse_unscored(
            options.labels, chosen, were_named=bool(options.backbones), weights=options.weights
        )
    _refuse_long_prompts(chosen, options.weights, label_sets)
    if options.keep_context and not any(registry.get(name).context_tokens for name in chosen):
        able = [spec.name for spec in registry.specs() if spec.context_tokens]
        raise UsageError(
            f"--keep-context is for {', '.join(able)}: of {', '.join(chosen)} other labels need "
            "nothing more than is stored anyway"
        )
    filled = replace(
        options,
        sources=sources,
        backbones=chosen,
        as_category=_meant(options.as_category, categories),
    )
    return Request(**vars(filled), categories=categories, label_sets=label_sets)


def _meant(as_category: str | None, categories: Categories) -> str | None:
    """The slug that `--as` names, or a name of the user's own."""
    if as_category is None:
        return None
    name = as_category.strip()
    if not name:
        raise UsageError("--as is empty: name a category, or leave --as out")
    found = categories.find(name)
    return found.slug if found else name


def checked_backbones(backbones: Sequence[str], *, weights: str, sampling: str) -> tuple[str, ...]:
    """The backbones named, or the default ones, each once. Raises `UsageError`,
    `RefusedConfigurationError` (license).
    """
    base.Weights(weights)
    if several := next((name for name in backbones if "," in name), None):
        repeated = " ".join(
            f"--backbone {name.strip()}" for name in several.split(",") if name.strip()
        )
        raise UsageError(
            f"--backbone takes one name, not {several!r}; repeat the option: {repeated}"
        )
    policies.get(sampling)
    worker = settings.load(WorkerSettings)
    chosen = tuple(
        dict.fromkeys(backbones or registry.default_backbones(models_dir.resolve(worker), weights))
    )
    for name in chosen:
        registry.refuse_license(name, worker.license)
    return chosen


def refuse_unscored(labels: Path, chosen: Sequence[str], *, were_named: bool, weights: str) -> None:
    """Raise `UsageError` where none of the `chosen` models scores a user's labels."""
    if any(registry.get(name).has_text for name in chosen):
        return
    why = "" if were_named else ": the default, by the weights that this machine has"
    allowed = settings.load(WorkerSettings).license
    able = [spec for spec in registry.specs() if spec.has_text and spec.is_allowed(allowed)]
    advice = [
        f"--backbone {spec.name}"
        + (f" (its weights come with {spec.brought_by})" if weights == "pretrained" else "")
        for spec in able
    ]
    raise UsageError(
        f"--labels {labels}: nothing would score them, for no model reads text of those chosen "
        f"({', '.join(chosen)}{why}); give {' or '.join(advice)}, or leave --labels out"
    )


def misnamed_weights() -> list[str]:
    """What to say of folders that hold weights under a name that nothing looks for."""
    where = models_dir.resolve(settings.load(WorkerSettings))
    found = inventory.misnamed(where) if isinstance(where, Path) else {}
    return [inventory.rename_hint(name, folder) for name, folder in found.items()]


def _refuse_long_prompts(
    backbones: Sequence[str], weights: str, label_sets: Sequence[LabelSet]
) -> None:
    """Where the tokenizer is on this machine, a prompt that is too long is refused now, and
    not by every video.
    """
    where = models_dir.resolve(settings.load(WorkerSettings))
    for name in backbones:
        spec = registry.get(name)
        if weights != "pretrained" or not spec.has_text or not isinstance(where, Path):
            continue
        folder = where / name
        if (folder / "tokenizer.json").exists() and importlib.util.find_spec("tokenizers"):
            tokenizer = prompts.folder_tokenizer(spec, folder)
            for labels in label_sets:
                tokenizer.batch(labels.prompts)


def declared_encoder(backbone: str, weights: str, sampling: str) -> Encoder:
    """The embedding space of a backbone, from the registry alone."""
    spec = registry.get(backbone)
    return Encoder(
        name=registry.encoder_name(backbone, weights, sampling),
        backbone=backbone,
        checkpoint=spec.checkpoint or "none",
        ref=spec.ref or "none",
        weights=weights,
        license=spec.license,
        frames_per_window=spec.frames_per_window,
        sampling=sampling,
        preprocessing=registry.PREPROCESSING,
    )


def _labels(path: Path | None) -> tuple[Categories, tuple[LabelSet, ...]]:
    """How sources are read, and which label sets are scored. A label file says the second; of the
    first only ids.
    """
    shipped = category_lists.load_shipped()
    if path is None:
        return shipped, category_lists.label_sets_shipped()
    numbered = category_lists.categories_from_label_file(path).all
    return replace(shipped, numbered=numbered), (category_lists.label_sets_from_file(path),)
