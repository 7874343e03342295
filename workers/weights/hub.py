"""The model hub, through huggingface_hub: what a ref means now, and the files of a commit.

`HF_ENDPOINT`, `HF_TOKEN` and `HF_HOME` are that library's own and hold here too. Nothing is ever
unpickled.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db.errors import ReelvecError, RefusedConfigurationError, UnavailableError, UsageError
from db.masking import mask, mask_url
from workers.backbones.base import Spec
from workers.backbones.prompts import tokenizer_files
from workers.weights.lock import FileFacts, facts_of

#: A configuration or vocabulary larger than this is none (CLIP's tokenizer has 2 MB, Gemma's, of
#: 256,000 tokens, 34).
MAX_JSON_BYTES = 64 << 20
#: The library's own switches, read when it is imported: no word about this machine, no second copy
#: of what was downloaded, no bars (ours show a whole backbone). What the user has set stays.
_SWITCHES = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_XET_TELEMETRY_ENABLED": "0",
    "HF_XET_CHUNK_CACHE_SIZE_BYTES": "0",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_PICKLE = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class HubFile:
    """A file as the hub states it: large ones with their SHA-256, small ones with git's SHA-1."""

    name: str
    size_bytes: int
    sha256: str | None
    git_sha1: str | None

    def problem(self, path: Path, facts: FileFacts) -> str | None:
        """What differs in the downloaded file, as half a sentence."""
        if facts.size_bytes != self.size_bytes:
            return (
                f"{self.name} came with {facts.size_bytes:,} bytes, and the hub states "
                f"{self.size_bytes:,}"
            )
        if self.sha256 is not None:
            own, stated, kind = facts.sha256, self.sha256, "SHA-256"
        else:
            own, stated, kind = git_blob_sha1(path), str(self.git_sha1), "git SHA-1"
        return (
            None
            if own == stated
            else f"{self.name} came with {kind} {own}, and the hub states {stated}"
        )


