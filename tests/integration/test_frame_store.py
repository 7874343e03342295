"""The frame store, in a folder and in a bucket: what it gives back is what was written, whole, or
an error that says what is wrong.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from db import settings
from db.errors import PackError, RefusedConfigurationError, UsageError, VideoError
from tests.proxy import Proxy
from tests.s3_server import KEY, SECRET, S3Server
from workers.frames.opening import open_store
from workers.frames.store import MAX_BYTES, FrameStore, digest
from workers.settings import WorkerSettings

DATA = random.Random(3).randbytes(3_000_017)
NAME = digest(DATA)
OTHER = digest(b"other")


@dataclass
class Place:
    """A store, and ways around it. `spoil(name, data)` puts other bytes into an object."""

    store: FrameStore
    spoil: Callable[[str, bytes], object]
    put_stranger: Callable[[], object]


def opened(monkeypatch: pytest.MonkeyPatch, **variables: str) -> FrameStore:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    store = open_store(settings.load(WorkerSettings))
    assert store is not None
    return store


def account(endpoint: str) -> dict[str, str]:
    """The store's own, while that of the sources is wrong."""
    return {
        "REELVEC_FRAMES_ENDPOINT": f"http://{endpoint}",
        "REELVEC_FRAMES_ACCESS_KEY_ID": KEY,
        "REELVEC_FRAMES_SECRET_ACCESS_KEY": SECRET,
        "REELVEC_FRAMES_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "another",
        "AWS_SECRET_ACCESS_KEY": "another",
        "REELVEC_FETCH_SECONDS": "3",
    }


