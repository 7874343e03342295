"""What one worker process knows of itself, and what follows from it: whether it lives, whether it
takes work. Pure.

A process lives while it can make progress by itself. A Postgres or a broker that is away is no
reason to end it: it takes no work meanwhile, and goes on when they are back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Celery's hub turns every second. What blocks it at times, a call to a silent broker, ends with
#: its socket's limit of 5 s.
HUB_SECONDS = 60.0
#: A process ends itself when a batch reaches the engine's limit; one that is still there so much
#: later cannot.
STALL_GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class Facts:
    """One worker process at one moment. Ages are in seconds; None where there is nothing yet that
    could have one.

    `hub_seconds`, `beat_seconds`: since the last turn of Celery's hub, and the last beat that
    Postgres took; `batch_seconds`: how long the oldest batch has been on the device, of
    `stall_seconds` that it may; `stale_seconds`: the age of a beat from which on others hold this
    process for dead. `ended` counts videos done and attempts failed.
    """

    hub_seconds: float | None
    heartbeat_alive: bool
    beat_seconds: float | None
    stale_seconds: float
    batch_seconds: float
    stall_seconds: float
    slots: int
    in_hand: int
    oldest_video_seconds: float
    queued_windows: int
    running_windows: int
    samplers: int
    draining: bool = False
    ended: Mapping[str, int] = field(default_factory=dict)

    @property
    def connected(self) -> bool:
        """Whether the consumer is connected to the broker; only then is there a hub to turn."""
        return self.hub_seconds is not None


def why_not_alive(facts: Facts | None) -> list[str]:
    """Why this process will not make progress any more; None: it is still preparing, and has
    deadlines of its own there.
    """
    if facts is None:
        return []
    reasons = []
    if facts.hub_seconds is not None and facts.hub_seconds > HUB_SECONDS and not facts.draining:
        reasons.append(f"Celery's event loop has not turned for {facts.hub_seconds:.0f} s")
    if not (facts.heartbeat_alive or facts.draining):
        reasons.append("a thread of the heartbeat has ended")
    if facts.batch_seconds > facts.stall_seconds + STALL_GRACE_SECONDS:
        reasons.append(f"a batch has been on the device for {facts.batch_seconds:.0f} s")
    return reasons


def why_not_ready(facts: Facts | None) -> list[str]:
    """Why this process takes no work now."""
    if facts is None:
        return ["it is preparing"]
    reasons = why_not_alive(facts)
    if facts.draining:
        reasons.append("it is draining")
    if not facts.connected:
        reasons.append("the broker is not connected")
    if facts.beat_seconds is None or facts.beat_seconds > facts.stale_seconds:
        since = "yet" if facts.beat_seconds is None else f"for {facts.beat_seconds:.0f} s"
        reasons.append(f"Postgres has accepted no heartbeat {since}")
    return reasons
