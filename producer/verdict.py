"""The one line that answers "is it working?". Pure: rows in, verdict out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from db.results import Fleet, Progress


@dataclass(frozen=True)
class Verdict:
    """`state` is RUNNING, STALLED, PAUSED, DONE or IDLE; exit code 0, or 1 when somebody has to do something."""

    state: str
    line: str
    exit_code: int
    videos_per_second: float
    seconds_left: float | None


def judge(rows: Sequence[Progress], rate: float, fleet: Fleet) -> Verdict:
    """`rows` are those of the `progress` view, `rate` videos finished per second lately."""
    total = next((row for row in rows if row.category == "(all)"), None)
    if total is None or total.videos == 0:
        return Verdict("IDLE", "IDLE  nothing is recorded yet: enqueue SOURCE", 0, 0.0, None)
    left = total.running + total.waiting
    ended = f"{total.done:,} done, {total.failed:,} failed"
    if left == 0:
        return Verdict("DONE", f"DONE  {ended}", 0, rate, None)
    if fleet.paused:
        reason = f": {fleet.pause_reason}" if fleet.pause_reason else ""
        line = f"PAUSED{reason}  {ended}, {left:,} waiting; go on with: reelvec pause --resume"
        return Verdict("PAUSED", line, 1, rate, None)
    if fleet.alive == 0:
        line = f"STALLED  {left:,} waiting, no worker alive: run reelvec worker on a node with the same addresses"
        return Verdict("STALLED", line, 1, rate, None)
    seconds_left = left / rate if rate > 0 else None
    when = "no rate yet" if seconds_left is None else f"done in {duration(seconds_left)}"
    line = f"RUNNING  {total.done:,} of {total.videos:,} done, {total.failed:,} failed · {rate:.1f} videos/s · {when}"
    return Verdict("RUNNING", line, 0, rate, seconds_left)


def duration(seconds: float) -> str:
    """`2 h 25 min`, `3 min`, `40 s`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours / 24:.0f} days"
