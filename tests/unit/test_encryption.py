"""What containers say about encryption, read from bytes of any kind: exact for whole ones, harmless
for broken ones.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest

from tests import encrypting as enc
from tests import media
from tests.mutator import mutated
from workers.sampling.inside.boxes import boxes_in
from workers.sampling.inside.container import is_whole
from workers.sampling.inside.encryption import asf, cenc, encryption_of, mkv, mpegps, mpegts
from workers.sampling.inside.encryption.mkv import Kind


def content(box: bytes) -> bytes:
    return next(boxes_in(box))[1]


def numbers(runs: cenc.Runs | None, count: int) -> list[int | None]:
    assert runs is not None
    return [runs.at(sample) for sample in range(count)]


def test_runs_end() -> None:
    assert numbers(cenc.Runs([(2, 7), (0, 8), (1, 9)]), 4) == [7, 7, 9, None]


def test_samples_have_the_description_of_their_chunk() -> None:
    rows = [(1, 2, 1), (3, 1, 2)]  # two chunks of two samples, then chunks of one
    stsc = (
        bytes(4)
        + len(rows).to_bytes(4, "big")
        + b"".join(n.to_bytes(4, "big") for row in rows for n in row)
    )
    assert numbers(cenc.description_runs(stsc), 6) == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("version", [0, 1, 2])
def test_groups_of_each_version(version: int) -> None:
    found = cenc.groups(content(enc.seig(1, 0, 1, version=version, default=2)))
    assert found is not None
    assert [found.at(index) for index in range(5)] == [None, True, False, True, None]
    assert found.default == (2 if version == 2 else 0)


def test_groups_of_another_kind_are_none() -> None:
    for box in (enc.seig(1), enc.in_groups((1, 1)), enc.compact_groups(1, [1])):
        other = content(box.replace(b"seig", b"roll"))
        assert (
            cenc.groups(other) is cenc.group_runs(other) is cenc.compact_group_runs(other) is None
        )


def test_compact_groups_follow_their_pattern() -> None:
    box = enc.compact_groups(5, [0, 1, 2])
    assert numbers(cenc.compact_group_runs(content(box)), 6) == [0, 1, 2, 0, 1, None]
    own = bytearray(enc.compact_groups(2, [1, 0x8001]))
    own[11] |= 0x80
    assert numbers(cenc.compact_group_runs(content(bytes(own))), 2) == [1, cenc.LOCAL + 1]


@pytest.mark.parametrize(
    ("kind", "inside", "expected"),
    [
        (b"avc1", b"", False),
        (b"avc1", enc.sinf(b"cenc", enc.tenc()), False),
        (b"encv", b"", True),
        (b"drmi", b"", True),
        (b"encv", enc.sinf(b"cenc", enc.tenc()), True),
        (b"encv", enc.sinf(b"cenc", enc.tenc(0)), False),
        (b"encv", enc.sinf(b"piff", enc.piff_tenc(2)), True),
        (b"encv", enc.sinf(b"piff", enc.piff_tenc(0)), False),
    ],
)
def test_sample_descriptions(kind: bytes, inside: bytes, expected: bool) -> None:
    assert cenc.descriptions(bytes(8) + enc.box(kind, bytes(78), inside)) == (expected,)


def test_a_note_may_say_that_nothing_of_a_packet_is_encrypted() -> None:
    def note(*protected: int) -> bytes:
        head = b"".join(number.to_bytes(4, "big") for number in (0, 0, 0, 16, 8, len(protected)))
        return (
            head
            + bytes(24)
            + b"".join(bytes([0, 0, 0, 5]) + one.to_bytes(4, "big") for one in protected)
        )

    assert cenc.protects_nothing(note(0, 0))
    assert not cenc.protects_nothing(note(0, 16))
    assert not cenc.protects_nothing(note()), "all of it"
    assert not cenc.protects_nothing(b"")


def test_tracks_of_a_webm() -> None:
    def track(kind: int, part: bytes) -> bytes:
        return enc.element(0xAE, enc.element(0x83, bytes([kind])), part)

    tracks = (
        *(
            track(2, enc.encodings()),
            track(1, b""),
            track(1, enc.encodings()),
            track(1, enc.encodings(kind=0)),
        ),
        *(track(1, enc.encodings(algorithm=0)), track(1, enc.encodings(per_frame=True))),
    )
    assert mkv.picture_tracks(b"".join(tracks)) == [
        Kind.CLEAR,
        Kind.ENCRYPTED,
        Kind.CLEAR,
        Kind.CLEAR,
        Kind.PER_FRAME,
    ]


def test_packets_of_a_program_stream_are_followed_from_one_to_the_next() -> None:
    pack = b"\0\0\1\xba\x44" + bytes(8) + b"\xfa" + b"\xff\xff"

    def pes(code: int, flags: int, payload: bytes) -> bytes:
        body = bytes([flags, 0, 0]) + payload
        return b"\0\0\1" + bytes([code]) + len(body).to_bytes(2, "big") + body

    looks_like_one = pes(0xC0, 0x80, b"\0\0\1\xe0\0\x20\x90" + bytes(9))
    data = (
        pack
        + looks_like_one
        + pes(0xE0, 0x80, bytes(20))
        + b"damage"
        + pes(0xE1, 0x90, bytes(20))
        + bytes(20)
    )
    heads, after = mpegps.picture_packets(data, 1000)
    assert [(head.stream_id, head.is_scrambled) for head in heads] == [(0xE0, False), (0xE1, True)]
    assert heads[0].position == 1000 + len(pack + looks_like_one)
    assert after >= 1000 + len(data) - 14


def test_a_watched_stream_is_the_same_in_pieces_of_any_size(tmp_path: Path) -> None:
    path = media.make_clip(tmp_path / "clip.ts", seconds=1, width=160, height=96)
    for data in (
        enc.scrambled_ts(path.read_bytes(), lambda number: number > 40),
        enc.sample_aes(path.read_bytes()),
    ):
        found = set()
        for piece in (100, 188, 1000, len(data)):
            watch = mpegts.TsEncryption(io.BytesIO(data), data[:2048])
            while watch.file.read(piece):
                pass
            found.add((watch.explains_failure(), *watch._encrypted_from.items()))
        assert len(found) == 1
        assert all(explained for explained, *_ in found)


SOURCES: dict[str, Callable[[Path], bytes]] = {
    "frag.mp4": lambda path: (
        media.make_clip(path, seconds=0.4, width=96, height=96, container_options=enc.FRAGMENTS).read_bytes()
        + enc.box(b"moof", enc.box(b"traf", enc.seig(1), enc.in_groups((9, 0x10001)), enc.compact_groups(3, [1, 2])))
    ),
    "cenc.mp4": lambda path: media.make_clip(
        *(path,), seconds=0.4, width=96, height=96, container_options={"encryption_scheme": "cenc-aes-ctr", **enc.KEY}
    ).read_bytes(),
    "clip.webm": lambda path: enc.into_track(
        media.make_clip(path, codec="libvpx", seconds=0.4, width=96, height=96).read_bytes(), enc.encodings(per_frame=True)
    ),
    "clip.ts": lambda path: enc.sample_aes(media.make_clip(path, seconds=0.4, width=96, height=96).read_bytes()),
    "clip.vob": lambda path: media.make_clip(
        *(path,), codec="mpeg2video", seconds=0.4, width=96, height=96, container_format="vob"
    ).read_bytes(),
    "clip.asf": lambda path: media.make_clip(
        *(path,), codec="mpeg4", seconds=0.4, width=96, height=96, container_format="asf"
    ).read_bytes(),
}  # fmt: skip


class _Stream:
    """What is asked of a stream."""

    id = 1


class _Packet(bytes):
    """What is asked of a packet."""

    pos: int | None = None

    def get_sidedata(self, name: str) -> bytes:
        return bytes(30)


@pytest.mark.parametrize("name", SOURCES)
def test_no_bytes_make_a_reader_fail_or_read_for_ever(name: str, tmp_path: Path) -> None:
    """200 damaged files a container, each read to its end in pieces while packets come."""
    whole = SOURCES[name](tmp_path / name)
    donor = Random(1).randbytes(4096)
    for seed in range(200):
        data = mutated(whole, donor, seed).data
        file = _Counted(data)
        encryption = encryption_of(file)
        is_whole(file)
        encryption.explains_failure()
        if not isinstance(encryption, mkv.MkvEncryption):
            encryption.begin(_Stream())  # type: ignore[arg-type]
        dice = Random(seed)
        for _ in range(20):
            encryption.file.seek(dice.choice((0, dice.randrange(len(data) + 1))))
            while encryption.file.read(dice.choice((1, 500, 4096)) * 40):
                pass
            packet = _Packet(b"\1frame")
            packet.pos = dice.choice((None, dice.randrange(len(data) + 1)))
            encryption.covers(packet)  # type: ignore[arg-type]
        assert isinstance(encryption.explains_failure(), bool)
        assert file.calls < 20_000


class _Counted(io.BytesIO):
    """Counts reads."""

    calls = 0

    def read(self, count: int | None = -1, /) -> bytes:
        self.calls += 1
        return super().read(count)


def test_pure_parsers_take_any_bytes() -> None:
    dice = np.random.default_rng(5)
    for _ in range(3000):
        data = dice.bytes(int(dice.integers(0, 200)))
        for kind in (b"", b"\0\0\0\0seig", b"\1\0\0\0seig", b"\2\0\0\xaaseig"):
            cenc.groups(kind + data)
            cenc.group_runs(kind + data)
            cenc.compact_group_runs(kind + data)
        cenc.descriptions(data)
        cenc.description_runs(data)
        cenc.piff_override(data)
        cenc.protects_nothing(data)
        list(mpegts.program(data))
        list(mpegts.streams(data.ljust(13, b"\0")))
        mkv.picture_tracks(data)
        asf.is_encrypted(data)
        mpegps.picture_packets(b"\0\0\1" + data, 0)
        mpegts.layout(data)
