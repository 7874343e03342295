"""What happens to a video after an error: pure policy, no clock and no database."""

from __future__ import annotations

import random
from dataclasses import dataclass

from db.errors import ErrorClass

MAX_ATTEMPTS = 8
MAX_STRIKES = 3
MAX_DELAY_SECONDS = 15 * 60
#: An outage is looked at again about this many first delays later.
INFRA_DELAYS = 12


@dataclass(frozen=True)
class Decision:
    """`state` is failed or pending; pending waits `delay_seconds`. `attempts` and `strikes` are the
    new counts.
    """

    state: str
    code: str
    attempts: int
    strikes: int
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
    if error_class is ErrorClass.INFRA and is_alone:
        return Decision("failed", code, attempts, strikes)
    if error_class is ErrorClass.INFRA:
        ceiling = min(
            MAX_DELAY_SECONDS, max(infra_delay_seconds(first_delay_seconds), waited_seconds)
        )
        return Decision("pending", code, attempts - 1, strikes, ceiling * (0.5 + chance / 2))
    if error_class in (ErrorClass.PERMANENT, ErrorClass.BAD_OUTPUT):
        return Decision("failed", code, attempts, strikes)
    if error_class is ErrorClass.STRIKE:
        strikes += 1
        if strikes >= MAX_STRIKES:
            return Decision("failed", "poison", attempts, strikes)
    if attempts >= MAX_ATTEMPTS:
        return Decision("failed", code, attempts, strikes)
    ceiling = min(MAX_DELAY_SECONDS, first_delay_seconds * 2.0 ** (attempts - 1))
    return Decision("pending", code, attempts, strikes, ceiling * (0.1 + 0.9 * chance))


def jitter() -> float:
    return random.random()  # noqa: S311 - spreads load, guards nothing
