"""Fetching pretrained weights: from the hub into a models folder or a bucket, pinned by
models.lock.

A commit that models.lock names already is fetched again as it is: vectors of two commits may not be
mixed, so another one has to be asked for.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from db.errors import UsageError
from workers.backbones import registry
from workers.backbones.base import Spec
from workers.weights import hub, lock, shared_folders
from workers.weights.bucket import Bucket, cache_dir
from workers.weights.digest import stored_digest, stored_tensors
from workers.weights.hub import Revision
from workers.weights.loading import weight_files
from workers.weights.lock import LOCK_NAME, Entry
from workers.weights.models_dir import ModelsDir

#: Told about every download: the backbone, the folder that fills, and its bytes when it is full.
Watch = Callable[[str, Path, int], AbstractContextManager[object]]


@dataclass(frozen=True)
class Fetched:
    """One backbone that is there now; `downloaded` is False where nothing had to be."""

    backbone: str
    checkpoint: str
    ref: str
    sha: str
    license: str
    weights_digest: str
    size_bytes: int
    where: str
    downloaded: bool


class Folder:
    """A models folder to fetch to."""

    def __init__(self, path: Path) -> None:
        self.work_dir = path
        self.setting = "REELVEC_MODELS_DIR (or --to)"

    def lock(self) -> dict[str, Entry]:
        return lock.read(self.work_dir)

    def where(self, backbone: str) -> str:
        return str(self.work_dir / backbone)

    def problem(self, backbone: str, entry: Entry) -> str | None:
        return lock.damage(self.work_dir / backbone, entry)

    def adopt(self, spec: Spec, revision: Revision) -> Entry | None:
        """An entry for files that lie there without one, if they are the commit's.

        Raises `UsageError` for other files: they were put there by hand and would be lost.
        """
        folder = self.work_dir / spec.name
        if not folder.exists() or spec.name in self.lock():
            return None
        names = [file.name for file in revision.files]
        facts = (
            lock.facts_of(folder, names) if all((folder / name).is_file() for name in names) else {}
        )
        if not facts or any(
            file.problem(folder / file.name, facts[file.name]) for file in revision.files
        ):
            raise UsageError(
                f"{folder} exists, {LOCK_NAME} does not list it, and it does not hold "
                f"{spec.checkpoint} at {revision.sha}: it was put there by hand and would be lost. "
                "Move it away, or fetch `--to` another folder"
            )
        return entry_of(spec, revision.sha, folder, facts)

    def put(self, backbone: str, entry: Entry, folder: Path) -> None:
        if folder != self.work_dir / backbone:
            shared_folders.put_in_place(folder, self.work_dir / backbone)
        lock.write(self.work_dir, {**self.lock(), backbone: entry})


class Prefix:
    """A bucket to fetch to. What was fetched stays as this machine's own copy."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self.work_dir = cache_dir()
        self.setting = "REELVEC_DATA_DIR"

    def lock(self) -> dict[str, Entry]:
        return self._bucket.lock()

    def where(self, backbone: str) -> str:
        return f"{self._bucket}/{backbone}"

    def problem(self, backbone: str, entry: Entry) -> str | None:
        return self._bucket.size_problem(backbone, entry)

    def adopt(self, spec: Spec, revision: Revision) -> Entry | None:  # noqa: ARG002 - files without a lock are not used
        return None

    def put(self, backbone: str, entry: Entry, folder: Path) -> None:
        self._bucket.upload(backbone, entry, folder)
        copy = self.work_dir / f".{entry.weights_digest}.new"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        folder.rename(copy / backbone)
        lock.write(copy, {backbone: entry})
        shared_folders.put_in_place(copy, self.work_dir / entry.weights_digest)


