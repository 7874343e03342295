"""What may be changed from the page, where it was started with `--allow-changes`: the same steps as
`reelvec retry`, `cancel` and `pause` take, with the same record of who took them.

Every step is asked for first: the question holds a token that is good for this one step, once.
"""

from __future__ import annotations

import secrets
import shlex
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from sqlalchemy import Connection, Engine

from db import session
from db.jobs import steering
from db.jobs.selection import Selection
from producer.selectors import Selectors

#: By action: what it may be asked for, as the options of the command are called.
ACTIONS: Mapping[str, tuple[str, ...]] = {
    "retry": ("category", "error"),
    "cancel": ("category", "error"),
    "pause": ("backbone",),
    "resume": ("backbone",),
}
#: The states of the videos that an action changes, where it changes videos.
STATES = {"retry": ("failed",), "cancel": ("pending", "queued")}
TOKEN_SECONDS, TOKENS = 600.0, 1000
NAME_CHARACTERS = 500


@dataclass(frozen=True)
class Change:
    """One step: `chosen` are its options by name."""

    action: str
    chosen: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, action: str, asked: Mapping[str, str]) -> Change | None:
        """From the words of an address or a form; None: there is no such step."""
        if action not in ACTIONS:
            return None
        given = ((name, asked.get(name, "").replace("\0", "")) for name in ACTIONS[action])
        return cls(action, tuple((name, text[:NAME_CHARACTERS]) for name, text in given if text))

    @classmethod
    def of_command(cls, command: str) -> Change | None:
        """The step that a command of `producer.ui.now` takes; None: the page cannot take it."""
        action, *options = shlex.split(command)[1:] or [""]
        if action == "pause" and "--resume" in options:
            action, options = "resume", [word for word in options if word != "--resume"]
        names = [word.removeprefix("--") for word in options[::2]]
        if action not in ACTIONS or not set(names) <= set(ACTIONS[action]):
            return None
        return cls.of(action, dict(zip(names, options[1::2], strict=True)))

    @property
    def address(self) -> str:
        """Of its question."""
        query = f"?{urlencode(self.chosen)}" if self.chosen else ""
        return f"/change/{self.action}{query}"

    @property
    def options(self) -> str:
        """As `reelvec status --log` shows them."""
        return shlex.join(word for name, text in self.chosen for word in (f"--{name}", text))

    @property
    def command(self) -> str:
        """What does the same on a command line."""
        words = "pause --resume" if self.action == "resume" else self.action
        return " ".join(filter(None, ("reelvec", words, self.options)))

    @property
    def selection(self) -> Selection:
        """The videos meant. Raises `UsageError` for an error code that there is not."""
        given = dict(self.chosen)
        return Selectors(
            [given["category"]] if "category" in given else None,
            [given["error"]] if "error" in given else None,
        ).parsed()

    @property
    def backbones(self) -> list[str]:
        """The models named. Raises `UsageError` for one that nobody knows."""
        from workers.backbones import registry

        return [registry.get(text).name for name, text in self.chosen if name == "backbone"]


class Tokens:
    """Each belongs to one step and is taken once, within ten minutes."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._open: OrderedDict[str, tuple[Change, float]] = OrderedDict()

    def new(self, change: Change) -> str:
        token = secrets.token_urlsafe(32)
        self._open[token] = change, self._now() + TOKEN_SECONDS
        while len(self._open) > TOKENS:
            self._open.popitem(last=False)
        return token

    def take(self, token: str, change: Change) -> bool:
        """Whether this token was made for this step and not taken before; now it is."""
        meant, until = self._open.pop(token, (None, 0.0))
        return meant == change and self._now() < until


def concerned(database: Engine, change: Change) -> int | None:
    """How many videos it would change, at most `steering.COUNTED` + 1; None: it changes none.
    Raises `UsageError`.
    """
    states = STATES.get(change.action)
    if states is None:
        return None
    with session.transaction(database) as connection:
        return steering.concerned(connection, change.selection, states=states)


def make(database: Engine, change: Change, *, who: str, reason: str | None) -> None:
    """Take the step and leave its record, in one transaction. `reason`: why something is paused.
    Raises `UsageError`, `UnavailableError`.
    """
    with session.transaction(database) as connection:
        _make(connection, change, who=who, reason=reason)


def _make(connection: Connection, change: Change, *, who: str, reason: str | None) -> None:
    what = change.options
    if change.action == "retry":
        steering.retry(connection, change.selection, who=who, what=what)
    elif change.action == "cancel":
        steering.cancel(connection, change.selection, who=who, what=what)
    elif change.action == "resume":
        steering.resume(connection, backbones=change.backbones, who=who, what=what)
    else:
        _pause(connection, change, who=who, reason=reason)


def _pause(connection: Connection, change: Change, *, who: str, reason: str | None) -> None:
    why = f"--reason {shlex.quote(reason)}" if reason else ""
    what = " ".join(filter(None, (change.options, why)))
    if change.backbones:
        said = reason or f"paused by {who}"
        steering.pause_backbones(connection, change.backbones, reason=said, who=who, what=what)
    else:
        steering.pause(connection, reason=reason, who=who, what=what)
