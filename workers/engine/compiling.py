"""Whether models are compiled (torch.compile): where it pays and can work."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sysconfig
from pathlib import Path

log = logging.getLogger(__name__)


def wants_compiling(setting: str, *, on_gpu: bool) -> bool:
    """`setting` is auto, on or off. auto: on a GPU, if what torch needs for it is there; on the CPU
    it does not pay.
    """
    if setting != "auto":
        return setting == "on"
    missing = _missing() if on_gpu else None
    if missing:
        log.warning("models run uncompiled, which is slower on a GPU: %s is not there", missing)
    return on_gpu and not missing


def _missing() -> str | None:
    """What compiling for a GPU lacks: triton, and the C compiler and Python's headers it builds its
    launcher with.
    """
    if importlib.util.find_spec("triton") is None:
        return "triton"
    if not any(shutil.which(name) for name in (os.environ.get("CC", "cc"), "gcc", "clang")):
        return "a C compiler"
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return None if headers.exists() else str(headers)
