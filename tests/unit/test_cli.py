"""The two scripts: version, completion, what their help shows, and one exit code for "no stack"."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from db.exit_codes import ExitCode
from db.stack import local_stack
from producer import cli
from producer.commands import enqueue
from tests.unit.test_addresses import make_stopped_stack


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of a command line, in this process."""
    monkeypatch.setattr(sys, "argv", list(words))
    with pytest.raises(SystemExit) as ended:
        (cli.enqueue_main if words[0] == "enqueue" else cli.main)()
    return int(ended.value.code or 0)


@pytest.fixture(autouse=True)
def nothing_is_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("REELVEC_") or name in ("DATABASE_URL", "CELERY_BROKER_URL"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("REELVEC_DATA_DIR", str(tmp_path / "none"))


@pytest.mark.parametrize("script", ["reelvec", "enqueue"])
def test_version_and_completion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], script: str
) -> None:
    assert run(monkeypatch, script, "--version") == 0
    assert capsys.readouterr().out == f"reelvec {metadata.version('reelvec')}\n"
    monkeypatch.setenv(f"_{script.upper()}_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"{script} {'sta' if script == 'reelvec' else '--cat'}")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert run(monkeypatch, script) == 0
    assert capsys.readouterr().out.strip() == ("status" if script == "reelvec" else "--category")


def test_a_model_that_nobody_has_named_says_why_it_was_chosen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    request: Any = SimpleNamespace(weights="pretrained", backbones=("efficientnet",), labels=None)
    for by_default, why in ((False, ";"), (True, ", chosen because no other weights are here;")):
        enqueue._say_choices(request, by_default=by_default)
        said = capsys.readouterr().err
        assert said.startswith(f"efficientnet: a first model for small machines{why} it sees")


@pytest.mark.parametrize(
    "words", [("status",), ("status", "--failed"), ("status", "--log"), ("status", "--watch")]
)
def test_who_only_looks_starts_no_stack_that_was_stopped(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: tuple[str, ...],
) -> None:
    make_stopped_stack(tmp_path / "none")
    monkeypatch.setattr(local_stack.LocalStack, "up", lambda self: pytest.fail("it was started"))
    assert run(monkeypatch, "reelvec", *words) == ExitCode.UNAVAILABLE
    assert (
        f"the local stack in {tmp_path / 'none'} is stopped: `reelvec up` starts it"
        in capsys.readouterr().err
    )


def test_help_shows_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "reelvec", "--help") == 0
    shown = capsys.readouterr().out
    commands = [
        info.name or info.callback.__name__
        for info in cli.reelvec.registered_commands
        if info.callback
    ]
    assert {"sample", "doctor"} < set(commands)
    assert [name for name in commands if f" {name} " not in shown] == []


@pytest.mark.parametrize(
    "words",
    [
        ("enqueue", "--wait"),
        ("reelvec", "enqueue"),
        ("reelvec", "status"),
        ("reelvec", "search", "koi"),
        ("reelvec", "retry"),
        ("reelvec", "cancel"),
        ("reelvec", "pause"),
        ("reelvec", "db", "url"),
    ],
)
def test_no_stack_has_one_code_and_it_is_not_that_of_failures(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    assert run(monkeypatch, *words) == ExitCode.NO_STACK != ExitCode.FINISHED_WITH_FAILURES
