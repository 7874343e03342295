"""What the page Now shows: the same look at ledger and broker as `reelvec status`, the pace over
time, examples of failures, and the command that mends each trouble.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import Engine

from db import session
from db.canary.drifts import Drifts
from db.errors import VIDEO_ERRORS, ReelvecError
from db.jobs.selection import Selection
from db.progress import history, rates
from db.progress.halts import Halts
from db.progress.history import History
from db.progress.rates import Failed
from producer.status import lines, snapshot
from producer.status.broker import Question
from producer.status.snapshot import Snapshot
from producer.wording import SHOWN, listed

log = logging.getLogger(__name__)

#: Examples shown of each reason.
EXAMPLES = 2


@dataclass(frozen=True)
class Trouble:
    """What holds videos up. `kind` as `reelvec status` begins its line; `command` mends it, or says
    more about it.
    """

    kind: str
    sentence: str
    command: str | None


@dataclass(frozen=True)
class Reason:
    """Failed videos of one code, what the code means, and what to do."""

    code: str
    videos: int
    meaning: str
    cure: str
    command: str
    examples: tuple[Failed, ...]


@dataclass(frozen=True)
class Now:
    """`snapshot` is None until the database has answered once; `away` says why there are no newer
    ones. `made_at` is when the numbers were made.
    """

    snapshot: Snapshot | None
    history: History
    reasons: tuple[Reason, ...]
    made_at: datetime
    away: str | None = None


class Looking:
    """One look after the other; while the database is away the last one is kept."""

    def __init__(self, database: Engine, broker_url: str) -> None:
        self._database = database
        self._broker_url = broker_url
        self._last = Now(None, History(0.0, None), (), datetime.now(UTC))

    def take(self) -> Now:
        """Never raises: that the database is away is part of what is seen, and so is a mistake."""
        try:
            self._last = self.look()
        except ReelvecError as error:
            self._last = replace(self._last, away=str(error))
        except Exception as error:
            log.exception("the numbers of the page Now could not be made")
            self._last = replace(self._last, away=f"{type(error).__name__}: {error}")
        return self._last

    def look(self) -> Now:
        """Raises `UnavailableError`."""
        seen = snapshot.take(self._database, Question(self._broker_url))
        with session.transaction(self._database) as connection:
            paces = history.read(connection)
            examples = {
                code: rates.failures(connection, Selection(codes=(code,)), limit=EXAMPLES)
                for code, _ in seen.codes[:SHOWN]
            }
        reasons = tuple(_reason(code, count, examples.get(code, [])) for code, count in seen.codes)
        return Now(seen, paces, reasons, datetime.now(UTC))


def _reason(code: str, videos: int, examples: list[Failed]) -> Reason:
    known = VIDEO_ERRORS.get(code)
    return Reason(
        code,
        videos,
        "" if known is None else known.meaning,
        "" if known is None else known.cure.replace("`", ""),
        command("reelvec", "retry", "--error", code),
        tuple(examples),
    )


def command(*words: str) -> str:
    """As it can be pasted into a shell, whatever the names in it are."""
    return shlex.join(words)


def remedy(seen: Snapshot) -> str | None:
    """The command for the verdict itself; None where nothing is to be done."""
    state = seen.verdict.state
    if state == "PAUSED":
        return command("reelvec", "pause", "--resume")
    if state == "STALLED" and seen.fleet.alive == 0:
        return command("reelvec", "worker")
    if state in ("STALLED", "BUSY"):
        return command("reelvec", "status", "--workers")
    if state == "BLOCKED":
        return command("reelvec", "doctor")
    if seen.verdict.exit_code and seen.codes:
        return command("reelvec", "status", "--failed", "--error", seen.codes[0][0])
    return None


def troubles(seen: Snapshot) -> tuple[Trouble, ...]:
    """All of them, in the order of `reelvec status`, each in its words."""
    return tuple(_troubles(seen))


def _troubles(seen: Snapshot) -> Iterator[Trouble]:
    doctor = command("reelvec", "doctor")
    if waits := lines.waiting(seen.outages):
        yield _trouble(waits, doctor)
    for place in seen.halts.places[:SHOWN]:
        yield _trouble(lines.halted(Halts(1, (place,)))[0], doctor)
    if (more := seen.halts.closed_places - min(SHOWN, len(seen.halts.places))) > 0:
        yield _trouble(lines.halted(Halts(more))[0], command("reelvec", "status", "--json"))
    for refusal in seen.halts.workers:
        yield _trouble(lines.halted(Halts(workers=(refusal,)))[0], doctor)
    for paused in seen.halts.backbones:
        resume = command("reelvec", "pause", "--backbone", paused.backbone, "--resume")
        yield _trouble(lines.halted(Halts(backbones=(paused,)))[0], resume)
    for drift in seen.drifts.refused:
        accept = ("reelvec", "models", "accept", drift.encoder, "--worker", drift.worker)
        yield _trouble(lines.drifts(Drifts(refused=(drift,)))[0], command(*accept))
    for dispute in seen.drifts.disputed:
        accept = ("reelvec", "models", "accept", dispute.encoder, "--worker", "NAME")
        yield _trouble(lines.drifts(Drifts(disputed=(dispute,)))[0], command(*accept))
    for model in seen.models:
        for line in lines.weights((model,), seen.drifts):
            yield _trouble(line, command("reelvec", "models", "fetch", model.encoder))


def _trouble(line: str, mending: str) -> Trouble:
    kind, _, sentence = line.partition("  ")
    return Trouble(kind, sentence, mending)


@dataclass(frozen=True)
class WorkerRow:
    """One worker: its cells by the columns of `reelvec status --workers`."""

    cells: dict[str, str]
    is_alive: bool


def worker_rows(seen: Snapshot) -> list[WorkerRow]:
    """The live workers first, by host and name."""
    refused: dict[tuple[str, int], list[str]] = {}
    for refusal in seen.halts.workers:
        refused.setdefault((refusal.host, refusal.pid), []).append(refusal.place)
    return [
        WorkerRow(
            dict(
                zip(
                    lines.WORKER_COLUMNS,
                    lines.worker_cells(
                        worker,
                        is_alive=is_alive,
                        refuses=refused.get((worker.host, worker.pid), []),
                    ),
                    strict=True,
                )
            ),
            is_alive,
        )
        for members, is_alive in ((seen.fleet.workers, True), (seen.fleet.stale, False))
        for worker in sorted(members, key=lambda one: (one.host, one.name or "", one.pid))
    ]


def verdict_words(seen: Snapshot) -> tuple[str, ...]:
    """What follows the state in the verdict's line, part by part."""
    return tuple(seen.verdict.line.removeprefix(seen.verdict.state).strip(" :").split(" · "))


def gone(seen: Snapshot) -> str:
    """Who stopped beating, as one line."""
    return listed([lines.named(one.host, one.name, one.pid) for one in seen.fleet.stale])
