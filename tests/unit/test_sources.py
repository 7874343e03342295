"""Folders, lists, single files and addresses, read as videos; what is none is refused in words."""

from __future__ import annotations

import io
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from db.errors import UsageError
from db.settings import load
from producer.categories import load_shipped
from producer.settings import ProducerSettings
from producer.sources.manifest import FROM_NAMES
from producer.sources.reading import FORMS, RowError, VideoRow, read_source
from workers.settings import PRODUCER_VARIABLES, WorkerSettings
from workers.sources.schemes import key_of
from workers.sources.storage import Storage


def read(source: Path | str, *, match: str | None = None) -> list[VideoRow | RowError]:
    return list(opened(source, match=match))


def opened(
    source: Path | str,
    *,
    match: str | None = None,
    s3_endpoint: str = "https://storage.example.net",
) -> Iterator[VideoRow | RowError]:
    storage = Storage(load(WorkerSettings), roots=None)
    return read_source(
        str(source),
        categories=load_shipped(),
        match=match,
        s3_endpoint=s3_endpoint,
        storage=storage,
    )


def videos(rows: list[VideoRow | RowError]) -> list[VideoRow]:
    assert not [row for row in rows if isinstance(row, RowError)]
    return [row for row in rows if isinstance(row, VideoRow)]


