"""A user's bucket, from listing to vectors: the commands, a real S3 service, a real worker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.conftest import Desk, WorkerProcess
from tests.ledgering import execute, one
from tests.media import make_clip
from tests.s3_server import BreakingProxy, S3Server

OBJECTS = 1_100


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", seconds=1, fps=12, width=64, height=48).read_bytes()


@pytest.fixture(scope="module")
def library(s3: S3Server, clip: bytes) -> str:
    """A bucket with 1,100 objects in shards, a third of them the small rendition, and things that are no videos."""
    bucket = s3.bucket()
    keys = [f"videos/{index % 16:02x}/ключ {index:05d}_{(360, 720, 1080)[index % 3]}p.mp4" for index in range(OBJECTS)]
    keys += ["videos/00/poster.jpg", "videos/.trash/x.mp4", "videos-other/y.mp4"]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put(bucket, key, clip), keys))
    return bucket


@pytest.fixture
def at_bucket(desk: Desk, s3: S3Server) -> Desk:
    return Desk({**desk.environment, **s3.environment}, desk.folder)


def test_listed_matched_sampled_embedded(
    at_bucket: Desk, library: str, engine: Engine, start_worker: Callable[..., WorkerProcess], s3: S3Server
) -> None:
    source = f"s3://{library}/videos"
    found = at_bucket.run("enqueue", source, "--backbone", "probe", "--dry-run", "--json")
    assert json.loads(found.stdout)["listed"] == OBJECTS
    start_worker(**s3.environment)
    done = at_bucket.run(
        "enqueue", source, "--match", "*_360p.mp4", "--sample", "25", "--backbone", "probe", "--wait", "--json"
    )
    counts = json.loads(done.stdout)
    assert (counts["listed"], counts["selected"], counts["queued"]) == (367, 25, 25)
    assert one(engine, "SELECT count(*) FROM reelvec.probe") == 25
    assert one(engine, "SELECT count(*) FROM reelvec.videos WHERE category IS NOT NULL") == 0
    assert one(engine, "SELECT count(*) FROM reelvec.videos WHERE etag IS NULL OR size_bytes IS NULL") == 0
    again = at_bucket.run(
        "enqueue", source + "/", "--match", "*_360p.mp4", "--sample", "25", "--backbone", "probe", "--json"
    )
    assert json.loads(again.stdout)["already_done"] == 25


def test_one_object_is_one_video_by_whatever_address(at_bucket: Desk, s3: S3Server, engine: Engine) -> None:
    bucket = s3.bucket()
    listing = at_bucket.folder / "list.txt"
    listing.write_text(
        f"s3://{bucket}/a b.mp4\nhttp://{s3.endpoint}/{bucket}/a%20b.mp4\n"
        f"http://{s3.endpoint}/{bucket}/a%20b.mp4?X-Amz-Signature=SECRET\n"
    )
    done = at_bucket.run("enqueue", str(listing), "--backbone", "probe", "--json")
    counts = json.loads(done.stdout)
    assert (counts["listed"], counts["selected"], counts["duplicates"]) == (3, 1, 2)
    assert one(engine, "SELECT uri FROM reelvec.videos") == f"s3://{bucket}/a b.mp4"
    assert "SECRET" not in done.stderr


def test_a_manifest_in_the_bucket(at_bucket: Desk, s3: S3Server, engine: Engine) -> None:
    bucket = s3.bucket()
    s3.put(bucket, "lists/all.csv", f"uri,id,lang\ns3://{bucket}/a.mp4,rt-1,ru\nb.mp4,rt-2,ru\n".encode())
    done = at_bucket.run("enqueue", f"s3://{bucket}/lists/all.csv", "--backbone", "probe")
    assert one(engine, "SELECT attributes->>'lang' FROM reelvec.videos WHERE external_id = 'rt-1'") == "ru"
    assert "all.csv line 3: 'b.mp4' is a relative path" in done.stderr
    assert not list(Path("/tmp").glob("reelvec-list-*"))


MISTAKES: list[tuple[str, dict[str, str], int, str]] = [
    ("s3://no-such-bucket/videos", {}, 2, "there is no bucket 'no-such-bucket'"),
    ("s3://{bucket}/nothing", {}, 2, "there is nothing below s3://{bucket}/nothing/"),
    ("s3://{bucket}/no.csv", {}, 2, "there is no such object"),
    (
        "s3://{bucket}/videos",
        {"AWS_SECRET_ACCESS_KEY": "wrong"},
        78,
        "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    ("s3://{bucket}/videos", {"AWS_ACCESS_KEY_ID": "nobody"}, 78, "check AWS_ACCESS_KEY_ID"),
    ("s3://{bucket}/videos", {"AWS_ACCESS_KEY_ID": ""}, 78, "AWS_ACCESS_KEY_ID is not: set both"),
    ("s3://{bucket}/videos", {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}, 69, "nobody answers at 127.0.0.1:9"),
    ("s3://{bucket}/videos", {"AWS_ENDPOINT_URL_S3": "gopher://x"}, 2, "AWS_ENDPOINT_URL_S3='gopher://x'"),
]


@pytest.mark.parametrize(("source", "variables", "code", "message"), MISTAKES)
def test_a_wrong_source_or_key_is_told_at_once(
    at_bucket: Desk, library: str, engine: Engine, source: str, variables: dict[str, str], code: int, message: str
) -> None:
    done = at_bucket.run("enqueue", source.format(bucket=library), "--backbone", "probe", expect=code, **variables)
    assert message.format(bucket=library) in done.stderr
    assert "only-for-tests" not in done.stderr
    assert one(engine, "SELECT count(*) FROM reelvec.videos") == 0


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[BreakingProxy]:
    made = BreakingProxy(s3.endpoint)
    yield made
    made.close()


def test_what_the_store_does_to_a_video_is_in_its_row(
    at_bucket: Desk,
    s3: S3Server,
    clip: bytes,
    engine: Engine,
    start_worker: Callable[..., WorkerProcess],
    proxy: BreakingProxy,
) -> None:
    """Deleted: failed. Wrong key and missing bucket: waits, no attempt burnt. Cut and stall: tried again."""
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
                "SELECT split_part(uri, '/', 4), coalesce(error_code, state), attempts FROM reelvec.videos"
                " JOIN reelvec.jobs USING (video_id)"
            )
            return {str(key): (str(code), int(attempts)) for key, code, attempts in rows}

    def settle(worker: WorkerProcess, expected: dict[str, tuple[str, int]]) -> None:
        deadline = time.monotonic() + 30
        while codes() != expected and time.monotonic() < deadline:
            time.sleep(0.1)
        assert codes() == expected, worker.log()

    wrong = start_worker(**{**s3.environment, "AWS_SECRET_ACCESS_KEY": "wrong"}, REELVEC_RETRY_SECONDS="20")
    settle(
        wrong,
        {"deleted.mp4": ("bad_credentials", 0), "fine.mp4": ("bad_credentials", 0), "v.mp4": ("bad_credentials", 0)},
    )
    wrong.stop()
    assert "only-for-tests" not in wrong.log()

    execute(engine, "UPDATE reelvec.jobs SET not_before = NULL")
    right = start_worker(**s3.environment, REELVEC_RETRY_SECONDS="20")
    settle(right, {"deleted.mp4": ("not_found", 1), "fine.mp4": ("done", 1), "v.mp4": ("no_bucket", 0)})
    right.stop()

    s3.put(bucket, "cut.mp4", clip)
    proxy.cut_after, proxy.times = 1, 1_000
    broken = {**s3.environment, "AWS_ENDPOINT_URL_S3": f"http://{proxy.endpoint}", "REELVEC_FETCH_SECONDS": "0.5"}
    at_bucket.run("enqueue", f"s3://{bucket}/cut.mp4", "--backbone", "probe")
    worker = start_worker(**broken, REELVEC_RETRY_SECONDS="60")
    rest = {"deleted.mp4": ("not_found", 1), "fine.mp4": ("done", 1), "v.mp4": ("no_bucket", 0)}
    settle(worker, {**rest, "cut.mp4": ("fetch_cut", 1)})
    proxy.cut_after, proxy.stall_after = None, 1
    execute(engine, "UPDATE reelvec.jobs SET not_before = NULL WHERE error_code = 'fetch_cut'")
    settle(worker, {**rest, "cut.mp4": ("fetch_timeout", 2)})
