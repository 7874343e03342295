"""One worker's canary: its vectors of the known frames against its own float32 and the fleet's
reference, at load and from then on. Safe to use from all threads.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from uuid import UUID

import numpy as np
import numpy.typing as npt
from sqlalchemy import Engine as Database

from db import session
from db.canary import references
from db.canary.limits import FloatArray, distance
from db.canary.references import FINE, Canary, Judgement, Verdict
from db.encoders import Encoder
from db.errors import VideoError
from workers.canary import pictures
from workers.engine.engine import Bound, Engine, ModelKey

log = logging.getLogger(__name__)

#: What others have said meanwhile is looked at so often between two checks of one's own.
LOOKS_PER_CHECK = 60


@dataclass(frozen=True)
class Me:
    """As others know this worker: `name` is gpu0@node-3, `machine` its card's id or its host."""

    worker_id: UUID
    name: str
    machine: str
    device: str


@dataclass(eq=False)
class _Watched:
    """An encoder of this worker: `exact` [w, d] is what its own float32 makes of the frames.

    `worst` is the largest distance of any check: who was wrong once is not believed again. `made`
    counts the videos that have vectors from here.
    """

    encoder: Encoder
    exact: FloatArray
    dtype: str = ""
    worst: float = 0.0
    judgement: Judgement = FINE
    made: int = 0

    @property
    def key(self) -> ModelKey:
        return ModelKey(self.encoder.backbone, self.encoder.weights)


class CanaryWatch:
    """`check_seconds` is how often the device is asked again, `wait_seconds` the longest wait for
    it.
    """

    def __init__(
        self,
        database: Database,
        engine: Engine,
        me: Me,
        *,
        check_seconds: float,
        wait_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._engine = engine
        self._me = me
        self._check_seconds = check_seconds
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._watched: dict[int, _Watched] = {}
        self._checked_at = self._looked_at = clock()

    def load(self, key: ModelKey) -> Bound:
        """Load a model, with what its float32 makes of the frames. Raises as `Engine.load`."""
        return self._engine.load(key, exact_of=self._frames)

    def add(self, encoder: Encoder, bound: Bound) -> Judgement:
        """Check an encoder that was just loaded, and watch it from now on.

        Raises `UnavailableError`, `VideoError` for a device that does not answer.
        """
        assert encoder.encoder_id is not None
        assert bound.exact is not None
        watched = _Watched(encoder, bound.exact)
        self._measure(watched)
        watched.judgement = self._judged(watched)
        self._watched[encoder.encoder_id] = watched
        return watched.judgement

    def round(self) -> None:
        """To be called often: asks the device, or only the others, when it is time to.

        Raises `UnavailableError`.
        """
        now = self._clock()
        if now - self._checked_at >= self._check_seconds:
            self._checked_at = now
            self._check_own()
        elif now - self._looked_at < self._check_seconds / LOOKS_PER_CHECK:
            return
        self._looked_at = now
        for watched in list(self._watched.values()):
            before, watched.judgement = watched.judgement, self._judged(watched)
            if watched.judgement != before:
                self._tell(watched)

    def barred(self) -> dict[int, Judgement]:
        """The encoders that this worker makes nothing of for now, and why."""
        return {
            encoder_id: watched.judgement
            for encoder_id, watched in list(self._watched.items())
            if watched.judgement.verdict is not Verdict.FINE
        }

    def wrote(self, encoder_ids: Iterable[int]) -> None:
        """A video has vectors of these encoders from here now."""
        for encoder_id in encoder_ids:
            self._watched[encoder_id].made += 1

    @cached_property
    def _frames(self) -> npt.NDArray[np.uint8]:
        return pictures.fill(self._engine.new_frames())

    def _check_own(self) -> None:
        for watched in list(self._watched.values()):
            try:
                self._measure(watched)
            except VideoError as error:  # the engine was busy, or ends this process by itself
                log.warning("%s could not be checked: %s", watched.encoder.name, error)

    def _measure(self, watched: _Watched) -> None:
        """What the device makes of the frames now. Raises `VideoError` if it makes nothing."""
        waiting = self._engine.submit(
            watched.key, self._frames, (), timeout_seconds=self._wait_seconds
        )
        try:
            made = waiting.result()
        except VideoError as error:
            if error.code != "nonfinite":
                raise
            watched.worst = float("inf")
        else:
            watched.dtype = made.dtype
            watched.worst = max(watched.worst, distance(made.windows, watched.exact))

    def _judged(self, watched: _Watched) -> Judgement:
        with session.transaction(self._database) as connection:
            return references.meet(connection, self._said(watched))

    def _said(self, watched: _Watched) -> Canary:
        assert watched.encoder.encoder_id is not None
        return Canary(
            encoder_id=watched.encoder.encoder_id,
            worker_id=self._me.worker_id,
            worker=self._me.name,
            machine=self._me.machine,
            device=self._me.device,
            software=_software(),
            dtype=watched.dtype,
            distance=watched.worst,
            vector=watched.exact.mean(axis=0, dtype=np.float32),
        )

    def _tell(self, watched: _Watched) -> None:
        name, judgement = watched.encoder.name, watched.judgement
        if judgement.verdict is Verdict.FINE:
            log.info("encoder %s: in agreement with the others again", name)
        elif judgement.verdict is Verdict.DISPUTED:
            log.warning("this worker waits with %s: %s", name, judgement.reason)
        else:
            log.error("this worker makes nothing of %s any more: %s", name, judgement.reason)
            if watched.made:
                log.error(
                    "%d videos have vectors of %s from this worker. To make them again: %s",
                    watched.made,
                    name,
                    references.redo_sql(self._said(watched)),
                )


def _software() -> str:
    """What computes."""
    try:
        return f"torch {version('torch')}"
    except PackageNotFoundError:
        return f"numpy {np.__version__}"
