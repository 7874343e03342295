"""The line that answers "is it working?". Pure: what the ledger and the broker say in, words and an
exit code out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from db.jobs.retries import MAX_DELAY_SECONDS
from db.progress.census import Progress, Waiting
from db.progress.fleet import Fleet
from db.progress.halts import Halts
from db.progress.models import ModelProgress
from db.progress.rates import OUR_CODES, WINDOW_SECONDS, Outage, Recent
from producer.status.broker import Broker
from producer.wording import counted, duration, listed, plural

#: An outage lasts this long, nothing has ended meanwhile, no run is as old: it blocks everything,
#: not only some videos.
BLOCKED_SECONDS = 30.0
#: A video that met an outage is tried again within this, if anybody works.
RECURS_SECONDS = 2.0 * MAX_DELAY_SECONDS
#: Work is ready and nobody has taken any for so long: nobody does.
SILENT_SECONDS = 60.0
#: Workers whose slots are all taken may be busy with long videos; but not for longer than this.
BUSY_SECONDS = 600.0
#: So many failures, and this share of what ended lately, are no accident of single files.
MANY_FAILURES, HIGH_SHARE = 5, 0.2


@dataclass(frozen=True)
class Verdict:
    """`state` is RUNNING, BUSY, FAILING, BLOCKED, STALLED, PAUSED, DONE or IDLE; exit code 1 when
    somebody must do something.

    `videos_per_second` is the rate at which videos got done over the last 10 minutes, for DONE over
    the last 10 minutes of work; `failed_per_second` that of failures. `seconds_left` counts every
    video that waits, later retries too; None: it is not known.
    """

    state: str
    line: str
    exit_code: int
    videos_per_second: float
    failed_per_second: float
    seconds_left: float | None


@dataclass(frozen=True)
class Facts:
    """What is judged. `rows` begin with the total; `codes` are failed videos by code.

    `unclaimed_seconds`: how long videos have been ready without one being claimed;
    `oldest_run_seconds`: how long ago the oldest run under way began.
    """

    rows: Sequence[Progress]
    recent: Recent
    fleet: Fleet
    broker: Broker
    waiting: Waiting = field(default_factory=Waiting)
    halts: Halts = field(default_factory=Halts)
    codes: Sequence[tuple[str, int]] = ()
    outages: Sequence[Outage] = ()
    unclaimed_seconds: float = 0.0
    oldest_run_seconds: float | None = None
    models: Sequence[ModelProgress] = ()

    @property
    def total(self) -> Progress:
        return self.rows[0]

    @property
    def left(self) -> int:
        return self.total.running + self.total.waiting

    @property
    def taking(self) -> int:
        """Workers that take videos."""
        return self.fleet.alive - self.fleet.draining

    @property
    def all_taken(self) -> bool:
        """Every place in the workers holds a video."""
        return 0 < self.fleet.in_flight <= self.total.running

    @property
    def share_failed(self) -> float:
        """Of what ended lately."""
        return self.recent.failed / max(1, self.recent.done + self.recent.failed)

    @property
    def many_fail(self) -> bool:
        return self.recent.failed >= MANY_FAILURES and self.share_failed >= HIGH_SHARE

    @property
    def is_our_fault(self) -> bool:
        """Many fail lately, and by far not only for what their files are like."""
        ended = self.recent.done + self.recent.failed
        return self.recent.ours >= MANY_FAILURES and self.recent.ours >= HIGH_SHARE * ended

    @property
    def ended(self) -> str:
        return f"{self.total.done:,} done, {self.total.failed:,} failed"


def judge(facts: Facts) -> Verdict:
    """The first of these that holds is the state."""
    if not facts.rows:
        line = f"IDLE  nothing is recorded yet: enqueue SOURCE{_paused_too(facts)}"
        return Verdict("IDLE", line, 0, 0.0, 0.0, None)
    if facts.left == 0:
        return _done(facts)
    return _halted(facts) or _unclaimed(facts) or _running(facts)


def _halted(facts: Facts) -> Verdict | None:
    """Nothing that is left can go on."""
    if facts.fleet.paused:
        why = f": {facts.fleet.pause_reason}" if facts.fleet.pause_reason else ""
        return _stopped(
            "PAUSED", facts, f"go on with: reelvec pause --resume{_broker_too(facts)}", why
        )
    if facts.fleet.alive == 0:
        line = (
            f"STALLED  {facts.left:,} waiting, no worker alive: run reelvec worker on a node with "
            "the same addresses"
        )
        return _verdict("STALLED", facts, f"{line}{_broker_too(facts)}", exit_code=1)
    reason = _why_nothing_can_go_on(facts)
    return _stopped("BLOCKED", facts, reason) if reason else None


def _done(facts: Facts) -> Verdict:
    total, rate = facts.total, facts.recent.done / max(1.0, facts.recent.span_seconds)
    reasons = f" ({counted(facts.codes)})" if facts.codes else ""
    parts = [
        f"{facts.ended}{reasons}" + (f", {total.cancelled:,} cancelled" if total.cancelled else "")
    ]
    parts += [f"{rate:.1f} videos/s"] if rate else []
    ours = sum(count for code, count in facts.codes if code in OUR_CODES)
    blame = ours >= MANY_FAILURES and ours >= HIGH_SHARE * (total.done + total.failed)
    if blame:
        parts.append(
            "so many failed for a reason that is not in their files: repair the cause, then "
            "reelvec retry"
        )
    failed_rate = facts.recent.failed / max(1.0, facts.recent.span_seconds)
    line = f"DONE  {' · '.join(parts)}{_paused_too(facts)}"
    return Verdict("DONE", line, int(blame), rate, failed_rate, None)


def _paused_too(facts: Facts) -> str:
    """What will hold up the next videos, where none is left."""
    if not facts.fleet.paused:
        return ""
    why = f" ({facts.fleet.pause_reason})" if facts.fleet.pause_reason else ""
    return f" · paused{why}, so no other video will begin: reelvec pause --resume"


def _why_nothing_can_go_on(facts: Facts) -> str | None:
    """The one cause that holds up everything that is left; None: there is none."""
    waiting, halts = facts.waiting, facts.halts
    if facts.broker.error is not None:
        return f"the broker at {facts.broker.address} {facts.broker.problem}"
    if is_blocked(facts.recent, facts.outages, facts.oldest_run_seconds):
        return f"nothing finishes any more: {facts.outages[0].error_code}"
    if facts.total.running or waiting.ready or waiting.delayed:
        return None
    if not (waiting.closed or waiting.paused or waiting.weights):
        return None
    causes = [f"behind closed places: {_places(halts)}"] if waiting.closed else []
    causes += [f"for paused backbones: {_backbones(halts)}"] if waiting.paused else []
    causes += [f"for weights that no live worker has: {_lacking(facts)}"] if waiting.weights else []
    return f"all of them wait {', '.join(causes)}"


def is_blocked(recent: Recent, outages: Sequence[Outage], oldest_run_seconds: float | None) -> bool:
    """Tries meet an outage again and again, none has ended since, and nobody works on a video that
    got past it.
    """
    if not outages or max(outage.waited_seconds for outage in outages) < BLOCKED_SECONDS:
        return False
    newest_try_seconds = min(outage.newest_try_seconds for outage in outages)
    if newest_try_seconds > RECURS_SECONDS:
        return False
    if recent.idle_seconds is not None and recent.idle_seconds < max(
        BLOCKED_SECONDS, newest_try_seconds
    ):
        return False
    return oldest_run_seconds is None or oldest_run_seconds < BLOCKED_SECONDS


def _unclaimed(facts: Facts) -> Verdict | None:
    """Videos are ready, workers beat, the broker answers, and nothing was claimed for a minute."""
    if not facts.waiting.ready or facts.unclaimed_seconds < SILENT_SECONDS:
        return None
    unclaimed = (
        f"{facts.waiting.ready:,} are ready and none was claimed for "
        f"{duration(facts.unclaimed_seconds)}"
    )
    if facts.all_taken and facts.unclaimed_seconds < BUSY_SECONDS:
        line = (
            f"BUSY  {facts.ended}, {facts.left:,} left; all {facts.fleet.in_flight:,} slots are "
            f"taken: {unclaimed}"
        )
        return _verdict("BUSY", facts, line)
    state, why = _why_unclaimed(facts)
    return _stopped(state, facts, f"{unclaimed}; {why}")


def _why_unclaimed(facts: Facts) -> tuple[str, str]:
    """BLOCKED for what the ledger knows of, STALLED where workers do not do what they could; and
    why.
    """
    halts, fleet = facts.halts, facts.fleet
    if facts.all_taken:
        oldest = duration(facts.oldest_run_seconds or 0.0)
        return (
            "STALLED",
            f"all {fleet.in_flight:,} slots are taken, the longest for {oldest}: see the workers' "
            "logs",
        )
    if not facts.taking:
        return "STALLED", "every worker alive is draining: start one"
    if halts.workers:
        refused = [
            f"{refuser.name or refuser.pid} on {refuser.host} cannot read {refuser.place} "
            f"({refuser.error_code})"
            for refuser in halts.workers
        ]
        return "BLOCKED", listed(refused)
    if halts.backbones:
        return "BLOCKED", f"paused: {_backbones(halts)}"
    if not facts.broker.messages:
        return "STALLED", "the broker holds no message: a worker sends them again in a minute"
    beating = plural(facts.taking, "worker is alive and takes", "workers are alive and take")
    beating += f" none of {plural(facts.broker.messages, 'message')}"
    return "STALLED", f"{beating}: see their logs, restart them"


def _running(facts: Facts) -> Verdict:
    waiting, halts, total = facts.waiting, facts.halts, facts.total
    rate, failed_rate = _rates(facts)
    parts = [f"{total.done:,} of {total.videos - total.cancelled:,} done, {_failures(facts)}"]
    if waiting.ready or total.running:
        parts += [f"{rate:.1f} videos/s"] if rate + failed_rate else ["no rate yet"]
        parts += _time_left(facts, rate + failed_rate)
    if waiting.delayed:
        parts.append(
            f"{waiting.delayed:,} are tried again later, the last in "
            f"{duration(waiting.delay_seconds)}"
        )
    parts += (
        [f"{waiting.closed:,} wait behind closed places: {_places(halts)}"]
        if waiting.closed
        else []
    )
    parts += (
        [f"{waiting.paused:,} wait for paused backbones: {_backbones(halts)}"]
        if waiting.paused
        else []
    )
    parts += [f"{waiting.weights:,} wait for weights: {_lacking(facts)}"] if waiting.weights else []
    state = "FAILING" if facts.is_our_fault else "RUNNING"
    left = None
    if rate + failed_rate and not (waiting.closed or waiting.paused or waiting.weights):
        left = max(facts.left / (rate + failed_rate), waiting.delay_seconds)
    line = f"{state}  {' · '.join(parts)}"
    needs_somebody = facts.is_our_fault or waiting.paused > 0 or waiting.weights > 0
    return _verdict(state, facts, line, exit_code=int(needs_somebody), seconds_left=left)


def _failures(facts: Facts) -> str:
    """Failures apart from what got done; where many fail they are said as what they are."""
    total, recent = facts.total, facts.recent
    if not facts.many_fail:
        share = 100 * total.failed / max(1, total.done + total.failed)
        return f"{total.failed:,} failed ({share:.1f} %)" if total.failed else "0 failed"
    of = f"{recent.failed:,} of the last {recent.done + recent.failed:,}"
    return f"{total.failed:,} FAILED, {of} that ended ({counted(facts.codes)})"


def _time_left(facts: Facts, rate: float) -> list[str]:
    """When what is ready will have ended: "done" is said only where most get done and nothing waits
    for anything else.
    """
    if not rate:
        return []
    waiting = facts.waiting
    others = waiting.delayed + waiting.closed + waiting.paused + waiting.weights
    time_left = duration((facts.left - others) / rate)
    if facts.many_fail:
        return [f"the rest is tried in {time_left}"]
    return [f"what is ready is done in {time_left}" if others else f"done in {time_left}"]


def _stopped(state: str, facts: Facts, reason: str, why: str = "") -> Verdict:
    line = f"{state}{why}  {facts.ended}, {facts.left:,} waiting; {reason}"
    return _verdict(state, facts, line, exit_code=1)


def _verdict(
    state: str, facts: Facts, line: str, *, exit_code: int = 0, seconds_left: float | None = None
) -> Verdict:
    return Verdict(state, line, exit_code, *_rates(facts), seconds_left)


def _rates(facts: Facts) -> tuple[float, float]:
    """Videos done and failed per second: over the time they took, and the time since in which none
    ended.
    """
    recent = facts.recent
    if recent.idle_seconds is None or recent.idle_seconds > WINDOW_SECONDS:
        return 0.0, 0.0
    seconds = max(1.0, recent.span_seconds + recent.idle_seconds)
    return recent.done / seconds, recent.failed / seconds


def _broker_too(facts: Facts) -> str:
    if facts.broker.error is None:
        return ""
    return f" · also, the broker at {facts.broker.address} {facts.broker.problem}"


def _places(halts: Halts) -> str:
    return listed(
        [f"{place.place} ({place.error_code})" for place in halts.places], halts.closed_places
    )


def _lacking(facts: Facts) -> str:
    return listed([model.encoder for model in facts.models if model.waiting_for_weights])


def _backbones(halts: Halts) -> str:
    return listed([f"{paused.backbone} ({paused.reason})" for paused in halts.backbones])
