"""Where pretrained weights are: `REELVEC_MODELS_DIR`, a folder or a prefix of a bucket, else a
folder of the local stack.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from db.errors import UsageError
from db.stack import local_stack
from workers.settings import WorkerSettings
from workers.weights import lock
from workers.weights.bucket import Bucket
from workers.weights.lock import Entry

#: `Path`: a folder with one folder per backbone.
ModelsDir: TypeAlias = Path | Bucket

_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?")


def resolve(settings: WorkerSettings) -> ModelsDir | None:
    """Where this process looks for weights; None for a user without a data folder. Raises
    `UsageError`.
    """
    if settings.models_dir is not None:
        return parse(settings.models_dir, settings, "REELVEC_MODELS_DIR")
    try:
        return local_stack.default_data_dir() / "models"
    except UsageError:  # no home folder: whoever wants weights is told to set the variable
        return None


def parse(text: str, settings: WorkerSettings, name: str) -> ModelsDir:
    """A folder or `s3://bucket/prefix`. Raises `UsageError` for another address, naming the
    variable or option.
    """
    if text.startswith("s3:"):
        uri = text.rstrip("/")
        if _BUCKET.fullmatch(uri) is None:
            raise UsageError(f"{name}={text!r}: write s3://bucket or s3://bucket/prefix")
        return Bucket(uri, settings)
    if "://" in text:
        raise UsageError(f"{name}={text!r}: models lie in a folder or below s3://bucket/prefix")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"{name}={text!r}: this user has no home folder; write the whole path"
        ) from error


def locked(where: ModelsDir | None) -> Mapping[str, Entry]:
    """What models.lock says there, by backbone. Raises `RefusedConfigurationError` for none that
    can be used, `UnavailableError` for a bucket that does not answer.
    """
    if where is None:
        return {}
    return where.lock() if isinstance(where, Bucket) else lock.read(where)


def local_folder(where: ModelsDir | None, backbone: str) -> Path | None:
    """The models folder on this machine that `backbone` is loaded from. Raises as
    `Bucket.local_copy` does.
    """
    return where.local_copy(backbone) if isinstance(where, Bucket) else where
