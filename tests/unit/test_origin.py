"""A `db`, `workers` or `producer` of somebody else's is refused, by file and name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import reelvec_origin

ROOT = Path(__file__).resolve().parents[2]
ENTRIES = {
    "enqueue": "import reelvec_origin; reelvec_origin.enqueue()",
    "reelvec": "import reelvec_origin; reelvec_origin.reelvec()",
    "celery -A workers.app": "import workers.app",
    "import reelvec": "import reelvec",
}


def test_where_a_module_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert {reelvec_origin.foreign(name) for name in reelvec_origin.NAMES} == {None}
    assert reelvec_origin.foreign("theirs") == str(tmp_path / "theirs")
    assert reelvec_origin.foreign("no_such_module") == "nowhere"


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        *(
            (entry, name)
            for entry in ("enqueue", "import reelvec")
            for name in reelvec_origin.NAMES
        ),
        ("reelvec", "producer"),
        ("celery -A workers.app", "db"),
    ],
)
def test_every_command_refuses_a_foreign_package(tmp_path: Path, entry: str, name: str) -> None:
    """The environment holds another package of that name, which comes first on its path."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise SystemExit('this is not reelvec')")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-P", "-c", ENTRIES[entry], "--help"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == os.EX_CONFIG, done.stderr
    line = f"error: the module {name} would come from {tmp_path / name}, not from {ROOT / name}:"
    assert done.stderr.startswith(line)
    assert "an environment of its own" in done.stderr
