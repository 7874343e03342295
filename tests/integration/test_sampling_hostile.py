"""Files made to cost more than they are worth, and texts that point elsewhere: a code or frames,
and little spent on it.

The row numbers are those of the reliability matrix: 55 (sizes), 56 (counts and lengths), 57
(references).
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from db.errors import VideoError
from tests import media
from tests.http_server import serving
from workers.sampling.frames import Decoded
from workers.sampling.inside import container, opening
from workers.sampling.inside.decode import sample
from workers.sampling.pool import SamplerPool

HUGE = 16000
#: A sampler's memory when it refuses; Python, PyAV and Pillow are 65 MB of it.
MOST_MEGABYTES = 250

#: Samples each file named, in a process of its own, and says how that ended and how much memory it
#: ever had.
CHILD = """
import json, sys
from pathlib import Path
from db.errors import VideoError
from workers.sampling.inside.decode import sample
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        try:
            ended = sample(file, "notebook").facts.codec
        except VideoError as error:
            ended = error.code
    # not getrusage: its peak is inherited from the process that started this one
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps([ended, int(peak.split()[1]) >> 10]))
"""


def ends_and_megabytes(*paths: Path) -> tuple[list[str], int]:
    """Code or codec for each file, and the most memory that sampling all of them took."""
    command = [sys.executable, "-c", CHILD, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [ended for ended, _ in lines], lines[-1][1]


def sampled(path: Path) -> Decoded:
    with path.open("rb") as file:
        return sample(file, "notebook")


def code_of(path: Path) -> str:
    with pytest.raises(VideoError) as caught:
        sampled(path)
    return caught.value.code


def remuxed(
    path: Path, source: Path, packets: list[tuple[bytes, int]], unit: Fraction, tracks: int = 1
) -> Path:
    """Packets with their times, in as many tracks, all described like the pictures of `source`."""
    with av.open(str(source)) as original, av.open(path, "w") as copy:
        streams = [copy.add_stream_from_template(original.streams.video[0]) for _ in range(tracks)]
        for stream in streams:
            stream.time_base = unit
        for data, time in packets:
            for stream in streams:
                packet = av.Packet(data)
                packet.stream, packet.time_base, packet.is_keyframe = stream, unit, True
                packet.pts = packet.dts = time
                copy.mux(packet)
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A clip of one picture of 16 x 16, and its one packet."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.mp4"
    media.make_clip(path, codec="libvpx-vp9", seconds=0.04, width=16, height=16)
    with av.open(str(path)) as opened:
        return path, next(bytes(packet) for packet in opened.demux(video=0) if packet.size)


# Row 55: sizes


def huge_vp9(path: Path) -> Path:
    """A first picture that says it is huge; the rest of it is missing."""
    data = bytearray(
        media.make_clip(path, codec="libvpx-vp9", width=64, height=64, seconds=0.2).read_bytes()
    )
    at = (
        data.index(b"\x49\x83\x42") + 3
    )  # after a key frame's sync code: 3 + 1 bits of colour, then the size
    bits = int.from_bytes(data[at : at + 5], "big")
    size = (HUGE - 1) << 16 | HUGE - 1
    data[at : at + 5] = (bits & 0xF0_0000_000F | size << 4).to_bytes(5, "big")
    path.write_bytes(data)
    return path


def huge_h264(path: Path) -> Path:
    """Parameter sets of 16000 x 16000 before the pictures of a small clip."""
    bits = f"{66:08b}{0:08b}{52:08b}" + "".join(map(_golomb, (0, 0, 2, 1))) + "0"
    bits += _golomb(HUGE // 16 - 1) * 2 + "1100" + "1"
    bits += "0" * (-len(bits) % 8)
    sequence = b"\x67" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    small = media.make_clip(
        path.with_name("small.mp4"),
        width=64,
        height=64,
        seconds=0.2,
        options={"profile": "baseline"},
    )
    with av.open(str(small)) as original, av.open(path, "w") as copy:
        source = original.streams.video[0]
        record = source.codec_context.extradata
        length = int.from_bytes(record[6:8], "big")
        rest = record[8 + length :]
        stream = copy.add_stream_from_template(source)
        stream.codec_context.extradata = (
            record[:6] + len(sequence).to_bytes(2, "big") + sequence + rest
        )
        for packet in original.demux(source):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)
    return path


def _golomb(number: int) -> str:
    digits = f"{number + 1:b}"
    return "0" * (len(digits) - 1) + digits


def huge_later(path: Path) -> Path:
    """Two good seconds, then the same parameter sets within the stream."""
    good = media.make_clip(path.with_name("good.ts"), width=64, height=64, seconds=2)
    path.write_bytes(good.read_bytes() + huge_h264(path.with_name("rest.ts")).read_bytes())
    return path


def huge_gif(path: Path) -> Path:
    data = bytearray(
        media.make_clip(
            path, codec="gif", pix_fmt="rgb8", width=64, height=64, seconds=0.2
        ).read_bytes()
    )
    struct.pack_into("<HH", data, 6, HUGE, HUGE)
    path.write_bytes(data)
    return path


def huge_apng(path: Path) -> Path:
    data = bytearray(
        media.make_clip(
            path, codec="apng", pix_fmt="rgb24", width=64, height=64, seconds=0.2
        ).read_bytes()
    )
    at = data.index(b"IHDR")
    struct.pack_into(">II", data, at + 4, HUGE, HUGE)
    struct.pack_into(">I", data, at + 17, zlib.crc32(data[at : at + 17]))
    path.write_bytes(data)
    return path


def huge_y4m(path: Path) -> Path:
    path.write_bytes(
        f"YUV4MPEG2 W{HUGE} H{HUGE} F25:1 Ip A1:1 C420\nFRAME\n".encode() + bytes(5000)
    )
    return path


def test_row_55_bombs_are_refused_before_they_are_allocated(tmp_path: Path) -> None:
    bombs = {
        huge_h264(tmp_path / "bomb.mkv"): "over_limits",
        huge_h264(tmp_path / "bomb.ts"): "over_limits",
        huge_vp9(tmp_path / "bomb.webm"): "undecodable",
        huge_gif(tmp_path / "bomb.gif"): "over_limits",
        huge_apng(tmp_path / "bomb.apng"): "over_limits",
        huge_y4m(tmp_path / "bomb.y4m"): "over_limits",
        huge_later(tmp_path / "bomb_later.ts"): "h264",
    }
    assert max(bomb.stat().st_size for bomb in bombs) < 200_000
    ends, megabytes = ends_and_megabytes(*bombs)
    assert ends == list(bombs.values())
    assert megabytes <= MOST_MEGABYTES  # FFmpeg left alone takes 1,200 to open the first


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"),
    [
        ("libx264", "yuv444p", "mp4"),
        ("libvpx-vp9", "yuv420p", "webm"),
        ("mjpeg", "yuvj444p", "mov"),
    ],
)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (17, 4000), (4000, 17)])
def test_row_55_odd_and_tiny_sizes(
    codec: str, pix_fmt: str, suffix: str, width: int, height: int, tmp_path: Path
) -> None:
    path = tmp_path / f"odd.{suffix}"
    media.make_clip(path, codec=codec, pix_fmt=pix_fmt, width=width, height=height, seconds=0.12)
    decoded = sampled(path)
    assert (decoded.facts.width_px, decoded.facts.height_px, decoded.decode_errors) == (
        width,
        height,
        0,
    )
    assert decoded.pixels.any()


def test_row_55_8k_is_decoded(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (7680, 4320), "teal").save(picture, "jpeg", subsampling="4:2:0")
    path = tmp_path / "8k.avi"
    with av.open(path, "w") as opened:
        stream = opened.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 7680, 4320, "yuvj420p"
        for number in range(2):
            packet = av.Packet(picture.getvalue())
            packet.stream, packet.time_base, packet.pts, packet.dts = (
                stream,
                Fraction(1, 25),
                number,
                number,
            )
            opened.mux(packet)
    ends, megabytes = ends_and_megabytes(path)
    assert ends == ["mjpeg"]
    assert megabytes <= 700


# Row 56: counts and lengths


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts"])
def test_row_56_a_thousand_streams(suffix: str, tiny: tuple[Path, bytes], tmp_path: Path) -> None:
    source = media.make_clip(tmp_path / "one.mp4", seconds=0.04, width=64, height=64)
    with av.open(str(source)) as opened:
        packets = [(bytes(packet), 0) for packet in opened.demux(video=0) if packet.size]
    path = remuxed(tmp_path / f"many.{suffix}", source, packets, Fraction(1, 1000), tracks=1000)
    ends, megabytes = ends_and_megabytes(path)
    assert ends == ["over_limits"]
    assert megabytes <= 150  # 1,000 open decoders are 700


def chapters(count: int) -> bytes:
    """An EBML `Chapters` element of chapters 1 ms apart."""

    def element(name: str, content: bytes) -> bytes:
        return bytes.fromhex(name) + (1 << 56 | len(content)).to_bytes(8, "big") + content

    atoms = (
        element(
            "B6",
            element("73C4", number.to_bytes(4, "big"))
            + element("91", (number * 10**6).to_bytes(8, "big")),
        )
        for number in range(1, count + 1)
    )
    return element("1043A770", element("45B9", b"".join(atoms)))


def test_row_56_a_hundred_thousand_chapters(tmp_path: Path) -> None:
    path = media.make_clip(
        tmp_path / "plain.mkv", seconds=1, width=64, height=64, container_options={"live": "1"}
    )
    data = path.read_bytes()
    at = data.index(bytes.fromhex("1F43B675"))  # before the first cluster
    (tmp_path / "chapters.mkv").write_bytes(data[:at] + chapters(100_000) + data[at:])
    with av.open(str(tmp_path / "chapters.mkv")) as opened:
        assert len(opened.chapters()) > 99_000
    ends, megabytes = ends_and_megabytes(tmp_path / "chapters.mkv")
    assert ends == ["h264"]
    assert megabytes <= MOST_MEGABYTES
    np.testing.assert_array_equal(sampled(tmp_path / "chapters.mkv").pixels, sampled(path).pixels)


def test_row_56_huge_tags_and_attachments_are_no_hindrance(tmp_path: Path) -> None:
    paths = [tmp_path / "tags.mp4", tmp_path / "tags.mkv"]
    for path in paths:
        with av.open(path, "w") as opened:
            stream = opened.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            opened.metadata["title"] = "long " * 1_500_000
            if path.suffix == ".mkv":
                opened.add_attachment("font.ttf", "font/ttf", bytes(20_000_000))
            opened.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
            opened.mux(stream.encode())
    ends, megabytes = ends_and_megabytes(*paths)
    assert ends == ["h264", "h264"]
    assert megabytes <= MOST_MEGABYTES


class Counting(io.BytesIO):
    """A file that counts the bytes it gave."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.given = 0

    def read(self, count: int | None = -1) -> bytes:
        piece = super().read(count)
        self.given += len(piece)
        return piece


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_row_56_hours_cost_no_more_than_their_first_minute(
    suffix: str, tiny: tuple[Path, bytes], tmp_path: Path
) -> None:
    packets = 180_000  # two hours
    source, data = tiny
    path = remuxed(
        tmp_path / f"long.{suffix}",
        source,
        [(data, time) for time in range(packets)],
        Fraction(1, 25),
    )
    content = path.read_bytes()
    index_bytes = len(content) - content.rindex(b"moov") if suffix == "mp4" else 0
    file = Counting(content)
    decoded = sample(file, "notebook")
    assert decoded.facts.duration_seconds == pytest.approx(7200, abs=1)
    assert decoded.indices.tolist() == list(range(0, 1440, 15))
    assert decoded.frames_decoded <= 96
    assert file.given <= index_bytes + (2 << 20) < len(content) / 2