def make(path: Path, size: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


class TestFolder:
    def test_category_folders_as_the_notebook_has_them(self, tmp_path: Path) -> None:
        names = [
            "48.0_films",
            "42.0_tv shows",
            "films",
            "48_films",
            "My own",
            "23.0_sport",
            "48.0_serials",
            "cafe",
            "ру",
        ]
        names += ["12", "2024-05-01", "dt=2024", "ab", "3f", "1b4e28ba-2fa1-11d2-883f-0016d3cca427"]
        for name in names:
            make(tmp_path / name / "a.mp4")
        found = {Path(key_of(row.uri)).parent.name: row.category for row in videos(read(tmp_path))}
        assert found == {
            "48.0_films": "films",
            "42.0_tv shows": "tv-shows",
            "films": "films",
            "48_films": "films",
            "My own": "My own",
            "23.0_sport": "sport",
            "48.0_serials": "48.0_serials",
            "12": None,
            "2024-05-01": None,
            "dt=2024": None,
            "ab": None,
            "3f": None,
            "1b4e28ba-2fa1-11d2-883f-0016d3cca427": None,
            "cafe": "cafe",
            "ру": "ру",
        }

    def test_deeper_files_have_the_first_folders_category(self, tmp_path: Path) -> None:
        make(tmp_path / "19.0_serials" / "films" / "season 1" / "Episode 1.mkv", size=5)
        (row,) = videos(read(tmp_path))
        assert replace(row, etag=None) == VideoRow(
            f"file://{tmp_path}/19.0_serials/films/season%201/Episode%201.mkv",
            category="serials",
            title="Episode 1",
            size_bytes=5,
            derived=FROM_NAMES,
        )
        assert row.etag is not None

    def test_flat_files_have_none(self, tmp_path: Path) -> None:
        make(tmp_path / "films" / "a.b.mp4")
        (row,) = videos(read(tmp_path / "films"))
        assert (row.category, row.title) == (None, "a.b")

    def test_one_category_folder_as_source_labels_all_below(self, tmp_path: Path) -> None:
        make(tmp_path / "48.0_films" / "a.mp4")
        make(tmp_path / "48.0_films" / "anime" / "b.mp4")
        assert [row.category for row in videos(read(tmp_path / "48.0_films"))] == ["films", "films"]

    def test_only_what_the_sampler_opens_sorted_without_hidden(self, tmp_path: Path) -> None:
        for name in [
            "b.mp4",
            "a.MOV",
            "c.webm",
            "d.ts",
            "B.mkv",
            "e.avi",
            "sub/a.3gp",
            "a.txt",
            "x.flv",
            "no",
        ]:
            make(tmp_path / name)
        for name in [".hidden.mp4", ".trash/a.mp4", "._b.mp4", "sub/.x.mp4"]:
            make(tmp_path / name)
        names = [Path(key_of(row.uri)).name for row in videos(read(tmp_path))]
        assert names == ["B.mkv", "a.MOV", "b.mp4", "c.webm", "d.ts", "e.avi", "a.3gp"]

    def test_odd_names_lead_back_to_their_file(self, tmp_path: Path) -> None:
        odd = [
            "a b.mp4",
            "100%.mp4",
            "%41.mp4",
            "#1?.mp4",
            "~x.mp4",
            "s3:x.mp4",
            " a.mp4",
            "«Ж».mp4",
        ]
        odd += [unicodedata.normalize(form, "й.mp4") for form in ("NFC", "NFD")]
        for name in odd:
            make(tmp_path / name)
        found = [Path(key_of(row.uri)) for row in videos(read(tmp_path))]
        assert sorted(path.name for path in found) == sorted(odd)
        assert all(path.is_file() for path in found)

    def test_names_that_cannot_be_stored_are_row_errors(self, tmp_path: Path) -> None:
        make(tmp_path / "good.mp4")
        make(tmp_path / "line\nbreak.mp4")
        make(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")))
        rows = read(tmp_path)
        broken = [row for row in rows if isinstance(row, RowError)]
        assert len(rows) == 3
        assert [row.reason.split(";")[0].split(" at")[0] for row in broken] == [
            "not UTF-8",
            r"control character '\n'",
        ]
        assert all(row.where.isprintable() for row in broken)

    def test_links_are_followed_inside_and_named_outside(self, tmp_path: Path) -> None:
        outside = make(tmp_path / "outside" / "o.mp4")
        root = tmp_path / "root"
        make(root / ".store" / "1")
        (root / "in.mp4").symlink_to(root / ".store" / "1")
        (root / "out.mp4").symlink_to(outside)
        (root / "out").symlink_to(outside.parent)
        (root / "loop").symlink_to(root)
        (root / "gone.mp4").symlink_to(root / "nothing")
        (root / "self.mp4").symlink_to(root / "self.mp4")
        os.mkfifo(root / "pipe.mp4")
        rows = read(root)
        assert [Path(key_of(row.uri)).name for row in rows if isinstance(row, VideoRow)] == [
            "in.mp4"
        ]
        said = {Path(row.where).name: row.reason for row in rows if isinstance(row, RowError)}
        assert said.keys() == {"out.mp4", "out", "gone.mp4", "self.mp4", "pipe.mp4"}
        assert "leads out" in said["out.mp4"]
        assert "leads out" in said["out"]
        assert "regular file" in said["pipe.mp4"]

    def test_a_linked_source_keeps_the_users_path(self, tmp_path: Path) -> None:
        make(tmp_path / "real" / "a.mp4")
        (tmp_path / "link").symlink_to(tmp_path / "real")
        assert [row.uri for row in videos(read(tmp_path / "link"))] == [
            f"file://{tmp_path}/link/a.mp4"
        ]

    def test_a_folder_that_cannot_be_read_is_reported(self, tmp_path: Path) -> None:
        make(tmp_path / "a.mp4")
        make(tmp_path / "b" / "b.mp4")
        rows = opened(tmp_path)
        assert isinstance(next(rows), VideoRow)
        shutil.rmtree(tmp_path / "b")
        (error,) = rows
        assert isinstance(error, RowError)
        assert error.where == str(tmp_path / "b")


class TestList:
    def test_paths_and_addresses_with_comments(self, tmp_path: Path) -> None:
        path = tmp_path / "list.txt"
        path.write_text(
            "\ufeff# mine\r\n\r\nsub/a b.mp4\r\n  s3://bucket/x#1.mp4  "
            "\nhttps://host.org/c.mp4?v=1\n"
        )
        assert [(row.uri, row.title, row.category) for row in videos(read(path))] == [
            (f"file://{tmp_path}/sub/a%20b.mp4", "a b", None),
            ("s3://bucket/x#1.mp4", "x#1", None),
            ("https://host.org/c.mp4?v=1", "c", None),
        ]
        assert all(row.derived == FROM_NAMES for row in videos(read(path)))

    def test_bad_lines_are_named(self, tmp_path: Path) -> None:
        path = tmp_path / "list.TXT"
        path.write_bytes(b"a.mp4\nftp://host.org/b.mp4\ncaf\xe9.mp4\na\0.mp4\nlast.mp4")
        rows = read(path)
        where = [row.where if isinstance(row, RowError) else row.title for row in rows]
        assert where == ["a", "list.TXT line 2", "list.TXT line 3", "list.TXT line 4", "last"]

    def test_standard_input(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(
            sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a.mp4\ns3://bucket\n"))
        )
        first, second = read("-")
        assert isinstance(first, VideoRow)
        assert first.uri == f"file://{tmp_path}/a.mp4"
        assert isinstance(second, RowError)
        assert second.where == "standard input line 2"


class TestSingle:
    def test_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = make(tmp_path / "a b.mp4", size=7)
        uri = f"file://{tmp_path}/a%20b.mp4"
        expected = VideoRow(uri, title="a b", size_bytes=7, derived=FROM_NAMES)
        monkeypatch.chdir(tmp_path)
        for source in (str(path), "a b.mp4", f"file://{tmp_path}/a%20b.mp4"):
            (row,) = videos(read(source))
            assert replace(row, etag=None) == expected

    def test_an_address(self) -> None:
        assert read("https://host.org/a%20b.mp4") == [
            VideoRow("https://host.org/a%20b.mp4", title="a b", derived=FROM_NAMES)
        ]
        assert read("s3://bucket/a/b.mp4") == [
            VideoRow("s3://bucket/a/b.mp4", title="b", derived=FROM_NAMES)
        ]
        (row,) = videos(read("https://storage.example.net/bucket/b.mp4?X-Amz-Signature=SECRET"))
        assert row.uri == "s3://bucket/b.mp4"
        assert "X-Amz-Signature" in (row.warning or "")

    def test_a_manifest(self, tmp_path: Path) -> None:
        path = tmp_path / "videos.CSV"
        path.write_text("uri,category\na.mp4,48.0\n")
        assert read(path) == [VideoRow(f"file://{tmp_path}/a.mp4", category="films")]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "empty"),
        ("missing", "missing: No such file"),
        ("s3://", "'' is not a bucket name"),
        ("s3://My_Bucket/prefix", "'My_Bucket' is not a bucket name"),
        ("https://storage.example.net/", "'' is not a bucket name"),
        ("https://host.org/videos.csv", "copy the .csv file"),
        ("https://host.org/list.parquet", "copy the .parquet file"),
        ("ftp://host.org/a.mp4", "scheme ftp"),
        ("https://me:SECRET@host.org/a.mp4", "password"),
        ("pipe", "neither a file nor a folder"),
        ("x" * 300, "too long"),
    ],
)
def test_everything_else_is_refused_at_once(
    source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError) as caught:
        opened(source, s3_endpoint="storage.example.net")
    assert message in str(caught.value)
    assert FORMS in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_what_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        os, "access", lambda path, mode: False
    )  # tests may run as root, who may read all
    with pytest.raises(UsageError, match="may not be read"):
        opened(tmp_path)


def test_match_is_a_glob_on_the_name_or_the_key(tmp_path: Path) -> None:
    for name in ["films/clip1.mp4", "films/Clip2.mp4", "clips/other.mp4"]:
        make(tmp_path / name)
    assert [row.title for row in videos(read(tmp_path, match="clip*"))] == ["clip1"]
    path = tmp_path / "list.txt"
    path.write_text(
        "s3://bucket/films/clip1.mp4\ns3://bucket/other/clip2.mp4\nfilms/x.mp4\nftp://host.org/bad\n"
    )
    for glob, titles in [("films/*", ["clip1"]), ("clip?.mp4", ["clip1", "clip2"]), ("*.mkv", [])]:
        rows = read(path, match=glob)
        assert [row.title for row in rows if isinstance(row, VideoRow)] == titles
        assert len([row for row in rows if isinstance(row, RowError)]) == 1


def test_the_settings_are_those_the_worker_leaves_alone() -> None:
    assert ProducerSettings.variables() == PRODUCER_VARIABLES
