"""What is tried in a process of its own: `python -P -m producer.doctor.probes NAME` prints facts as
one line of JSON.

A package that is broken, hangs or crashes then costs this process, and its last words are a line of
the report. The packages are imported by name: this layer depends on none of them.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from io import BytesIO
from typing import Any, Self


def torch() -> dict[str, Any]:
    """Which torch this is, and what a worker would say of its device."""
    from db import machine, settings
    from db.errors import ReelvecError
    from workers.engine import device_choice
    from workers.settings import WorkerSettings

    library: Any = import_module("torch")
    with warnings.catch_warnings(
        record=True
    ) as caught:  # torch warns of an old driver, and says no more
        warnings.simplefilter("always")
        usable = bool(library.cuda.is_available())
    facts: dict[str, Any] = {
        "version": library.__version__,
        "cuda": library.version.cuda or getattr(library.version, "hip", None),
        "usable": usable,
        "visible": machine.visible_gpus(),
        "gpus": [
            library.cuda.get_device_name(index) for index in range(library.cuda.device_count())
        ]
        if usable
        else [],
        "warnings": [str(warning.message) for warning in caught],
        "asked": settings.load(WorkerSettings).device,
    }
    try:
        facts["chosen"] = device_choice.choose_device(facts["asked"])
    except ReelvecError as error:
        facts["refused"] = str(error)
    return facts


def torchvision() -> dict[str, Any]:
    return {"version": import_module("torchvision").__version__}


def transformers() -> dict[str, Any]:
    from workers.backbones import prompts, registry
    from workers.weights.loading import transformers as quiet

    library = quiet()
    models = [spec.published for spec in registry.specs() if spec.published is not None]
    for name in (prompts.CLIP_TOKENIZER, *(one.model for one in models)):
        getattr(library, name)
    return {"version": library.__version__, "models": len(models)}


def pillow() -> dict[str, Any]:
    return {"version": import_module("PIL.Image").__version__}


def av() -> dict[str, Any]:
    library = import_module("av")
    return {
        "version": library.__version__,
        "ffmpeg": getattr(library, "ffmpeg_version_info", "of unknown version"),
    }


def sampler() -> dict[str, Any]:
    """One clip, made in memory, through a real sampler process."""
    from workers.sampling.pool import SamplerPool

    started = time.perf_counter()
    pool = SamplerPool(1, wall_seconds=30.0, cpu_seconds=20)
    try:
        frames = pool.sample(_Memory(_clip()), "notebook")
    finally:
        pool.close()
    return {
        "codec": frames.facts.codec,
        "frames": len(frames.pixels),
        "grey": float(frames.pixels.mean()),
        "seconds": time.perf_counter() - started,
    }


class _Memory:
    """A `ByteSource` of bytes that are there already."""

    etag = None
    open_seconds = 0.0

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size_bytes = len(content)

    def read(self, offset: int, length: int) -> bytes:
        return self._content[offset : offset + length]

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _clip() -> bytes:
    """An mp4 of a hundred grey pictures, in FFmpeg's own MPEG-4 codec: every build can make it."""
    library = import_module("av")
    import numpy as np

    picture = np.full((64, 64, 3), 128, np.uint8)
    buffer = BytesIO()
    with library.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(100):
            container.mux(stream.encode(library.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


PROBES: dict[str, Callable[[], dict[str, Any]]] = {
    probe.__name__: probe for probe in (torch, torchvision, transformers, pillow, av, sampler)
}


def why(error: BaseException | None) -> str:
    """An error with what caused it: libraries that import lazily hide the real reason there."""
    reasons: list[str] = []
    while error is not None and len(reasons) < 5:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        reasons += [reason] if reason not in reasons else []
        error = error.__cause__ or error.__context__
    return " <- ".join(reasons)


if __name__ == "__main__":
    try:
        answer = PROBES[sys.argv[1]]()
    except Exception as error:  # noqa: BLE001 - said to the process that asked
        answer = {"error": why(error)}
    print(json.dumps(answer))  # noqa: T201
