"""What a store does to videos, seen from their rows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.conftest import Desk, WorkerProcess
from tests.ledgering import execute, one
from tests.media import make_clip
from tests.proxy import Proxy
from tests.s3_server import S3Server


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[Proxy]:
    with Proxy(s3.endpoint) as made:
        yield made


def test_what_the_store_does_to_a_video_is_in_its_row(
    desk: Desk,
    tmp_path: Path,
    s3: S3Server,
    engine: Engine,
    start_worker: Callable[..., WorkerProcess],
    proxy: Proxy,
) -> None:
    """Deleted: failed. Wrong key and missing bucket: waits, no attempt burnt. Cut and stall: tried
    again.
    """
    at_bucket = Desk({**desk.environment, **s3.environment}, desk.folder)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    start = partial(start_worker, TMPDIR=str(temporary))
    clip = make_clip(tmp_path / "clip.mp4", seconds=1, fps=12, width=64, height=48).read_bytes()
    bucket, gone = s3.bucket(), s3.bucket()
    for key in ("deleted.mp4", "fine.mp4"):
        s3.put(bucket, key, clip)
    s3.put(gone, "v.mp4", clip)
    at_bucket.run("enqueue", f"s3://{bucket}", f"s3://{gone}", "--backbone", "probe")
    s3.client.remove_object(bucket, "deleted.mp4")
    s3.client.remove_object(gone, "v.mp4")
    s3.client.remove_bucket(gone)

    def codes() -> dict[str, tuple[str, int]]:
        with engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT split_part(uri, '/', 4), coalesce(error_code, state), attempts FROM "
                "reelvec.videos JOIN reelvec.jobs USING (video_id)"
            )
            return {str(key): (str(code), int(attempts)) for key, code, attempts in rows}

    def settle(worker: WorkerProcess, expected: dict[str, tuple[str, int]]) -> None:
        deadline = time.monotonic() + 30
        while codes() != expected and time.monotonic() < deadline:
            time.sleep(0.1)
        assert codes() == expected, worker.log()

    wrong = start(
        **{**s3.environment, "AWS_SECRET_ACCESS_KEY": "wrong"}, REELVEC_RETRY_SECONDS="20"
    )
    settle(
        wrong,
        {
            "deleted.mp4": ("bad_credentials", 0),
            "fine.mp4": ("bad_credentials", 0),
            "v.mp4": ("bad_credentials", 0),
        },
    )
    wrong.stop()
    assert "only-for-tests" not in wrong.log()

    execute(engine, "UPDATE reelvec.jobs SET not_before = NULL")
    right = start(**s3.environment, REELVEC_RETRY_SECONDS="20")
    settle(
        right, {"deleted.mp4": ("not_found", 1), "fine.mp4": ("done", 1), "v.mp4": ("no_bucket", 0)}
    )
    right.stop()

    s3.put(bucket, "cut.mp4", clip)
    proxy.trap(direction="answer", after_bytes=1, times=1_000)
    broken = {
        **s3.environment,
        "AWS_ENDPOINT_URL_S3": f"http://{proxy.endpoint}",
        "REELVEC_FETCH_SECONDS": "0.5",
    }
    at_bucket.run("enqueue", f"s3://{bucket}/cut.mp4", "--backbone", "probe")
    worker = start(**broken, REELVEC_RETRY_SECONDS="60")
    rest = {"deleted.mp4": ("not_found", 1), "fine.mp4": ("done", 1), "v.mp4": ("no_bucket", 0)}
    settle(worker, {**rest, "cut.mp4": ("fetch_cut", 1)})
    proxy.trap(direction="answer", after_bytes=1, times=1_000, then="black_hole")
    execute(engine, "UPDATE reelvec.jobs SET not_before = NULL WHERE error_code = 'fetch_cut'")
    settle(worker, {**rest, "cut.mp4": ("fetch_timeout", 2)})
    worker.stop()
    assert list(temporary.iterdir()) == [], "nothing is left behind"


def test_another_version_of_an_object_is_another_video(
    desk: Desk,
    tmp_path: Path,
    s3: S3Server,
    engine: Engine,
    start_worker: Callable[..., WorkerProcess],
) -> None:
    """A broken upload that was replaced is tried again; a worker that meets a new version makes all
    its rows anew.
    """
    at_bucket = Desk({**desk.environment, **s3.environment}, desk.folder)
    clips = [
        make_clip(tmp_path / f"{seed}.mp4", seconds=1, width=64, height=48, seed=seed)
        for seed in (1, 2)
    ]
    bucket = s3.bucket()
    s3.put(bucket, "v.mp4", b"<html>503</html>")
    start_worker(**s3.environment)
    again = ("enqueue", f"s3://{bucket}", "--backbone", "probe", "--wait", "--json")
    at_bucket.run(*again, expect=3)
    assert json.loads(at_bucket.run(*again, expect=3).stdout)["already_failed"] == 1
    s3.put(bucket, "v.mp4", clips[0].read_bytes())
    assert json.loads(at_bucket.run(*again).stdout)["changed"] == 1

    def vectors() -> dict[str, str]:
        with engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT encoder, embedding::text FROM reelvec.video_embeddings JOIN reelvec.encoders "
                "USING (encoder_id)"
            )
            return {str(name): str(vector) for name, vector in rows}

    before = vectors()
    etag = s3.put(bucket, "v.mp4", clips[1].read_bytes())
    at_bucket.run("enqueue", "--backbone", "probe", "--sampling", "uniform", "--wait")
    after = vectors()
    assert after.keys() == {"probe", "probe-uniform"}
    assert after["probe"] != before["probe"]
    assert one(engine, "SELECT etag FROM reelvec.videos") == etag
