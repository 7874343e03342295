"""One table of exit codes: what errors carry, what the supervisor does, and nobody who writes a
number of his own.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from db import errors
from db.exit_codes import ExitCode, Then, then
from workers.engine.encoding import Ended

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("code", "what"),
    [
        *((code, Then.STAYS_DOWN) for code in (0, 2, 4, 78)),
        *((code, Then.LATER) for code in (1, 69, 70, 71, 72, 73, 75, 126, -9, -15, 17)),
        (76, Then.AT_ONCE),
    ],
)
def test_what_comes_after_an_end(code: int, what: Then) -> None:
    assert then(code) is what


def test_every_error_has_a_code_of_the_table() -> None:
    kinds = [errors.ReelvecError, *errors.ReelvecError.__subclasses__()]
    assert {kind.exit_code for kind in kinds} == {1, 2, 4, 69, 78}
    assert errors.NoStackError.exit_code != ExitCode.FINISHED_WITH_FAILURES
    assert {int(cause) for cause in Ended} == {71, 72, 73}
    assert all(isinstance(kind.exit_code, ExitCode) for kind in kinds)


def test_nobody_ends_with_a_number_of_his_own() -> None:
    """0 and 1 are everybody's; any other is named, so that the table holds it."""
    ends = {"Exit", "exit", "_exit", "SystemExit", "end_process"}
    found = []
    for path in [
        path
        for folder in ("db", "workers", "producer", "demo")
        for path in (ROOT / folder).rglob("*.py")
    ]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = (
                    node.func.attr
                    if isinstance(node.func, ast.Attribute)
                    else getattr(node.func, "id", "")
                )
                if (
                    name in ends
                    and node.args[0].value not in (0, 1)
                    and isinstance(node.args[0].value, int)
                ):
                    found.append(f"{path}:{node.lineno}")
    assert found == []
