"""models.lock: which commit of which checkpoint lies in a models folder, and the digest of each of
its files.

`reelvec models fetch` writes it, last; loading holds the files against it. One entry per backbone;
a backbone without one was put there by hand and is loaded as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from db.errors import RefusedConfigurationError
from workers.backbones.base import Spec

LOCK_NAME = "models.lock"

#: Every file that loading reads. A lock with another name in it is refused: names become paths.
LOADED_FILE = re.compile(
    r"config\.json|tokenizer\.json|vocab\.json|merges\.txt|model[\w.-]*\.safetensors(\.index\.json)?"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class FileFacts:
    """One file as it has to be; `sha256` in hex."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Entry:
    """One backbone's files: `sha` is the commit that `ref` meant when they were fetched."""

    checkpoint: str
    ref: str
    sha: str
    license: str
    weights_digest: str
    files: Mapping[str, FileFacts]

    @property
    def size_bytes(self) -> int:
        return sum(facts.size_bytes for facts in self.files.values())

    def is_of(self, spec: Spec) -> bool:
        """Whether it was fetched for this backbone as this version knows it."""
        return (self.checkpoint, self.ref) == (spec.checkpoint, spec.ref)


def parse(content: bytes, where: str) -> dict[str, Entry]:
    """Entries by backbone. Raises `RefusedConfigurationError` for anything but a models.lock."""
    try:
        return {str(name): _entry(facts) for name, facts in json.loads(content).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RefusedConfigurationError(
            f"{where} is no {LOCK_NAME} ({type(error).__name__}: {error}); copy it again from "
            "where it came from, or delete it and run `reelvec models fetch`"
        ) from error


def _entry(facts: Mapping[str, Any]) -> Entry:
    files = {}
    for name, file in facts["files"].items():
        if LOADED_FILE.fullmatch(name) is None:
            raise ValueError(f"{name!r} is no file of a model")
        files[name] = FileFacts(int(file["size_bytes"]), _hex(_SHA256, file["sha256"]))
    if "config.json" not in files:
        raise ValueError("a model without config.json")
    words = {key: str(facts[key]) for key in ("checkpoint", "ref", "license")}
    return Entry(
        **words,
        sha=_hex(_COMMIT, facts["sha"]),
        weights_digest=_hex(_SHA256, facts["weights_digest"]),
        files=files,
    )


def _hex(pattern: re.Pattern[str], text: object) -> str:
    if not isinstance(text, str) or pattern.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no digest")
    return text


def dump(entries: Mapping[str, Entry]) -> bytes:
    content = {name: asdict(entry) for name, entry in entries.items()}
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def read(models_dir: Path) -> dict[str, Entry]:
    """The entries of a folder; none without a models.lock. Raises `RefusedConfigurationError`."""
    path = models_dir / LOCK_NAME
    try:
        return parse(path.read_bytes(), str(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise RefusedConfigurationError(f"{path} cannot be read: {error}") from error


def write(models_dir: Path, entries: Mapping[str, Entry]) -> None:
    """Write a folder's models.lock, whole or not at all."""
    unfinished = models_dir / f".{LOCK_NAME}.new"
    with unfinished.open("wb") as file:
        file.write(dump(entries))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(models_dir / LOCK_NAME)


def facts_of(folder: Path, names: Iterable[str]) -> dict[str, FileFacts]:
    return {
        name: FileFacts((folder / name).stat().st_size, file_sha256(folder / name))
        for name in names
    }


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, computed once per process for each version of it."""
    facts = path.stat()
    return _sha256(path, facts.st_ino, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, _inode: int, _size_bytes: int, _changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damage(folder: Path, entry: Entry, *, sizes_only: bool = False) -> str | None:
    """What is wrong with a backbone's folder, as half a sentence; None if its files are those of
    `entry`.
    """
    for name, facts in sorted(entry.files.items()):
        path = folder / name
        if not path.is_file():
            return f"{path} does not exist"
        if (size_bytes := path.stat().st_size) != facts.size_bytes:
            return f"{path} has {size_bytes:,} bytes, not {facts.size_bytes:,}"
    for path in sorted(folder.iterdir()):
        if LOADED_FILE.fullmatch(path.name) and path.name not in entry.files:
            return f"{path} belongs to another model"
    for name, facts in () if sizes_only else sorted(entry.files.items()):
        if (sha256 := file_sha256(folder / name)) != facts.sha256:
            return f"{folder / name} has SHA-256 {sha256}, not {facts.sha256}"
    return None


def verify(spec: Spec, folder: Path, entry: Entry) -> None:
    """Raise `RefusedConfigurationError` unless `folder` holds the files of `entry`, and `entry` is
    of `spec`.
    """
    fetch = f"`reelvec models fetch {spec.name}` brings it again"
    if not entry.is_of(spec):
        raise RefusedConfigurationError(
            f"{spec.name}: {folder.parent / LOCK_NAME} has {entry.checkpoint} ({entry.ref}), and "
            f"this version needs {spec.checkpoint} ({spec.ref}); {fetch}"
        )
    if wrong := damage(folder, entry):
        raise RefusedConfigurationError(f"{spec.name}: {wrong} as {LOCK_NAME} says; {fetch}")
