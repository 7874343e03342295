"""Sampling against decoding everything: the same pixels, whatever the codec, the container and the
order of the packets.
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from tests import media
from tests.codec_clips import CLIPS, SEED, Clip
from workers.sampling.frames import Decoded
from workers.sampling.inside import container, conversion, sparse
from workers.sampling.inside.decode import sample
from workers.sampling.inside.geometry import AS_STORED
from workers.sampling.inside.resample import Resampler
from workers.sampling.plan import SHAPE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def made(folder: Path) -> Callable[[Clip], Path]:
    """Makes each clip once."""
    return lambda clip: folder / clip.name if (folder / clip.name).exists() else clip.make(folder)


@pytest.fixture(autouse=True)
def resized_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a test the same picture is resized once: most of them are wanted by every policy, and by
    the reference.
    """
    resize, kept = Resampler.__call__, functools.cache(Resampler)
    squares: dict[tuple[Resampler, bytes], np.ndarray] = {}

    def once(self: Resampler, rows: np.ndarray) -> np.ndarray:
        needed = rows[:, 3 * self._first :][:, : self._strip.shape[1]]
        key = (self, needed.tobytes())
        if key not in squares:
            squares[key] = resize(self, rows)
            squares[key].flags.writeable = False
        return squares[key]

    monkeypatch.setattr(Resampler, "__call__", once)
    monkeypatch.setattr(conversion, "Resampler", kept)


