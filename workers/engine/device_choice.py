"""What is computed on: which device, with how many threads where it is the CPU, and whether models
are compiled for it (torch.compile).
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sysconfig
from pathlib import Path

from db import machine
from db.errors import RefusedConfigurationError

log = logging.getLogger(__name__)


def choose_device(requested: str | None) -> str:
    """The torch device to use. Raises `RefusedConfigurationError` if it does not work: no silent
    run on the CPU.
    """
    # before torch is imported: threads that spin while they wait take the samplers' cores (1.1 s of
    # CPU a video became 2.8)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    gpus = machine.visible_gpus()
    if requested is None and gpus and not torch.cuda.is_available():
        raise RefusedConfigurationError(
            f"this machine shows {len(gpus)} GPU ({', '.join(gpus)}), but torch "
            f"{torch.__version__} cannot use one; install a torch built for its driver, or set "
            "REELVEC_DEVICE=cpu to compute on the CPU"
        )
    device = requested or ("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        torch.ones(1, device=device).add_(1).item()
    except Exception as error:
        raise RefusedConfigurationError(
            f"device {device!r} does not work with torch {torch.__version__}: {error}; set "
            "REELVEC_DEVICE to another, such as cuda:0 or cpu"
        ) from error
    # torch does not see a container's quota
    if device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), max(1, int(machine.cores()))))
    return device


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
