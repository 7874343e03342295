"""Of a long video, only its first minute and its index are read, wherever it lies and wherever its
index is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from db import settings
from db.errors import VideoError
from tests import media
from tests.http_server import serving
from tests.long_videos import lengthen, needed_bytes
from tests.s3_server import S3Server
from workers.sampling.frames import Frames
from workers.sampling.pool import SamplerPool
from workers.sampling.wire import BLOCK_BYTES
from workers.settings import WorkerSettings
from workers.sources.storage import Storage

#: A multiple of `tests.long_videos.UNIT_SECONDS`.
CLIP_SECONDS = 9.6
CONTAINERS = {
    "mp4, index last": ("mp4", {}),
    "mp4, index first": ("mp4", {"movflags": "faststart"}),
    "mkv": ("mkv", {}),
}


@pytest.fixture(scope="module")
def pool() -> Iterator[SamplerPool]:
    made = SamplerPool(1, wall_seconds=60, cpu_seconds=60)
    yield made
    made.close()


@pytest.fixture
def storage(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    for name, value in {**s3.environment, "REELVEC_HTTP_ALLOW_PRIVATE": "true"}.items():
        monkeypatch.setenv(name, value)
    with Storage(settings.load(WorkerSettings), roots=None) as made:
        yield made


@pytest.fixture
def sample(storage: Storage, pool: SamplerPool) -> Callable[[str], Frames]:
    def sampled(uri: str) -> Frames:
        with storage.open(uri) as source:
            return pool.sample(source, "notebook")

    return sampled


@pytest.fixture(scope="module")
def heavy_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 MiB a minute in few pictures, with sound."""
    path = tmp_path_factory.mktemp("heavy") / "clip.mp4"
    return media.make_clip(
        path,
        seconds=CLIP_SECONDS,
        fps=5,
        width=320,
        height=240,
        options={"crf": "12"},
        audio=True,
        seed=4,
    )


@pytest.mark.parametrize("kind", CONTAINERS)
def test_the_network_gives_the_frames_of_the_file_for_its_first_minute_and_index(
    kind: str, heavy_clip: Path, sample: Callable[[str], Frames], s3: S3Server, tmp_path: Path
) -> None:
    ending, options = CONTAINERS[kind]
    path = lengthen(heavy_clip, tmp_path / f"long.{ending}", seconds=150, options=options)
    needed = needed_bytes(path)
    assert 12 * BLOCK_BYTES < needed < 0.45 * path.stat().st_size
    local = sample(path.as_uri())
    assert local.indices.tolist() == list(range(0, 288, 3))
    assert [media.read_frame_number(frame) for frame in local.pixels] == [
        i % 48 for i in range(0, 288, 3)
    ]
    data = path.read_bytes()
    with serving(files={"/v": data}) as server:
        over_http = sample(server.url("/v"))
    spans = [asked.removeprefix("bytes=").split("-") for _, asked in server.requests]
    sent = sum(min(int(last) + 1, len(data)) - int(first) for first, last in spans)
    bucket = s3.bucket()
    s3.put(bucket, "v", data)
    over_s3 = sample(f"s3://{bucket}/v")
    for remote in (over_http, over_s3):
        np.testing.assert_array_equal(remote.pixels, local.pixels)
        assert remote.pts_seconds.tolist() == local.pts_seconds.tolist()
        assert remote.bytes_read == sent <= 1.15 * needed + BLOCK_BYTES
        assert remote.fetch_seconds > 0


@pytest.mark.parametrize("ranges", [True, False])
def test_a_page_that_a_server_sends_instead_of_the_video_is_none(
    ranges: bool, sample: Callable[[str], Frames], tmp_path: Path
) -> None:
    page = media.html(tmp_path / "page").read_bytes()
    with (
        serving(files={"/v.mp4": page}, ranges=ranges) as server,
        pytest.raises(VideoError, match="DOCTYPE") as caught,
    ):
        sample(server.url("/v.mp4"))
    assert (caught.value.code, caught.value.stage) == ("not_media", "sample")


@pytest.fixture(scope="module")
def light_clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By codec: 5 pictures a second; three quarters of an hour of them are 15 MB and more."""
    folder = tmp_path_factory.mktemp("light")
    return {
        codec: media.make_clip(
            folder / f"{codec}.{ending}",
            codec=codec,
            seconds=CLIP_SECONDS,
            fps=5,
            width=side,
            height=side,
            seed=5,
            options={"b": "2M"} if codec == "mpeg4" else None,
        )
        for codec, ending, side in (("libx264", "mp4", 112), ("mpeg4", "avi", 320))
    }


@pytest.mark.parametrize("kind", [*CONTAINERS, "mpegts", "avi"])
def test_three_quarters_of_an_hour_cost_what_two_minutes_cost(
    kind: str, light_clips: dict[str, Path], sample: Callable[[str], Frames], tmp_path: Path
) -> None:
    """The same frames, decoded from the same pictures, and no more bytes than the longer index
    has.
    """
    ending, options = CONTAINERS.get(kind, ({"mpegts": "ts"}.get(kind, kind), {}))
    clip = light_clips["mpeg4" if kind == "avi" else "libx264"]
    short, long = (
        lengthen(clip, tmp_path / f"{minutes}.{ending}", seconds=60 * minutes, options=options)
        for minutes in (2, 45)
    )
    of_short, of_long = sample(short.as_uri()), sample(long.as_uri())
    assert of_long.facts.duration_seconds == pytest.approx(2700, abs=2)
    assert of_long.indices.tolist() == of_short.indices.tolist() == list(range(0, 288, 3))
    np.testing.assert_array_equal(of_long.pixels, of_short.pixels)
    assert of_long.frames_decoded == of_short.frames_decoded
    index_bytes = needed_bytes(long) - needed_bytes(short)
    # blocks are read whole
    assert (
        of_long.bytes_read
        <= of_short.bytes_read + index_bytes + 4 * BLOCK_BYTES
        < 0.6 * long.stat().st_size
    )
