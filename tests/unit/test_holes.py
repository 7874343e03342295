"""Bytes that are no media, as the readers of containers see them: none in whole files, all of a
hole, however the file is read, and no end for hostile ones but a harmless one.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests import media
from tests.mutator import mutated
from workers.sampling.inside.holes import Holes, holes_of
from workers.sampling.inside.holes.asf_data import asf_data
from workers.sampling.inside.holes.pages import Pages, checksum

CLIPS: dict[str, dict[str, Any]] = {
    "clip.ts": {"audio": True},
    "clip.m2ts": {"container_options": {"mpegts_m2ts_mode": "1"}},
    "clip.vob": {"codec": "mpeg2video"},
    "clip.mpg": {"codec": "mpeg1video"},
    "clip.asf": {"codec": "wmv2"},
    "clip.ogv": {"codec": "libvpx"},
}
FILLINGS: dict[str, Callable[[int], bytes]] = {
    "zeros": bytes,
    "ones": lambda count: b"\xff" * count,
    "random bytes": Random(1).randbytes,
}
#: Of the file, where the hole lies.
START, STOP = 0.4, 0.7


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    folder = tmp_path_factory.mktemp("clips")
    return lambda name: media.make_clip(
        folder / name, seconds=8, width=160, height=96, **CLIPS[name]
    ).read_bytes()


def watched(data: bytes, pieces: int | None = None) -> Holes:
    """All of it is read, in pieces of up to so many bytes."""
    holes, dice = holes_of(io.BytesIO(data)), Random(1)
    holes.file.seek(0)
    while holes.file.read(dice.randrange(1, pieces) if pieces else 1 << 18):
        pass
    return holes


def filled(data: bytes, filling: Callable[[int], bytes]) -> bytes:
    start, stop = int(START * len(data)), int(STOP * len(data))
    return data[:start] + filling(stop - start) + data[stop:]


@pytest.mark.parametrize("pieces", [None, 300, 40_000])
@pytest.mark.parametrize("name", CLIPS)
def test_a_whole_file_has_none(name: str, pieces: int | None, clip: Callable[[str], bytes]) -> None:
    data = clip(name)
    holes = watched(data, pieces)
    assert holes.demuxer
    assert holes.lost_share(at_end=True) == 0.0
    assert not holes.between(0, len(data))


@pytest.mark.parametrize("pieces", [None, 300, 40_000])
@pytest.mark.parametrize("filling", FILLINGS)
@pytest.mark.parametrize("name", CLIPS)
def test_a_hole_is_seen_whole_and_where_it_is(
    name: str, filling: str, pieces: int | None, clip: Callable[[str], bytes]
) -> None:
    data = clip(name)
    holes = watched(filled(data, FILLINGS[filling]), pieces)
    # and the packets and pages that it touches, of which an ogg has one a second
    assert STOP - START - 0.03 < holes.lost_share(at_end=False) < STOP - START + 0.2
    assert holes.between(int(0.2 * len(data)), int(0.9 * len(data)))
    assert not holes.between(0, int(0.2 * len(data)))
    assert not holes.between(int(0.9 * len(data)), len(data))


@pytest.mark.parametrize("name", CLIPS)
def test_less_than_a_few_sectors_does_not_count(name: str, clip: Callable[[str], bytes]) -> None:
    data = clip(name)
    assert watched(data + bytes(4000)).lost_share(at_end=True) == 0.0
    assert watched(data + bytes(len(data))).lost_share(at_end=True) == (
        0.0 if name == "clip.asf" else pytest.approx(0.5, abs=0.01)
    )


@pytest.mark.parametrize("name", ["clip.ts", "clip.m2ts", "clip.vob", "clip.mpg", "clip.ogv"])
def test_the_end_is_looked_at_where_it_is_read_apart(
    name: str, clip: Callable[[str], bytes]
) -> None:
    """As FFmpeg does, for the last time in it."""
    data = clip(name)
    for empty, share in ((0, 0.0), (1, 0.5), (9, 0.9)):
        holes = holes_of(io.BytesIO(data + bytes(empty * len(data))))
        holes.file.seek(0)
        holes.file.read(2000)
        holes.file.seek(len(data) // 2)
        while holes.file.read(1 << 18):
            pass
        assert holes.lost_share(at_end=False) == pytest.approx(share, abs=0.01)


def test_what_is_not_read_behind_a_hole_is_lost_if_no_more_comes(
    clip: Callable[[str], bytes],
) -> None:
    data = clip("clip.ts")
    holes = holes_of(io.BytesIO(data + bytes(9 * len(data))))
    holes.file.seek(0)
    holes.file.read(len(data) + 10_000)
    assert holes.lost_share(at_end=False) < 0.2
    assert holes.lost_share(at_end=True) == pytest.approx(0.9, abs=0.01)
    # FFmpeg does not go on behind the first part of a chained ogg: that is whole
    chained = clip("clip.ogv") * 2
    holes = holes_of(io.BytesIO(chained))
    holes.file.seek(0)
    holes.file.read(len(chained) // 2 + 1000)
    assert holes.lost_share(at_end=True) == 0.0
    assert watched(chained).lost_share(at_end=True) == 0.0


def test_pages_of_an_ogg_have_checksums_and_numbers(clip: Callable[[str], bytes]) -> None:
    data = clip("clip.ogv")
    starts = [at for at in range(len(data)) if data.startswith(b"OggS", at)]
    for start, stop in zip(starts, [*starts[1:], len(data)], strict=True):
        assert checksum(data[start:stop]).to_bytes(4, "little") == data[start + 22 : start + 26]
    cut = data[: starts[3]] + data[starts[5] :]
    missing = (len(data) - len(cut)) / len(data)
    assert watched(cut).lost_share(at_end=True) == pytest.approx(missing, abs=0.1)
    # a recording of a broadcast: the headers, and then what is on
    assert watched(data[: starts[2]] + data[starts[5] :]).lost_share(at_end=True) == 0.0
    flipped = bytearray(data)
    flipped[starts[4] + 500] ^= 1
    lost = (starts[5] - starts[4]) / len(data)
    assert watched(bytes(flipped)).lost_share(at_end=True) == pytest.approx(lost)


def test_an_asf_that_is_shorter_than_it_says_lacks_the_rest(clip: Callable[[str], bytes]) -> None:
    data = clip("clip.asf")
    found = asf_data(io.BytesIO(data))
    assert found is not None
    assert found.stop is not None
    assert (found.stop - found.start) % found.packet_bytes == 0
    at = found.start + 3 * found.packet_bytes
    cut = data[:at] + data[at + 4 * found.packet_bytes :]
    missing = 4 * found.packet_bytes / (found.stop - found.start)
    assert watched(cut).lost_share(at_end=True) == pytest.approx(missing, abs=0.02)
    assert watched(cut).lost_share(at_end=False) == 0.0
    live = bytearray(cut)
    flags = data.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")) + 24 + 64
    live[flags] |= 1
    assert watched(bytes(live)).lost_share(at_end=True) == 0.0


@pytest.mark.parametrize("name", CLIPS)
def test_damaged_files_of_any_kind_do_no_harm(name: str, clip: Callable[[str], bytes]) -> None:
    whole = clip(name)
    donor = Random(1).randbytes(4096)
    for seed in range(60):
        data = mutated(whole, donor, seed).data
        holes, dice = holes_of(io.BytesIO(data)), Random(seed)
        for _ in range(20):
            holes.file.seek(dice.choice((0, dice.randrange(len(data) + 1))))
            while holes.file.read(dice.choice((1, 500, 4096)) * 40):
                pass
            assert 0 <= holes.lost_share(at_end=dice.random() < 0.5) <= 1
            holes.between(dice.randrange(len(data) + 1), dice.randrange(len(data) + 1))


def test_pages_that_are_none_are_given_up() -> None:
    """Each may claim 64 KiB, and the next begin a few bytes behind it."""
    pages = Pages(0)
    page = b"OggS" + bytes(22) + b"\xff" + b"\xff" * 5
    pages.see(0, page * 20_000)
    assert pages.lost_bytes == 20_000 * len(page)
    assert pages._wrong == 1000