def test_row_56_of_a_long_gif_only_the_first_minute_is_read(tmp_path: Path) -> None:
    path = media.make_clip(
        tmp_path / "long.gif", codec="gif", pix_fmt="rgb8", seconds=200, fps=5, width=64, height=64
    )
    file = Counting(path.read_bytes())
    decoded = sample(file, "notebook")
    assert (decoded.facts.fps, decoded.facts.duration_seconds) == (5, 60)
    assert [media.read_frame_number(frame) for frame in decoded.pixels] == list(range(0, 288, 3))
    assert file.given <= 0.35 * len(file.getvalue()) + opening.BUFFER_BYTES


def test_row_56_a_claim_of_a_billion_seconds_is_not_believed(tmp_path: Path) -> None:
    path = media.make_clip(tmp_path / "claim.mkv", seconds=2, width=64, height=64)
    data = bytearray(path.read_bytes())
    at = data.index(b"\x44\x89\x88") + 3  # Duration, a double in ms
    assert struct.unpack_from(">d", data, at) == (2000.0,)
    struct.pack_into(">d", data, at, 1e12)
    path.write_bytes(data)
    decoded = sampled(
        path
    )  # its size says that all of it is there, so two seconds are all there is
    assert (decoded.facts.duration_seconds, decoded.frame_count) == (2, 50)


