"""What is no video, or one that cannot or must not be decoded: each its own stable code."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from db.errors import VideoError
from tests import media
from workers.sampling.decode import Decoded, sample


def sampled(path: Path) -> Decoded:
    with path.open("rb") as file:
        return sample(file, "notebook")


def picture(path: Path) -> Path:
    Image.new("RGB", (64, 64)).save(path, "jpeg")
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
    "flash": (lambda path: media.make_clip(path, seconds=1, container_format="flv"), "not_media"),
    "playlist": (
        written(b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hosts\n#EXT-X-ENDLIST\n"),
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
    "lossless codec": (
        lambda path: media.make_clip(path.with_suffix(".mkv"), codec="ffv1", seconds=0.2),
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


def test_almost_whole_is_good_enough(tmp_path: Path) -> None:
    # 4 s, of which the last 5 % are missing: 95 of 96 frames
    decoded = sampled(first_part(".mkv", 0.95)(tmp_path / "video.mkv"))
    assert media.read_frame_number(decoded.frames[80]) == 80


def test_lost_frames_become_the_one_before(tmp_path: Path) -> None:
    decoded = sampled(wiped(tmp_path / "video.mp4", every=2))
    assert decoded.decode_errors == 48
    assert decoded.frame_indices.tolist() == [index - index % 2 for index in range(96)]
    assert [media.read_frame_number(frame) for frame in decoded.frames] == decoded.frame_indices.tolist()
    np.testing.assert_allclose(decoded.pts_seconds, decoded.frame_indices * 0.04, atol=1e-6)


def test_damage_is_passed_over_and_counted(tmp_path: Path) -> None:
    path = media.make_clip(tmp_path / "video.mp4", options={"g": "25"}, container_options={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat")
    for position in np.random.default_rng(3).integers(start, len(data), 300):
        data[position] ^= 0xFF
    path.write_bytes(data)
    assert sampled(path).decode_errors > 0


@pytest.mark.parametrize("name", ["video.mkv", "video.webm", "video"])
def test_the_name_says_nothing(name: str, tmp_path: Path) -> None:
    path = media.make_clip(tmp_path / "clip.mp4", seconds=0.4).rename(tmp_path / name)
    assert media.read_frame_number(sampled(path).frames[3]) == 3
