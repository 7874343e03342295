"""`docs/notebook.md` and `docs/guide.md` name only files, commands, options, variables, tables and
codes there are.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer.main

from db.encoders import view_name
from db.errors import VIDEO_ERROR_CLASSES
from producer import settings as producer_settings
from producer.cli import reelvec
from tests.unit.test_docs import find
from workers import settings as worker_settings
from workers.backbones import registry

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guide.md"
PAGES = [ROOT / "docs" / "notebook.md", GUIDE]
FOLDERS = ("db", "workers", "producer", "tests", "demo", "docs", "bench")

INLINE = re.compile(r"`([^`\n]+)`")
CODE_LINE = re.compile(r"^(?: {4,}|\t)(?:\$ )?(.+)$", re.MULTILINE)
SUBSTITUTION = re.compile(r"\$\(([^)\n]+)\)")
RELATION = re.compile(r"\b(?:FROM|JOIN|TABLE) (?!LATERAL)(\w+)\b(?!\()")
MIGRATIONS = "".join(
    path.read_text(encoding="utf-8") for path in (ROOT / "db/migrations/versions").glob("[0-9]*.py")
)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def inline(page: Path) -> list[str]:
    """What stands between backticks."""
    return INLINE.findall(page.read_text(encoding="utf-8"))


def shell_words(text: str) -> list[list[str]]:
    """The commands of one line of shell, each as words: without comment, variables before it and
    redirections.
    """
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    commands: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|&;<>"):
            commands.append([])
        elif commands[-1] or not re.match(r"[A-Z_]+=", word):
            commands[-1].append(word)
    return [words for words in commands if words]


def commands(page: Path) -> Iterator[list[str]]:
    """Every `enqueue ...` and `reelvec ...` of a page, in code lines and between backticks."""
    text = page.read_text(encoding="utf-8")
    for line in (*CODE_LINE.findall(text), *INLINE.findall(text), *SUBSTITUTION.findall(text)):
        if re.search(r"\b(?:enqueue|reelvec) ", line):
            yield from (
                words
                for words in shell_words(line)
                if words[0] in ("enqueue", "reelvec") and words[1:]
            )


def options_of(command: Any) -> set[str]:
    return {
        option
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }


def all_options(command: Any) -> set[str]:
    inner = getattr(command, "commands", {}).values()
    return options_of(command).union(*(all_options(one) for one in inner))


@every_page
def test_files_exist(page: Path) -> None:
    paths = [
        word for text in inline(page) for word in text.split() if word.partition("/")[0] in FOLDERS
    ]
    assert page == GUIDE or len(paths) > 40
    assert [path for path in paths if not (ROOT / path).exists()] == []


@every_page
def test_modules_exist(page: Path) -> None:
    names = [
        word
        for text in inline(page)
        for word in text.split()
        if re.fullmatch(r"(?:db|workers|producer)(?:\.[a-z_]+)+", word)
    ]
    missing = [
        name for name in names if not (ROOT / name.replace(".", "/")).with_suffix(".py").exists()
    ]
    assert missing == []


@every_page
def test_links_lead_to_pages(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@every_page
def test_commands_exist_with_their_options(page: Path) -> None:
    found = list(commands(page))
    assert len(found) > 5
    for words in found:
        command, rest = find(words)
        used = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert used <= options_of(command) | {"--help"}, " ".join(words)


@every_page
def test_options_named_alone_exist(page: Path) -> None:
    named = {text.split()[0] for text in inline(page) if text.startswith("--")}
    assert named - all_options(typer.main.get_command(reelvec)) == set()


@every_page
def test_variables_exist(page: Path) -> None:
    named = set(re.findall(r"\bREELVEC_[A-Z_]+\b", page.read_text(encoding="utf-8")))
    assert named
    assert (
        named - worker_settings.known_variables() - producer_settings.ProducerSettings.variables()
        == set()
    )


@every_page
def test_tables_and_views_exist(page: Path) -> None:
    named = set(RELATION.findall(page.read_text(encoding="utf-8")))
    views = set(re.findall(r"CREATE (?:OR REPLACE )?VIEW reelvec\.(\w+)", MIGRATIONS))
    tables = set(re.findall(r"CREATE TABLE reelvec\.(\w+)", MIGRATIONS))
    known = tables | views | {view_name(name) for name in registry.names()}
    assert named
    assert named - known == set()


@every_page
def test_checkpoints_are_asked_for_by_name(page: Path) -> None:
    """`models fetch` and `--backbone` take the registry's names."""
    for words in commands(page):
        if words[1:3] == ["models", "fetch"]:
            named = words[3 : words.index("--to")] if "--to" in words else words[3:]
        else:
            named = [following for option, following in pairwise(words) if option == "--backbone"]
        assert set(named) <= set(registry.names()), " ".join(words)


def test_the_guide_explains_every_code_with_its_class() -> None:
    rows = re.findall(
        r"^\| `([a-z_]+)` \| ([a-z_ ]+) \|", GUIDE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert dict(rows) == {
        code: kind.value.replace("_", " ") for code, kind in VIDEO_ERROR_CLASSES.items()
    }
