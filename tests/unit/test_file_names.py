"""Whatever a file is called, that file is read and no other; whatever has a name but is no file is
refused for good.
"""

from __future__ import annotations

import os
import socket
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from db.errors import ErrorClass, VideoError
from producer.sources.uris import canonical
from workers.sources.file import open_file

NAMES = [
    "plain.mp4", "emoji 😀.mp4", "rtl\u202egpj.mp4", "trailing dot.", " space ", "..mp4", "...", "-rf", "100%.mp4", "%2e%2e",
    "%2e%2e%2fx", "a#b?c", "back\\slash", "quote\"'`$(x)", "n" * 255, unicodedata.normalize("NFC", "й.mp4"),
    unicodedata.normalize("NFD", "й.mp4"),
]  # fmt: skip


def test_every_name_leads_to_its_own_file(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(name.encode())
    assert len(list(tmp_path.iterdir())) == len(NAMES)
    for name in NAMES:
        written = (
            f"./{name}" if "\\" in name else name
        )  # without it, the name is taken for one of Windows
        uri = canonical(written, base=tmp_path, s3_endpoint=None).uri
        with open_file(uri, (tmp_path,)) as source:
            assert source.read(0, source.size_bytes) == name.encode()


@pytest.mark.parametrize(
    "name", ["../secret", "%2e%2e/secret", "in/../../secret", "link/secret", "/etc/passwd"]
)
def test_no_name_leads_out_of_the_roots(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path)
    (tmp_path / "secret").write_bytes(b"secret")
    uri = f"file://{name}" if name.startswith("/") else f"file://{root}/{name}"
    with pytest.raises(VideoError) as caught:
        open_file(uri, (root,))
    assert caught.value.code == "outside_roots"


def make_socket(path: Path) -> None:
    os.chdir(path.parent)  # its address must be short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


@pytest.mark.parametrize(
    "make",
    [
        Path.mkdir,
        os.mkfifo,
        make_socket,
        lambda path: path.symlink_to("/dev/null"),
        lambda path: path.symlink_to(path.parent),
        lambda path: path.symlink_to(path),
    ],
    ids=["folder", "fifo", "socket", "device", "link to a folder", "link to itself"],
)
def test_what_is_no_file_is_refused_for_good(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "v.mp4")
    with pytest.raises(VideoError) as caught:
        open_file((tmp_path / "v.mp4").as_uri(), None)
    assert (caught.value.code, caught.value.error_class) == ("not_a_file", ErrorClass.PERMANENT)


@pytest.mark.parametrize("name", ["n" * 256, "n" * 4096, "n/" * 3000])
def test_a_name_that_no_file_can_have_is_refused_for_good_in_a_short_message(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(VideoError) as caught:
        open_file(f"file://{tmp_path}/{name}", None)
    assert (caught.value.code, caught.value.error_class) == ("not_a_file", ErrorClass.PERMANENT)
    assert len(str(caught.value)) < 300
