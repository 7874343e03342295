"""What becomes of the work of one sampling policy when another gives no frames, of waiting for the
engine, and what a result leaves behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from db.errors import UsageError, VideoError
from db.media import MediaFacts
from producer.request import declared_encoder
from workers import pipeline
from workers.engine.encoding import Encoding
from workers.pipeline import Owed, VideoResult, embed_video, outcome_of
from workers.sampling.frames import Frames
from workers.sampling.plan import SHAPE
from workers.sources.retrying import Cancelled

OWED = [Owed(declared_encoder("probe", "pretrained", policy)) for policy in ("notebook", "uniform")]


def video(**errors: Exception) -> Any:
    """An open video; sampling it raises the error of that policy."""

    def frames(policy: str, *, stop: threading.Event) -> Any:
        if policy in errors:
            raise errors[policy]
        return SimpleNamespace(pixels=np.zeros(SHAPE, np.uint8), damaged_share=0.0)

    return SimpleNamespace(etag="v1", size_bytes=9, frames=frames)


def run(source: Any, futures: list[Future], new: Callable[[], Future] = Future, **more: Any) -> Any:
    """`new` makes what the engine gives for each submission."""

    def submit(*_: object, **__: object) -> Future:
        futures.append(new())
        return futures[-1]

    facts = {"engine_seconds": 60.0, "stop": threading.Event(), **more}
    return embed_video(source, OWED, engine=SimpleNamespace(submit=submit), **facts)  # type: ignore[arg-type]


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


def test_prompts_that_the_tokenizer_refuses_cost_their_encoder_alone() -> None:
    def refused() -> Future:
        future: Future = Future()
        future.set_exception(UsageError("too long"))
        return future

    result = run(video(), [], refused)
    assert [error.code for error in result.failures.values()] == ["unusable_prompt"] * 2


class Late(Future):
    """There when it is asked for the third time."""

    asked = 0

    def result(self, timeout: float | None = None) -> Any:
        self.asked += 1
        if self.asked < 3:
            raise TimeoutError
        return "made"


def test_an_engine_that_never_answers_is_not_waited_for_without_end() -> None:
    result = run(video(), [], Late, engine_seconds=-1.0)
    assert [error.code for error in result.failures.values()] == ["engine_timeout"] * 2


def test_a_drain_lets_the_engine_finish_but_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    draining = threading.Event()
    draining.set()
    assert [*run(video(), [], Late, stop=draining).encodings.values()] == ["made"] * 2
    monkeypatch.setattr(pipeline, "DRAIN_GRACE_SECONDS", 0.0)
    with pytest.raises(Cancelled):
        run(video(), [], Late, stop=draining)


def frames(damaged_share: float, bytes_read: int, step_seconds: float) -> Frames:
    return Frames(
        pixels=np.zeros(SHAPE, np.uint8),
        indices=np.arange(96),
        pts_seconds=np.arange(96) * step_seconds,
        facts=MediaFacts("h264", 64, 48, 25.0, 4.0),
        frame_count=100,
        frames_decoded=96,
        decode_mode="sparse",
        decode_errors=0,
        damaged_share=damaged_share,
        decode_seconds=1.0,
        version="v1",
        bytes_read=bytes_read,
        fetch_seconds=2.0,
    )


def test_what_two_policies_leave_behind() -> None:
    """Times and bytes of both together, the worse of the two damages, and each encoder's windows
    with the times of its own frames.
    """
    owed = [Owed(replace(item.encoder, encoder_id=n)) for n, item in enumerate(OWED, start=1)]
    encoding = Encoding(np.ones((3, 4), np.float32), np.ones(4, np.float32), {}, "float32", 0.5)
    result = VideoResult(
        "v1",
        9,
        frames={"notebook": frames(0.02, 100, 0.1), "uniform": frames(0.01, 50, 1.0)},
        encodings={item.encoder.name: encoding for item in owed},
        wait_seconds=3.0,
    )
    left = outcome_of(result, owed)
    assert left.failure is None
    assert left.media is not None
    assert left.media.damaged_share == 0.02
    assert (left.bytes_read, left.fetch_seconds, left.decode_seconds) == (150, 4.0, 2.0)
    assert (left.wait_seconds, left.device_seconds) == (3.0, 1.0)
    spans = [rows.spans_seconds for rows in left.encoder_rows]
    np.testing.assert_allclose(spans[0], [[0, 3.1], [3.2, 6.3], [6.4, 9.5]], rtol=1e-6)
    np.testing.assert_allclose(spans[1], spans[0] * 10, rtol=1e-6)
