"""Encrypted pictures have a code of their own, whatever the scheme and wherever the file says so;
clear ones never have it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from db.errors import VideoError
from tests import encrypting as enc
from tests import media
from tests.encrypting import Boxes, everything
from workers.sampling.frames import Decoded
from workers.sampling.inside.decode import sample

SMALL = {"width": 160, "height": 96, "options": {"g": "25"}}
#: Pictures from here on are encrypted, for files whose beginning is clear. The first 96 are wanted;
#: one GOP has 25.
LATER = 150


def sampled(path: Path) -> Decoded:
    with path.open("rb") as file:
        return sample(file, "notebook")


def code_of(path: Path) -> str:
    try:
        sampled(path)
    except VideoError as error:
        return error.code
    return "frames"


def clip(path: Path, **more: object) -> Path:
    return media.make_clip(path, **{**SMALL, **more})  # type: ignore[arg-type]


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def whole(
    path: Path, change: Callable[[Boxes], object], which: enc.Which = everything, **more: object
) -> Path:
    """An mp4 with its index at the end: changed, and these pictures of it noise."""
    clip(path, **more)
    parts = Boxes(enc.noise(path, path.read_bytes(), which))
    change(parts)
    return written(path, parts.packed())


def fragmented(
    path: Path, change: Callable[[Boxes], object], which: enc.Which = everything, **more: object
) -> Path:
    return whole(path, change, which, container_options=enc.FRAGMENTS, **more)


def by_ffmpeg(path: Path, **options: str) -> Path:
    return clip(
        path,
        container_options={"encryption_scheme": "cenc-aes-ctr", **enc.KEY, **options},
        audio=True,
    )


def scheme(name: bytes, schi: bytes) -> Callable[[Boxes], object]:
    return lambda parts: parts.describe(enc.sinf(name, schi))


def grouped(*parts: bytes) -> Callable[[Boxes], object]:
    return lambda boxes: boxes.add(b"stbl", *parts)


def fragments(make: Callable[[int], bytes]) -> Callable[[Boxes], object]:
    return lambda boxes: boxes.add_to_fragments(make)


def both(schi: bytes, make: Callable[[int], bytes]) -> Callable[[Boxes], object]:
    """A protected track, and something in each fragment."""
    return lambda parts: (parts.describe(enc.sinf(b"piff", schi)), parts.add_to_fragments(make))


def local(number: int) -> bytes:
    return enc.seig(1) + enc.in_groups((25, 0x10001))


def clear_lead(path: Path) -> Path:
    """The first fragment of two has a clear sample description, the other, within the wanted
    frames, an encrypted one.
    """

    def change(parts: Boxes) -> None:
        parts.describe_again(enc.sinf(b"cenc", enc.tenc()))
        parts.name_description(lambda number: 1 if number == 0 else 2)

    return fragmented(path, change, lambda number: number >= 25)


def webm(path: Path, part: bytes, which: enc.Which = everything) -> Path:
    clip(path, codec="libvpx-vp9")
    return written(path, enc.into_track(enc.noise(path, path.read_bytes(), which), part))


def per_frame_webm(path: Path, which: enc.Which, **more: object) -> Path:
    source = clip(path.with_name("source.webm"), codec="libvpx", **more)
    enc.with_signal_bytes(source, path, which)
    return path


def scrambled_ts(path: Path, which: enc.Which = everything, **more: object) -> Path:
    clip(path, container_format="mpegts", **more)
    return written(path, enc.scrambled_ts(path.read_bytes(), which))


def sample_aes(path: Path) -> Path:
    clip(path, container_format="mpegts")
    return written(path, enc.sample_aes(path.read_bytes()))


def old(path: Path, form: str) -> Path:
    codec = {"vob": "mpeg2video", "asf": "mpeg4"}[form]
    return clip(path, codec=codec, container_format=form)


ENCRYPTED: dict[str, Callable[[Path], Path]] = {
    "cenc": by_ffmpeg,
    "cenc in fragments": lambda path: by_ffmpeg(path, **enc.FRAGMENTS),
    "cens": lambda path: whole(path, scheme(b"cens", enc.tenc())),
    "cbc1": lambda path: whole(path, scheme(b"cbc1", enc.tenc())),
    "cbcs": lambda path: whole(path, scheme(b"cbcs", enc.tenc(constant_iv=True))),
    "cbcs of hevc in fragments": lambda path: fragmented(
        path, scheme(b"cbcs", enc.tenc(constant_iv=True)), codec="libx265", options={}
    ),
    "an unknown scheme": lambda path: whole(path, lambda parts: parts.describe()),
    "fairplay": lambda path: whole(path, lambda parts: parts.describe(kind=b"drmi")),
    "piff": lambda path: fragmented(path, scheme(b"piff", enc.piff_tenc())),
    "piff for its fragments": lambda path: fragmented(path, both(enc.piff_tenc(), lambda _: enc.piff_senc(2))),
    "a sample group of the movie": lambda path: whole(path, grouped(enc.seig(1), enc.in_groups((100, 1)))),
    "a sample group of every third": lambda path: whole(
        path, grouped(enc.seig(1), enc.in_groups(*[(2, 0), (1, 1)] * 33)), lambda number: number % 3 == 2
    ),
    "a compact sample group": lambda path: whole(path, grouped(enc.seig(0, 1), enc.compact_groups(100, [1, 2]))),
    "a default sample group": lambda path: whole(path, grouped(enc.seig(1, version=2, default=1))),
    "a sample group of fragments": lambda path: fragmented(path, fragments(local)),
    "a group of the movie, used in fragments": lambda path: fragmented(
        path, lambda parts: (parts.add(b"stbl", enc.seig(1)), parts.add_to_fragments(lambda _: enc.in_groups((25, 1))))
    ),
    "a clear lead": clear_lead,
    "webm": lambda path: webm(path.with_suffix(".webm"), enc.encodings()),
    "mkv that names no algorithm": lambda path: webm(path.with_suffix(".webm"), enc.encodings(algorithm=None)),
    "webm frame by frame": lambda path: per_frame_webm(path.with_suffix(".webm"), lambda number: number >= 25),
    "mpegts": scrambled_ts,
    "mpegts from the second second on": lambda path: scrambled_ts(path, lambda number: number > 400),
    "mpegts of SAMPLE-AES": sample_aes,
    "a scrambled vob": lambda path: written(old(path, "vob"), enc.scrambled_ps(path.read_bytes(), lambda number: number % 2 == 1)),
    "wmv": lambda path: written(old(path, "asf"), enc.protected_wmv(path.read_bytes())),
}  # fmt: skip


@pytest.mark.parametrize("name", ENCRYPTED)
def test_encrypted_pictures_are_told(name: str, tmp_path: Path) -> None:
    path = ENCRYPTED[name](tmp_path / "video.mp4")
    with pytest.raises(VideoError, match="encrypted") as caught:
        sampled(path)
    assert (caught.value.code, caught.value.stage) == ("encrypted", "sample")


def sound_alone(path: Path) -> Path:
    sound = Boxes(clip(path, audio=True).read_bytes())
    entry = next(sound.all(b"mp4a"))
    entry.kind = b"enca"
    entry.inside.append(enc.Node(b"", enc.sinf(b"cenc", enc.tenc())))
    return written(path, sound.packed())


def later(number: int) -> bool:
    return number >= LATER


CLEAR: dict[str, Callable[[Path], Path]] = {
    "keys at the top": lambda path: written(clip(path), path.read_bytes() + enc.box(b"pssh", bytes(4), bytes(20))),
    "an empty list of IVs": lambda path: whole(path, grouped(enc.senc()), enc.nothing),
    "IVs of a clear track": lambda path: whole(path, grouped(enc.senc(100)), enc.nothing),
    "protected, but not": lambda path: whole(path, scheme(b"cenc", enc.tenc(0)), enc.nothing),
    "piff without algorithm": lambda path: fragmented(path, scheme(b"piff", enc.piff_tenc(0)), enc.nothing),
    "piff whose fragments are clear": lambda path: fragmented(
        path, both(enc.piff_tenc(), lambda _: enc.piff_senc(0)), enc.nothing
    ),
    "a clear entry with a scheme": lambda path: whole(
        path, lambda parts: parts.describe(enc.sinf(b"cenc", enc.tenc()), kind=b"avc1"), enc.nothing
    ),
    "a group that is not protected": lambda path: whole(
        path,
        lambda parts: (scheme(b"cenc", enc.tenc())(parts), grouped(enc.seig(0), enc.in_groups((100, 1)))(parts)),
        enc.nothing,
    ),
    "groups of fragments that are not": lambda path: fragmented(
        path, both(enc.tenc(), lambda _: enc.seig(0) + enc.in_groups((25, 0x10001))), enc.nothing
    ),
    "groups of which nothing is": lambda path: whole(path, grouped(enc.seig(1), enc.in_groups((100, 0))), enc.nothing),
    "encrypted sound": sound_alone,
    "webm, signed": lambda path: webm(path.with_suffix(".webm"), enc.encodings(algorithm=0), enc.nothing),
    "webm, clear frame by frame": lambda path: per_frame_webm(path.with_suffix(".webm"), enc.nothing),
    "mpegts with scrambled sound": lambda path: written(
        clip(path, container_format="mpegts", audio=True), enc.scrambled_ts(path.read_bytes(), everything, pid=0x101)
    ),
    "mpegts with wrong bits": lambda path: written(clip(path, container_format="mpegts"), _flagged(path.read_bytes())),
    "a clear vob": lambda path: old(path, "vob"),
    "a clear wmv": lambda path: old(path, "asf"),
    # longer than what is wanted of them, and encrypted behind that
    "a group, later": lambda path: whole(path, grouped(enc.seig(1), enc.in_groups((LATER, 0), (50, 1))), later, seconds=7),
    "fragments, later": lambda path: fragmented(
        path, fragments(lambda number: local(number) if number >= LATER // 25 else b""), later, seconds=7
    ),
    "webm, later": lambda path: per_frame_webm(path.with_suffix(".webm"), later, seconds=7),
    "mpegts, later": lambda path: scrambled_ts(path, lambda number: number > 1600, seconds=7),
}  # fmt: skip


def _flagged(data: bytes) -> bytes:
    """Every tenth packet claims to be scrambled."""
    changed = bytearray(data)
    for at in range(188 * 9, len(data), 1880):
        changed[at + 3] |= 0x80
    return bytes(changed)


@pytest.mark.parametrize("name", CLEAR)
def test_clear_pictures_are_sampled_whatever_else_is_there(name: str, tmp_path: Path) -> None:
    path = CLEAR[name](tmp_path / "video.mp4")
    decoded = sampled(path)
    assert [media.read_frame_number(frame) for frame in decoded.pixels] == decoded.indices.tolist()
    assert decoded.decode_errors == 0
    assert decoded.indices[-1] >= 90
