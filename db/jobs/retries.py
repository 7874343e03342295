"""What happens to a video after an error: pure policy, no clock and no database."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from db.errors import ErrorClass

MAX_ATTEMPTS = 8
MAX_STRIKES = 3
#: So often are a video's frames sampled in vain, because what was written of them is not there or
#: damaged when it is read.
MAX_FRAMES_LOST = 3
MAX_DELAY_SECONDS = 15 * 60
#: An outage is looked at again about this many first delays later.
INFRA_DELAYS = 12


@dataclass(frozen=True)
class Decision:
    """`state` is failed or pending; pending waits `delay_seconds`. `attempts` and `strikes` are the
    new counts, as is `frames_lost`.
    """

    state: str
    code: str
    attempts: int
    strikes: int
    frames_lost: int = 0
    delay_seconds: float = 0.0


def infra_delay_seconds(first_delay_seconds: float) -> float:
    """How long an outage is left alone, and how long a video must have waited before it may be
    blamed for one.
    """
    return first_delay_seconds * INFRA_DELAYS


def decide(
    error_class: ErrorClass,
    code: str,
    *,
    attempts: int,
    strikes: int,
    frames_lost: int = 0,
    first_delay_seconds: float,
    chance: float,
    waited_seconds: float = 0.0,
    is_alone: bool = False,
) -> Decision:
    """Policy for one failed attempt.

    `attempts` counts this one. `chance` in [0, 1) spreads the delays (full jitter), so that an
    outage's end is no stampede. `waited_seconds`: since its first error of class INFRA. `is_alone`:
    since then another object of the same place was read, so that this one is at fault after all.
    """
    kept = Decision("pending", code, attempts, strikes, frames_lost)
    failed = replace(kept, state="failed")
    if error_class in (ErrorClass.PERMANENT, ErrorClass.BAD_OUTPUT) or is_alone:
        return failed
    if error_class is ErrorClass.INFRA:
        ceiling = min(
            MAX_DELAY_SECONDS, max(infra_delay_seconds(first_delay_seconds), waited_seconds)
        )
        return replace(kept, attempts=attempts - 1, delay_seconds=ceiling * (0.5 + chance / 2))
    if error_class is ErrorClass.FRAMES:
        lost = replace(kept, attempts=attempts - 1, frames_lost=frames_lost + 1)
        return replace(lost, state="failed") if lost.frames_lost >= MAX_FRAMES_LOST else lost
    if error_class is ErrorClass.STRIKE:
        kept, failed = replace(kept, strikes=strikes + 1), replace(failed, strikes=strikes + 1)
        if kept.strikes >= MAX_STRIKES:
            return replace(failed, code="poison")
    if attempts >= MAX_ATTEMPTS:
        return failed
    ceiling = min(MAX_DELAY_SECONDS, first_delay_seconds * 2.0 ** (attempts - 1))
    return replace(kept, delay_seconds=ceiling * (0.1 + 0.9 * chance))


def jitter() -> float:
    return random.random()  # noqa: S311 - spreads load, guards nothing
