"""Files that are odd and whole: one frame, slides, headers that are wrong, things that PyAV has no
name for.
"""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from tests import media
from tests.trees import Ebml, Mp4, format_of, walk
from workers.sampling.frames import Decoded
from workers.sampling.inside import opening
from workers.sampling.inside.decode import sample

SMALL = {"width": 160, "height": 96}


def sampled(path: Path) -> Decoded:
    with path.open("rb") as file:
        return sample(file, "notebook")


def numbers(decoded: Decoded) -> list[int]:
    return [media.read_frame_number(frame) for frame in decoded.pixels]


ONE = {
    "h264.mp4": {},
    "h264.mkv": {},
    "h264.ts": {},
    "h264.avi": {},
    "fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    # x265 gives a single frame no time to be decoded at, where others might refer to it
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none:bframes=0"}},
    "vp8.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "mpeg2.ts": {"codec": "mpeg2video"},
}


@pytest.mark.parametrize("name", ONE)
def test_one_frame_is_a_video(name: str, tmp_path: Path) -> None:
    path = media.make_clip(tmp_path / name, seconds=0.04, **SMALL, **ONE[name])  # type: ignore[arg-type]
    decoded = sampled(path)
    assert numbers(decoded) == decoded.indices.tolist() == [0] * 96
    assert decoded.decode_errors == 0
    assert 0 < decoded.facts.duration_seconds <= 1


def without(data: bytes, *kinds: bytes) -> bytes:
    tree = Ebml().parse(data)
    for siblings, node in list(walk(tree)):
        if node.kind in kinds:
            siblings[:] = [one for one in siblings if one is not node]
    return Ebml().pack(tree)


def test_one_frame_is_shown_as_long_as_the_file_says(tmp_path: Path) -> None:
    """No duration of a frame in it, and so no rate: FFmpeg guesses 1,000 a second."""
    path = media.make_clip(tmp_path / "one.webm", codec="libvpx", seconds=0.04, **SMALL)  # type: ignore[arg-type]
    path.write_bytes(stating_ms(without(path.read_bytes(), b"\x23\xe3\x83"), 3000.0))
    decoded = sampled(path)
    assert numbers(decoded) == [0] * 96
    assert (decoded.frame_count, decoded.facts.duration_seconds) == (1, 3.0)


def stating_ms(data: bytes, milliseconds: float) -> bytes:
    """A mkv or webm that says it is so long."""
    tree = Ebml().parse(data)
    for _, node in walk(tree):
        if node.kind == b"\x44\x89":
            node.head = struct.pack(">d", milliseconds)
    return Ebml().pack(tree)


def stating_units(data: bytes, units: int, *kinds: bytes) -> bytes:
    """An mp4 in which these headers say so."""
    tree = Mp4().parse(data)
    for _, node in walk(tree):
        if node.kind in kinds:
            at = 20 if node.kind == b"tkhd" else 16
            node.head = node.head[:at] + struct.pack(">I", units) + node.head[at + 4 :]
    return Mp4().pack(tree)


def stating_frames(data: bytes, frames: int) -> bytes:
    """An avi whose headers say it has so many."""
    changed = bytearray(data)
    struct.pack_into("<I", changed, data.index(b"avih") + 8 + 16, frames)
    struct.pack_into("<I", changed, data.index(b"strh") + 8 + 32, frames)
    return bytes(changed)


@pytest.mark.parametrize("stated", [0.0, 40_000.0, 1e12, -5.0, float("nan")])
@pytest.mark.parametrize(("name", "codec"), [("clip.mkv", "libx264"), ("clip.webm", "libvpx")])
def test_a_whole_mkv_is_sampled_whatever_length_it_states(
    name: str, codec: str, stated: float, tmp_path: Path
) -> None:
    path = media.make_clip(tmp_path / name, codec=codec, **SMALL)  # type: ignore[arg-type]
    path.write_bytes(stating_ms(path.read_bytes(), stated))
    decoded = sampled(path)
    assert numbers(decoded) == decoded.indices.tolist() == list(range(96))
    assert decoded.facts.duration_seconds == pytest.approx(4)


@pytest.mark.parametrize("stated", [0, 1, 40_000_000, 2**32 - 1])
@pytest.mark.parametrize("kinds", [(b"mvhd",), (b"mdhd",), (b"mvhd", b"tkhd", b"mdhd")], ids=str)
def test_a_whole_mp4_is_sampled_whatever_length_it_states(
    kinds: tuple[bytes, ...], stated: int, tmp_path: Path
) -> None:
    path = media.make_clip(tmp_path / "clip.mp4", **SMALL)  # type: ignore[arg-type]
    path.write_bytes(stating_units(path.read_bytes(), stated, *kinds))
    assert numbers(sampled(path)) == list(range(96))


