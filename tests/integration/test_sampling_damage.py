"""The damaged share: 0 for every whole file, and the decoder's own word for what is not."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, BinaryIO

import av
import pytest

from db.errors import ErrorClass, VideoError
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
    "sound.m2ts": {"audio": True, "container_options": {"mpegts_m2ts_mode": "1"}},
    "null_packets.ts": {"container_options": {"muxrate": "2000000"}},
    "mpeg1.mpg": {"codec": "mpeg1video", "options": {"bf": "2"}},
    "mpeg2.vob": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "dvd.mpg": {"codec": "mpeg2video", "container_format": "dvd"},
    "wmv2.asf": {"codec": "wmv2", "audio": True},
    "slides.asf": {"codec": "wmv2", "pts": list(range(0, 40_000, 5_000))},
    "slides.ts": {"pts": list(range(0, 40_000, 5_000)), "options": {"bf": "0"}},
    "vp8.ogv": {"codec": "libvpx"},
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


HOLED: dict[str, dict[str, Any]] = {
    "h264.ts": {"audio": True, "options": {"bf": "2", "g": "30"}},
    "h264.m2ts": {"container_options": {"mpegts_m2ts_mode": "1"}},
    "mpeg1.mpg": {"codec": "mpeg1video"},
    "mpeg2.vob": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "wmv2.asf": {"codec": "wmv2"},
    "vp8.ogv": {"codec": "libvpx"},
}


@pytest.fixture(scope="module")
def holed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    folder = tmp_path_factory.mktemp("holed")
    return lambda name: media.make_clip(
        folder / name, **{"seconds": 12, "width": 160, "height": 96, **HOLED[name]}
    ).read_bytes()


def ended_as(data: bytes) -> str:
    """What the fleet says of it."""
    try:
        refused = refusal(sampled(data).damaged_share)
    except VideoError as error:
        return error.code
    return refused.code if refused else "done"


@pytest.mark.parametrize("filling", ["zeros", "random bytes", "nothing"])
@pytest.mark.parametrize("name", HOLED)
def test_so_does_one_where_packets_lie_within_each_other(
    name: str, filling: str, holed: Callable[[str], bytes]
) -> None:
    """Bytes that are no packets, or a clock that jumps where the packets are broken."""
    data = holed(name)
    start, size = len(data) * 3 // 10 + 1, len(data) // 4 // 188 * 188 + 7
    filled = {"zeros": bytes(size), "nothing": b""}.get(filling, Random(1).randbytes(size))
    broken = data[:start] + filled + data[start + size :]
    assert ended_as(broken) in ("damaged", "truncated")


@pytest.mark.parametrize("name", HOLED)
def test_half_a_file_with_zeros_behind_it_is_damaged(
    name: str, holed: Callable[[str], bytes]
) -> None:
    """Although these containers, asf aside, do not say how long they are."""
    data = holed(name)
    assert ended_as(data[: len(data) // 2] + bytes(len(data) // 2)) in ("damaged", "truncated")


def test_zeros_at_the_end_count_where_only_their_end_is_read(tmp_path: Path) -> None:
    """The last wanted frame of 10 s comes 300 KB before the zeros."""
    options = {"muxrate": "8000000"}
    path = media.make_clip(tmp_path / "clip.ts", seconds=20, container_options=options)
    data = path.read_bytes()
    half = data[: len(data) // 2] + bytes(len(data) // 2)
    assert sampled(half).damaged_share == pytest.approx(0.5, abs=0.01)


def ts_packets(data: bytes) -> list[bytes]:
    return [data[at : at + 188] for at in range(0, len(data), 188)]


def test_packets_that_are_missing_in_an_mpegts_count_by_the_clock(
    holed: Callable[[str], bytes],
) -> None:
    """Their counters jump, and nothing else: 3 of 12 seconds."""
    packets = ts_packets(holed("h264.ts"))
    start, size = len(packets) * 3 // 10, len(packets) // 4
    cut = b"".join(packets[:start] + packets[start + size :])
    assert sampled(cut).damaged_share == pytest.approx(0.25, abs=0.05)


def joined(data: bytes, *, flag: bool) -> bytes:
    """Behind its first part the same recording from 20 s on, from a key frame on."""
    later, seen = [], set()
    for packet in ts_packets(data):
        stream = int.from_bytes(packet[1:3], "big") & 0x1FFF
        if flag and stream in range(0x100, 0x110) and stream not in seen:
            seen.add(stream)
            later.append(
                bytes([0x47, stream >> 8, stream & 0xFF, 0x20 | packet[3] & 0xF, 183, 0x80])
                + b"\xff" * 182
            )
        later.append(packet)
    return data + moved(b"".join(later))


def moved(data: bytes) -> bytes:
    """With the times of its pictures and sounds 20 s later."""
    changed = bytearray(data)
    for start in range(0, len(data), 188):
        at = data.find(b"\0\0\1", start, start + 188)
        if not data[start + 1] & 0x40 or at < 0 or data[at + 3] not in (0xE0, 0xC0):
            continue
        for place in range(at + 9, at + 9 + 5 * (1 + (data[at + 7] >> 6 & 1)), 5):
            fields = int.from_bytes(data[place : place + 5], "big")
            time = (fields >> 33 & 7) << 30 | (fields >> 17 & 0x7FFF) << 15 | fields >> 1 & 0x7FFF
            time += 20 * 90_000
            fields = fields >> 36 << 36 | (time >> 30) << 33 | 1 << 32
            fields |= (time >> 15 & 0x7FFF) << 17 | 1 << 16 | (time & 0x7FFF) << 1 | 1
            changed[place : place + 5] = fields.to_bytes(5, "big")
    return bytes(changed)


def test_odd_but_whole_files_have_none(holed: Callable[[str], bytes], tmp_path: Path) -> None:
    """As broadcasts, recorders and those that join files leave them."""
    ts, vob = holed("h264.ts"), holed("mpeg2.vob")
    null = b"\x47\x1f\xff\x10" + b"\xff" * 184
    padding = b"\0\0\1\xbe" + (2042).to_bytes(2, "big") + b"\xff" * 2042
    odd = {
        "begins anywhere": ts[len(ts) // 3 :],
        "joined, flagged": joined(ts, flag=True),
        "joined, not flagged": joined(ts, flag=False),
        "joined, the clock goes back": ts * 2,
        "null packets": b"".join(packet + null * 3 for packet in ts_packets(ts)),
        "a cluster filled up": ts + bytes(-len(ts) % 4096),
        "ends within a packet": ts[:-100],
        "padding": b"".join(vob[at : at + 2048] + padding for at in range(0, len(vob), 2048)),
        "zeros between packs": b"".join(
            vob[at : at + 2048] + bytes(2048) for at in range(0, len(vob), 2048)
        ),
        "joined packs": vob * 2,
        "begins within a pack": vob[len(vob) // 3 :],
    }
    assert {name: sampled(data).damaged_share for name, data in odd.items()} == dict.fromkeys(
        odd, 0.0
    )


def test_a_live_asf_states_no_size(tmp_path: Path) -> None:
    path = tmp_path / "live.asf"
    with path.open("wb") as file, av.open(_OneWay(file), "w", format="asf") as copy:
        source = media.make_clip(tmp_path / "clip.asf", codec="wmv2", width=160, height=96)
        with av.open(str(source)) as original:
            stream = copy.add_stream_from_template(original.streams.video[0])
            for packet in original.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    copy.mux(packet)
    assert sampled(path.read_bytes()).damaged_share == 0.0


class _OneWay:
    """A file that cannot be sought in, so that no header is mended at its end."""

    def __init__(self, file: BinaryIO) -> None:
        self.write = file.write


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
