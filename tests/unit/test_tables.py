"""Tables and JSON on stdout: what a program and what a person is given."""

from __future__ import annotations

import io
import json
import sys

import pytest

from producer import tables
from producer.wording import plural


def test_a_pipe_gets_what_copy_would_write(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(None, "", "a\tb\nc\\N", ["ёж", None], {"ключ": 1})]
    tables.print_table(["id", "title", "text", "tags", "attributes"], rows)
    header, line = capsys.readouterr().out.splitlines()
    assert header == "id\ttitle\ttext\ttags\tattributes"
    assert line.split("\t") == [r"\N", "", r"a\tb\nc\\N", '["ёж", null]', '{"ключ": 1}']


def test_a_person_sees_null_and_no_raw_control_character(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "dumb")  # no bold header
    tables.print_table(["id", "title"], [(1, None), (2, "ёж [red]\n\x1b[31m")], right=["id"])
    assert [line.split() for line in terminal.getvalue().splitlines()] == [
        ["id", "title"],
        ["1", "NULL"],
        ["2", "ёж", r"[red]\n\x1b[31m"],
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_json_keeps_letters_where_stdout_has_them_and_is_the_same_where_not(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, write_through=True))
    value = {"title": "ёж 🦔"}
    tables.print_json(value)
    assert json.loads(raw.getvalue()) == value
    assert ("ёж 🦔".encode() in raw.getvalue()) == (encoding == "utf-8")


def test_one_is_no_plural() -> None:
    assert [plural(count, "video") for count in (0, 1, 2, 1234)] == [
        "0 videos",
        "1 video",
        "2 videos",
        "1,234 videos",
    ]
    assert plural(1, "video waits", "videos wait") == "1 video waits"
