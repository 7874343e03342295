"""One attempt at a claimed video, by one of three ways:

    its bytes  --> frames --> vectors      `embed_video`
    its bytes  --> frames in the store     `sample_video`, on a sampler node
    frames in the store   --> vectors      `embed_frames`

What goes wrong is part of the outcome.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar, cast

from db.errors import PackError, RefusedConfigurationError, UnavailableError, VideoError
from db.frames.packs import PackRow
from db.jobs import stages
from db.jobs.outcome import Outcome
from db.jobs.sampler_version import VERSION as SAMPLER_VERSION
from db.ledger import Claim
from db.media import Media
from workers import pipeline
from workers.delivery import breaker
from workers.frames import handover
from workers.insisting import insist, of_store
from workers.models import NothingToMakeError
from workers.pipeline import Owed
from workers.runtime import Runtime
from workers.sampling.frames import STAGE as SAMPLE
from workers.sampling.frames import Frames, FrameSource, refusal
from workers.sources.retrying import Cancelled

if TYPE_CHECKING:
    from workers.frames.policies import Policies
    from workers.models import Models

log = logging.getLogger(__name__)
T = TypeVar("T")

#: A video that so many workers died over gets the device for itself: if it is to blame, it takes no
#: others with it.
ALONE_AFTER_LOST = 3


def fields(
    action: str, claimed: Claim, code: str | None = None, seconds: float | None = None
) -> dict[str, object]:
    """What a log line says of a video beside its words (`db.logs.FIELDS`)."""
    return {"action": action, "video_id": claimed.video_id, "code": code, "seconds": seconds}


@dataclass
class Attempt:
    """`give_up_at` (monotonic): until then what is away is waited for. `media`: what is known of
    the file so far.
    """

    runtime: Runtime
    claimed: Claim
    give_up_at: float
    media: Media | None = None

    def outcome(self) -> Outcome:
        """Raises `Cancelled`, `NothingToMakeError`, `RefusedConfigurationError`: nothing is known
        of the video, somebody else is to go on.
        """
        try:
            return self._way()()
        except VideoError as error:
            return self._failed(error)
        except (Cancelled, NothingToMakeError, RefusedConfigurationError):
            raise
        except UnavailableError as error:  # the database, a store, or what serves the weights
            if self.runtime.draining.is_set():
                raise Cancelled from None
            away = error.__cause__
            if not isinstance(away, VideoError):
                away = VideoError("unavailable", str(error), stage="run")
            return Outcome(failure=pipeline.failure_of(away))
        except Exception as error:
            log.exception(
                "video %d: unexpected",
                self.claimed.video_id,
                extra=fields("run", self.claimed, "internal"),
            )
            failure = VideoError("internal", f"{type(error).__name__}: {error}", stage="run")
            return Outcome(failure=pipeline.failure_of(failure))

    def _way(self) -> Callable[[], Outcome]:
        if self.runtime.engine is None:
            return self.sample_video
        return self.embed_frames if self.claimed.stage == stages.FRAMES else self.embed_video

    def embed_video(self) -> Outcome:
        """From the bytes to vectors, in this process and its samplers."""
        claimed = self.claimed
        if not self._owed(claimed) and not claimed.recheck:
            return Outcome()
        with self.runtime.videos.open(claimed.uri) as source:
            self._was_opened(source)
            owed = self._owed(claimed.for_version(source.etag))
            result = self._embed(source, owed)
        self._models.require(owed)
        made = pipeline.outcome_of(result, owed, wants_strip=claimed.wants_strip)
        if not claimed.keep_frames:
            return made
        sampled = {
            policy: frames
            for policy, frames in result.frames.items()
            if policy not in result.unsampled
        }
        return replace(made, bytes_written=self._write(sampled, source.size_bytes))

    def sample_video(self) -> Outcome:
        """From the bytes to packs of frames; who only looks at a video again is done with that."""
        claimed = self.claimed
        if not self._policies(claimed) and not claimed.recheck:
            return Outcome()
        with self.runtime.videos.open(claimed.uri) as source:
            self._was_opened(source)
            policies = self._policies(claimed.for_version(source.etag))
            if not policies:
                return pipeline.outcome_of(self._embed(source, []), [], wants_strip=False)
            started = time.monotonic()
            sampled = self._sample(source, list(dict.fromkeys([*policies, *claimed.recheck])))
        written = self._write(sampled, source.size_bytes)
        log.debug("video %d: sampled in %.1f s", claimed.video_id, time.monotonic() - started)
        return Outcome(
            is_sampled=True,
            bytes_written=written,
            bytes_read=sum(frames.bytes_read for frames in sampled.values()),
            fetch_seconds=sum(frames.fetch_seconds for frames in sampled.values()),
            decode_seconds=sum(frames.decode_seconds for frames in sampled.values()),
        )

    def embed_frames(self) -> Outcome:
        """From packs of frames to vectors. What another policy samples is left to be sampled."""
        claimed, database = self.claimed, self.runtime.database
        rows = self._insist("find the frames", lambda: handover.find(database, claimed.video_id))
        etag = next((row.etag for row in rows.values()), None)
        owed = [
            one
            for one in self._owed(claimed.for_version(etag) if rows else claimed)
            if one.encoder.sampling in rows
        ]
        wanted = {
            policy: row
            for policy, row in rows.items()
            if policy in claimed.recheck or any(one.encoder.sampling == policy for one in owed)
        }
        if not wanted:
            nothing = PackError("pack_missing", "no frames of the video are recorded")
            raise self._lost([], nothing)
        try:
            source = self._read(wanted)
        except PackError as error:
            raise self._lost(list(wanted), error) from error
        self.media = Media(source.etag, source.size_bytes)
        result = self._embed(source, owed)
        self._models.require(owed)
        made = pipeline.outcome_of(
            result, owed, wants_strip=claimed.wants_strip, strip=source.strip
        )
        return replace(made, frames_bytes=source.bytes_read, frames_seconds=source.seconds)

    @property
    def _models(self) -> Models:
        return cast("Models", self.runtime.models)

    def _owed(self, claimed: Claim) -> list[Owed]:
        return self._insist("ask what it owes", lambda: self._models.owed(claimed))

    def _policies(self, claimed: Claim) -> list[str]:
        models = cast("Policies", self.runtime.models)
        return self._insist("ask what it owes", lambda: models.owed(claimed))

    def _insist(self, what: str, attempt: Callable[[], T]) -> T:
        runtime = self.runtime
        return insist(
            runtime,
            f"{what} of video {self.claimed.video_id}",
            attempt,
            gives_up=lambda: runtime.draining.is_set() or time.monotonic() > self.give_up_at,
        )

    def _was_opened(self, source: FrameSource) -> None:
        breaker.was_read(self.runtime, self.claimed)
        self.media = Media(source.etag, source.size_bytes)

    def _embed(self, source: FrameSource, owed: Sequence[Owed]) -> pipeline.VideoResult:
        runtime, claimed = self.runtime, self.claimed
        return pipeline.embed_video(
            source,
            owed,
            engine=runtime.engine,
            engine_seconds=runtime.settings.engine_wait_seconds,
            stop=runtime.draining,
            alone=claimed.lost_count >= ALONE_AFTER_LOST,
            recheck=claimed.recheck,
            keep_context=claimed.keep_context,
        )

    def _sample(self, source: FrameSource, policies: Sequence[str]) -> dict[str, Frames]:
        """By policy. Raises `VideoError` where none gives frames; one that gives none costs its own
        encoders, whose turn comes when the others are embedded.
        """
        sampled: dict[str, Frames] = {}
        failed: list[VideoError] = []
        for policy in policies:
            try:
                frames = source.frames(policy, stop=self.runtime.draining)
            except VideoError as error:
                failed.append(error)
                continue
            if refused := refusal(frames.damaged_share):
                failed.append(refused)
            else:
                sampled[policy] = frames
        if not sampled:
            raise failed[0]
        return sampled

    def _write(self, sampled: dict[str, Frames], size_bytes: int) -> int | None:
        """Write the packs; returns their bytes, None where there is no frame store."""
        runtime, claimed, store = self.runtime, self.claimed, self.runtime.frame_store
        if store is None:
            log.warning(
                "video %d: its frames are not kept: REELVEC_FRAMES is not set here",
                claimed.video_id,
            )
            return None
        written = 0
        for policy, frames in sampled.items():
            made = handover.packed(frames, policy, size_bytes, wants_strip=claimed.wants_strip)
            written += self._insist(
                "write the frames",
                lambda made=made: of_store(  # type: ignore[misc]
                    lambda: handover.write(
                        runtime.database, store, claimed.video_id, made, kept=claimed.keep_frames
                    )
                ),
            )
        return written

    def _read(self, rows: dict[str, PackRow]) -> handover.Packs:
        runtime = self.runtime
        engine, store = runtime.engine, runtime.frame_store
        assert engine is not None, "a sampler node takes no frames"
        assert store is not None, "without a store none are taken"
        return self._insist(
            "read the frames",
            lambda: of_store(lambda: handover.read(store, rows, new_frames=engine.new_frames)),
        )

    def _lost(self, policies: list[str], error: PackError) -> VideoError:
        database, video_id = self.runtime.database, self.claimed.video_id
        return self._insist(
            "forget the frames", lambda: handover.lost(database, video_id, policies, error)
        )

    def _failed(self, error: VideoError) -> Outcome:
        claimed = self.claimed
        level = logging.INFO if claimed.is_probe else logging.WARNING  # a closed place is told once
        log.log(
            level,
            "video %d: %s at %s: %s",
            claimed.video_id,
            error.code,
            error.stage,
            error,
            extra=fields(error.stage, claimed, error.code),
        )
        media = self.media
        if media is not None and error.stage == SAMPLE:
            media = replace(media, sampler_version=SAMPLER_VERSION)
        return Outcome(failure=pipeline.failure_of(error), media=media)
