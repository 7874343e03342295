"""FFmpeg is let at a file in one place, with its three allow-lists: any other would follow what a
file points at.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import av
import av.format
import pytest

from workers.sampling.inside import formats, opening

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path for folder in ("db", "workers", "producer") for path in (ROOT / folder).rglob("*.py")
)
#: Whatever of PyAV opens files.
OPENERS = ("av.open", "av.container.open", "av.container.core.open")


def opened_in(source: str) -> Iterator[ast.AST]:
    """Every mention of an opener, by whatever name it was imported, called or not."""
    names: dict[str, str] = {}
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            first, *rest = ast.unparse(node).split(".")
            if ".".join([names.get(first, first), *rest]) in OPENERS:
                yield node


@pytest.mark.parametrize(
    "source",
    [
        "import av\nav.open(file)",
        "import av as ffmpeg\nffmpeg.open(file)",
        "from av import open as look\nlook(file)",
        "import av.container\nav.container.open(file)",
        "from av import container\ncontainer.open(file)",
        "import av\nopener = av.open",
    ],
)
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert len(list(opened_in(source))) == 1


def test_row_57_there_is_one_av_open() -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in FILES
        for _ in opened_in(path.read_text(encoding="utf-8"))
    }
    assert found == {"workers/sampling/inside/opening.py"}
    assert (
        len(
            list(
                opened_in((ROOT / "workers/sampling/inside/opening.py").read_text(encoding="utf-8"))
            )
        )
        == 1
    )


@pytest.mark.parametrize("fragmented", [False, True])
def test_row_57_it_always_has_its_allow_lists(
    fragmented: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(opening.av, "open", lambda file, **facts: seen.append(facts["options"]))
    with (tmp_path / "file").open("rb") as file:
        opening.open_container(file, fragmented)
    (options,) = seen
    assert options["protocol_whitelist"] == "none"
    assert options["format_whitelist"].split(",") == [
        *(
            "mov",
            "mp4",
            "m4a",
            "3gp",
            "3g2",
            "mj2",
            "matroska",
            "webm",
            "mpegts",
            "avi",
            "mpeg",
            "asf",
            "flv",
            "ogg",
        ),
        *("mxf", "gxf", "rm", "wtv", "dv", "gif", "apng", "nut", "ivf", "yuv4mpegpipe"),
        *("mpegvideo", "m4v", "h264", "hevc", "vvc", "obu"),
    ]
    assert options["codec_whitelist"].split(",") == list(formats.DECODERS)
    assert options["max_pixels"] == "36000000"
    assert options["max_streams"] == "64"


def test_row_57_pictures_have_a_list_of_their_own() -> None:
    """They lead nowhere: each demuxer of them reads the one file that it is given."""
    stills = formats.STILL_FORMATS.split(",")
    assert stills == ["jpeg_pipe", "png_pipe", "webp_pipe", "gif", "apng"]
    known = {name for each in av.format.formats_available for name in each.split(",")}
    assert set(stills) <= known
    assert set(formats.STILL_CODECS) <= set(av.codecs_available)


#: Demuxers that open other files, addresses or devices, or that read any text, and pictures one by
#: one.
OUTSIDE = (
    *(
        "hls",
        "dash",
        "concat",
        "image2",
        "image2pipe",
        "imf",
        "sdp",
        "rtsp",
        "rtp",
        "sap",
        "webm_dash_manifest",
    ),
    *(
        "lavfi",
        "alsa",
        "fbdev",
        "kmsgrab",
        "x11grab",
        "video4linux2",
        "v4l2",
        "tty",
        "srt",
        "ass",
        "webvtt",
        "ffmetadata",
    ),
    *("png_pipe", "jpeg_pipe", "webp_pipe", "mjpeg", "swf"),
)


def test_row_57_no_container_on_the_list_leads_elsewhere() -> None:
    allowed = formats.FORMATS.split(",")
    assert not set(allowed) & set(OUTSIDE)
    known = {name for each in av.format.formats_available for name in each.split(",")}
    assert set(allowed) <= known


def test_every_codec_on_the_list_has_its_decoder_there() -> None:
    """Under whatever name, and a name that FFmpeg does not know would be a mistake of ours."""
    names = [name for name in formats.DECODERS if name in av.codecs_available]
    assert set(formats.CODECS) <= {av.Codec(name, "r").canonical_name for name in names}
    assert set(formats.DECODERS) - set(names) <= set(formats.CODECS)  # names of codecs alone
