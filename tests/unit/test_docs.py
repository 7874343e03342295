"""The documentation names only commands and options there are."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from db.dictionary import ENTRIES
from producer.cli import enqueue_alone, reelvec

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Made once: it takes a tenth of a second.
REELVEC, ENQUEUE = map(typer.main.get_command, (reelvec, enqueue_alone))
LINE = re.compile(r"^\s+\$ ((?:enqueue|reelvec) .*?)(?:\s{2,}#.*)?$", re.MULTILINE)


def command_lines() -> list[str]:
    return [line for page in PAGES for line in LINE.findall(page.read_text(encoding="utf-8"))]


def find(words: list[str]) -> tuple[Any, list[str]]:
    """The typer command that a line runs, and its arguments."""
    if words[0] == "enqueue":
        return ENQUEUE, words[1:]
    command, rest = REELVEC, words[1:]
    while rest and hasattr(command, "commands"):
        assert rest[0] in command.commands, f"no command {rest[0]!r} in: {' '.join(words)}"
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def test_the_pages_show_commands() -> None:
    assert len(command_lines()) > 5


@pytest.mark.parametrize("line", command_lines())
def test_a_line_is_a_command_with_options_it_has(line: str) -> None:
    command, rest = find(shlex.split(line))
    known = {
        option
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    used = {word for word in rest if word.startswith("--")}
    assert used <= known | {"--help"}


def test_a_list_of_videos_is_called_a_list() -> None:
    """In the pages and in the comments of the database; other formats have manifests."""
    found = [
        line
        for page in PAGES
        for line in page.read_text(encoding="utf-8").splitlines()
        if "manifest" in line.replace("sources/manifest.py", "").lower() and "DASH" not in line
    ]
    assert found == []
    assert [entry for entry in ENTRIES if "manifest" in entry.words.lower()] == []


def test_one_pair_of_addresses_is_used_throughout() -> None:
    """README and guide explain the other pair once, and the reference lists it."""
    other = re.compile(r"(?<!REELVEC_)DATABASE_URL|CELERY_BROKER_URL")
    for page in PAGES:
        if page.name == "configuration.md":
            continue
        paragraphs = [
            part for part in page.read_text(encoding="utf-8").split("\n\n") if other.search(part)
        ]
        assert len(paragraphs) == (page.name in ("README.md", "guide.md")), (page.name, paragraphs)
        for part in paragraphs:
            words = " ".join(part.split())
            assert "`REELVEC_DATABASE_URL` wins over `DATABASE_URL`" in words
            assert "two different brokers are refused" in words
    assert not other.search(REELVEC.epilog)


def commands(command: Any, path: str) -> list[tuple[str, Any]]:
    inner = getattr(command, "commands", {})
    return [
        (path, command),
        *(found for name, one in inner.items() for found in commands(one, f"{path} {name}")),
    ]


@pytest.mark.parametrize(("path", "command"), commands(REELVEC, "reelvec"))
def test_every_command_and_option_has_help(path: str, command: Any) -> None:
    assert command.help, path
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{path} {parameter.name}"


def test_every_variable_that_is_not_ours_is_read_somewhere() -> None:
    """By our own code, or by the library that is said to."""
    listed = re.findall(
        r"^\| `([A-Z_0-9]+)` \|",
        (ROOT / "docs/configuration.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    others = {name for name in listed if not name.startswith("REELVEC_")}
    files = [
        path for folder in ("db", "workers", "producer") for path in (ROOT / folder).rglob("*.py")
    ]
    code = "\n".join(
        path.read_text(encoding="utf-8") for path in [*files, ROOT / "docker-compose.yml"]
    )
    theirs = {"AWS_SESSION_TOKEN": "minio.credentials.providers", "HF_ENDPOINT": "huggingface_hub.constants",
              "HF_TOKEN": "huggingface_hub.utils._auth", "TMPDIR": "tempfile", "OMP_NUM_THREADS": None}  # fmt: skip
    assert len(others) > 20
    for name in sorted(others):
        if name not in theirs:
            assert name in code, name
        elif module := theirs[name]:
            spec = importlib.util.find_spec(module)
            assert spec is not None
            assert name in Path(str(spec.origin)).read_text(encoding="utf-8"), name
