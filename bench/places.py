"""Fairness between places: what one bad bucket or one worker with wrong keys costs everybody else.

    python -m bench.places [--good 200] [--bad 2000]

Real servers, real workers of `probe` at their default intervals, clips of 1.5 s. Prints the table
of bench/RESULTS.md: the time of the good videos alone and beside a closed place, how often that
place is tried, how long it takes once it is mended, and the pace of two workers with and without a
third whose key is wrong.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, text

from bench.pipeline_worker import REELVEC
from db import schema, session
from db.stack.local_stack import LocalStack
from tests import s3_server
from tests.golden_run import small_clips
from tests.http_server import Handler, WebServer, serving


class Fleet:
    """One private stack; workers of one sampler each, started and stopped together."""

    def __init__(self, folder: Path, engine: Engine, environment: dict[str, str]) -> None:
        self.folder = folder
        self.engine = engine
        self.environment = environment

    def number(self, statement: str) -> int:
        with session.transaction(self.engine) as connection:
            return int(connection.execute(text(statement)).scalar_one())

    def empty(self) -> None:
        with session.transaction(self.engine) as connection:
            connection.execute(text("TRUNCATE reelvec.videos, reelvec.places CASCADE"))

    @contextmanager
    def workers(self, *own: dict[str, str]) -> Iterator[None]:
        """As many as there are environments, ready."""
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "workers.app",
            "worker",
            "--without-gossip",
            "--without-mingle",
        ]
        children = []
        for index, variables in enumerate(own):
            with (self.folder / f"worker{index}.log").open("wb") as log:
                environment = {**self.environment, **variables}
                children.append(
                    subprocess.Popen(
                        [*command, "-n", f"w{index}@h"], env=environment, stderr=log, stdout=log
                    )
                )
        try:
            self.wait(lambda: self.number("SELECT count(*) FROM reelvec.workers") == len(own))
            yield
        finally:
            for child in children:
                child.terminate()
            for child in children:
                child.wait(timeout=40)

    def enqueue(self, *sources: str, **variables: str) -> None:
        command = [*REELVEC, "enqueue", *sources, "--backbone", "probe"]
        subprocess.run(
            command, env={**self.environment, **variables}, check=True, stderr=subprocess.DEVNULL
        )

    def wait(self, condition: object, seconds: float = 600.0) -> float:
        """Seconds until the condition holds."""
        started = time.monotonic()
        while not condition():  # type: ignore[operator]
            assert time.monotonic() - started < seconds, "this should have happened by now"
            time.sleep(0.1)
        return time.monotonic() - started

    def done(self, pattern: str = "%") -> int:
        return self.number(
            "SELECT count(*) FROM reelvec.jobs JOIN reelvec.videos USING (video_id)"
            f" WHERE state = 'done' AND uri LIKE '{pattern}'"
        )


def denied(handler: Handler) -> bool:
    handler.answer(403, b"no")
    return True


def listed(fleet: Fleet, *servers: WebServer) -> str:
    path = fleet.folder / "list.txt"
    path.write_text("\n".join(server.url(name) for server in servers for name in server.files))
    return str(path)


def beside_a_bad_host(fleet: Fleet, clip: bytes, good_count: int, bad_count: int) -> None:
    files = {f"/{i}.mp4": clip for i in range(good_count)}
    many = {f"/{i}.mp4": clip for i in range(bad_count)}
    with serving(files=files) as good, serving(files=many, bend=denied) as bad, fleet.workers({}):
        fleet.enqueue(listed(fleet, good))
        alone = fleet.wait(lambda: fleet.done() == good_count)
        fleet.empty()
        fleet.enqueue(listed(fleet, bad, good))
        beside = fleet.wait(lambda: fleet.done(good.url("/%")) == good_count)
        row(f"{good_count} good videos alone", f"{alone:.1f} s")
        row(
            f"beside {bad_count} of a host that answers 403",
            f"{beside:.1f} s, {beside / alone:.2f} x",
        )
        asked = len(bad.requests)
        time.sleep(60)
        row("requests at the closed host in 60 s", str(len(bad.requests) - asked))
        bad.bend = None
        mended = fleet.wait(lambda: fleet.done() == good_count + bad_count)
        expected = alone * bad_count / good_count
        row(
            f"all {bad_count} after it is mended",
            f"{mended:.1f} s; at the pace of the good ones {expected:.1f} s",
        )


def one_wrong_key_of_three(
    fleet: Fleet, server: s3_server.S3Server, clip: bytes, count: int
) -> None:
    bucket = server.bucket()
    for index in range(count):
        server.put(bucket, f"{index}.mp4", clip)
    right = server.environment
    wrong = {**right, "AWS_SECRET_ACCESS_KEY": "mistyped"}
    seconds = []
    for environments in ([right, right], [right, right, wrong]):
        fleet.empty()
        with fleet.workers(*environments):
            fleet.enqueue(f"s3://{bucket}", **right)
            seconds.append(fleet.wait(lambda: fleet.done() == count))
    pace, others = (count / took for took in seconds)
    row("two workers with right keys", f"{pace:.1f} videos/s")
    row("the same beside a third with a wrong key", f"{others:.1f} videos/s, {others / pace:.2f} x")


def row(what: str, figure: str) -> None:
    print(f"| {what} | {figure} |", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--good", type=int, default=200)
    options.add_argument("--bad", type=int, default=2000)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        clip = small_clips(folder / "clips", 1)[0].read_bytes()
        stack = LocalStack(folder / "stack", disposable=True)
        state = stack.up()
        try:
            schema.upgrade(state.database_url)
            environment = {
                "PATH": os.environ["PATH"],
                "HOME": os.environ.get("HOME", "/"),
                "PYTHONPATH": str(Path.cwd()),
                "DATABASE_URL": state.database_url,
                "CELERY_BROKER_URL": state.broker_url,
                "REELVEC_HTTP_ALLOW_PRIVATE": "true",
                "REELVEC_SAMPLERS": "1",
            }
            with session.connect(state.database_url) as engine:
                fleet = Fleet(folder, engine, environment)
                print("| what | figure |\n|---|---|")
                beside_a_bad_host(fleet, clip, chosen.good, chosen.bad)
                with s3_server.running(folder / "s3") as server:
                    one_wrong_key_of_three(fleet, server, clip, 6 * chosen.good)
        finally:
            stack.down()


if __name__ == "__main__":
    main()
