"""The lines that answer "is it working?". Pure: what the ledger says in, words and an exit code out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from db.fleet import Fleet
from db.results import WINDOW_SECONDS, Outage, Progress, Recent
from db.retries import MAX_DELAY_SECONDS

#: An outage lasts this long, nothing has ended meanwhile, no run is as old: it blocks everything, not only some videos.
BLOCKED_SECONDS = 30.0
#: A video that met an outage is tried again within this, if anybody works.
RECURS_SECONDS = 2.0 * MAX_DELAY_SECONDS
#: Codes and workers shown in one line; `--json` has all.
SHOWN = 5
EXAMPLE_CHARACTERS = 200

#: What to do about each code of class INFRA.
REMEDIES = {
    "access_denied": "let the workers' key read these videos",
    "bad_credentials": "fix the key on the workers",
    "no_bucket": "check the bucket's name and the workers' endpoint and region",
    "unreachable": "check the address, and name service and network on the workers",
    "unavailable": "check that Postgres answers the workers",
}


@dataclass(frozen=True)
class Verdict:
    """`state` is RUNNING, BLOCKED, STALLED, PAUSED, DONE or IDLE; exit code 0, or 1 when somebody has to do something.

    `videos_per_second` is the rate of the last 10 minutes, for DONE of the last 10 minutes of work. `seconds_left` leaves
    out videos that wait for a later retry.
    """

    state: str
    line: str
    exit_code: int
    videos_per_second: float
    seconds_left: float | None


def judge(
    rows: Sequence[Progress],
    recent: Recent,
    fleet: Fleet,
    *,
    codes: Sequence[tuple[str, int]] = (),
    outages: Sequence[Outage] = (),
    delayed: int = 0,
    oldest_run_seconds: float | None = None,
) -> Verdict:
    """`rows` begin with the total. `codes`: failed videos by code. `delayed` of the waiting are tried again later.

    `oldest_run_seconds` is how long ago the oldest run under way began.
    """
    if not rows:
        return Verdict("IDLE", "IDLE  nothing is recorded yet: enqueue SOURCE", 0, 0.0, None)
    total = rows[0]
    left = total.running + total.waiting
    ended = f"{total.done:,} done, {total.failed:,} failed"
    if left == 0:
        rate = _rate(recent, idle_seconds=0.0)
        reasons = f" ({', '.join(f'{code} {count:,}' for code, count in codes[:SHOWN])})" if codes else ""
        cancelled = f", {total.cancelled:,} cancelled" if total.cancelled else ""
        speed = f" · {rate:.1f} videos/s" if rate else ""
        return Verdict("DONE", f"DONE  {ended}{reasons}{cancelled}{speed}", 0, rate, None)
    rate = _rate(recent, idle_seconds=recent.idle_seconds)
    if fleet.paused:
        reason = f": {fleet.pause_reason}" if fleet.pause_reason else ""
        line = f"PAUSED{reason}  {ended}, {left:,} waiting; go on with: reelvec pause --resume"
        return Verdict("PAUSED", line, 1, rate, None)
    if fleet.alive == 0:
        line = f"STALLED  {left:,} waiting, no worker alive: run reelvec worker on a node with the same addresses"
        return Verdict("STALLED", line, 1, rate, None)
    if is_blocked(recent, outages, oldest_run_seconds):
        line = f"BLOCKED  {ended}, {left:,} waiting; nothing finishes any more: {outages[0].error_code}"
        return Verdict("BLOCKED", line, 1, rate, None)
    return _running(total, left, delayed, rate)


def is_blocked(recent: Recent, outages: Sequence[Outage], oldest_run_seconds: float | None) -> bool:
    """Tries meet an outage again and again, none has ended since, and nobody works on a video that got past it."""
    if not outages or max(outage.waited_seconds for outage in outages) < BLOCKED_SECONDS:
        return False
    newest_try_seconds = min(outage.newest_try_seconds for outage in outages)
    if newest_try_seconds > RECURS_SECONDS:
        return False
    if recent.idle_seconds is not None and recent.idle_seconds < max(BLOCKED_SECONDS, newest_try_seconds):
        return False
    return oldest_run_seconds is None or oldest_run_seconds < BLOCKED_SECONDS


def _running(total: Progress, left: int, delayed: int, rate: float) -> Verdict:
    ended = total.done + total.failed
    share = f" ({100 * total.failed / ended:.1f} %)" if total.failed else ""
    seconds_left = (left - delayed) / rate if rate > 0 and left > delayed else None
    parts = [f"{total.done:,} of {total.videos - total.cancelled:,} done, {total.failed:,} failed{share}"]
    if seconds_left is not None:
        parts += [f"{rate:.1f} videos/s", f"done in {duration(seconds_left)}"]
    elif left > delayed:
        parts.append("no rate yet")
    if delayed:
        parts.append(f"{delayed:,} are tried again later")
    return Verdict("RUNNING", f"RUNNING  {' · '.join(parts)}", 0, rate, seconds_left)


def _rate(recent: Recent, *, idle_seconds: float | None) -> float:
    """Videos ended per second: over the time they took, and the time since in which none did."""
    if idle_seconds is None or idle_seconds > WINDOW_SECONDS:
        return 0.0
    return recent.ended / max(1.0, recent.span_seconds + idle_seconds)


def waiting_line(outages: Sequence[Outage]) -> str | None:
    """What videos wait for that is no fault of theirs, and what to do about the commonest; None: nothing."""
    if not outages:
        return None
    first = outages[0]
    example = first_line(first.example)[:EXAMPLE_CHARACTERS]
    shown = [f"{first.error_code} {first.videos:,} ({example})"]
    shown += [f"{outage.error_code} {outage.videos:,}" for outage in outages[1:]]
    remedy = REMEDIES[first.error_code]
    count = sum(outage.videos for outage in outages)
    return f"WAITING  {count:,} videos wait for: {', '.join(shown)}; no attempts burnt; {remedy}"


def workers_line(fleet: Fleet, *, running: int) -> str:
    """Who works, how full their hands are, and who went missing."""
    beat = "none yet" if fleet.last_beat_seconds is None else f"{duration(fleet.last_beat_seconds)} ago"
    draining = f" ({fleet.draining} draining)" if fleet.draining else ""
    line = f"workers alive {fleet.alive}{draining}, {running:,} videos in hand, last beat {beat}"
    if not fleet.stale:
        return line
    named = [f"{worker.host} pid {worker.pid} ({duration(worker.beat_seconds)})" for worker in fleet.stale[:SHOWN]]
    more = len(fleet.stale) - len(named)
    return f"{line} · without a beat {len(fleet.stale)}: {', '.join(named)}" + (f" and {more} more" if more else "")


def failures_line(codes: Sequence[tuple[str, int]]) -> str | None:
    """Failed videos by code, with the command that shows the commonest; None: none failed."""
    if not codes:
        return None
    shown = " · ".join(f"{code} {count:,}" for code, count in codes)
    return f"failures {shown}  → reelvec status --failed --error {codes[0][0]}"


def first_line(text: str) -> str:
    """The first line of an error text, without what would break a table or a terminal."""
    line = text.strip().partition("\n")[0]
    return "".join(character if character.isprintable() else " " for character in line).strip()


def duration(seconds: float) -> str:
    """`2 h 25 min`, `3 min`, `40 s`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours / 24:.0f} days"
