"""One bad place starves nobody: it is closed, tried now and then, and goes on by itself when it is
mended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine

from tests.broker_faults import until
from tests.conftest import Desk, WorkerProcess
from tests.golden_run import small_clips
from tests.http_server import Handler, WebServer, serving
from tests.ledgering import one
from tests.s3_server import S3Server

GOOD, BAD, NOT_MEDIA = 12, 40, 50


def denied(handler: Handler) -> bool:
    handler.answer(403, b"not for you")
    return True


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return small_clips(tmp_path_factory.mktemp("clip") / "videos", 1)[0].read_bytes()


@pytest.fixture
def good(clip: bytes) -> Iterator[WebServer]:
    files = {f"/{i}.mp4": clip for i in range(GOOD)} | {
        f"/{i}.txt.mp4": b"no video" * 99 for i in range(NOT_MEDIA)
    }
    with serving(files=files) as server:
        yield server


@pytest.fixture
def bad(clip: bytes) -> Iterator[WebServer]:
    with serving(files={f"/{i}.mp4": clip for i in range(BAD)}, bend=denied) as server:
        yield server


def done(engine: Engine, server: WebServer) -> int:
    query = (
        "SELECT count(*) FROM reelvec.jobs JOIN reelvec.videos USING (video_id) WHERE state = "
        "'done' AND uri LIKE :uri"
    )
    return int(str(one(engine, query, uri=server.url("/%"))))


def test_a_bad_host_starves_nobody_and_goes_on_when_it_is_mended(
    desk: Desk,
    start_worker: Callable[..., WorkerProcess],
    engine: Engine,
    good: WebServer,
    bad: WebServer,
) -> None:
    listed = [*(bad.url(path) for path in bad.files), *(good.url(path) for path in good.files)]
    (desk.folder / "list.txt").write_text("\n".join(listed))
    worker = start_worker(REELVEC_HTTP_ALLOW_PRIVATE="true")
    desk.run("enqueue", "list.txt", "--backbone", "probe")
    until(lambda: done(engine, good) == GOOD)
    until(
        lambda: (
            one(engine, "SELECT count(*) FROM reelvec.jobs WHERE error_code = 'not_media'")
            == NOT_MEDIA
        )
    )
    assert one(
        engine, "SELECT string_agg(place, ' ') FROM reelvec.places WHERE closed_at IS NOT NULL"
    ) == bad.url("")
    asked = len(bad.requests)
    until(lambda: len(bad.requests) >= asked + 2)  # it is tried by itself
    assert (
        one(
            engine,
            "SELECT max(attempts) FROM reelvec.jobs WHERE error_code = 'access_denied' AND state = "
            "'pending'",
        )
        == 0
    )
    bad.bend = None
    until(lambda: done(engine, bad) == BAD)
    assert worker.log().count("is closed, no worker can read it: access_denied") == 1
    assert worker.log().count("is open again") == 1
    assert (
        len(
            [
                line
                for line in worker.log().splitlines()
                if "access_denied" in line and "WARNING" in line
            ]
        )
        < 20
    )
    assert worker.stop() == 0


@pytest.mark.timeout(400)
def test_a_worker_with_wrong_keys_leaves_its_bucket_to_the_others(
    desk: Desk,
    start_worker: Callable[..., WorkerProcess],
    engine: Engine,
    s3: S3Server,
    clip: bytes,
) -> None:
    bucket = s3.bucket()
    wrong = start_worker(**{**s3.environment, "AWS_SECRET_ACCESS_KEY": "mistyped"})
    right = start_worker(**s3.environment)
    until(lambda: one(engine, "SELECT count(*) FROM reelvec.workers") == 2)
    stored, done = 0, "SELECT count(*) FROM reelvec.jobs WHERE state = 'done'"
    while "takes no more" not in wrong.log():  # the other may be quick to take them all
        for index in range(stored, stored := stored + GOOD):
            s3.put(bucket, f"{index}.mp4", clip)
        desk.run("enqueue", f"s3://{bucket}", "--backbone", "probe", **s3.environment)
        until(lambda: one(engine, done) == stored, seconds=240)
    assert one(engine, "SELECT count(*) FROM reelvec.places WHERE closed_at IS NOT NULL") == 0
    assert f"takes no more videos of s3://{bucket}: bad_credentials" in wrong.log()
    assert "takes no more" not in right.log()
    assert [wrong.stop(), right.stop()] == [0, 0]
