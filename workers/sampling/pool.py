"""Sampler processes lent to the threads of a worker, one video at a time.

A video that crashes, hangs or eats its process costs itself and nothing else: the process is killed
at its deadline and another one takes its place.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
from collections import deque
from collections.abc import Callable, Mapping
from queue import SimpleQueue

import numpy as np

from db.errors import RefusedConfigurationError, VideoError
from workers.sampling import policies
from workers.sampling.answers import Done, Failed, NonsenseError, Read
from workers.sampling.blocks import Blocks
from workers.sampling.child import (
    LOOK_SECONDS,
    PROGRAM,
    Check,
    Child,
    ChildGoneError,
    DeadlineError,
    deadline_check,
)
from workers.sampling.frames import STAGE, Frames
from workers.sampling.plan import SHAPE
from workers.sources.retrying import Cancelled
from workers.sources.storage import STAGE as FETCH
from workers.sources.storage import ByteSource

log = logging.getLogger(__name__)

#: A process imports numpy, PyAV and Pillow before it is ready: 0.3 s of CPU, much more on a cold
#: and busy machine.
START_SECONDS = 60.0
#: So many processes in a row that never become ready are no accident.
START_ATTEMPTS = 3


class SamplerPool:
    """`size` sampler processes, started in the background. Any number of threads may call `sample`.

    `new_frames` gives the memory a video's frames are copied into, uint8 `[96, 224, 224, 3]`.
    """

    def __init__(
        self,
        size: int,
        *,
        wall_seconds: float,
        cpu_seconds: int,
        new_frames: Callable[[], np.ndarray] = lambda: np.empty(SHAPE, np.uint8),
    ) -> None:
        self._new_frames = new_frames
        self._wall_seconds = wall_seconds
        self._cpu_seconds = cpu_seconds
        self._changed = threading.Condition()
        self._idle: deque[Child | Exception] = deque()
        self._children: set[Child] = set()
        self._closed = False
        #: Whether the system calls of the samplers are filtered; None before one of them was ready.
        self.has_seccomp: bool | None = None
        self._orders: SimpleQueue[bool] = SimpleQueue()
        # a process dies with the thread that started it (PDEATHSIG), so one thread that lives as
        # long as the pool starts all
        self._starter = threading.Thread(
            target=self._start_ordered, name="sampler-pool", daemon=True
        )
        self._starter.start()
        for _ in range(size):
            self._orders.put(True)

    def sample(
        self,
        source: ByteSource,
        policy: str,
        *,
        stop: threading.Event | None = None,
        stills: bool = False,
    ) -> Frames:
        """Frames of one video; blocks until a process is free, and reads the source in this thread.
        `stills`: a single picture is taken for a video that stands still.

        Raises `VideoError`: what the source's `read` raises, what
        `workers.sampling.inside.decode.sample` raises, sampler_defect, sampler_crashed,
        sampler_timeout, fetch_timeout (most of the time was spent reading); `Cancelled`;
        `UsageError` for an unknown policy; `RefusedConfigurationError` if sampler processes cannot
        run here.
        """
        policies.get(policy)
        deaths = 0
        while True:
            child = self._lease(stop)
            blocks, usable = Blocks(source), False
            try:
                asked = {"size_bytes": blocks.size_bytes, "policy": policy, "stills": stills}
                answer = _converse(child, blocks, asked, self._checker(stop, self._wall_seconds))
                result = _outcome(answer, child, source, blocks, self._new_frames)
                usable = answer.kind == "done" or answer.code != "sampler_defect"
            except VideoError:  # the source's
                usable = child.abort()
                raise
            except DeadlineError:
                raise self._too_slow(blocks) from None
            except ChildGoneError:
                deaths += 1
                if not blocks.bytes_read and deaths < START_ATTEMPTS and not self._closed:
                    continue  # it died before it saw a byte of this video, which is not to blame
                raise self._death(child) from None
            except NonsenseError as error:
                message = f"the sampler process sent nonsense: {error}"
                raise VideoError("sampler_crashed", message, stage=STAGE) from error
            finally:
                self._give_back(child, usable=usable)
            if isinstance(result, VideoError):
                raise result
            return result

    def pids(self) -> list[int]:
        """Process ids of the samplers, starting ones among them."""
        with self._changed:
            return [child.pid for child in self._children]

    def close(self) -> None:
        """End all processes. Samples under way end with `Cancelled`."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._orders.put(False)
        self._starter.join()
        with self._changed:
            idle = [child for child in self._idle if isinstance(child, Child)]
            self._idle.clear()
            for child in self._children:  # those at work are buried by the threads that lease them
                child.kill()
        for child in idle:
            self._give_back(child, usable=False)

    def _start_ordered(self) -> None:
        """What the pool's own thread does: start a process for every order."""
        while self._orders.get():
            if self._closed:
                continue
            started: Child | Exception
            try:
                started = Child(self._cpu_seconds)
            except Exception as error:  # noqa: BLE001 - out of processes, memory or descriptors: who would have had it says so
                started = error
            with self._changed:
                if isinstance(started, Child):
                    self._children.add(started)
                self._idle.append(started)
                self._changed.notify()

    def _lease(self, stop: threading.Event | None) -> Child:
        """A process that is ready. Those that died idle, or never get ready, cost no video
        anything.
        """
        stillborn = 0
        while stillborn < START_ATTEMPTS:
            child = self._next_idle(stop)
            usable = False
            try:
                child.wait_ready(self._checker(stop, START_SECONDS))
                self._note_seccomp(child)
                usable = True
                return child
            except (ChildGoneError, NonsenseError, DeadlineError):
                stillborn += not child.has_started
            finally:
                if not usable:
                    self._give_back(child, usable=False)
        raise RefusedConfigurationError(
            f"{stillborn} sampler processes ended before they were ready; `python -I -m {PROGRAM}` "
            "says why"
        )

    def _note_seccomp(self, child: Child) -> None:
        with self._changed:
            known, self.has_seccomp = self.has_seccomp, child.has_seccomp
        if known is None and not self.has_seccomp:
            log.warning(
                "this system filters no system calls (seccomp): a hostile video is held by "
                "resource limits alone"
            )

    def _next_idle(self, stop: threading.Event | None) -> Child:
        check = self._checker(stop, math.inf)
        with self._changed:
            check()
            while not self._idle:
                self._changed.wait(LOOK_SECONDS)
                check()
            child = self._idle.popleft()
        if isinstance(child, Exception):
            self._orders.put(True)
            raise VideoError(
                "internal", f"no sampler process can be started: {child}", stage=STAGE
            ) from child
        return child

    def _give_back(self, child: Child, *, usable: bool) -> None:
        """End a lease: the next video may have the process, or another one takes its place."""
        with self._changed:
            if usable and not self._closed:
                self._idle.append(child)
                self._changed.notify()
                return
            self._orders.put(True)  # after the end nobody looks at it
            self._children.discard(child)
        child.bury()

    def _checker(self, stop: threading.Event | None, seconds: float) -> Check:
        """A check that raises `Cancelled` when the work is not wanted any more, `DeadlineError`
        when it took too long.
        """
        in_time = deadline_check(seconds)

        def check() -> None:
            if self._closed or (stop is not None and stop.is_set()):
                raise Cancelled
            in_time()

        return check

    def _too_slow(self, blocks: Blocks) -> VideoError:
        if blocks.fetch_seconds > self._wall_seconds / 2:
            message = f"{blocks.bytes_read} bytes took {blocks.fetch_seconds:.1f} s to read"
            return VideoError("fetch_timeout", message, stage=FETCH)
        message = (
            f"sampling took more than {self._wall_seconds:g} s; REELVEC_SAMPLING_WALL_SECONDS "
            "allows more"
        )
        return VideoError("sampler_timeout", message, stage=STAGE)

    def _death(self, child: Child) -> Exception:
        cause = child.bury()
        if self._closed:
            return Cancelled()
        if cause == signal.SIGXCPU.name:
            message = (
                f"decoding used more than {self._cpu_seconds} s of CPU; "
                "REELVEC_SAMPLING_CPU_SECONDS allows more"
            )
            return VideoError("sampler_timeout", message, stage=STAGE)
        return VideoError(
            "sampler_crashed",
            f"the sampler process died of {cause} over this video{_hint(cause)}",
            stage=STAGE,
        )


