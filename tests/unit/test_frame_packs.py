"""Frame packs: what goes in comes out, bit by bit, and nothing else is ever taken for it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import zstandard

from db.errors import PackError
from db.media import MediaFacts
from workers.frames import codec, pack
from workers.frames.codec import Relative
from workers.frames.header import MAX_STRIP_BYTES
from workers.frames.pack import Pack
from workers.frames.store import MAX_BYTES, digest, verified
from workers.sampling.frames import Frames
from workers.sampling.plan import SHAPE

DICE = np.random.default_rng(7)


def smooth() -> np.ndarray:
    """A picture that moves, with noise."""
    y, x = np.mgrid[:224, :224]
    moving = [np.stack([x + 2 * i, y + i, x + y], axis=-1) // 2 for i in range(96)]
    return (np.stack(moving) + DICE.integers(0, 3, SHAPE)).astype(np.uint8)


def stripes() -> np.ndarray:
    """Every row of every frame has a brightness of its own, and some noise."""
    rows = DICE.integers(0, 200, (96, 224, 1, 1))
    return (rows + DICE.integers(0, 3, SHAPE)).astype(np.uint8)


PIXELS: dict[str, Callable[[], np.ndarray]] = {
    "smooth": smooth,
    "noise": lambda: DICE.integers(0, 256, SHAPE, np.uint8),
    "stripes": stripes,
    "still": lambda: np.broadcast_to(smooth()[:1], SHAPE),
    "extremes": lambda: np.where(DICE.integers(0, 2, SHAPE), np.uint8(255), np.uint8(0)),
    "nothing": lambda: np.zeros(SHAPE, np.uint8),
}


def made_of(pixels: np.ndarray) -> Pack:
    frames = Frames(
        pixels=pixels,
        indices=np.arange(96, dtype=np.int64) * 15,
        # times as files have them: no short decimals
        pts_seconds=np.arange(96) * (1001 / 30000) * 15 + 0.1,
        facts=MediaFacts("h264", 1280, 720, 30000 / 1001, 61.0276),
        version='6f1ed002ab5595859014ebf0951522d9-2 "é"',
        frame_count=1829,
        frames_decoded=1500,
        decode_mode="sparse",
        decode_errors=1,
        damaged_share=1 / 96,
        decode_seconds=2.3456789,
        bytes_read=4_090_211,
        fetch_seconds=0.07,
    )
    return Pack(frames, "notebook", 5_000_000_000, b"RIFF, a strip")


@pytest.fixture(scope="module")
def good() -> bytes:
    return pack.encode(made_of(smooth()))


def refused(data: bytes) -> str:
    with pytest.raises(PackError) as caught:
        pack.decode(data)
    return caught.value.code


@pytest.mark.parametrize("kind", PIXELS)
def test_what_goes_in_comes_out(kind: str) -> None:
    original = made_of(np.ascontiguousarray(PIXELS[kind]()))
    if kind == "noise":
        original = replace(original, strip=None, frames=replace(original.frames, version=None))
    data = pack.encode(original)
    memory = np.empty(SHAPE, np.uint8)
    again = pack.decode(data, new_frames=lambda: memory)
    assert again.frames.pixels is memory
    for field in fields(Frames):
        was, came = getattr(original.frames, field.name), getattr(again.frames, field.name)
        if isinstance(was, np.ndarray):
            assert (was.dtype, came.dtype == was.dtype) == (came.dtype, True)
            np.testing.assert_array_equal(came, was)
        else:
            assert came == was, field.name
    assert (again.policy, again.size_bytes, again.strip) == (
        original.policy,
        original.size_bytes,
        original.strip,
    )
    assert len(data) < MAX_BYTES
    most = {"smooth": 7_000_000, "still": 300_000, "nothing": 5_000}.get(kind, MAX_BYTES)
    assert len(data) < most


@pytest.mark.parametrize(
    ("kind", "relative"),
    [
        ("still", Relative(over_time=True, across=False)),
        ("noise", Relative(over_time=False, across=False)),
        ("stripes", Relative(over_time=False, across=True)),
    ],
)
def test_pixels_are_relative_to_what_makes_them_smaller(kind: str, relative: Relative) -> None:
    assert codec.compress(np.ascontiguousarray(PIXELS[kind]()))[1] == relative


def test_the_name_of_a_pack_is_that_of_its_bytes(good: bytes) -> None:
    assert digest(good) == digest(bytes(good)) != digest(good + b"\0")
    assert len(digest(good)) == 64


@pytest.mark.parametrize("share", [0, 0.3, 0.5, 0.9, 0.999999])
def test_a_pack_that_is_cut_is_refused(good: bytes, share: float) -> None:
    assert refused(good[: int(share * len(good))]) == "pack_damaged"


def test_no_flipped_byte_is_overlooked(good: bytes) -> None:
    header = range(60)
    elsewhere = DICE.integers(60, len(good), 40)
    for place in [*header, *elsewhere, len(good) - 1]:
        data = bytearray(good)
        data[place] ^= 1 << int(DICE.integers(0, 8))
        with pytest.raises(PackError) as caught:
            verified(digest(good), bytes(data))
        assert caught.value.code == "pack_damaged"


def whole(header: bytes, rest: bytes, number: int = pack.FORMAT) -> bytes:
    """A pack of these parts, whatever is in them."""
    return pack.MAGIC + struct.pack("<II", number, len(header)) + header + rest


def parts(data: bytes) -> tuple[bytes, bytes]:
    (length,) = struct.unpack_from("<I", data, 12)
    return data[16 : 16 + length], data[16 + length :]


def test_these_tests_know_the_parts_of_a_pack(good: bytes) -> None:
    assert whole(*parts(good)) == good


@pytest.mark.parametrize(
    ("was", "becomes", "code"),
    [
        (b'"recipe":"pil-bilinear-224-centre"', b'"recipe":"other"', "pack_foreign"),
        (b'"sampler_version":', b'"sampler_version":9', "pack_foreign"),
        (b'"frame_count":1829', b'"frame_count":-1', "pack_damaged"),
        (b'"frame_count":1829', b'"frame_count":"1829"', "pack_damaged"),
        (b'"indices":[0,', b'"indices":[', "pack_damaged"),
        (b'"fps":', b'"fps":-', "pack_damaged"),
        (b'"over_time":', b'"over":', "pack_damaged"),
        (b'"policy":', b'"more":1,"policy":', "pack_damaged"),
        (b'"strip_bytes":13', b'"strip_bytes":%d' % (MAX_STRIP_BYTES + 1), "pack_damaged"),
        (b'"strip_bytes":13', b'"strip_bytes":12', "pack_damaged"),
        (b"{", b"", "pack_damaged"),
    ],
)  # fmt: skip
def test_a_header_that_lies_is_refused(good: bytes, was: bytes, becomes: bytes, code: str) -> None:
    header, rest = parts(good)
    changed = header.replace(was, becomes, 1)
    assert changed != header
    assert refused(whole(changed, rest)) == code


def test_another_format_is_told_from_damage(good: bytes) -> None:
    assert refused(whole(*parts(good), number=pack.FORMAT + 1)) == "pack_foreign"


def test_a_header_longer_than_the_pack_is_refused(good: bytes) -> None:
    assert refused(good[:12] + struct.pack("<I", 2**32 - 1) + good[16:]) == "pack_damaged"


def bomb(**options: int) -> bytes:
    """A gigabyte of nothing."""
    return zipped(bytes(1 << 30), **options)


def zipped(data: bytes, **options: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(write_content_size=False, **options)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (lambda good: bomb(window_log=17), "more than"),
        (lambda good: bomb(window_log=27), "memory|window"),
        (lambda good: good[:-1], "than 96 frames have"),
        (lambda good: good[: len(good) // 4], "fewer than"),
        (lambda good: b"", "fewer than"),
        (lambda good: zipped(bytes(1000)), "fewer than"),
        (lambda good: zipped(bytes(96 * 224 * 224), window_log=17), "fewer than"),
        (lambda good: b"\xff" * 5000, "cannot be read"),
    ],
)  # fmt: skip
def test_no_more_is_unpacked_than_96_frames_have(
    good: bytes, payload: Callable[[bytes], bytes], why: str
) -> None:
    header, rest = parts(good)
    strip, compressed = rest[:13], rest[13:]
    with pytest.raises(PackError, match=why) as caught:
        pack.decode(whole(header, strip + payload(compressed)))
    assert caught.value.code == "pack_damaged"


def test_what_is_larger_than_any_pack_is_not_looked_at() -> None:
    assert refused(bytes(MAX_BYTES + 1)) == "pack_damaged"