@pytest.fixture(params=["folder", "bucket"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    if request.param == "folder":
        store = opened(monkeypatch, REELVEC_FRAMES=str(tmp_path))
        yield Place(
            store,
            lambda name, data: (tmp_path / name[:2] / name).write_bytes(data),
            lambda: [(tmp_path / each).write_bytes(b"x") for each in ("notes.txt", OTHER)],
        )
    else:
        s3: S3Server = request.getfixturevalue("s3")
        bucket = s3.bucket()
        uri = f"s3://{bucket}/frames"
        store = opened(monkeypatch, REELVEC_FRAMES=uri, **account(s3.endpoint))
        yield Place(
            store,
            lambda name, data: s3.put(bucket, f"frames/{name}", data),
            lambda: [
                s3.put(bucket, key, b"x") for key in ("frames/notes.txt", f"frames2/{OTHER}", OTHER)
            ],
        )
    store.close()


def code_of(store: FrameStore, name: str = NAME) -> str:
    with pytest.raises(PackError) as caught:
        store.get(name)
    return caught.value.code


def names(store: FrameStore) -> list[str]:
    return [each.name for each in store.list()]


def test_what_is_written_is_read_listed_and_deleted(place: Place) -> None:
    store = place.store
    assert code_of(store) == "pack_missing"
    for _ in range(2):  # again: nothing changes
        store.put(NAME, DATA)
    store.put(OTHER, b"other")
    place.put_stranger()
    assert store.get(NAME) == DATA
    found = {each.name: each for each in store.list()}
    assert found.keys() == {NAME, OTHER}, "what is not ours is left alone"
    assert found[NAME].size_bytes == len(DATA)
    assert 0 <= found[NAME].age_seconds < 600
    for _ in range(2):  # there need not be one
        store.delete(NAME)
    assert code_of(store) == "pack_missing"
    assert names(store) == [OTHER]


def test_what_was_spoiled_is_never_given_out(place: Place) -> None:
    place.store.put(NAME, DATA)
    flipped = bytearray(DATA)
    flipped[len(DATA) // 2] ^= 1
    for spoiled in (bytes(flipped), DATA[:-1], DATA[: len(DATA) // 2], b"", DATA + b"\0"):
        place.spoil(NAME, spoiled)
        assert code_of(place.store) == "pack_damaged"
    place.store.put(NAME, DATA)  # sampled again
    assert place.store.get(NAME) == DATA


def test_an_object_too_large_to_be_a_pack_is_not_read_into_memory(place: Place) -> None:
    place.store.put(NAME, DATA)
    place.spoil(NAME, bytes(MAX_BYTES + 1))
    with pytest.raises((PackError, VideoError)):
        place.store.get(NAME)


@pytest.fixture
def cut(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FrameStore, Proxy]]:
    with Proxy(s3.endpoint) as proxy:
        uri = f"s3://{s3.bucket()}/frames"
        store = opened(monkeypatch, REELVEC_FRAMES=uri, **account(proxy.endpoint))
        yield store, proxy
        store.close()


def test_a_bucket_that_fails_in_the_middle_has_no_object(cut: tuple[FrameStore, Proxy]) -> None:
    store, proxy = cut
    proxy.trap(direction="request", after_bytes=1_000_000, times=1000)
    with pytest.raises(VideoError) as caught:
        store.put(NAME, DATA)
    assert (caught.value.code, caught.value.stage) == ("store_unavailable", "store")
    assert proxy.traps_left < 1000
    proxy.forward()
    assert names(store) == []
    assert code_of(store) == "pack_missing"
    proxy.trap(direction="request", after_bytes=1_000_000, times=1)
    store.put(NAME, DATA)  # one cut is made good
    assert proxy.traps_left == 0
    proxy.trap(direction="answer", after_bytes=1_000_000, times=1)
    assert store.get(NAME) == DATA
    proxy.refuse()
    proxy.cut()
    away: list[Callable[[], object]] = [
        lambda: store.get(NAME), lambda: store.put(NAME, DATA), lambda: store.delete(NAME), lambda: names(store),
    ]  # fmt: skip
    for act in away:
        with pytest.raises(VideoError, match="REELVEC_FRAMES") as caught:
            act()
        assert caught.value.code == "store_unavailable", "it is not the video's fault"


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(monkeypatch, REELVEC_FRAMES=str(tmp_path))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / NAME[:2]).mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(VideoError, match="No space left") as caught:
            store.put(NAME, DATA)
    assert caught.value.code == "store_unavailable"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_a_killed_writer_left_is_listed_and_can_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(monkeypatch, REELVEC_FRAMES=str(tmp_path))
    left = f"{NAME}.{'0' * 32}.unfinished"
    store.put(NAME, DATA)
    (tmp_path / NAME[:2] / left).write_bytes(DATA[:1000])
    os.utime(tmp_path / NAME[:2] / left, (0, 0))
    assert store.get(NAME) == DATA
    assert {each.name: each.age_seconds > 3600 for each in store.list()} == {
        NAME: False,
        left: True,
    }
    store.delete(left)
    assert names(store) == [NAME]


def test_a_folder_that_is_not_mounted_is_not_an_empty_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(monkeypatch, REELVEC_FRAMES=str(tmp_path / "nfs"))
    away: list[Callable[[], object]] = [
        lambda: store.get(NAME), lambda: store.put(NAME, DATA), lambda: store.delete(NAME), lambda: names(store),
    ]  # fmt: skip
    for act in away:
        with pytest.raises(VideoError, match="nfs") as caught:
            act()
        assert caught.value.code == "store_unavailable"


def test_a_store_that_is_no_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_store(WorkerSettings()) is None
    for where in ("frames", "s3://", "http://host/frames", "s3:/bucket"):
        with pytest.raises(UsageError, match="REELVEC_FRAMES"):
            opened(monkeypatch, REELVEC_FRAMES=where)
    monkeypatch.setenv("REELVEC_FRAMES_ACCESS_KEY_ID", "half")
    with pytest.raises((RefusedConfigurationError, UsageError), match="REELVEC_FRAMES_SECRET"):
        opened(monkeypatch, REELVEC_FRAMES="s3://bucket/frames")
