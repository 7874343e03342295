"""Where the demonstration keeps its data."""

from __future__ import annotations

from pathlib import Path

import pytest

import demo.__main__ as demonstration
from db.stack import local_stack


def test_each_checkout_has_a_folder_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("REELVEC_DATA_DIR", raising=False)
    folders = {}
    for checkout in ("one/reelvec", "two/reelvec"):
        monkeypatch.setattr(
            demonstration, "__file__", str(tmp_path / checkout / "demo" / "__main__.py")
        )
        folders[checkout] = demonstration.data_folder()
        assert demonstration.data_folder() == folders[checkout], "and finds it again"
    assert len(set(folders.values())) == 2
    assert all(folder.name.startswith("demo-reelvec-") for folder in folders.values())
    monkeypatch.setenv("REELVEC_DATA_DIR", str(tmp_path / "mine"))
    assert demonstration.data_folder().parent == tmp_path / "mine"


def test_it_is_removed_and_nothing_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REELVEC_DATA_DIR", str(tmp_path))
    folder = demonstration.data_folder()
    (folder / "videos").mkdir(parents=True)
    (tmp_path / "passwords.json").touch()
    stopped: list[Path] = []
    monkeypatch.setattr(local_stack.LocalStack, "down", lambda self: stopped.append(self.data_dir))
    demonstration.remove()
    demonstration.remove()
    assert stopped == [folder]
    assert list(tmp_path.iterdir()) == [tmp_path / "passwords.json"]
