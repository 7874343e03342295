"""The documentation names only commands and options there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from producer.cli import enqueue_alone, reelvec

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINE = re.compile(r"^\s+\$ ((?:enqueue|reelvec) .*?)(?:\s{2,}#.*)?$", re.MULTILINE)


def command_lines() -> list[str]:
    return [line for page in PAGES for line in LINE.findall(page.read_text(encoding="utf-8"))]


def find(words: list[str]) -> tuple[Any, list[str]]:
    """The typer command that a line runs, and its arguments."""
    if words[0] == "enqueue":
        return typer.main.get_command(enqueue_alone), words[1:]
    command, rest = typer.main.get_command(reelvec), words[1:]
    while rest and hasattr(command, "commands"):
        assert rest[0] in command.commands, f"no command {rest[0]!r} in: {' '.join(words)}"
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def test_the_pages_show_commands() -> None:
    assert len(command_lines()) > 5


@pytest.mark.parametrize("line", command_lines())
def test_a_line_is_a_command_with_options_it_has(line: str) -> None:
    command, rest = find(shlex.split(line))
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    used = {word for word in rest if word.startswith("--")}
    assert used <= known | {"--help"}


def commands(command: Any, path: str) -> list[tuple[str, Any]]:
    inner = getattr(command, "commands", {})
    return [(path, command), *(found for name, one in inner.items() for found in commands(one, f"{path} {name}"))]


@pytest.mark.parametrize(("path", "command"), commands(typer.main.get_command(reelvec), "reelvec"))
def test_every_command_and_option_has_help(path: str, command: Any) -> None:
    assert command.help, path
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{path} {parameter.name}"
