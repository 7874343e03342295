"""Checks and how they are run: all at once, each within its time, and nothing one of them meets
ends the others.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from queue import Empty, SimpleQueue

from db.errors import ReelvecError
from db.masking import mask


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """One line. `advice`: what to do next, for warn and fail. The runner fills in `group`."""

    name: str
    status: Status
    fact: str
    advice: str = ""
    group: str = ""


@dataclass(frozen=True)
class Check:
    """`find` yields findings; whatever it raises, or taking longer than `seconds`, is a finding
    `name` that failed.

    `early`: it mostly waits for another process, and begins before the others.
    """

    group: str
    name: str
    find: Callable[[], Iterable[Finding]]
    seconds: float = 30.0
    early: bool = False


def ok(name: str, fact: str, advice: str = "") -> Finding:
    return Finding(name, Status.OK, fact, advice)


def warn(name: str, fact: str, advice: str) -> Finding:
    return Finding(name, Status.WARN, fact, advice)


def fail(name: str, fact: str, advice: str) -> Finding:
    return Finding(name, Status.FAIL, fact, advice)


def skipped(name: str, fact: str) -> Finding:
    return Finding(name, Status.SKIPPED, fact)


def failed_with(name: str, error: BaseException, *, advice_after: str = ": ") -> Finding:
    """A failure told by an error of this project, whose message says what to do behind
    `advice_after`.
    """
    fact, _, advice = str(error).partition(advice_after)
    advice = f"{advice_after.strip(' .:;')} {advice}".strip().rstrip(".")
    return fail(name, fact, advice or "the message says what to do")


def run(checks: Sequence[Check]) -> Iterator[Finding]:
    """Findings in the order of the checks. A check that hangs is left behind."""
    running = [_Running(check) for check in checks]
    for one in running:
        if one.check.early:
            one.start()
    for one in running:
        one.start()  # one by one: importing the same packages in several threads at once can break
        for finding in one.findings():
            yield _clean(finding, one.check.group)


class _Running:
    """One check in its own thread, which dies with the process whatever it waits for."""

    def __init__(self, check: Check) -> None:
        self.check = check
        self._thread = threading.Thread(target=self._run, name=check.name, daemon=True)
        self._found: SimpleQueue[Finding | None] = SimpleQueue()
        self._deadline: float | None = None

    def start(self) -> None:
        if self._deadline is None:
            self._deadline = time.monotonic() + self.check.seconds
            self._thread.start()

    def findings(self) -> Iterator[Finding]:
        """Each as soon as it is there."""
        assert self._deadline is not None
        while True:
            try:
                finding = self._found.get(timeout=max(0.0, self._deadline - time.monotonic()))
            except Empty:
                yield fail(
                    self.check.name,
                    f"no answer within {self.check.seconds:g} s",
                    "something that it asked does not answer: a name server, a network disk, a "
                    "firewall that drops packets",
                )
                return
            if finding is None:
                return
            yield finding

    def _run(self) -> None:
        try:
            for finding in self.check.find():
                self._found.put(finding)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the next checks must run
            self._found.put(_unexpected(self.check.name, error))
        self._found.put(None)


def _unexpected(name: str, error: BaseException) -> Finding:
    if isinstance(error, ReelvecError):
        return fail(name, str(error), "the message says what to do")
    text = f"{type(error).__name__}: {error}"
    return fail(
        name,
        f"this check failed unexpectedly: {text}",
        "the other checks still count; please report this line",
    )


def _clean(finding: Finding, group: str) -> Finding:
    return dataclasses.replace(
        finding, group=group, fact=_one_line(finding.fact), advice=_one_line(finding.advice)
    )


def _one_line(text: str) -> str:
    return " ".join(mask(text).split())
