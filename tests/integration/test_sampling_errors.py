"""What is no video, or one that cannot or must not be decoded: each its own stable code."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from random import Random

import av
import numpy as np
import pytest
from PIL import Image

from db.errors import VideoError
from tests import media
from workers.sampling.frames import Decoded
from workers.sampling.inside import rates
from workers.sampling.inside.decode import sample


def sampled(path: Path) -> Decoded:
    with path.open("rb") as file:
        return sample(file, "notebook")


def ended_as(path: Path) -> Decoded | str:
    """What was decoded, or the code of what it was not."""
    try:
        return sampled(path)
    except VideoError as error:
        return error.code


def picture(path: Path) -> Path:
    Image.new("RGB", (64, 64)).save(path, "jpeg")
    return path


def still(path: Path, codec: str) -> Path:
    """An animation of one picture."""
    return media.make_clip(
        path,
        codec=codec,
        pix_fmt={"gif": "rgb8", "apng": "rgb24"}[codec],
        seconds=0.04,
        container_format=codec,
    )


def photograph(path: Path) -> Path:
    """As phones store them: a JPEG, and behind it the one that brightens it, or the other eye's."""
    path.write_bytes(picture(path).read_bytes() * 3)
    return path


def archive(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("video.mp4", "x" * 5000)
    return path


def written(content: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return write


def first_part(suffix: str, part: float) -> Callable[[Path], Path]:
    """A clip of 4 s whose end is missing."""

    def cut(path: Path) -> Path:
        whole = media.make_clip(path.with_suffix(suffix), options={"g": "25"}, audio=True)
        data = whole.read_bytes()
        whole.write_bytes(data[: int(len(data) * part)])
        return whole

    return cut


def cover_only(path: Path) -> Path:
    """A song with its cover."""
    with av.open(path, "w", format="mp4") as opened:
        cover = opened.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        media._add_silence(opened, 1)
        opened.mux(cover.encode(av.VideoFrame(64, 64, "yuvj420p")))
        opened.mux(cover.encode())
    return path


def cover_alone(path: Path) -> Path:
    with av.open(path, "w", format="mp4") as opened:
        cover = opened.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        opened.mux(cover.encode(av.VideoFrame(64, 64, "yuvj420p")))
        opened.mux(cover.encode())
    return path


def subtitles_only(path: Path) -> Path:
    with av.open(path, "w") as opened:
        stream = opened.add_stream("subrip")
        stream.codec_context.subtitle_header = b"[Script Info]\n[Events]\n"
        for second in range(4):
            packet = av.Packet(b"words")
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = second * 1000
            packet.duration = 900
            opened.mux(packet)
    return path


def many_streams(path: Path) -> Path:
    with av.open(path, "w") as opened:
        streams = [opened.add_stream("mpeg4", rate=25) for _ in range(17)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for stream in streams:
            opened.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
            opened.mux(stream.encode())
    return path


def bomb(path: Path) -> Path:
    """36.2 megapixels."""
    with av.open(path, "w") as opened:
        stream = opened.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 6016, 6016, "yuvj420p"
        opened.mux(stream.encode(av.VideoFrame(6016, 6016, "yuvj420p")))
        opened.mux(stream.encode())
    return path


def wiped(path: Path, *, every: int) -> Path:
    """A clip of which all packets but every `every`-th are zeros."""
    media.make_clip(path, codec="mjpeg", pix_fmt="yuvj420p")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as opened:
        packets = [(packet.pos, packet.size) for packet in opened.demux(video=0) if packet.size]
    for number, (position, size) in enumerate(packets):
        if number % every:
            data[position : position + size] = bytes(size)
    path.write_bytes(data)
    return path


BAD = {
    "empty": (media.empty, "empty_file"),
    "html": (media.html, "not_media"),
    "text": (written(b"hello " * 1000), "not_media"),
    "one byte": (written(b"x"), "not_media"),
    "random bytes": (written(np.random.default_rng(0).bytes(50_000)), "not_media"),
    "jpg": (picture, "not_media"),
    "zip": (archive, "not_media"),
    "one gif": (lambda path: still(path, "gif"), "not_media"),
    "one png of an animation": (lambda path: still(path, "apng"), "not_media"),
    "a picture and its small copy": (photograph, "not_media"),
    "raw stream": (
        lambda path: media.make_clip(
            path, codec="mjpeg", pix_fmt="yuvj420p", container_format="mjpeg"
        ),
        "not_media",
    ),
    "playlist": (
        written(
            b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hosts\n#EXT-X-ENDLIST\n"
        ),
        "not_media",
    ),
    "concat script": (written(b"ffconcat version 1.0\nfile /etc/hosts\n"), "not_media"),
    "session description": (
        written(b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n"),
        "not_media",
    ),
    "no index": (media.truncated, "truncated"),
    "cut after the index": (media.cut_after_moov, "truncated"),
    "cut mkv": (first_part(".mkv", 0.5), "truncated"),
    "cut in the header": (first_part(".mkv", 0.0001), "truncated"),
    "cut avi": (first_part(".avi", 0.5), "truncated"),
    "sound": (media.audio_only, "no_video"),
    "sound and cover": (cover_only, "no_video"),
    "cover": (cover_alone, "no_video"),
    "subtitles": (lambda path: subtitles_only(path.with_suffix(".mkv")), "no_video"),
    "a codec of games": (
        lambda path: media.make_clip(path.with_suffix(".avi"), codec="asv1", seconds=0.2),
        "unsupported_codec",
    ),
    "many streams": (many_streams, "over_limits"),
    "too many pixels": (lambda path: bomb(path.with_suffix(".mkv")), "over_limits"),
    "all but every third wiped": (lambda path: wiped(path, every=3), "undecodable"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_have_stable_codes(name: str, tmp_path: Path) -> None:
    make, code = BAD[name]
    path = make(tmp_path / "video.mp4")
    with pytest.raises(VideoError) as caught:
        sampled(path)
    assert (caught.value.code, caught.value.stage) == (code, "sample")


@pytest.mark.parametrize("name", ["v.mkv", "v.webm", "v.avi"])
@pytest.mark.parametrize("rest", ["zeros", "ones", "another file's"])
def test_half_a_file_with_room_for_the_rest_is_no_file(
    name: str, rest: str, tmp_path: Path
) -> None:
    """As what downloads leave that take the room first: it has all the bytes that it says."""
    codec = {"v.mkv": "libx264", "v.webm": "libvpx", "v.avi": "mpeg4"}[name]
    path = media.make_clip(tmp_path / name, seconds=8, width=160, height=120, codec=codec)
    data = path.read_bytes()
    room = len(data) - len(data) // 2
    filling = {"zeros": bytes(room), "ones": b"\xff" * room}.get(rest) or Random(1).randbytes(room)
    path.write_bytes(data[: len(data) // 2] + filling)
    with pytest.raises(VideoError, match="the rest of its bytes is no media") as caught:
        sampled(path)
    assert caught.value.code == "truncated"


TOLD = {
    b"#EXTM3U\n#EXTINF:9,\nhttp://host/v.ts\n": "an HLS or M3U playlist; give the address of the "
    "video file itself",
    b"\xef\xbb\xbf<?xml version='1.0'?>\n<MPD "
    b"xmlns='urn:mpeg:dash:schema:mpd:2011'>": "a DASH manifest",
    b"ffconcat version 1.0\nfile a.mp4\n": "a list of files for FFmpeg",
    b"<asx version='3.0'><entry>": "a Windows Media playlist",
    b"https://host/video.mp4\n": "an address",
    b"<!DOCTYPE html><html>": "a web page",
    b"<?xml "
    b"version='1.0'?><Error><Code>AccessDenied</Code></Error>": "many servers send their errors so",
    b'{"error": "not found"}': "a JSON document",
    b"1\n00:00:01,000 --> 00:00:02,000\nHello\n": "subtitles",
    b"\xff\xd8\xff\xe0": "a picture",
    b"RIFF\x24\0\0\0WEBPVP8X": "a WebP picture",
    b"PK\x03\x04": "an archive",
    b"CWS\x09": "a Flash program",
    b"ID3\x03": "sound without pictures",
    b"hello": "this is text, no video (the file begins with b'hello'); containers that are read: mp4",
    "Привет".encode() * 60: "this is text, no video",  # the last letter that is looked at is cut
    b"\x01\x02hello": "this is no kind of video that is read (the file begins with b'\\x01",
    b"\xf0hello world": "this is no kind of video that is read",
}


@pytest.mark.parametrize("content", TOLD, ids=range(len(TOLD)))
def test_what_is_refused_is_told_what_it_is(content: bytes, tmp_path: Path) -> None:
    path = written(content)(tmp_path / "video.mp4")
    with pytest.raises(VideoError, match="the file begins with") as caught:
        sampled(path)
    message = str(caught.value)
    assert (caught.value.code, TOLD[content] in message) == ("not_media", True)
    assert message.startswith("this is "), "what it is comes first"


def test_almost_whole_is_good_enough(tmp_path: Path) -> None:
    # 4 s, of which the last 5 % are missing: 95 of 96 frames
    decoded = sampled(first_part(".mkv", 0.95)(tmp_path / "video.mkv"))
    assert media.read_frame_number(decoded.pixels[80]) == 80


def test_lost_frames_become_the_one_before(tmp_path: Path) -> None:
    decoded = sampled(wiped(tmp_path / "video.mp4", every=2))
    assert decoded.decode_errors == 48
    assert decoded.indices.tolist() == [index - index % 2 for index in range(96)]
    assert [media.read_frame_number(frame) for frame in decoded.pixels] == decoded.indices.tolist()
    np.testing.assert_allclose(decoded.pts_seconds, decoded.indices * 0.04, atol=1e-6)


def test_damage_is_passed_over_and_counted(tmp_path: Path) -> None:
    path = media.make_clip(
        tmp_path / "video.mp4", options={"g": "25"}, container_options={"movflags": "faststart"}
    )
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat")
    for position in np.random.default_rng(3).integers(start, len(data), 300):
        data[position] ^= 0xFF
    path.write_bytes(data)
    assert sampled(path).decode_errors > 0


@pytest.mark.parametrize("name", ["video.mkv", "video.webm", "video"])
def test_the_name_says_nothing(name: str, tmp_path: Path) -> None:
    path = media.make_clip(tmp_path / "clip.mp4", seconds=0.4).rename(tmp_path / name)
    assert media.read_frame_number(sampled(path).pixels[3]) == 3


@pytest.mark.parametrize("suffix", ["mkv", "webm", "ts", "avi"])
def test_row_47_nor_does_the_ending_mp4(suffix: str, tmp_path: Path) -> None:
    codec = "libvpx-vp9" if suffix == "webm" else "libx264"
    path = media.make_clip(tmp_path / f"clip.{suffix}", codec=codec, seconds=0.4).rename(
        tmp_path / "clip.mp4"
    )
    assert media.read_frame_number(sampled(path).pixels[3]) == 3


@pytest.mark.parametrize("part", [0.3, 0.6, 0.85])
def test_row_48_an_mp4_cut_within_its_pictures(part: float, tmp_path: Path) -> None:
    path = media.make_clip(
        tmp_path / "cut.mp4", options={"g": "25"}, container_options={"movflags": "faststart"}
    )
    data = path.read_bytes()
    pictures = data.index(b"mdat")
    path.write_bytes(data[: pictures + int((len(data) - pictures) * part)])
    with pytest.raises(VideoError, match="cut short") as caught:
        sampled(path)
    assert caught.value.code == "truncated"


FLIPPED = {
    "h264.mp4": {"options": {"preset": "veryfast", "g": "50"}},
    "h264.ts": {"options": {"preset": "veryfast", "g": "50"}},
    "hevc.mkv": {"codec": "libx265"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "av1.mp4": {"codec": "libsvtav1"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mjpeg.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
}


@pytest.mark.parametrize("name", FLIPPED)
def test_row_49_flipped_bits_end_with_frames_or_a_code(name: str, tmp_path: Path) -> None:
    """1, 10 and 1,000 wrong bits among those of the pictures, three times over; and what came out
    was counted.
    """
    path = media.make_clip(tmp_path / name, seconds=2, width=160, height=96, **FLIPPED[name])  # type: ignore[arg-type]
    data = path.read_bytes()
    with av.open(str(path)) as opened:
        places = [(packet.pos, packet.size) for packet in opened.demux(video=0) if packet.size]
    start, end = places[0][0], places[-1][0] + places[-1][1]
    random = np.random.default_rng(49)
    counted = []
    for flips in (1, 10, 1000) * 3:
        broken = bytearray(data)
        for bit in random.integers(start * 8, end * 8, flips).tolist():
            broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        ended = ended_as(path)
        if isinstance(ended, str):
            assert ended in ("truncated", "undecodable", "not_media")
            counted.append(1)
        else:
            assert (np.diff(ended.indices) >= 0).all()
            assert (ended.pts_seconds >= 0).all()
            counted.append(ended.decode_errors)
    assert sum(counted[2::3]) > 0


@pytest.mark.parametrize(
    ("times", "suffix", "unseen"),
    [
        ([number * 40 - 900 for number in range(100)], "mp4", 23),
        ([2**41 + number * 40 for number in range(100)], "mp4", 0),
        ([number // 2 * 80 for number in range(100)], "mkv", 0),
        ([0] * 100, "mkv", 0),
        ([0, *range(10**6, 10**6 + 99 * 40, 40)], "mkv", 0),
    ],
    ids=["negative", "huge", "each twice", "all the same", "a gap of 1000 s"],
)
def test_row_52_presentation_times_of_any_kind(
    times: list[int], suffix: str, unseen: int, tmp_path: Path
) -> None:
    """Frames are numbered in the order they are shown in, from the first that is: an mp4 shows none
    before time 0.
    """
    source = media.make_clip(
        tmp_path / "source.mp4", options={"preset": "ultrafast", "g": "10", "bf": "0"}
    )
    path = tmp_path / f"times.{suffix}"
    with av.open(str(source)) as original, av.open(path, "w") as copy:
        stream = copy.add_stream_from_template(original.streams.video[0])
        stream.time_base = Fraction(1, 1000)
        for packet, time in zip(original.demux(video=0), times, strict=False):
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = time
            packet.duration = 40
            copy.mux(packet)
    decoded = sampled(path)
    assert [media.read_frame_number(frame) for frame in decoded.pixels] == (
        decoded.indices + unseen
    ).tolist()
    assert (np.diff(decoded.indices) >= 0).all()
    assert (np.diff(decoded.pts_seconds) >= 0).all()
    assert decoded.decode_errors == 0


def test_an_unbelievable_rate_is_not_believed(tmp_path: Path) -> None:
    """A damaged avi that claims 2147483647 frames a second, found by the fuzzer."""
    path = media.make_clip(
        tmp_path / "rate.avi", codec="mjpeg", pix_fmt="yuvj420p", seconds=1, width=96, height=96
    )
    data = bytearray(path.read_bytes())
    at = data.index(b"strh") + 8 + 20  # scale, rate
    struct.pack_into("<II", data, at, 1, 2**31 - 1)
    path.write_bytes(data)
    decoded = sampled(path)
    assert 0 < decoded.facts.fps <= rates.MOST_FPS
    assert media.read_frame_number(decoded.pixels[0]) == 0
