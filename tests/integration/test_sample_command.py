"""`reelvec sample`: what it says of a video is what is in it, from wherever it comes; mistakes are
one line.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from db.errors import UsageError
from producer.local.sample import Sampling
from tests import media
from tests.conftest import Desk, clean_environment
from tests.http_server import serving
from tests.s3_server import S3Server
from workers.sampling.sheet import LINE, MARGIN, TITLE, contact_sheet

#: Runs the command and then says which of these modules its process has loaded.
PROBE = """
import json, sys
sys.argv = ["reelvec", "sample", *{arguments!r}]
try:
    from producer.cli import main
    main()
finally:
    print(json.dumps(sorted({{"torch", "transformers", "av", "PIL", "celery", "sqlalchemy", "minio"}} & set(sys.modules))))
"""


@pytest.fixture
def alone(tmp_path: Path) -> Desk:
    return Desk(clean_environment(), tmp_path)


def facts(desk: Desk, *arguments: str, **variables: str) -> dict[str, object]:
    made: dict[str, object] = json.loads(
        desk.run("reelvec", "sample", *arguments, "--json", **variables).stdout
    )
    return made


def test_json_has_every_fact_and_the_frames_are_those_it_names(alone: Desk, tmp_path: Path) -> None:
    clip = media.make_clip(
        tmp_path / "clip.mp4", seconds=7.8, options={"bf": "3", "preset": "veryfast"}
    )
    told = facts(alone, "clip.mp4", "--out", "frames.npz", "--sheet", "sheet.png")
    assert set(told) == {
        "file", "codec", "width_px", "height_px", "fps", "duration_seconds", "frame_count", "frames_decoded",
        "decode_mode", "decode_errors", "damaged_share", "size_bytes", "bytes_read", "fetch_seconds", "decode_cpu_seconds",
        "wall_seconds", "etag", "frame_indices", "pts_seconds",
    }  # fmt: skip
    expected = {"file": "clip.mp4", "codec": "h264", "width_px": 320, "height_px": 180, "fps": 25.0,
                "duration_seconds": 7.8, "frame_count": 195, "decode_mode": "sparse", "decode_errors": 0, "damaged_share": 0.0,
                "size_bytes": clip.stat().st_size, "bytes_read": clip.stat().st_size}  # fmt: skip
    assert told == told | expected
    assert told["frame_indices"] == [2 * slot for slot in range(96)]
    assert told["pts_seconds"] == [round(0.08 * slot, 6) for slot in range(96)]
    with np.load(tmp_path / "frames.npz") as arrays:
        assert {name: (array.dtype, array.shape) for name, array in arrays.items()} == {
            "frames": (np.uint8, (96, 224, 224, 3)),
            "frame_indices": (np.int64, (96,)),
            "pts_seconds": (np.float64, (96,)),
        }
        assert [media.read_frame_number(frame) for frame in arrays["frames"]] == told[
            "frame_indices"
        ]
        assert arrays["frame_indices"].tolist() == told["frame_indices"]
        np.testing.assert_allclose(arrays["pts_seconds"], told["pts_seconds"], atol=1e-6)
        kept = [arrays[name] for name in ("frames", "frame_indices", "pts_seconds")]
    assert (tmp_path / "frames.npz").stat().st_size > 96 * 224 * 224 * 3  # not compressed
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        drawn = np.asarray(sheet)
    subjects = dict.fromkeys(("video", "decoded", "read", "time", "frames"), "")
    expected_sheet = np.asarray(contact_sheet(*kept, title="clip.mp4", facts=subjects))
    top, bottom = MARGIN + TITLE - 4, MARGIN + TITLE + len(subjects) * LINE
    assert np.array_equal(drawn[:top], expected_sheet[:top])
    assert np.array_equal(drawn[bottom:], expected_sheet[bottom:])
    assert not np.array_equal(
        drawn[top:bottom], expected_sheet[top:bottom]
    )  # what is known stands there


def test_words_fit_a_terminal_and_name_each_frame_once(alone: Desk, tmp_path: Path) -> None:
    media.make_clip(tmp_path / "clip.mp4", seconds=1)
    said = alone.run("reelvec", "sample", "clip.mp4").stdout
    assert "h264, 320 x 180, 25 fps, 1.0 s, 25 frames" in said
    assert "25 of 25 frames, sparse" in said
    assert "0 to 24, step 1, 71 of 96 repeat the one before, policy notebook" in said
    assert "damaged" not in said
    assert said.count("0.96s") == 1
    assert max(map(len, said.splitlines())) <= 100


def test_uniform_reaches_the_end_of_what_is_looked_at(alone: Desk, tmp_path: Path) -> None:
    media.make_clip(tmp_path / "clip.mp4", seconds=7.6, width=64, height=64)
    said = alone.run("reelvec", "sample", "clip.mp4", "--sampling", "uniform").stdout
    assert "0 to 188, steps 1 to 2, policy uniform" in said


def test_full_decoding_and_damage_are_told(alone: Desk, tmp_path: Path) -> None:
    media.make_clip(tmp_path / "whole.avi", codec="mpeg4", seconds=1)
    said = alone.run("reelvec", "sample", "whole.avi").stdout
    assert "full: its timestamps or its codec allow no sparse decoding" in said
    assert facts(alone, "whole.avi")["decode_mode"] == "full"
    damaged = bytearray(
        media.make_clip(
            tmp_path / "x.mp4", container_options={"movflags": "faststart"}
        ).read_bytes()
    )
    start = damaged.index(b"mdat")
    for position in np.random.default_rng(3).integers(start, len(damaged), 300):
        damaged[position] ^= 0xFF
    (tmp_path / "x.mp4").write_bytes(damaged)
    assert "packets or frames" in alone.run("reelvec", "sample", "x.mp4", "--sheet", "x.png").stdout


def test_a_hole_is_told_although_no_decoder_has_met_it(alone: Desk, tmp_path: Path) -> None:
    data = media.make_clip(tmp_path / "x.ts", seconds=8).read_bytes()
    assert "damaged" not in alone.run("reelvec", "sample", "x.ts").stdout
    half = len(data) // 2
    (tmp_path / "x.ts").write_bytes(data[:half] + bytes(len(data) - half))
    said = alone.run("reelvec", "sample", "x.ts").stdout
    assert "of the 96 pictures: too many, so no vectors are computed" in said
    assert "packets or frames" not in said


def test_a_bad_video_costs_only_itself_and_leaves_no_file(alone: Desk, tmp_path: Path) -> None:
    media.make_clip(tmp_path / "a.mp4", seconds=1, seed=1)
    media.make_clip(tmp_path / "b.mkv", seconds=1, seed=2)
    media.html(tmp_path / "page.mp4")
    done = alone.run(
        "reelvec", "sample", "a.mp4", "page.mp4", "b.mkv", "--json", "--out", "out", expect=3
    )
    first, failed, last = map(json.loads, done.stdout.splitlines())
    assert (first["file"], last["file"]) == ("a.mp4", "b.mkv")
    assert set(failed) == {"file", "error_code", "error"}
    assert (failed["file"], failed["error_code"]) == ("page.mp4", "not_media")
    assert done.stderr.startswith("error: page.mp4: not_media: ")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.npz", "b.npz"]
    with np.load(tmp_path / "out" / "b.npz") as arrays:
        assert media.read_seed(arrays["frames"][0]) == 2


def test_a_web_address_is_read_like_its_file_and_its_signature_is_not_shown(
    alone: Desk, tmp_path: Path
) -> None:
    clip = media.make_clip(tmp_path / "clip.mp4", seconds=1)
    with serving(files={"/v/clip.mp4": clip.read_bytes()}) as server:
        signed = server.url("/v/clip.mp4?X-Amz-Signature=hush")
        refused = alone.run("reelvec", "sample", signed, "--json", expect=3)
        assert json.loads(refused.stdout)["error_code"] == "address_refused"
        assert not server.requests
        done = alone.run(
            "reelvec", "sample", signed, "--json", "--out", "web", REELVEC_HTTP_ALLOW_PRIVATE="true"
        )
        told = json.loads(done.stdout)
        assert (told["file"], told["etag"]) == (server.url("/v/clip.mp4"), "v1")
    assert "dropped from the address" in done.stderr
    assert "hush" not in done.stdout + done.stderr + refused.stdout + refused.stderr
    alone.run("reelvec", "sample", "clip.mp4", "--out", "file.npz")
    with np.load(tmp_path / "web" / "clip.npz") as web, np.load(tmp_path / "file.npz") as file:
        assert all(
            np.array_equal(web[name], file[name])
            for name in ("frames", "frame_indices", "pts_seconds")
        )


def test_an_object_of_a_bucket(alone: Desk, tmp_path: Path, s3: S3Server) -> None:
    clip = media.make_clip(tmp_path / "clip.mp4", seconds=1).read_bytes()
    bucket = s3.bucket()
    etag = s3.put(bucket, "films/ключ.mp4", clip)
    uri = f"s3://{bucket}/films/ключ.mp4"
    told = facts(alone, uri, "--sheet", ".", **s3.environment)
    assert told["file"] == uri
    assert (told["etag"], told["size_bytes"]) == (etag, len(clip))
    assert (tmp_path / "ключ.png").exists()


def test_what_is_no_video_is_a_line_with_its_code(alone: Desk, tmp_path: Path) -> None:
    media.html(tmp_path / "text.mp4")
    (tmp_path / "folder").mkdir()
    done = alone.run("reelvec", "sample", "nowhere.mp4", "folder", "text.mp4", expect=3)
    assert not done.stdout
    told = [line.split(": ")[:3] for line in done.stderr.splitlines()]
    assert told == [
        ["error", "nowhere.mp4", "not_found"],
        ["error", "folder", "not_a_file"],
        ["error", "text.mp4", "not_media"],
    ]


def test_a_wrong_target_is_refused_before_any_work(alone: Desk, tmp_path: Path) -> None:
    media.make_clip(tmp_path / "a.mp4", seconds=1)
    done = alone.run(
        "reelvec", "sample", "a.mp4", "--out", "frames", "--sheet", "sheet.jpg", expect=2
    )
    assert (
        done.stderr
        == "error: --sheet sheet.jpg does not end in .png: give NAME.png for one video, or a "
        "folder\n"
    )
    assert not done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("files", "given", "told"),
    [
        (["a.mp4"], {"policy": "all"}, "'all' is no sampling policy; there are notebook, uniform"),
        (["a.mp4", "b.mp4"], {"out": Path("x.npz")}, "2 videos: give a folder"),
        (["a.mp4", "b.mp4"], {"sheet": Path("x.png")}, "2 videos: give a folder"),
        (["a.mp4"], {"out": Path("missing/x.npz")}, "no folder missing;"),
        (["ftp://host/a.mp4"], {}, "allowed are a path, file:, s3:"),
        (
            ["https://user:hush@host/a.mp4"],
            {},
            r"^'https://user:\*\*\*@host/a.mp4': a user name or password",
        ),
    ],
)
def test_mistakes_say_what_is_allowed(files: list[str], given: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Sampling(files, **{"policy": "notebook", "out": None, "sheet": None, **given})


def test_a_mistyped_variable_is_refused(alone: Desk) -> None:
    assert (
        "REELVEC_SAMPLERS"
        in alone.run("reelvec", "sample", "a.mp4", expect=2, REELVEC_SAMPLER="1").stderr
    )


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [(("--help",), set()), (("a.mp4",), set()), (("a.mp4", "--sheet", "a.png"), {"PIL"})],
)
def test_the_process_that_decodes_is_another_one(
    tmp_path: Path, arguments: tuple[str, ...], allowed: set[str]
) -> None:
    media.make_clip(tmp_path / "a.mp4", seconds=1)
    command = [sys.executable, "-c", PROBE.format(arguments=arguments)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert set(json.loads(done.stdout.splitlines()[-1])) == allowed


def test_the_help_names_it(alone: Desk) -> None:
    assert " sample " in alone.run("reelvec", "--help").stdout
    assert "--sheet" in alone.run("reelvec", "sample", "--help").stdout
