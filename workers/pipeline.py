"""One video, from its bytes to the vectors of every encoder it still owes. Plain Python: no queue,
no database.

The same frames serve all encoders of one sampling policy. A policy without frames costs its own
encoders, and a failing encoder itself: what the others make is kept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from db.encoders import Encoder, Tagger
from db.errors import UsageError, VideoError
from db.jobs.outcome import EncoderRows, Failure, Outcome, TaggerRows
from db.jobs.sampler_version import VERSION as SAMPLER_VERSION
from db.media import Media
from workers.engine.engine import Encoding, Engine, ModelKey
from workers.sampling import drawing
from workers.sampling.frames import Frames, FrameSource, refusal
from workers.sources.retrying import Cancelled

#: How often a waiting thread looks whether the worker is draining.
POLL_SECONDS = 0.2
#: A draining worker lets the batch on the device finish, but not for long.
DRAIN_GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Owed:
    """One encoder a video owes, and the taggers that read its scores."""

    encoder: Encoder
    taggers: tuple[Tagger, ...] = ()

    @property
    def key(self) -> ModelKey:
        return ModelKey(self.encoder.backbone, self.encoder.weights)


@dataclass
class VideoResult:
    """What one run made: `frames` by sampling policy, `encodings` and `failures` by encoder name.

    `unsampled`: by policy, why it has no frames, or why nothing was made of them.
    """

    etag: str | None
    size_bytes: int
    frames: dict[str, Frames] = field(default_factory=dict)
    unsampled: dict[str, VideoError] = field(default_factory=dict)
    encodings: dict[str, Encoding] = field(default_factory=dict)
    failures: dict[str, VideoError] = field(default_factory=dict)
    wait_seconds: float = 0.0


def embed_video(
    source: FrameSource,
    owed: Sequence[Owed],
    *,
    engine: Engine | None,
    engine_seconds: float,
    stop: threading.Event,
    alone: bool = False,
    recheck: Sequence[str] = (),
    keep_context: bool = False,
) -> VideoResult:
    """Sample once per policy, encode with every owed encoder, wait for all; `alone`: in batches
    with no other video.

    `recheck`: policies to sample even where no encoder of theirs is owed, to see whether the video
    is what it seemed. `keep_context`: what other labels need later is in the result, too. Raises
    `VideoError` when no policy gives frames, `Cancelled` when `stop` is set and the work is
    unfinished; then the engine is rid of what was given to it. Errors of single policies and
    encoders are in the result.
    """
    result = VideoResult(etag=source.etag, size_bytes=source.size_bytes)
    futures: dict[str, Future[Encoding]] = {}
    try:
        for policy in dict.fromkeys([*(item.encoder.sampling for item in owed), *recheck]):
            pixels = _sample(source, policy, result, stop)
            for item in owed:
                assert engine is not None, "who owes vectors has an engine"
                if pixels is not None and item.encoder.sampling == policy:
                    label_sets = tuple(tagger.label_set for tagger in item.taggers)
                    futures[item.encoder.name] = engine.submit(
                        item.key,
                        pixels,
                        label_sets,
                        timeout_seconds=engine_seconds,
                        alone=alone,
                        keep_context=keep_context,
                    )
        if not result.frames:
            raise next(iter(result.unsampled.values()))
        _collect(futures, result, engine_seconds, stop)
    except BaseException:
        for unfinished in futures.values():
            unfinished.cancel()
        raise
    return result


def _sample(
    source: FrameSource, policy: str, result: VideoResult, stop: threading.Event
) -> npt.NDArray[np.uint8] | None:
    """The pixels to encode; None, and why in the result, where there are none."""
    try:
        frames = result.frames[policy] = source.frames(policy, stop=stop)
    except VideoError as error:
        result.unsampled[policy] = error
        return None
    if refused := refusal(frames.damaged_share):
        result.unsampled[policy] = refused
        return None
    return frames.pixels


def _collect(
    futures: dict[str, Future[Encoding]],
    result: VideoResult,
    engine_seconds: float,
    stop: threading.Event,
) -> None:
    started = time.monotonic()
    for name, future in futures.items():
        try:
            result.encodings[name] = _wait(future, deadline=started + engine_seconds, stop=stop)
        except VideoError as error:
            result.failures[name] = error
        except UsageError as error:  # prompts are checked where the tokenizer is: here
            result.failures[name] = VideoError("unusable_prompt", str(error), stage="encode")
    result.wait_seconds = time.monotonic() - started


def _wait(future: Future[Encoding], *, deadline: float, stop: threading.Event) -> Encoding:
    grace: float | None = None
    while True:
        try:
            return future.result(timeout=POLL_SECONDS)
        except FutureTimeoutError:
            now = time.monotonic()
            if stop.is_set():
                grace = now + DRAIN_GRACE_SECONDS if grace is None else grace
                if now >= grace:
                    raise Cancelled from None
            # the engine answers expired items itself; this is the belt to its braces
            if now >= deadline + 1.0:
                raise VideoError(
                    "engine_timeout", "the engine gave no answer in time", stage="encode"
                ) from None


def outcome_of(
    result: VideoResult,
    owed: Sequence[Owed],
    *,
    wants_strip: bool = True,
    strip: bytes | None = None,
) -> Outcome:
    """The rows of a finished run: everything that succeeded, and the first failure: of a sampling
    policy, which is the video's, else of an encoder. With vectors comes a picture, if it is wanted:
    the `strip`, if it is drawn already.
    """
    failures = [
        *(failure_of(error) for error in result.unsampled.values()),
        *(failure_of(error, encoder=name) for name, error in result.failures.items()),
    ]
    sampled = tuple(result.frames.values())
    made = [item for item in owed if item.encoder.name in result.encodings]
    return Outcome(
        encoder_rows=tuple(_encoder_rows(item.encoder, result) for item in made),
        tagger_rows=tuple(
            TaggerRows(
                tagger.tagger_id,
                tagger.label_set.categories,
                result.encodings[item.encoder.name].probabilities[tagger.label_set.digest],
            )
            for item in made
            for tagger in item.taggers
        ),
        failure=failures[0] if failures else None,
        media=Media(
            result.etag,
            result.size_bytes,
            sampled[0].facts,
            damaged_share=max(frames.damaged_share for frames in sampled),
            sampler_version=SAMPLER_VERSION,
        ),
        strip=(strip or drawing.strip(sampled[0].pixels)) if made and wants_strip else None,
        bytes_read=sum(frames.bytes_read for frames in sampled),
        fetch_seconds=sum(frames.fetch_seconds for frames in sampled),
        decode_seconds=sum(frames.decode_seconds for frames in sampled),
        wait_seconds=result.wait_seconds,
        device_seconds=sum(encoding.device_seconds for encoding in result.encodings.values()),
    )


def failure_of(error: VideoError, *, encoder: str | None = None) -> Failure:
    return Failure(error.stage, error.code, error.error_class, str(error), encoder)


def _encoder_rows(encoder: Encoder, result: VideoResult) -> EncoderRows:
    assert encoder.encoder_id is not None
    encoding = result.encodings[encoder.name]
    spans = window_spans_seconds(result.frames[encoder.sampling].pts_seconds, len(encoding.windows))
    return EncoderRows(
        encoder.encoder_id,
        encoding.pooled,
        encoding.windows,
        spans,
        encoding.dtype,
        encoding.context,
    )


def window_spans_seconds(
    pts_seconds: npt.NDArray[np.float64], windows: int
) -> npt.NDArray[np.float32]:
    """First and last presentation time of each window: `[w, 2]` float32, from the 96 frames'
    times.
    """
    frames = pts_seconds.reshape(windows, -1)
    return np.stack([frames[:, 0], frames[:, -1]], axis=1).astype(np.float32)
