"""Which pretrained weights are here, what could be loaded of them, and whether they are what
models.lock says.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from db.errors import RefusedConfigurationError, UsageError
from workers.backbones import registry
from workers.backbones.base import Package, Spec, Weights
from workers.settings import WorkerSettings
from workers.weights import lock, models_dir, packaged
from workers.weights.bucket import Bucket
from workers.weights.digest import stored_digest, stored_tensors
from workers.weights.kinds import WEIGHTS_KINDS
from workers.weights.loading import folder_of, refuse_config, weight_files
from workers.weights.lock import LOADED_FILE, LOCK_NAME, Entry
from workers.weights.models_dir import ModelsDir

#: A config.json of ours has some kB.
MAX_CONFIG_BYTES = 1 << 20
#: Said of weights that are not those models.lock was written for.
UNKNOWN_LICENSE = "unknown: these weights were put there by hand"


@dataclass(frozen=True)
class Held:
    """One backbone. `state`: `fetched` (models.lock lists it), `by hand`, `installed` (a Python
    package ships it), `missing` or `damaged` (`problem` says how).

    `checkpoint`, `ref` and `license` are what models.lock says of what is there, or what `reelvec
    models fetch` would bring where nothing is; nobody knows them of files put there by hand.
    """

    backbone: str
    checkpoint: str | None
    ref: str | None
    license: str | None
    state: str
    sha: str | None = None
    weights_digest: str | None = None
    size_bytes: int | None = None
    where: str | None = None
    problem: str | None = None


def inventory(where: ModelsDir | None, *, verify: bool) -> list[Held]:
    """Every backbone that has weights. `verify` reads all files and computes their digests, else
    sizes are looked at.

    Raises `RefusedConfigurationError` for an unusable models.lock or bucket, `UnavailableError`.
    """
    installed = [_installed(spec, package) for spec, package in _packaged()]
    if where is None:
        return [_held(spec, "missing") for spec in _in_models_dir()] + installed
    entries = models_dir.locked(where)
    held = [_look(spec, where, entries.get(spec.name), verify=verify) for spec in _in_models_dir()]
    return held + installed


def versions(where: ModelsDir | None) -> dict[str, Hashable]:
    """The backbones whose pretrained weights are there, each with what becomes another when they
    are changed: nothing is read through. Of a bucket models.lock alone is read. Raises as
    `models_dir.locked` does.
    """
    found: dict[str, Hashable] = {
        spec.name: package.weights_digest for spec, package in _packaged() if package.path
    }
    if isinstance(where, Bucket):
        entries = where.lock()
        listed = [spec.name for spec in _in_models_dir() if spec.name in entries]
        return found | {name: entries[name].weights_digest for name in listed}
    versions = {spec.name: _version(spec, where) for spec in _in_models_dir()}
    return found | {name: version for name, version in versions.items() if version is not None}


def _version(spec: Spec, where: Path | None) -> Hashable | None:
    try:
        folder = folder_of(spec, Weights("pretrained", where))
        weight_files(spec, folder)
        files = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
    except (RefusedConfigurationError, OSError):
        return None
    return tuple((name, facts.st_size, facts.st_mtime_ns) for name, facts in files)


def loadable(held: Collection[str], allowed_license: str) -> set[str]:
    """Models by name (`encoders.model`) that a worker here may try to load, where it holds the
    weights of `held`.
    """
    has_torch = all(find_spec(package) for package in ("torch", "transformers"))
    return {
        registry.encoder_name(spec.name, kind)
        for spec in registry.specs()
        if spec.is_allowed(allowed_license) and (has_torch or not spec.needs_torch)
        for kind in WEIGHTS_KINDS
        if kind != "pretrained" or spec.name in held or spec.checkpoint is None
    }


def require(where: ModelsDir | None, backbone: str, kind: str) -> None:
    """Raise `RefusedConfigurationError` for weights whose files are not there: a look, to be taken
    before torch is imported. What is in a bucket is found out by loading it.
    """
    spec = registry.get(backbone)
    if kind == "pretrained" and spec.package is not None:
        packaged.require(spec, spec.package)
    elif kind == "pretrained" and spec.in_models_dir and not isinstance(where, Bucket):
        weight_files(spec, folder_of(spec, Weights(kind, where)))


def require_any(where: ModelsDir | None, wanted: Iterable[tuple[str, str]]) -> None:
    """Raise the first reason where none of `wanted` (backbone, kind of weights) is there, and no
    other weights either.
    """
    reasons: list[RefusedConfigurationError | UsageError] = []
    for backbone, kind in wanted:
        try:
            require(where, backbone, kind)
        except (RefusedConfigurationError, UsageError) as error:
            reasons.append(error)
        else:
            return
    if reasons and not brought(versions(where)):
        raise reasons[0]


def brought(names: Iterable[str]) -> set[str]:
    """Those of the backbones whose weights somebody brought here: what pip installed along says
    nothing of what a worker is meant for.
    """
    return {name for name in names if registry.get(name).in_models_dir}


def misnamed(folder: Path) -> dict[str, Path]:
    """Folders that hold a backbone's weights by their config.json and not by their name, as the
    notebook's `vivit_model`.

    They are named and not used: which of two folders of one model is meant would be a guess, and
    models.lock goes by name.
    """
    specs = {spec.model_type: spec for spec in _in_models_dir()}
    found: dict[str, Path] = {}
    try:
        folders = sorted(path.parent for path in folder.glob("*/config.json"))
    except OSError:
        return found
    for one in folders:
        spec = specs.get(_model_type(one / "config.json"))
        if (
            spec is not None
            and not one.name.startswith(".")
            and one.name != spec.name
            and not (folder / spec.name).exists()
        ):
            found.setdefault(spec.name, one)
    return found


def rename_hint(backbone: str, found: Path) -> str:
    """What to do about a `misnamed` folder."""
    return f"found {found}, expected {found.with_name(backbone)}: rename it"


def _model_type(path: Path) -> str:
    try:
        content = json.loads(path.read_bytes()[:MAX_CONFIG_BYTES])
    except (OSError, ValueError):
        return ""
    return str(content.get("model_type", "")) if isinstance(content, dict) else ""


@dataclass(frozen=True)
class Provenance:
    """`origin`: where the numbers come from, for people. `license`: theirs; None: as the registry
    has it.
    """

    origin: str
    license: str | None = None


def provenance(
    backbone: str, weights: str, weights_digest: str, settings: WorkerSettings
) -> Provenance:
    """What is known of these very numbers: of a checkpoint only where models.lock says where they
    were fetched from, and they are those. Raises as `models_dir.locked` does.
    """
    spec = registry.get(backbone)
    if weights != "pretrained":
        return Provenance(f"random numbers made from a seed ({weights}); they mean nothing")
    if spec.package is not None:
        return Provenance(f"the Python package {spec.checkpoint} {spec.ref}")
    if spec.checkpoint is None:
        return Provenance("a fixed matrix made from a seed; there are no weights")
    where = models_dir.resolve(settings)
    entry = models_dir.locked(where).get(backbone)
    if entry is not None and entry.weights_digest == weights_digest:
        return Provenance(f"{entry.checkpoint} ({entry.ref}), commit {entry.sha}", entry.license)
    return Provenance(
        f"{where}/{backbone}, put there by hand: {LOCK_NAME} does not say where these weights are "
        "from",
        UNKNOWN_LICENSE,
    )


def _in_models_dir() -> list[Spec]:
    return [spec for spec in registry.specs() if spec.in_models_dir]


def _packaged() -> list[tuple[Spec, Package]]:
    return [(spec, spec.package) for spec in registry.specs() if spec.package is not None]


def _installed(spec: Spec, package: Package) -> Held:
    """Weights that a package ships; their digest is checked with every loading."""
    path = package.path
    if path is None:
        return _held(spec, "missing")
    return Held(
        spec.name,
        spec.checkpoint,
        spec.ref,
        spec.license,
        "installed",
        weights_digest=package.weights_digest,
        size_bytes=path.stat().st_size,
        where=str(path),
    )


def _look(spec: Spec, where: ModelsDir, entry: Entry | None, *, verify: bool) -> Held:
    if entry is None:
        if isinstance(where, Bucket) or not (where / spec.name).is_dir():
            wrong = {} if isinstance(where, Bucket) else misnamed(where)
            hint = rename_hint(spec.name, wrong[spec.name]) if spec.name in wrong else None
            return _held(spec, "missing", problem=hint)
        return _by_hand(spec, where / spec.name, verify=verify)
    if isinstance(where, Path):
        problem = _problem(spec, where / spec.name, entry, verify=verify)
    else:
        problem = where.size_problem(spec.name, entry)
        if problem is None and verify:
            problem = _downloaded_problem(spec, where, entry)
    return Held(
        backbone=spec.name,
        checkpoint=entry.checkpoint,
        ref=entry.ref,
        license=entry.license,
        state="damaged" if problem else "fetched",
        sha=entry.sha,
        weights_digest=entry.weights_digest,
        size_bytes=entry.size_bytes,
        where=f"{where}/{spec.name}",
        problem=problem,
    )


def _problem(spec: Spec, folder: Path, entry: Entry, *, verify: bool) -> str | None:
    if problem := lock.damage(folder, entry, sizes_only=not verify):
        return problem
    if not verify:
        return None
    try:
        digest = _digest(spec, folder)
    except RefusedConfigurationError as error:
        return str(error)
    if digest != entry.weights_digest:
        return f"{folder} has weights {digest}, not {entry.weights_digest} as {LOCK_NAME} says"
    return None


def _downloaded_problem(spec: Spec, bucket: Bucket, entry: Entry) -> str | None:
    """The bucket's own files are read, not a copy this machine has."""
    with tempfile.TemporaryDirectory(prefix="reelvec-models-") as scratch:
        folder = Path(scratch)
        bucket.download(spec.name, entry, folder)
        problem = _problem(spec, folder, entry, verify=True)
    return problem.replace(str(folder), f"{bucket}/{spec.name}") if problem else None


def _by_hand(spec: Spec, folder: Path, *, verify: bool) -> Held:
    size_bytes = sum(
        path.stat().st_size for path in folder.iterdir() if LOADED_FILE.fullmatch(path.name)
    )
    digest, problem = None, None
    if verify:
        try:
            digest = _digest(spec, folder)
        except RefusedConfigurationError as error:
            problem = str(error)
    state = "damaged" if problem else "by hand"
    return Held(
        spec.name,
        None,
        None,
        None,
        state,
        weights_digest=digest,
        size_bytes=size_bytes,
        where=str(folder),
        problem=problem,
    )


def _digest(spec: Spec, folder: Path) -> str:
    """Raises `RefusedConfigurationError`: no whole files, or a config.json by which they cannot be
    run.
    """
    refuse_config(spec, folder)
    return stored_digest(stored_tensors(weight_files(spec, folder)))


def _held(spec: Spec, state: str, *, problem: str | None = None) -> Held:
    return Held(
        spec.name, str(spec.checkpoint), str(spec.ref), spec.license, state, problem=problem
    )
