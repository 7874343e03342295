"""Where pretrained weights are: `REELVEC_MODELS_DIR`, a folder or a prefix of a bucket, else a
folder of the local stack.
"""

from __future__ import annotations

import re
from pathlib import Path

from db.errors import UsageError
from db.stack import local_stack
from workers.settings import WorkerSettings
from workers.weights.bucket import Bucket

_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?")


def resolve(settings: WorkerSettings) -> Path | Bucket | None:
    """Where this process looks for weights; None for a user without a data folder. Raises
    `UsageError`.
    """
    if settings.models_dir is not None:
        return parse(settings.models_dir, settings, "REELVEC_MODELS_DIR")
    try:
        return local_stack.default_data_dir() / "models"
    except UsageError:  # no home folder: whoever wants weights is told to set the variable
        return None


def parse(text: str, settings: WorkerSettings, name: str) -> Path | Bucket:
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


def local_folder(models_dir: Path | Bucket | None, backbone: str) -> Path | None:
    """The models folder on this machine that `backbone` is loaded from. Raises as
    `Bucket.local_copy` does.
    """
    return models_dir.local_copy(backbone) if isinstance(models_dir, Bucket) else models_dir
