"""A file that is there is never replaced unasked, by any command that writes where its user says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests import media
from tests.conftest import Desk, clean_environment

#: None of them has a database here: it is refused before anything else is asked.
AWAY = (
    ("reelvec", "report", "--out", "old.html"),
    ("reelvec", "export", "vivit", "--to", "old.csv"),
    ("reelvec", "export", "vivit", "--to", "old.npz"),
    ("reelvec", "dedupe", "vivit", "--out", "old.csv"),
    ("reelvec", "evaluate", "--confusion", "old.csv"),
    ("reelvec", "db", "dump", "old.reelvec"),
)
HERE = (
    ("reelvec", "embed", "clip.mp4", "--backbone", "probe", "--out", "old.npz"),
    ("reelvec", "sample", "clip.mp4", "--out", "old.npz"),
    ("reelvec", "sample", "clip.mp4", "--sheet", "old.png"),
)


@pytest.fixture
def alone(tmp_path: Path) -> Desk:
    return Desk({**clean_environment(), "REELVEC_DATA_DIR": str(tmp_path / "never-made")}, tmp_path)


@pytest.mark.parametrize("command", AWAY + HERE, ids=lambda command: " ".join(command[1:4]))
def test_a_file_that_is_there_stays_as_it_is(alone: Desk, command: tuple[str, ...]) -> None:
    old = alone.folder / command[-1]
    old.write_text("yesterday's")
    told = alone.run(*command, expect=2).stderr
    assert told == (
        f"error: {old.name} is there already: --overwrite replaces it, or name another\n"
    )
    assert old.read_text() == "yesterday's"


@pytest.mark.parametrize("command", AWAY, ids=lambda command: " ".join(command[1:4]))
def test_what_asks_to_replace_it_goes_on(alone: Desk, command: tuple[str, ...]) -> None:
    old = alone.folder / command[-1]
    old.write_text("yesterday's")
    assert "reelvec up" in alone.run(*command, "--overwrite", expect=4).stderr
    assert old.read_text() == "yesterday's", "until there is something to replace it with"


def test_several_are_named_at_once_and_replaced_at_once(alone: Desk) -> None:
    for name in ("a", "b"):
        media.make_clip(alone.folder / f"{name}.mp4", seconds=1)
    asked = ("reelvec", "sample", "a.mp4", "b.mp4", "--out", "frames")
    alone.run(*asked)
    told = alone.run(*asked, expect=2).stderr
    assert "frames/a.npz and 1 more are there already: --overwrite replaces them" in told
    (alone.folder / "frames" / "b.npz").write_text("old")
    alone.run(*asked, "--overwrite")
    with np.load(alone.folder / "frames" / "b.npz") as arrays:
        assert arrays["frames"].shape == (96, 224, 224, 3)


def test_a_folder_of_parts_is_gone_on_with_and_not_replaced(alone: Desk) -> None:
    told = alone.run("reelvec", "export", "vivit", "--to", "parts", "--overwrite", expect=2).stderr
    assert "--overwrite replaces a file, and --to parts is a folder" in told
