"""The health of this worker process: its facts, gathered from the threads that matter, and the
pages made of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from workers.health import metrics, server
from workers.health.address import Address
from workers.health.facts import Facts, why_not_alive, why_not_ready
from workers.health.pulse import PULSE, Pulse
from workers.health.server import Answer

if TYPE_CHECKING:
    from workers.runtime import Runtime


@contextlib.contextmanager
def serving(address: Address, runtime: Callable[[], Runtime | None]) -> Iterator[None]:
    """Serve the health of this process until the end; `runtime` gives None until it is prepared."""

    def facts() -> Facts | None:
        prepared = runtime()
        return None if prepared is None else facts_of(prepared, PULSE)

    pages = {
        "/healthz": lambda: _verdict(why_not_alive(facts())),
        "/readyz": lambda: _verdict(why_not_ready(facts())),
        "/metrics": lambda: Answer(200, metrics.of_this_process(facts()), metrics.CONTENT_TYPE),
    }
    with server.serving(address, pages):
        yield


def facts_of(runtime: Runtime, pulse: Pulse) -> Facts:
    """One process at this moment; nothing is waited for."""
    busy, said = runtime.load, runtime.tally.said()
    return Facts(
        hub_seconds=pulse.seconds(),
        heartbeat_alive=all(thread.is_alive() for thread in runtime.heart),
        beat_seconds=runtime.beat_seconds(),
        stale_seconds=runtime.settings.stale_seconds,
        batch_seconds=0.0 if runtime.engine is None else runtime.engine.batch_seconds(),
        stall_seconds=runtime.settings.engine_wait_seconds,
        slots=runtime.settings.slots,
        in_hand=len(runtime.in_hand()),
        oldest_video_seconds=runtime.longest_active_seconds(),
        queued_windows=busy.queued,
        running_windows=busy.running,
        samplers=len(runtime.samplers.pids()),
        draining=runtime.draining.is_set(),
        ended={"done": said["videos_done"], "failed": said["videos_failed"]},
    )


def _verdict(reasons: list[str]) -> Answer:
    return Answer(503, "\n".join(reasons) + "\n") if reasons else Answer(200, "ok\n")
