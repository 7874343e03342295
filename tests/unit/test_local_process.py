"""Recognising a process while it is becoming another program."""

from __future__ import annotations

import os

import pytest

from db.stack import server_process


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        (["server -D x", ""], "server -D x"),
        (["", "server -D x", ""], "server -D x"),
        (["", None, ""], None),
    ],
)
def test_the_first_look_that_tells_something_counts(
    monkeypatch: pytest.MonkeyPatch, looks: list[str | None], told: str | None
) -> None:
    """An empty command line is a moment, not an answer: seen once more afterwards it must not undo
    what was seen.
    """
    following = iter(looks)
    monkeypatch.setattr(server_process, "_command_line_by_proc", lambda pid: next(following))
    monkeypatch.setattr(server_process, "_command_line_by_ps", lambda pid: next(following))
    assert server_process.command_line(os.getpid()) == told
