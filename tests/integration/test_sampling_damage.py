"""The damaged share: 0 for every whole file, and the decoder's own word for what is not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import pytest

from db.errors import ErrorClass
from tests import media
from workers.sampling.frames import MAX_DAMAGED_SHARE, Decoded, refusal
from workers.sampling.inside.decode import sample

WHOLE: dict[str, dict[str, Any]] = {
    "h264.mp4": {
        "options": {"preset": "veryfast", "bf": "3", "g": "30", "x264-params": "open-gop=1"}
    },
    "h264.avi": {},
    "interlaced.ts": {
        "options": {"preset": "veryfast", "flags": "+ilme+ildct", "g": "30", "bf": "2"}
    },
    "refreshed.mp4": {"options": {"preset": "medium", "intra-refresh": "1"}},
    "hevc.ts": {
        "codec": "libx265",
        "options": {"x265-params": "log-level=none:keyint=30:open-gop=1"},
    },
    "vp8.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "av1.mp4": {"codec": "libsvtav1"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg2.ts": {"codec": "mpeg2video"},
    "mjpeg.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "h264.mkv": {},
    "flv1.flv": {"codec": "flv1"},
    "mpeg4.nut": {"codec": "mpeg4"},
    "mpeg2.mxf": {"codec": "mpeg2video"},
}


def sampled(data: bytes) -> Decoded:
    return sample(io.BytesIO(data), "notebook")


def packets_of(data: bytes) -> list[tuple[int, int]]:
    """Start and size in bytes of the pictures' packets."""
    with av.open(io.BytesIO(data)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def wiped(data: bytes, numbers: range | list[int]) -> bytes:
    """`data` with these packets made of zeros: no decoder makes a picture of them."""
    broken, packets = bytearray(data), packets_of(data)
    for number in numbers:
        start, size = packets[number]
        broken[start : start + size] = bytes(size)
    return bytes(broken)


def flipped(data: bytes, numbers: range) -> bytes:
    """`data` with one byte in the middle of these packets changed."""
    broken, packets = bytearray(data), packets_of(data)
    for number in numbers:
        start, size = packets[number]
        broken[start + size // 2] ^= 0xFF
    return bytes(broken)


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_file_has_none(name: str, tmp_path: Path) -> None:
    path = media.make_clip(tmp_path / name, width=160, height=96, **WHOLE[name])
    assert sampled(path.read_bytes()).damaged_share == 0.0


@pytest.mark.parametrize("name", ["interlaced.ts", "hevc.ts", "mpeg2.ts", "vp8.webm", "vp9.webm"])
def test_nor_has_a_recording_that_begins_between_key_frames(name: str, tmp_path: Path) -> None:
    """No player shows anything before the first key frame, so nothing is lost there."""
    facts = {**WHOLE[name], "options": {"g": "30", **WHOLE[name].get("options", {})}}
    path, cut = (
        media.make_clip(tmp_path / name, width=160, height=96, **facts),
        tmp_path / f"cut.{name}",
    )
    with av.open(str(path)) as whole, av.open(cut, "w") as container:
        stream = container.add_stream_from_template(whole.streams.video[0])
        packets = [packet for packet in whole.demux(video=0) if packet.size][7:]
        start = min(packet.dts or 0 for packet in packets)
        for packet in packets:
            packet.pts, packet.dts, packet.stream = (
                (packet.pts or 0) - start,
                (packet.dts or 0) - start,
                stream,
            )
            container.mux(packet)
    assert sampled(cut.read_bytes()).damaged_share == 0.0


@pytest.mark.parametrize("name", ["h264.mkv", "vp8.webm", "flv1.flv", "mpeg4.nut"])
def test_a_hole_in_the_file_counts_although_no_packet_of_it_comes(
    name: str, tmp_path: Path
) -> None:
    """As where pieces of a download are missing: the demuxer goes on behind it without a word, in a
    mkv and webm with the next cluster.
    """
    facts = {**WHOLE[name], "seconds": 12}
    data = media.make_clip(tmp_path / name, width=160, height=96, **facts).read_bytes()
    start, size = len(data) * 3 // 10, len(data) * 4 // 10
    decoded = sampled(data[:start] + bytes(size) + data[start + size :])
    assert 0.35 < decoded.damaged_share < 0.75
    assert refusal(decoded.damaged_share) is not None


def test_each_slot_that_another_frame_fills_counts(tmp_path: Path) -> None:
    clip = media.make_clip(
        tmp_path / "clip.mov", codec="mjpeg", pix_fmt="yuvj420p", width=96, height=96
    ).read_bytes()
    assert sampled(wiped(clip, range(0, 100, 4))).damaged_share == 24 / 96
    # the last one is looked at 77 times
    short = media.make_clip(
        tmp_path / "s.mov", codec="mjpeg", pix_fmt="yuvj420p", seconds=0.8, width=96, height=96
    )
    assert sampled(wiped(short.read_bytes(), [19])).damaged_share == 77 / 96


def test_frames_that_the_decoder_calls_corrupt_count(tmp_path: Path) -> None:
    """H.264 patches up what it cannot read (concealment), and says so of the frame."""
    options = {
        "preset": "veryfast",
        "g": "1",
        "bf": "0",
    }  # each frame by itself: one flip, one frame
    clip = media.make_clip(tmp_path / "clip.mp4", options=options).read_bytes()
    found = sampled(flipped(clip, range(0, 96, 8)))
    assert found.decode_mode == "sparse"
    assert 10 <= found.decode_errors <= 12, (
        "of twelve flips: a bit or two may change pixels and nothing else"
    )
    assert found.damaged_share == found.decode_errors / 96


def test_where_everything_is_decoded_refused_packets_count(tmp_path: Path) -> None:
    """Frames are counted as they come out there, so a lost one leaves no gap: those behind it take
    its place.
    """
    clip = media.make_clip(
        tmp_path / "clip.mp4", codec="mpeg4", width=96, height=96, options={"g": "1"}
    ).read_bytes()
    found = sampled(wiped(clip, range(0, 40, 2)))
    assert found.decode_mode == "full"
    assert found.damaged_share == pytest.approx(20 / 100, abs=0.01)


def test_the_limit_is_permanent_and_says_what_to_do() -> None:
    assert refusal(0.0) is None
    assert refusal(MAX_DAMAGED_SHARE) is None
    refused = refusal(MAX_DAMAGED_SHARE + 1 / 96)
    assert refused is not None
    assert (refused.code, refused.stage, refused.error_class) == (
        "damaged",
        "sample",
        ErrorClass.PERMANENT,
    )
    assert "11% of the frames" in str(refused)
    assert "retry --error damaged" in str(refused)