def test_row_56_a_claim_of_years_yields_to_the_index(tmp_path: Path) -> None:
    path = media.make_clip(tmp_path / "claim.mp4", seconds=4, width=64, height=64)
    data = bytearray(path.read_bytes())
    for box, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        struct.pack_into(">I", data, data.index(box) + offset, 2**32 - 2)
    path.write_bytes(data)
    decoded = sampled(path)
    assert (decoded.facts.duration_seconds, decoded.frame_count) == (4, 100)
    assert [media.read_frame_number(frame) for frame in decoded.pixels] == list(range(96))


def test_row_56_packets_are_counted(
    tiny: tuple[Path, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million tiny frames in one second is no video."""
    source, data = tiny
    path = remuxed(
        tmp_path / "fast.mp4", source, [(data, time) for time in range(10_000)], Fraction(1, 10_000)
    )
    monkeypatch.setattr(container, "MAX_PACKETS", 9_000)
    assert code_of(path) == "over_limits"
    monkeypatch.setattr(container, "MAX_PACKETS", 10_010)
    assert sampled(path).frame_count == 10_000


# Row 57: references to elsewhere


HTTP_TEXTS = {
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{url}\n#EXT-X-ENDLIST\n",
    "HLS "
    "key": '#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n#EXTINF:4,\n{url}\n#EXT-X-ENDLIST\n',
    "HLS master": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}\n",
    "DASH": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    "profiles="
    '"urn:mpeg:dash:profile:isoff-on-demand:2011" '
    'mediaPresentationDuration="PT4S"><Period><AdaptationSet mimeType='
    '"video/mp4"><Representation id="1" '
    'bandwidth="1"><BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "ffconcat": "ffconcat version 1.0\nfile '{url}'\n",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP "
    "96\na=control:{url}\n",
    "concat:": "concat:{url}|{url}",
    "subfile:": "subfile,,start,0,end,0,,:{url}",
    "data:": "data:video/mp4;base64,AAAAIGZ0eXA={url}",
    "crypto:": "crypto+{url}",
    "an address": "{url}\n",
    "Smooth Streaming": '<SmoothStreamingMedia Duration="4"><StreamIndex '
    'Url="{url}"/></SmoothStreamingMedia>',
}
NAMES = ["video.mp4", "video.m3u8", "video.mkv", "video.mpd"]


class OpenWatch:
    """Sees whether anybody opens or reads a file (Linux)."""

    OPENED = 0x20 | 0x01

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._fd >= 0
        assert libc.inotify_add_watch(self._fd, bytes(path), self.OPENED) >= 0

    def seen(self) -> bool:
        """Since the last time it was asked."""
        try:
            return bool(os.read(self._fd, 4096))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture(scope="module")
def pool() -> Iterator[SamplerPool]:
    made = SamplerPool(1, wall_seconds=60, cpu_seconds=60)
    yield made
    made.close()


class MemorySource:
    """A `ByteSource` of bytes."""

    etag = None
    open_seconds = 0.0

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size_bytes = len(data)

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]

    def close(self) -> None: ...
    def __enter__(self) -> MemorySource:
        return self

    def __exit__(self, *_: object) -> None: ...


def everywhere(path: Path, pool: SamplerPool) -> list[str]:
    """Codes from here, where files and sockets could be opened, and from a sampler process."""
    with pytest.raises(VideoError) as caught:
        pool.sample(MemorySource(path.read_bytes()), "notebook")
    return [code_of(path), caught.value.code]


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[tuple[Path, OpenWatch]]:
    """A good video that nobody may open."""
    path = media.make_clip(tmp_path / "canary.mp4", seconds=0.4, width=64, height=64)
    watch = OpenWatch(path)
    yield path, watch
    watch.close()


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
@pytest.mark.parametrize("kind", HTTP_TEXTS)
def test_row_57_texts_that_point_elsewhere_are_not_followed(
    kind: str, canary: tuple[Path, OpenWatch], pool: SamplerPool, tmp_path: Path
) -> None:
    path, watch = canary
    with serving(files={"/v.ts": path.read_bytes()}) as server:
        watch.seen()
        for target in (server.url("/v.ts"), str(path), path.as_uri(), path.name):
            for name in NAMES:
                text = tmp_path / name
                text.write_text(HTTP_TEXTS[kind].format(url=target), encoding="utf-8")
                assert code_of(text) == "not_media"
        with pytest.raises(VideoError) as caught:
            pool.sample(MemorySource(text.read_bytes()), "notebook")
        assert caught.value.code == "not_media"
        assert server.requests == []
    assert not watch.seen()


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_row_57_the_server_and_the_canary_notice(
    canary: tuple[Path, OpenWatch], tmp_path: Path
) -> None:
    """The same texts, opened without our lists: or the silence above would prove nothing."""
    path, watch = canary
    (tmp_path / "concat.mp4").write_text(
        HTTP_TEXTS["ffconcat"].format(url=path.name), encoding="utf-8"
    )
    with av.open(str(tmp_path / "concat.mp4"), options={"safe": "0"}) as opened:
        assert opened.streams.video
    assert watch.seen()
    assert not watch.seen()
    with serving(files={"/v.ts": b"nothing"}) as server:
        text = tmp_path / "list.m3u8"
        text.write_text(HTTP_TEXTS["HLS"].format(url=server.url("/v.ts")), encoding="utf-8")
        with text.open("rb") as file, contextlib.suppress(av.error.FFmpegError), av.open(file):
            pass
        assert server.requests


def test_row_57_the_name_of_a_file_is_never_opened(canary: tuple[Path, OpenWatch]) -> None:
    """PyAV hands a file object's name to FFmpeg as the address."""
    path, watch = canary

    class Named(io.BytesIO):
        name = ""

    with serving() as server:
        watch.seen()
        for name in (
            server.url("/v.m3u8"),
            f"concat:{path}|{path}",
            f"subfile,,start,0,end,0,,:{path}",
            str(path),
        ):
            file = Named(b"#EXTM3U\n")
            file.name = name
            with pytest.raises(VideoError) as caught:
                sample(file, "notebook")
            assert caught.value.code == "not_media"
        assert server.requests == []
    assert not watch.seen()


def alias(path: Path) -> bytes:
    """A QuickTime data reference to another file, as FFmpeg's reader takes it apart
    (libavformat/mov.c).
    """
    name, absolute = path.name.encode(), bytes(path)
    record = bytes(10) + b"\0" + bytes(27) + bytes(12)  # no volume
    record += (
        bytes([len(name)])
        + name.ljust(63, b"\0")
        + bytes(16)
        + struct.pack(">HH", 1, 1)
        + bytes(16)
    )
    record += (
        struct.pack(">HH", 2, len(absolute))
        + absolute
        + bytes(len(absolute) % 2)
        + struct.pack(">HH", 0xFFFF, 0)
    )
    return record


def referring(path: Path, canary: Path) -> Path:
    """A mov whose pictures lie in the canary."""
    data = canary.read_bytes()
    old = data.index(b"dref") - 4
    old_bytes = int.from_bytes(data[old : old + 4], "big")
    entry = alias(canary)
    entry = (len(entry) + 12).to_bytes(4, "big") + b"alis" + bytes(4) + entry
    new = (len(entry) + 16).to_bytes(4, "big") + b"dref" + bytes(4) + (1).to_bytes(4, "big") + entry
    grown = bytearray(data[:old] + new + data[old + old_bytes :])
    for box in (
        b"moov",
        b"trak",
        b"mdia",
        b"minf",
        b"dinf",
    ):  # all around it; the index comes after the pictures
        at = grown.index(box) - 4
        size = int.from_bytes(grown[at : at + 4], "big") + len(new) - old_bytes
        grown[at : at + 4] = size.to_bytes(4, "big")
    pictures = grown.index(b"mdat")
    size = int.from_bytes(grown[pictures - 4 : pictures], "big")
    grown[pictures + 4 : pictures - 4 + size] = bytes(size - 8)  # not here
    path.write_bytes(grown)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_row_57_a_movie_that_refers_to_another_file(
    canary: tuple[Path, OpenWatch], pool: SamplerPool, tmp_path: Path
) -> None:
    path, watch = canary
    movie = referring(tmp_path / "movie.mov", path)
    watch.seen()
    assert set(everywhere(movie, pool)) <= {"undecodable", "truncated"}
    assert not watch.seen()
    # FFmpeg told to follow it does
    with av.open(str(movie), options={"enable_drefs": "1", "use_absolute_path": "1"}) as opened:
        assert len(list(opened.decode(video=0))) == 10
    assert watch.seen()


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_row_57_a_matroska_that_goes_on_in_another_file(
    canary: tuple[Path, OpenWatch], tmp_path: Path
) -> None:
    other, watch = canary
    path = media.make_clip(tmp_path / "linked.mkv", seconds=0.4, width=64, height=64)
    data = path.read_bytes()
    at = data.index(b"\x4d\x80")  # MuxingApp, whose bytes NextFilename takes
    content = data[at + 3 : at + 3 + (data[at + 2] & 0x7F)]
    name = other.name.encode().ljust(len(content) - 1, b"\0")[: len(content) - 1]
    data = (
        data[:at]
        + b"\x3e\x83\xbb"
        + bytes([0x80 | len(name)])
        + name
        + data[at + 3 + len(content) :]
    )
    path.write_bytes(data)
    watch.seen()
    assert sampled(path).frame_count == 10
    assert not watch.seen()