@dataclass(frozen=True)
class Revision:
    """One commit of a checkpoint, and those of its files that loading needs."""

    sha: str
    files: tuple[HubFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def git_blob_sha1(path: Path) -> str:
    """The name git gives a file's content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def needed(spec: Spec, names: Collection[str]) -> list[str]:
    """Those files of a tree that loading needs. Raises `RefusedConfigurationError` for one that
    cannot be loaded.
    """
    wanted = ["config.json"]
    if "model.safetensors" in names:
        wanted.append("model.safetensors")
    elif "model.safetensors.index.json" in names:
        wanted += ["model.safetensors.index.json", *sorted(filter(_SHARD.fullmatch, names))]
    else:
        pickles = sorted(name for name in names if name.endswith(_PICKLE))
        why = (
            f"has only {pickles[0]}, and reading such a file can run code"
            if pickles
            else "has no model.safetensors"
        )
        raise RefusedConfigurationError(
            f"{spec.name}: {spec.checkpoint} ({spec.ref}) {why}; load it once where you trust it, "
            "write it with save_pretrained (safe_serialization=True), and put that folder into "
            f"REELVEC_MODELS_DIR as {spec.name}/"
        )
    if groups := tokenizer_files(spec):
        wanted += next((group for group in groups if set(group) <= set(names)), groups[-1])
    if missing := [name for name in wanted if name not in names]:
        raise RefusedConfigurationError(
            f"{spec.name}: {spec.checkpoint} ({spec.ref}) has no {', '.join(missing)}"
        )
    return wanted


def resolve(spec: Spec, revision: str) -> Revision:
    """What `revision` (a ref, or a commit) of a backbone's checkpoint is now: one request.

    Raises `UsageError` (offline by configuration), `RefusedConfigurationError` (gated, missing,
    without safetensors), `UnavailableError`.
    """
    with _translated(spec, revision):
        info = _api().model_info(spec.checkpoint, revision=revision, files_metadata=True)
    if _COMMIT.fullmatch(str(info.sha)) is None:
        raise UnavailableError(
            f"{_hub()} names no commit for {spec.checkpoint} ({revision}): HF_ENDPOINT must be a "
            "hub"
        )
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    return Revision(
        info.sha, tuple(_stated(spec, siblings[name]) for name in needed(spec, siblings))
    )


def _stated(spec: Spec, sibling: Any) -> HubFile:
    name, sha256 = sibling.rfilename, sibling.lfs.sha256 if sibling.lfs else None
    if sibling.size is None or (sha256 is None and sibling.blob_id is None):
        raise RefusedConfigurationError(
            f"{spec.name}: {_hub()} states no size or no digest of {name}, so it could not be "
            "verified; use a hub that does (HF_ENDPOINT), or put the files into "
            f"REELVEC_MODELS_DIR as {spec.name}/ yourself"
        )
    if not name.endswith(".safetensors") and sibling.size > MAX_JSON_BYTES:
        raise RefusedConfigurationError(
            f"{spec.name}: {name} has {sibling.size:,} bytes; at most {MAX_JSON_BYTES:,} are read"
        )
    return HubFile(name, sibling.size, sha256, sibling.blob_id)


def download(spec: Spec, revision: Revision, folder: Path) -> dict[str, FileFacts]:
    """Bring a commit's files into `folder` and hold each against what the hub states. Files that
    lie there are kept.

    Raises as `resolve` does, and `RefusedConfigurationError` for other bytes than stated: the
    folder is gone then.
    """
    folder.mkdir(exist_ok=True)
    for file in revision.files:
        with _translated(spec, revision.sha):
            _api().hf_hub_download(
                spec.checkpoint, file.name, revision=revision.sha, local_dir=folder
            )
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the library's own notes
    facts = facts_of(folder, [file.name for file in revision.files])
    for file in revision.files:
        if problem := file.problem(folder / file.name, facts[file.name]):
            shutil.rmtree(folder)
            raise RefusedConfigurationError(
                f"{spec.name}: {problem}; nothing was kept. Run `reelvec models fetch {spec.name}` "
                f"again; if it stays, something between here and {_hub()} changes files"
            )
    return facts


def _api() -> Any:
    os.environ.update({name: value for name, value in _SWITCHES.items() if name not in os.environ})
    try:
        import huggingface_hub
    except ImportError as error:
        raise UsageError(
            f"fetching models needs huggingface_hub ({error}): pip install '.[worker]'"
        ) from error
    huggingface_hub.logging.set_verbosity_error()  # its warnings quote signed addresses
    return huggingface_hub.HfApi(library_name="reelvec")


def _hub() -> str:
    from huggingface_hub import constants

    return f"the hub at {mask_url(constants.ENDPOINT)}"


@contextmanager
def _translated(spec: Spec, revision: str) -> Iterator[None]:
    """Errors of the library as ours."""
    try:
        yield
    except ReelvecError:
        raise
    except Exception as error:
        raise _meaning(error, spec, revision) from error


def _meaning(error: Exception, spec: Spec, revision: str) -> ReelvecError:
    from huggingface_hub import errors

    what = f"{spec.name}: {spec.checkpoint} ({revision})"
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # it only says that there is no copy here either
    if isinstance(error, errors.OfflineModeIsEnabled):
        return UsageError(
            f"{what} is not here, and HF_HUB_OFFLINE forbids to ask the hub: unset it for this "
            "command"
        )
    if isinstance(error, OSError) and error.errno in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EACCES,
        errno.EROFS,
    ):
        return RefusedConfigurationError(
            f"{what} cannot be written: {error}; use `--to` with another folder"
        )
    said = mask(" ".join(str(error).split())[:300])
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if status in (401, 403):
        return RefusedConfigurationError(
            f"{what}: {_hub()} does not give it to you (HTTP {status}): it is gated, private or "
            "missing. Accept its terms on its page if it has any, and set HF_TOKEN to a token of "
            "yours that may read it"
        )
    if status == 404:
        return RefusedConfigurationError(
            f"{what} is not on {_hub()} (HTTP 404): check HF_ENDPOINT; if the checkpoint has "
            f"moved, put its files into REELVEC_MODELS_DIR as {spec.name}/"
        )
    return UnavailableError(
        f"{what}: {_hub()} does not answer as it should: {type(error).__name__}: {said}; try "
        "again, or check HF_ENDPOINT"
    )
