"""What becomes of the work of one sampling policy when another gives no frames."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from db.errors import VideoError
from producer.request import declared_encoder
from workers.pipeline import Owed, embed_video
from workers.sources.retrying import Cancelled

OWED = [Owed(declared_encoder("probe", "pretrained", policy)) for policy in ("notebook", "uniform")]


def video(**errors: Exception) -> Any:
    """An open video; sampling it raises the error of that policy."""

    def frames(policy: str, *, stop: threading.Event) -> Any:
        if policy in errors:
            raise errors[policy]
        return SimpleNamespace(pixels=np.empty(0), damaged_share=0.0)

    return SimpleNamespace(etag="v1", size_bytes=9, frames=frames)


def run(source: Any, futures: list[Future], **more: Any) -> Any:
    def submit(*_: object, **__: object) -> Future:
        futures.append(Future())
        return futures[-1]

    return embed_video(
        source,
        OWED,
        engine=SimpleNamespace(submit=submit),  # type: ignore[arg-type]
        engine_seconds=60.0,
        stop=threading.Event(),
        **more,
    )


@pytest.mark.parametrize("error", [Cancelled(), MemoryError()])
def test_what_ends_the_run_rids_the_engine_of_what_it_was_given(error: Exception) -> None:
    futures: list[Future] = []
    with pytest.raises(type(error)):
        run(video(uniform=error), futures)
    assert [future.cancelled() for future in futures] == [True]


def test_without_any_frames_the_first_error_is_the_videos() -> None:
    errors = {
        policy: VideoError("truncated", policy, stage="sample")
        for policy in ("uniform", "notebook")
    }
    with pytest.raises(VideoError, match="notebook"):
        run(video(**errors), [])
