"""Lightness: what a command loads, seen from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import media
from tests.conftest import Desk

HEAVY = {"torch", "av", "transformers", "celery", "sqlalchemy", "minio", "starlette"}
#: Runs a script's function and then says which of these modules it loaded.
PROBE = """
import json, sys
sys.argv = {argv!r}
try:
    from producer.cli import {script}
    {script}()
except SystemExit as end:
    assert (end.code or 0) == {expect}, end.code
finally:
    print(json.dumps(sorted({heavy!r} & set(sys.modules))))
"""


def loaded(
    script: str, argv: list[str], environment: dict[str, str] | None = None, *, expect: int = 0
) -> set[str]:
    code = PROBE.format(argv=argv, script=script, heavy=HEAVY, expect=expect)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("script", "argv"),
    [
        ("enqueue_main", ["enqueue", "--help"]),
        ("main", ["reelvec", "--help"]),
        ("main", ["reelvec", "sample", "--help"]),
        ("main", ["reelvec", "status", "--help"]),
        ("main", ["reelvec", "search", "--help"]),
        ("main", ["reelvec", "models", "--help"]),
        ("main", ["reelvec", "doctor", "--help"]),
        ("main", ["reelvec", "ui", "--help"]),
    ],
)
def test_help_loads_nothing_heavy(script: str, argv: list[str]) -> None:
    assert loaded(script, argv) == set()


def test_a_whole_enqueue_loads_neither_torch_nor_av(desk: Desk, tmp_path: Path) -> None:
    media.empty(tmp_path / "a.mp4")
    argv = ["enqueue", str(tmp_path / "a.mp4"), "--backbone", "x-clip"]
    assert loaded("enqueue_main", argv, desk.environment) == {"celery", "sqlalchemy"}


def test_missing_weights_are_told_before_torch_is_imported(tmp_path: Path) -> None:
    media.empty(tmp_path / "a.mp4")
    argv = ["reelvec", "embed", str(tmp_path / "a.mp4"), "--backbone", "vivit"]
    environment = {**os.environ, "REELVEC_MODELS_DIR": str(tmp_path)}
    assert not loaded("main", argv, environment, expect=78) & {"torch", "transformers", "celery"}
