"""Which pretrained weights there are, and whether they are what models.lock says."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from db.errors import RefusedConfigurationError
from workers.backbones import lock, registry
from workers.backbones.base import Spec
from workers.backbones.bucket import Bucket
from workers.backbones.digest import stored_digest, stored_tensors
from workers.backbones.lock import LOADED_FILE, LOCK_NAME, Entry
from workers.backbones.weights import refuse_config, weight_files


@dataclass(frozen=True)
class Held:
    """One backbone. `state`: `fetched` (models.lock lists it), `by hand`, `missing` or `damaged` (`problem` says how)."""

    backbone: str
    checkpoint: str
    ref: str
    license: str
    state: str
    sha: str | None = None
    weights_digest: str | None = None
    size_bytes: int | None = None
    where: str | None = None
    problem: str | None = None


def inventory(models_dir: Path | Bucket | None, *, verify: bool) -> list[Held]:
    """Every backbone that has weights. `verify` reads all files and computes their digests, else sizes are looked at.

    Raises `RefusedConfigurationError` for an unusable models.lock or bucket, `UnavailableError`.
    """
    specs = [spec for spec in map(registry.get, registry.names()) if spec.checkpoint is not None]
    if models_dir is None:
        return [_held(spec, "missing") for spec in specs]
    entries = models_dir.lock() if isinstance(models_dir, Bucket) else lock.read(models_dir)
    return [_look(spec, models_dir, entries.get(spec.name), verify=verify) for spec in specs]


def _look(spec: Spec, models_dir: Path | Bucket, entry: Entry | None, *, verify: bool) -> Held:
    where = f"{models_dir}/{spec.name}"
    if entry is None:
        if isinstance(models_dir, Bucket) or not (models_dir / spec.name).is_dir():
            return _held(spec, "missing")
        return _by_hand(spec, models_dir / spec.name, verify=verify)
    if isinstance(models_dir, Path):
        problem = _problem(spec, models_dir / spec.name, entry, verify=verify)
    else:
        problem = models_dir.size_problem(spec.name, entry)
        if problem is None and verify:
            problem = _downloaded_problem(spec, models_dir, entry)
    return Held(
        backbone=spec.name,
        checkpoint=entry.checkpoint,
        ref=entry.ref,
        license=entry.license,
        state="damaged" if problem else "fetched",
        sha=entry.sha,
        weights_digest=entry.weights_digest,
        size_bytes=entry.size_bytes,
        where=where,
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
    size_bytes = sum(path.stat().st_size for path in folder.iterdir() if LOADED_FILE.fullmatch(path.name))
    digest, problem = None, None
    if verify:
        try:
            digest = _digest(spec, folder)
        except RefusedConfigurationError as error:
            problem = str(error)
    state = "damaged" if problem else "by hand"
    return _held(spec, state, weights_digest=digest, size_bytes=size_bytes, where=str(folder), problem=problem)


def _digest(spec: Spec, folder: Path) -> str:
    """Raises `RefusedConfigurationError`: no whole files, or a config.json by which they cannot be run."""
    refuse_config(spec, folder)
    return stored_digest(stored_tensors(weight_files(spec, folder)))


def _held(
    spec: Spec,
    state: str,
    *,
    weights_digest: str | None = None,
    size_bytes: int | None = None,
    where: str | None = None,
    problem: str | None = None,
) -> Held:
    return Held(
        backbone=spec.name,
        checkpoint=str(spec.checkpoint),
        ref=str(spec.ref),
        license=spec.license,
        state=state,
        weights_digest=weights_digest,
        size_bytes=size_bytes,
        where=where,
        problem=problem,
    )
