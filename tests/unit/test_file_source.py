"""Reading sources: what is no readable file has a code that says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from db.errors import VideoError
from workers.sources.file import open_file


def code_of(uri: str, roots: tuple[Path, ...] | None = None) -> str:
    with pytest.raises(VideoError) as caught:
        open_file(uri, roots).close()
    return caught.value.code


def test_ranges_are_read_and_cut_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a b%20#.mp4"
    path.write_bytes(bytes(range(100)))
    with open_file(path.as_uri(), None) as source:
        assert source.size_bytes == 100
        assert source.read(90, 50) == bytes(range(90, 100))
        assert source.read(100, 1) == b""


def test_what_is_no_file_has_its_code(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert code_of((tmp_path / "missing").as_uri()) == "not_found"
    assert code_of((tmp_path / "fifo").as_uri()) == "not_a_file"
    assert code_of(tmp_path.as_uri()) == "not_a_file"


def test_only_below_the_roots_not_even_through_a_link(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.write_bytes(b"secret")
    (inside / "link").symlink_to(outside)
    assert code_of((inside / "link").as_uri(), (inside,)) == "outside_roots"
    assert code_of(outside.as_uri(), ()) == "outside_roots"
    (inside / "own").write_bytes(b"x")
    open_file((inside / "own").as_uri(), (inside,)).close()


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(b"12345")
    with open_file(path.as_uri(), None) as source:
        path.write_bytes(b"123456")
        with pytest.raises(VideoError) as caught:
            source.read(0, 5)
    assert caught.value.code == "source_changed"