@pytest.mark.parametrize("stated", [0, 1000, 2**31 - 1, 2**32 - 1])
def test_a_whole_avi_is_sampled_however_many_frames_it_states(stated: int, tmp_path: Path) -> None:
    path = media.make_clip(tmp_path / "clip.avi", codec="mpeg4", **SMALL)  # type: ignore[arg-type]
    path.write_bytes(stating_frames(path.read_bytes(), stated))
    assert numbers(sampled(path)) == list(range(96))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "ts"])
def test_slides_are_each_shown(suffix: str, tmp_path: Path) -> None:
    codec = "libvpx" if suffix == "webm" else "libx264"
    path = media.make_clip(
        tmp_path / f"slides.{suffix}", codec=codec, pts=[0, 10_000, 25_000, 40_000, 50_000], **SMALL
    )  # type: ignore[arg-type]
    decoded = sampled(path)
    assert numbers(decoded) == decoded.indices.tolist()
    assert {0, 4} <= set(decoded.indices.tolist())
    assert decoded.pts_seconds[-1] == pytest.approx(50)
    assert decoded.facts.duration_seconds >= 50


def test_a_frame_an_hour_long(tmp_path: Path) -> None:
    path = media.make_clip(tmp_path / "slides.mp4", pts=[0, 3_600_000], **SMALL)  # type: ignore[arg-type]
    decoded = sampled(path)
    assert numbers(decoded)[-1] == 1
    assert decoded.facts.duration_seconds == pytest.approx(3600, abs=1)


def photographed(path: Path) -> Path:
    """A camera's motion JPEG with Exif in each picture: FFmpeg has a kind of side data for it, PyAV
    no name.
    """
    source = media.make_clip(
        path.with_name("plain.mov"), codec="mjpeg", pix_fmt="yuvj420p", seconds=0.4, **SMALL
    )  # type: ignore[arg-type]
    # little-endian TIFF, one entry: orientation 1
    exif = b"Exif\0\0" + b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, 1, 0, 0)
    with av.open(str(source)) as original, av.open(path, "w") as copy:
        stream = copy.add_stream_from_template(original.streams.video[0])
        for packet in original.demux(video=0):
            if packet.size:
                data = bytes(packet)
                noted = av.Packet(
                    data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
                )
                noted.pts, noted.dts, noted.time_base = packet.pts, packet.dts, packet.time_base
                noted.duration, noted.is_keyframe, noted.stream = packet.duration, True, stream
                copy.mux(noted)
    return path


def test_side_data_without_a_name_is_passed_over(tmp_path: Path) -> None:
    decoded = sampled(photographed(tmp_path / "camera.mov"))
    assert numbers(decoded) == decoded.indices.tolist()
    assert decoded.indices[-1] == 9


def test_a_disposition_without_a_name_says_nothing() -> None:
    assert not Disposition(1 << 27) & opening._NOT_MOVING
    assert Disposition(1 << 27 | Disposition.attached_pic) & opening._NOT_MOVING


@pytest.mark.parametrize("number", [3, 13, 255])
def test_colour_numbers_without_a_name(number: int, tmp_path: Path) -> None:
    """Transfer curve and primaries are left as they are, so unknown ones are, too; an unknown
    matrix is BT.601.
    """
    path = media.make_clip(tmp_path / "colour.mp4", seconds=0.4, **SMALL)  # type: ignore[arg-type]
    plain = sampled(path).pixels.copy()
    tree = Mp4().parse(path.read_bytes())
    entry = next(node for _, node in walk(tree) if node.kind == b"avc1")
    colr = struct.pack(">I4s4sHHHB", 19, b"colr", b"nclx", number, number, 2, 0)
    entry.inside = [type(entry)(b"", colr), *entry.inside]
    path.write_bytes(Mp4().pack(tree))
    np.testing.assert_array_equal(sampled(path).pixels, plain)


@pytest.mark.parametrize(
    "matrix", [(0,) * 9, (2**31 - 1,) * 9, (-(2**31),) * 9, (1, -1, 7, 3, 2, 0, 5, 5, 5)]
)
def test_an_odd_display_matrix_turns_to_something(matrix: tuple[int, ...], tmp_path: Path) -> None:
    path = media.make_clip(tmp_path / "turned.mp4", seconds=0.4, **SMALL)  # type: ignore[arg-type]
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)
    assert sampled(path).pixels.shape == (96, 224, 224, 3)


def test_the_helpers_change_what_they_say(tmp_path: Path) -> None:
    path = media.make_clip(tmp_path / "clip.mkv", seconds=0.4, **SMALL)  # type: ignore[arg-type]
    assert stating_ms(path.read_bytes(), 5.0) != path.read_bytes()
    assert isinstance(format_of(path.read_bytes()), Ebml)