def checked(backbones: Sequence[str], *, allowed_license: str) -> list[Spec]:
    """The backbones to fetch, each once; by default the permissive ones.

    Raises `UsageError` for one without weights, `RefusedConfigurationError` (license).
    """
    specs = [registry.get(name) for name in dict.fromkeys(backbones or registry.DEFAULT_PERMISSIVE)]
    for spec in specs:
        if spec.checkpoint is None:
            raise UsageError(f"{spec.name} has no weights to fetch; it works without any")
        if spec.package is not None:
            raise UsageError(
                f"{spec.name}: its weights come with a Python package, on every machine that uses "
                f"them: {spec.brought_by}"
            )
        registry.refuse_license(spec.name, allowed_license)
    return specs


def fetch(
    specs: Sequence[Spec],
    where: ModelsDir,
    *,
    update: bool,
    watch: Watch = lambda *_: nullcontext(),
) -> list[Fetched]:
    """Bring the weights of `specs` there, verified; what is there already is left alone.

    `update` asks the hub what each ref means now, even where models.lock names a commit. Raises
    `UsageError`, `RefusedConfigurationError` (gated, missing, damaged, disk full),
    `UnavailableError`.
    """
    target = Prefix(where) if isinstance(where, Bucket) else Folder(where)
    with shared_folders.exclusive(target.work_dir, "fetch", target.setting):
        locked = target.lock()
        there: dict[str, Entry] = {}
        wanted: dict[str, Revision] = {}
        for spec in specs:
            entry = locked.get(spec.name)
            if entry is not None and not entry.is_of(spec):
                entry = None
            whole = entry is not None and target.problem(spec.name, entry) is None
            if entry is not None and whole and not update:
                there[spec.name] = entry
                continue
            revision = hub.resolve(
                spec, entry.sha if entry is not None and not update else str(spec.ref)
            )
            if entry is not None and whole and entry.sha == revision.sha:
                there[spec.name] = entry
            elif adopted := target.adopt(spec, revision):
                target.put(spec.name, adopted, target.work_dir / spec.name)
                there[spec.name] = adopted
            else:
                wanted[spec.name] = revision
        needed_bytes = sum(revision.size_bytes for revision in wanted.values())
        shared_folders.refuse_full_disk(
            target.work_dir, needed_bytes, f"free some, or set {target.setting} to another disk"
        )
        for spec in specs:
            if spec.name in wanted:
                there[spec.name] = _bring(spec, wanted[spec.name], target, watch)
        return [
            _fetched(spec.name, there[spec.name], target, downloaded=spec.name in wanted)
            for spec in specs
        ]


def _bring(spec: Spec, revision: Revision, target: Folder | Prefix, watch: Watch) -> Entry:
    """Download one commit beside its place, and put it there once it is whole."""
    new = target.work_dir / f".{spec.name}.{revision.sha}.new"
    for other in target.work_dir.glob(f".{spec.name}.*.new"):
        if other != new:  # of a commit that is not wanted any more
            shutil.rmtree(other, ignore_errors=True)
    with watch(spec.name, new, revision.size_bytes):
        facts = hub.download(spec, revision, new)
    entry = entry_of(spec, revision.sha, new, facts)
    target.put(spec.name, entry, new)
    return entry


def entry_of(spec: Spec, sha: str, folder: Path, facts: dict[str, lock.FileFacts]) -> Entry:
    """What models.lock says about files. Raises `RefusedConfigurationError` for no whole
    safetensors files.
    """
    weights_digest = stored_digest(stored_tensors(weight_files(spec, folder)))
    return Entry(str(spec.checkpoint), str(spec.ref), sha, spec.license, weights_digest, facts)


def _fetched(backbone: str, entry: Entry, target: Folder | Prefix, *, downloaded: bool) -> Fetched:
    return Fetched(
        backbone=backbone,
        checkpoint=entry.checkpoint,
        ref=entry.ref,
        sha=entry.sha,
        license=entry.license,
        weights_digest=entry.weights_digest,
        size_bytes=entry.size_bytes,
        where=target.where(backbone),
        downloaded=downloaded,
    )
