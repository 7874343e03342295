"""Real S3 for tests: one Swift per run, and buckets as many as wanted."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import urllib3
from minio import Minio

KEY, SECRET = "test:tester", "only-for-tests"


@dataclass
class S3Server:
    """`endpoint` is `host:port`; `environment` is what a user would set."""

    endpoint: str
    client: Minio = field(init=False)

    def __post_init__(self) -> None:
        self.client = client_of(self.endpoint)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL_S3": f"http://{self.endpoint}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def bucket(self) -> str:
        """A new, empty bucket."""
        name = f"bucket-{uuid4().hex[:12]}"
        self.client.make_bucket(name)
        return name

    def put(self, bucket: str, key: str, data: bytes) -> str:
        """Store an object; returns its etag."""
        return str(self.client.put_object(bucket, key, io.BytesIO(data), len(data)).etag)


def client_of(endpoint: str) -> Minio:
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=3, read=20), maxsize=20)
    return Minio(endpoint, KEY, SECRET, secure=False, region="us-east-1", http_client=pool)


@contextmanager
def running(folder: Path) -> Iterator[S3Server]:
    """A server in `folder`, gone afterwards."""
    folder.mkdir()
    port = free_port()
    script = Path(__file__).with_name("swift_server.py")
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script), str(folder), str(port), KEY, SECRET],
            stdout=subprocess.PIPE,
            stderr=log,
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        )
    try:
        assert child.stdout is not None
        said = child.stdout.readline()
        assert said == b"ready\n", (folder / "log").read_text()
        yield S3Server(f"127.0.0.1:{port}")
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