def _hint(cause: str) -> str:
    if cause == signal.SIGKILL.name:
        return (
            ": if nobody killed it, the machine ran out of memory, and fewer samplers "
            "(REELVEC_SAMPLERS) leave it more"
        )
    return ": the decoder cannot cope with this file, and encoding it again may help"


def _converse(
    child: Child, blocks: Blocks, asked: Mapping[str, object], check: Check
) -> Done | Failed:
    """Hand a video to a process and serve its reads until it is through. Raises what `Child`,
    `check` and reads raise.
    """
    child.send({"kind": "sample", **asked}, check)
    while True:
        answer = child.receive(check)
        if isinstance(answer, Done | Failed):
            return answer
        if not isinstance(answer, Read) or answer.block >= blocks.count:
            raise NonsenseError(f"{answer!r} of {blocks.count} blocks")
        child.give_block(blocks.get(answer.block), answer.slot, check)
        blocks.read_ahead(answer.block)


def _outcome(
    answer: Done | Failed,
    child: Child,
    source: ByteSource,
    blocks: Blocks,
    new_frames: Callable[[], np.ndarray],
) -> Frames | VideoError:
    if isinstance(answer, Failed):
        return VideoError(answer.code, answer.clean_message, stage=STAGE)
    return answer.frames(
        child.copy_frames(new_frames()),
        version=source.etag,
        bytes_read=blocks.bytes_read,
        fetch_seconds=blocks.fetch_seconds,
    )
