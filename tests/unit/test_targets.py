"""Where results go: refused before any work, written as a whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from db.errors import UsageError
from producer.local.targets import refuse_file, targets, whole_file, wrote

A, B = "file:///videos/a.mp4", "s3://bucket/x/b.tar.mkv"


def test_one_video_to_a_file_or_a_folder_several_to_a_folder(tmp_path: Path) -> None:
    assert targets("--out", tmp_path / "x.npz", ".npz", [A]) == [tmp_path / "x.npz"]
    assert targets("--out", tmp_path / "X.NPZ", ".npz", [A]) == [tmp_path / "X.NPZ"]
    folder = tmp_path / "new" / "folder"
    assert targets("--out", folder, ".npz", [A, B]) == [
        folder / "a.npz",
        folder / "b.tar.npz",
    ]
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "v1.0").mkdir()
    assert targets("--sheet", tmp_path / "v1.0", ".png", [A]) == [tmp_path / "v1.0" / "a.png"]


def test_an_address_without_a_path_has_a_name_too(tmp_path: Path) -> None:
    assert targets("--out", tmp_path, ".npz", ["https://host.example/"]) == [tmp_path / "video.npz"]


@pytest.mark.parametrize(
    ("given", "uris", "told"),
    [
        ("sheet.jpg", [A], r"does not end in \.png"),
        ("sheet.png", [A, B], "2 videos: give a folder"),
        ("missing/sheet.png", [A], "no folder"),
        ("file/sheets", [A], "no folder"),
        ("file/sheet.png", [A], "no folder"),
        ("sheets", [A, "https://host.example/a.mp4"], "run them apart"),
    ],
)
def test_what_cannot_be_written_is_told(
    tmp_path: Path, given: str, uris: list[str], told: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=told):
        targets("--sheet", tmp_path / given, ".png", uris)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_made_after_all_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UsageError, match="cannot be written"),
        whole_file(tmp_path / "file" / "x.npz"),
    ):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o500)
    for given in ("theirs/x.npz", "theirs/new", "theirs"):
        with pytest.raises(UsageError, match=r"may not write to the folder .*theirs;"):
            targets("--out", tmp_path / given, ".npz", [A])


def write_half(path: Path) -> None:
    with whole_file(path) as file:
        file.write(b"half")
        file.flush()
        assert path.read_text() == "old"
        raise KeyboardInterrupt


def test_what_is_not_written_to_the_end_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "frames.npz"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_half(path)
    assert [(made.name, made.read_text()) for made in tmp_path.iterdir()] == [("frames.npz", "old")]
    with whole_file(path) as file:
        file.write(b"new")
    assert [(made.name, made.read_text()) for made in tmp_path.iterdir()] == [("frames.npz", "new")]


def test_whether_a_file_is_replaced_is_known(tmp_path: Path) -> None:
    assert wrote(tmp_path / "a.csv") == "wrote"
    (tmp_path / "a.csv").write_text("old")
    assert wrote(tmp_path / "a.csv") == "replaced"


def test_what_is_no_ordinary_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name, told in (
        ("folder", "folder is a folder: name a file in it"),
        ("pipe", "pipe is no ordinary file: name another"),
        ("link", "link is no ordinary file: name another"),
    ):
        with pytest.raises(UsageError, match=told):
            refuse_file("--out", tmp_path / name)
        with pytest.raises(UsageError, match=told), whole_file(tmp_path / name):
            pass
    refuse_file("--out", tmp_path / "none" / "a.csv")
    assert not (tmp_path / "none").exists(), "it is made when there is something to write"
    with pytest.raises(UsageError, match=r"--out: there is no folder .*pipe; make it"):
        refuse_file("--out", tmp_path / "pipe" / "a.csv")


def test_a_link_in_a_circle_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with (
        pytest.raises(UsageError, match="a/c cannot be written: "),
        whole_file(tmp_path / "a" / "c"),
    ):
        pass


def test_a_link_leads_to_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "latest").symlink_to("store/today")
    for text in (b"old", b"new"):
        with whole_file(tmp_path / "latest") as file:
            file.write(text)
        assert (tmp_path / "latest").is_symlink()
        assert (tmp_path / "store" / "today").read_bytes() == text


def test_the_folder_is_made_with_the_first_file(tmp_path: Path) -> None:
    with whole_file(tmp_path / "new" / "folder" / "x.npz") as file:
        file.write(b"new")
    assert (tmp_path / "new" / "folder" / "x.npz").read_bytes() == b"new"


def test_a_disk_that_fails_is_told_by_path(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"x\.npz cannot be written: No space left"),
        whole_file(tmp_path / "x.npz"),
    ):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())