def frames_of_everything(path: Path, wanted: set[int]) -> tuple[dict[int, np.ndarray], list[int]]:
    """The reference: decode every frame in order, pick, convert, turn, resize. By position; and the
    positions of key frames, which are picked, too: those that the decoder calls so and that refer
    to no other (FFmpeg also calls pictures of a gradual refresh key frames).
    """
    found, keys = {}, []
    resample: Resampler | None = None
    converter = VideoReformatter()  # one for all frames: its tables are made once
    with av.open(str(path)) as opened:
        for position, frame in enumerate(opened.decode(video=0)):
            is_key = frame.key_frame and frame.pict_type in (PictureType.I, PictureType.NONE)
            keys += [position] if is_key else []
            if is_key or position in wanted:
                picture = converter.reformat(frame, format="rgb24").to_ndarray()
                if not found:
                    assert np.array_equal(picture, frame.to_ndarray(format="rgb24"))
                upright = np.rot90(picture, frame.rotation // 90)
                height, width, _ = upright.shape
                resample = resample or conversion.Resampler(width, height, AS_STORED)
                found[position] = resample(np.ascontiguousarray(upright).reshape(height, -1))
    return found, keys


def sampled(path: Path, policy: str = "notebook") -> Decoded:
    with path.open("rb") as file:
        return sample(file, policy)


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_frames_are_those_of_decoding_everything(clip: Clip, made: Callable[[Clip], Path]) -> None:
    assert_frames_are_those_of_decoding_everything(clip, made(clip))


def assert_frames_are_those_of_decoding_everything(clip: Clip, path: Path) -> None:
    """Also of `MORE_CLIPS`: `tests/soak/test_sampling.py`."""
    frames, step = clip.seconds * 25, clip.seconds * 25 // 96
    plans = {
        "notebook": list(range(0, 96 * step, step)),
        "uniform": [slot * frames // 96 for slot in range(96)],
    }
    reference, keys = frames_of_everything(path, {*plans["notebook"], *plans["uniform"]})
    # of a decoder that names no key frames: the notebook's
    plans["keyframes"] = nearest_keys(plans["notebook"], keys) if keys else plans["notebook"]
    for policy, planned in plans.items():
        decoded = sampled(path, policy)
        assert decoded.indices.tolist() == planned
        assert [media.read(frame) for frame in decoded.pixels] == [(n, SEED) for n in planned]
        for position, frame in zip(planned, decoded.pixels, strict=True):
            if "turned" in clip.name:  # resized before it is turned, which may round the other way
                assert np.abs(reference[position].astype(np.int16) - frame).max() <= 1
            else:
                assert np.array_equal(reference[position], frame)
        assert decoded.decode_errors == decoded.damaged_share == 0
        if policy != "keyframes":
            assert decoded.decode_mode == clip.mode
        elif clip.mode == "sparse":
            assert (decoded.decode_mode, decoded.frames_decoded) == ("sparse", len(set(planned)))


def nearest_keys(wanted: list[int], keys: list[int]) -> list[int]:
    return [min(keys, key=lambda key: (abs(key - one), key)) for one in wanted]


def test_only_the_key_frames_of_an_index_are_read(tmp_path: Path) -> None:
    path = media.make_clip(
        tmp_path / "large.mp4", width=640, height=360, options={"g": "50", "crf": "15"}
    )
    with Counted(path) as file:
        decoded = sample(file, "keyframes")
        assert file.bytes_read < 0.5 * path.stat().st_size
    assert decoded.indices.tolist() == [0] * 26 + [50] * 50 + [50] * 20
    assert [media.read_frame_number(one) for one in decoded.pixels] == decoded.indices.tolist()


@pytest.mark.parametrize("change", ["no list", "a wrong entry", "a missing entry"])
def test_wrong_lists_of_key_frames_give_right_frames(
    change: str, made: Callable[[Clip], Path], tmp_path: Path
) -> None:
    """The list (stss) of an mp4: without it, every frame counts as one."""
    data = bytearray(made(CLIPS[1]).read_bytes())
    at = data.index(b"stss")
    count = int.from_bytes(data[at + 8 : at + 12], "big")
    keys = [
        int.from_bytes(data[at + 12 + 4 * n : at + 16 + 4 * n], "big") - 1 for n in range(count)
    ]
    assert len(keys) == 5
    if change == "no list":
        data[at : at + 4] = b"free"
    elif change == "a wrong entry":  # says that the picture after a key frame is one
        data[at + 16 : at + 20] = (keys[1] + 2).to_bytes(4, "big")
        keys = [0, *keys[1:]]
    else:
        data[at + 8 : at + 12] = (count - 1).to_bytes(4, "big")
        keys.pop()
    (tmp_path / "changed.mp4").write_bytes(data)
    decoded = sampled(tmp_path / "changed.mp4", "keyframes")
    assert decoded.indices.tolist() == nearest_keys(list(range(0, 192, 2)), keys)
    assert [media.read_frame_number(one) for one in decoded.pixels] == decoded.indices.tolist()
    assert decoded.damaged_share == 0


def test_a_damaged_key_frame_is_lost_alone(made: Callable[[Clip], Path], tmp_path: Path) -> None:
    path = made(CLIPS[1])
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as opened:
        places = [(one.pos, one.size) for one in opened.demux(video=0) if one.is_keyframe]
    start, size = places[-1]
    data[start + size // 8 : start + size] = bytes(size - size // 8)
    (tmp_path / "damaged.mp4").write_bytes(data)
    whole, damaged = sampled(path, "keyframes"), sampled(tmp_path / "damaged.mp4", "keyframes")
    last = whole.indices == whole.indices[-1]
    assert damaged.damaged_share == last.mean() > 0
    assert np.array_equal(damaged.pixels[~last], whole.pixels[~last])


class Counted(io.FileIO):
    """A file that counts what is read of it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.bytes_read = 0

    def read(self, count: int | None = -1, /) -> bytes:
        data = super().read(-1 if count is None else count)
        self.bytes_read += len(data or b"")
        return data or b""


def test_facts_of_a_plain_clip(made: Callable[[Clip], Path]) -> None:
    decoded = sampled(made(CLIPS[1]))
    assert (decoded.facts.codec, decoded.facts.width_px, decoded.facts.height_px) == (
        "h264",
        80,
        64,
    )
    assert (decoded.facts.fps, decoded.facts.duration_seconds, decoded.frame_count) == (25, 8, 200)
    assert decoded.pixels.shape == SHAPE
    np.testing.assert_allclose(decoded.pts_seconds, np.arange(96) * 0.08, atol=1e-6)
    assert 96 <= decoded.frames_decoded < 110  # of 191: the others are B-frames that nobody wants
    assert decoded.decode_seconds > 0


@pytest.mark.parametrize(
    "name",
    ["h264_pyramid.mkv", "vp9.webm", "h264_fragmented.mp4", "vp9_live.webm", "hevc_closed_gop.ts"],
)
def test_lengths_that_no_header_holds(name: str, made: Callable[[Clip], Path]) -> None:
    decoded = sampled(made(next(clip for clip in CLIPS if clip.name == name)))
    assert decoded.facts.fps == 25
    assert decoded.facts.duration_seconds == pytest.approx(8, abs=0.05)
    assert decoded.frame_count == pytest.approx(200, abs=1)
    np.testing.assert_allclose(decoded.pts_seconds, np.arange(96) * 0.08, atol=2e-3)


def test_pictures_of_an_animation_last_as_long_as_they_say(tmp_path: Path) -> None:
    """Times in 1/100 s, the first pictures slow: 40 of them in 6.6 s, and the last is shown for a
    second.
    """
    times = [0, 1000, 3000, *range(3100, 6800, 100)]
    path = media.make_clip(
        tmp_path / "slow.gif", codec="gif", pix_fmt="rgb8", pts=times, width=96, height=96
    )
    decoded = sampled(path)
    assert (decoded.facts.codec, decoded.frame_count) == ("gif", len(times))
    assert [media.read_frame_number(frame) for frame in decoded.pixels] == decoded.indices.tolist()
    assert decoded.indices.tolist() == [
        *range(len(times)),
        *[len(times) - 1] * (96 - len(times)),
    ]
    np.testing.assert_allclose(
        decoded.pts_seconds, [times[index] / 1000 for index in decoded.indices], atol=1e-2
    )


def test_a_recording_joined_from_two_keeps_its_order(
    made: Callable[[Clip], Path], tmp_path: Path
) -> None:
    """The clock starts anew in the middle: positions go on, and no time goes back."""
    data = made(next(clip for clip in CLIPS if clip.name == "mpeg1.mpg")).read_bytes()
    (tmp_path / "joined.mpg").write_bytes(data * 2)
    decoded = sampled(tmp_path / "joined.mpg", "uniform")
    assert (decoded.facts.fps, decoded.facts.duration_seconds, decoded.frame_count) == (25, 16, 400)
    assert decoded.indices.tolist() == [slot * 400 // 96 for slot in range(96)]
    assert [media.read_frame_number(frame) for frame in decoded.pixels] == [
        i % 200 for i in decoded.indices
    ]
    assert (np.diff(decoded.pts_seconds) >= 0).all()


def test_width_and_height_are_those_shown(made: Callable[[Clip], Path]) -> None:
    decoded = sampled(made(next(clip for clip in CLIPS if clip.name == "turned_270.mp4")))
    assert (decoded.facts.width_px, decoded.facts.height_px) == (64, 82)


@pytest.mark.parametrize("name", ["clip.dv", "clip.gxf", "clip.mxf", "clip.avi"])
def test_dv_is_stretched_to_what_a_player_shows(name: str, tmp_path: Path) -> None:
    decoded = sampled(
        media.make_clip(
            tmp_path / name, codec="dvvideo", width=720, height=576, seconds=1, seed=SEED
        )
    )
    assert (decoded.facts.codec, decoded.decode_mode, decoded.facts.fps) == (
        "dvvideo",
        "sparse",
        25,
    )
    assert decoded.facts.width_px == pytest.approx(768, abs=20)
    assert [media.read_frame_number(frame) for frame in decoded.pixels] == [
        min(slot, 24) for slot in range(96)
    ]


@pytest.mark.parametrize("suffix", ["3gp", "avi", "asf"])
def test_h263_of_old_phones(suffix: str, tmp_path: Path) -> None:
    path = media.make_clip(
        tmp_path / f"clip.{suffix}", codec="h263", width=176, height=144, seconds=1, seed=SEED
    )
    decoded = sampled(path)
    assert (decoded.facts.codec, decoded.facts.fps, decoded.frame_count) == ("h263", 25, 25)
    assert [media.read_frame_number(frame) for frame in decoded.pixels] == [
        min(slot, 24) for slot in range(96)
    ]


@pytest.mark.parametrize("turn", [0, 90])
def test_mirrored_clips_are_shown_as_a_player_does(turn: int, tmp_path: Path) -> None:
    # the board is unreadable from behind, so reading it is the proof
    decoded = sampled(media.make_clip(tmp_path / "mirror.mp4", seconds=0.4, turn=turn, mirror=True))
    assert [media.read_frame_number(frame) for frame in decoded.pixels[:10]] == list(range(10))


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("h264_pyramid.mkv", 0.75),
        ("hevc_open_gop.mkv", 0.8),
        ("vp9.webm", 1.0),
        ("av1.mp4", 0.75),
        ("av1.mkv", 0.75),
    ],
)
def test_frames_that_no_wanted_one_needs_are_not_decoded(
    name: str, share: float, made: Callable[[Clip], Path]
) -> None:
    decoded = sampled(made(next(clip for clip in CLIPS if clip.name == name)))
    assert 96 <= decoded.frames_decoded <= share * 191  # the last wanted frame is the 191st


def test_of_an_av1_packet_only_the_frames_needed_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"g": "120", "crf": "20"}
    path = media.make_clip(
        tmp_path / "clip.mp4", codec="libsvtav1", seconds=24, width=80, height=64, options=options
    )
    fed = {}
    decode = sparse.Decoding.decode

    def noting(self: sparse.Decoding, packet: Any) -> Any:
        if packet is not None:
            fed[packet.pts] = packet.size
        return decode(self, packet)

    monkeypatch.setattr(sparse.Decoding, "decode", noting)
    decoded = sampled(path)
    with av.open(str(path)) as opened:
        whole = {packet.pts: packet.size for packet in opened.demux(video=0) if packet.size}
    assert sum(size < whole[pts] for pts, size in fed.items()) > 10
    assert (decoded.decode_mode, decoded.decode_errors) == ("sparse", 0)
    assert [media.read_frame_number(frame) for frame in decoded.pixels] == decoded.indices.tolist()


PIECEMEAL = [
    "av1.mp4",
    "h264_pyramid.mkv",
    "h264_open_gop.mp4",
    "hevc_open_gop_short.mp4",
    "hevc_temporal_layers.mp4",
    "h264_live.mkv",
]


@pytest.mark.parametrize("kept_bytes", [1, 50_000])
@pytest.mark.parametrize("name", PIECEMEAL)
def test_files_too_large_to_keep_are_decoded_piecemeal(
    name: str, kept_bytes: int, made: Callable[[Clip], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(next(clip for clip in CLIPS if clip.name == name))
    whole = sampled(path)
    pieces = []
    decode = sparse.SparsePass._decode

    def counting(self: sparse.SparsePass, cut: int, *, complete: bool) -> None:
        pieces.append(cut)
        decode(self, cut, complete=complete)

    monkeypatch.setattr(sparse.SparsePass, "_decode", counting)
    monkeypatch.setattr(sparse, "GATHERED_BYTES", 1)
    monkeypatch.setattr(sparse, "KEPT_BYTES", kept_bytes)
    monkeypatch.setattr(container, "KEPT_BYTES", kept_bytes)
    decoded = sampled(path)
    assert len(pieces) > 1
    assert decoded.decode_mode == "sparse"
    assert decoded.decode_errors == 0
    np.testing.assert_array_equal(decoded.pixels, whole.pixels)
    np.testing.assert_array_equal(decoded.pts_seconds, whole.pts_seconds)


def test_a_gop_too_large_to_keep_is_decoded_piecemeal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """24 s in one GOP, a wanted frame every 6, and never more than 5 packets kept: what is needed
    lies behind the cut.
    """
    options = {
        "preset": "fast",
        "g": "1000",
        "bf": "3",
        "x264-params": "b-adapt=0:b-pyramid=none:scenecut=0",
    }
    path = media.make_clip(tmp_path / "gop.mp4", seconds=24, width=80, height=64, options=options)
    whole = sampled(path)
    monkeypatch.setattr(sparse, "GATHERED_BYTES", 1)
    monkeypatch.setattr(sparse, "KEPT_BYTES", 1)
    monkeypatch.setattr(sparse, "REORDER_PACKETS", 4)
    decoded = sampled(path)
    assert (decoded.decode_mode, decoded.decode_errors) == ("sparse", 0)
    np.testing.assert_array_equal(decoded.pixels, whole.pixels)


def test_pictures_that_only_higher_layers_refer_to_are_not_skipped(
    made: Callable[[Clip], Path], tmp_path: Path
) -> None:
    """HEVC calls a picture unreferenced if its own layer does not need it; x265 never says so,
    other encoders do.
    """
    clip = next(clip for clip in CLIPS if "temporal" in clip.name)
    data = bytearray(made(clip).read_bytes())
    with av.open(str(made(clip))) as opened:
        places = [(packet.pos, packet.size) for packet in opened.demux(video=0) if packet.size]
    renamed = 0
    for start, size in places:
        unit = start
        while unit < start + size:
            kind, layer = data[unit + 4] >> 1, (data[unit + 5] & 7) - 1
            if layer == 1 and kind in (
                3,
                9,
            ):  # TSA_R, RASL_R: the even number below is the same, unreferenced
                data[unit + 4] = (kind - 1) << 1
                renamed += 1
            unit += 4 + int.from_bytes(data[unit : unit + 4], "big")
    path = tmp_path / "renamed.mp4"
    path.write_bytes(data)
    decoded = sampled(path)
    assert renamed > 60
    assert decoded.decode_mode == "sparse"
    np.testing.assert_array_equal(decoded.pixels, sampled(made(clip)).pixels)


@pytest.mark.parametrize("policy", ["notebook", "uniform"])
def test_fewer_frames_than_promised_repeat_the_last(policy: str, tmp_path: Path) -> None:
    # 9 s by the header, 161 frames: at its average rate there would be 225
    times = [0, 10, 20, 500, 600, 2000, 2040, 3000, 3999, *range(4000, 9000, 33)]
    decoded = sampled(
        media.make_clip(tmp_path / "pace.mkv", pts=times, width=96, height=96), policy
    )
    numbers = [media.read_frame_number(frame) for frame in decoded.pixels]
    assert numbers == decoded.indices.tolist()
    assert numbers[-5:] == [len(times) - 1] * 5
    np.testing.assert_allclose(
        decoded.pts_seconds, [times[number] / 1000 for number in numbers], atol=1e-6
    )


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_single_frame_fills_all_slots(suffix: str, tmp_path: Path) -> None:
    decoded = sampled(media.make_clip(tmp_path / f"one.{suffix}", seconds=0.04, seed=5))
    assert decoded.indices.tolist() == [0] * 96
    assert {
        (media.read_frame_number(frame), media.read_seed(frame)) for frame in decoded.pixels
    } == {(0, 5)}


def test_what_an_edit_list_cuts_away_is_no_frame(
    made: Callable[[Clip], Path], tmp_path: Path
) -> None:
    """A phone's lossless trim: 4 s of 8, from 2.4 s on, which is between two key frames."""
    data = bytearray(made(CLIPS[1]).read_bytes())
    at = (
        data.index(b"elst") + 12
    )  # after version and count: duration in 1/1000 s, start in the track's unit
    _, start = struct.unpack_from(">Ii", data, at)
    struct.pack_into(">Ii", data, at, 4000, start + int(2.4 * 12800))
    (tmp_path / "trimmed.mp4").write_bytes(data)
    decoded = sampled(tmp_path / "trimmed.mp4")
    assert (decoded.facts.duration_seconds, decoded.decode_mode) == (4, "sparse")
    assert [media.read_frame_number(frame) for frame in decoded.pixels] == list(range(60, 156))
    np.testing.assert_allclose(decoded.pts_seconds, np.arange(96) * 0.04, atol=1e-6)


def test_a_change_of_size_midway_is_followed(tmp_path: Path) -> None:
    with av.open(tmp_path / "two.ts", "w") as opened:
        stream = opened.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for seed, (width, height) in enumerate([(128, 96), (96, 160)]):
            encoder = av.CodecContext.create("libx264", "w")
            encoder.width, encoder.height, encoder.pix_fmt, encoder.rate = (
                width,
                height,
                "yuv420p",
                25,
            )
            encoder.options = {"preset": "ultrafast"}
            pictures = [
                media.draw(number, seed, width, height)
                for number in range(50 * seed, 50 * seed + 50)
            ]
            frames = [av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in pictures]
            for number, frame in enumerate(frames, 50 * seed):
                frame.pts = number
            packets = [packet for frame in [*frames, None] for packet in encoder.encode(frame)]
            for packet in packets:
                packet.stream = stream
                opened.mux(packet)
    decoded = sampled(tmp_path / "two.ts")
    assert [media.read_frame_number(frame) for frame in decoded.pixels] == list(range(96))
    assert [media.read_seed(frame) for frame in decoded.pixels] == [0] * 50 + [1] * 46
