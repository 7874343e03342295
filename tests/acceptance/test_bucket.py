"""A user's bucket, from listing to vectors: the commands, a real S3 service, a real worker."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from sqlalchemy import Engine

from tests.conftest import Desk, WorkerProcess
from tests.ledgering import one
from tests.media import make_clip
from tests.s3_server import S3Server

#: More than two pages of the server.
OBJECTS = 210


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_clip(
        tmp_path_factory.mktemp("clip") / "clip.mp4", seconds=1, fps=12, width=64, height=48
    ).read_bytes()


@pytest.fixture(scope="module")
def library(s3: S3Server, clip: bytes) -> str:
    """A bucket with 210 objects in shards, a third of them the small rendition, and things that
    are no videos.
    """
    bucket = s3.bucket()
    keys = [
        f"videos/{index % 16:02x}/ключ {index:05d}_{(360, 720, 1080)[index % 3]}p.mp4"
        for index in range(OBJECTS)
    ]
    keys += ["videos/00/poster.jpg", "videos/.trash/x.mp4", "videos-other/y.mp4"]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put(bucket, key, clip), keys))
    return bucket


@pytest.fixture
def at_bucket(desk: Desk, s3: S3Server) -> Desk:
    return Desk({**desk.environment, **s3.environment}, desk.folder)


def test_listed_matched_sampled_embedded(
    at_bucket: Desk,
    library: str,
    engine: Engine,
    start_worker: Callable[..., WorkerProcess],
    s3: S3Server,
) -> None:
    source = f"s3://{library}/videos"
    found = at_bucket.run("enqueue", source, "--backbone", "probe", "--dry-run", "--json")
    assert json.loads(found.stdout)["listed"] == OBJECTS
    start_worker(**s3.environment)
    done = at_bucket.run(
        "enqueue",
        source,
        "--match",
        "*_360p.mp4",
        "--sample",
        "10",
        "--backbone",
        "probe",
        "--wait",
        "--json",
    )
    counts = json.loads(done.stdout)
    assert (counts["listed"], counts["selected"], counts["queued"]) == (70, 10, 10)
    assert one(engine, "SELECT count(*) FROM reelvec.probe") == 10
    assert one(engine, "SELECT count(*) FROM reelvec.videos WHERE category IS NOT NULL") == 0
    assert (
        one(engine, "SELECT count(*) FROM reelvec.videos WHERE etag IS NULL OR size_bytes IS NULL")
        == 0
    )
    again = at_bucket.run(
        "enqueue",
        source + "/",
        "--match",
        "*_360p.mp4",
        "--sample",
        "10",
        "--backbone",
        "probe",
        "--json",
    )
    assert json.loads(again.stdout)["already_done"] == 10


def test_one_object_is_one_video_by_whatever_address(
    at_bucket: Desk, s3: S3Server, engine: Engine
) -> None:
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


def test_a_bucket_takes_nothing_away_from_a_list(
    at_bucket: Desk, s3: S3Server, engine: Engine
) -> None:
    bucket = s3.bucket()
    for key in ("videos/space/cat.mp4", "videos/space/moon.mp4"):
        s3.put(bucket, key, b"x")
    listing = at_bucket.folder / "list.csv"
    listing.write_text(
        f"uri,title,category\ns3://{bucket}/videos/space/cat.mp4,Кот,documentary\n"
        f"s3://{bucket}/videos/space/moon.mp4,,\n",
        encoding="utf-8",
    )
    facts = "SELECT string_agg(category || '|' || title, ' ' ORDER BY uri) FROM reelvec.videos"
    at_bucket.run("enqueue", str(listing), "--backbone", "probe")
    for source in (f"s3://{bucket}/videos", f"s3://{bucket}/videos/space/cat.mp4"):
        at_bucket.run("enqueue", source, "--backbone", "probe")
        assert one(engine, facts) == "documentary|Кот space|moon"


def test_an_object_without_an_ending_is_itself(
    at_bucket: Desk, s3: S3Server, engine: Engine
) -> None:
    bucket = s3.bucket()
    s3.put(bucket, "videos/3f9c", b"x")
    at_bucket.run("enqueue", f"s3://{bucket}/videos/3f9c", "--backbone", "probe")
    assert one(engine, "SELECT uri FROM reelvec.videos") == f"s3://{bucket}/videos/3f9c"


def test_a_manifest_in_the_bucket_keeps_its_ten_columns(
    at_bucket: Desk, s3: S3Server, engine: Engine, tmp_path: Path
) -> None:
    bucket = s3.bucket()
    extra = {f"column_{number}": [number, number * 1.5] for number in range(9)}
    columns = {
        "uri": [f"s3://{bucket}/a.mp4", "b.mp4"],
        "id": [7, 8],
        "lang": ["ru", "ru"],
        **extra,
    }
    parquet.write_table(pa.table(columns), tmp_path / "all.parquet")
    s3.put(bucket, "lists/all.parquet", (tmp_path / "all.parquet").read_bytes())
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = at_bucket.run(
        "enqueue", f"s3://{bucket}/lists/all.parquet", "--backbone", "probe", TMPDIR=str(temporary)
    )
    kept = one(engine, "SELECT attributes FROM reelvec.videos WHERE external_id = '7'")
    assert kept == {"lang": "ru", **{name: values[0] for name, values in extra.items()}}
    assert "all.parquet row 2: 'b.mp4' is a relative path" in done.stderr
    assert list(temporary.iterdir()) == []


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
    (
        "s3://{bucket}/videos",
        {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"},
        69,
        "nobody answers at 127.0.0.1:9",
    ),
    (
        "s3://{bucket}/videos",
        {"AWS_ENDPOINT_URL_S3": "gopher://x"},
        2,
        "AWS_ENDPOINT_URL_S3='gopher://x'",
    ),
]


@pytest.mark.parametrize(("source", "variables", "code", "message"), MISTAKES)
def test_a_wrong_source_or_key_is_told_at_once(
    at_bucket: Desk,
    library: str,
    engine: Engine,
    source: str,
    variables: dict[str, str],
    code: int,
    message: str,
) -> None:
    done = at_bucket.run(
        "enqueue", source.format(bucket=library), "--backbone", "probe", expect=code, **variables
    )
    assert message.format(bucket=library) in done.stderr
    assert "only-for-tests" not in done.stderr
    assert one(engine, "SELECT count(*) FROM reelvec.videos") == 0
