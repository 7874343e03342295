"""`reelvec status`, `retry` and `cancel` as an operator uses them, on a ledger whose rows are made by hand."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from db.catalogue import Wanted
from tests.conftest import Desk
from tests.ledgering import Row, declare, execute, one, record, state_of, worker

Watch = Callable[..., "subprocess.Popen[str]"]

REELVEC = str(Path(sys.executable).with_name("reelvec"))


@pytest.fixture
def videos(engine: Engine, desk: Desk) -> int:
    """60 pending videos: 1-40 films below films/, 41-60 without a category in a bucket. Returns their number."""
    wanted = Wanted((declare(engine),), ())
    record(engine, [Row(f"file://{desk.folder}/films/{i:02}.mp4", f"rt-{i}", "films") for i in range(40)], wanted)
    record(engine, [Row(f"s3://bucket/{i:02}.mp4") for i in range(20)], wanted)
    return 60


@pytest.fixture
def watch(desk: Desk) -> Iterator[Watch]:
    """Starts `reelvec status --watch`; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
        command = [REELVEC, "status", "--watch", "--interval", "0.2", *arguments]
        environment = {**desk.environment, "TERM": "xterm"}
        before = signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # a run in the background ignores it, and so would its child
        try:
            process = subprocess.Popen(command, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True)
        finally:
            signal.signal(signal.SIGINT, before)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def until(process: subprocess.Popen[str], wanted: str, *, stream: str = "stdout") -> str:
    """The next line of a running command that contains `wanted`."""
    for line in getattr(process, stream):
        if wanted in line:
            return str(line)
    raise AssertionError(f"{wanted!r} never came")


def set_jobs(engine: Engine, where: str, assignments: str) -> None:
    execute(engine, f"UPDATE reelvec.jobs SET {assignments} WHERE {where}")


def test_a_fleet_at_work(desk: Desk, engine: Engine, videos: int) -> None:
    """One worker with one sampler, 30 videos in 60 s: 0.2 s fetch and 0.8 s decode each, so one a second at best."""
    set_jobs(
        engine,
        "video_id <= 30",
        "state = 'done', fetch_seconds = 0.2, decode_seconds = 0.8, wait_seconds = 0.2, device_seconds = 0.1,"
        " started_at = now() - make_interval(secs => 63 - 2 * video_id),"
        " finished_at = now() - make_interval(secs => 60 - 2 * video_id)",
    )
    set_jobs(engine, "video_id IN (31, 32)", "state = 'failed', error_code = 'truncated', finished_at = now()")
    set_jobs(engine, "video_id IN (33, 34, 35)", "state = 'running', started_at = now()")
    set_jobs(engine, "video_id = 36", "error_code = 'server_error', not_before = now() + interval '1 h'")
    worker(engine)
    shown = desk.run("reelvec", "status").stdout
    lines = shown.splitlines()
    assert lines[0].startswith("RUNNING  30 of 60 done, 2 failed (6.2 %) · 0.5 videos/s · done in ")
    assert lines[0].endswith(" · 1 are tried again later")
    assert lines[1] == (
        "bottleneck: decode (samplers 80 % decode, 20 % fetch; devices 10 % busy):"
        " 1 more core for samplers would give about 1.0 videos/s more"
    )
    assert lines[2].split() == ["category", "videos", "done", "failed", "running", "waiting"]
    assert ["films", "40", "30", "2", "3", "5"] in [line.split() for line in lines]
    assert "workers alive 1, 3 videos in hand, last beat " in shown
    assert "failures truncated 2  → reelvec status --failed --error truncated" in shown
    found = json.loads(desk.run("reelvec", "status", "--json").stdout)
    assert (found["state"], found["bottleneck"]["stage"], found["failures"]) == ("RUNNING", "decode", {"truncated": 2})
    assert (found["fleet"]["alive"], found["categories"][0]["waiting"], found["outages"]) == (1, 25, [])
    (one_worker,) = found["fleet"]["workers"]
    assert (one_worker["samplers"], one_worker["cores"], one_worker["videos_per_batch"]) == (1, 2.0, 1)
    metrics = desk.run("reelvec", "status", "--metrics").stdout
    for line in ('videos{state="done"} 30', 'bottleneck{stage="decode"} 1', 'stage_seconds{stage="decode"} 0.8'):
        assert f"reelvec_{line}\n" in metrics


def test_nobody_works_and_who_went_missing(desk: Desk, engine: Engine, videos: int) -> None:
    worker(engine)
    execute(engine, "UPDATE reelvec.workers SET host = 'gpu-3', pid = 4711, beat_at = now() - interval '12 min'")
    shown = desk.run("reelvec", "status", expect=1).stdout
    assert shown.startswith("STALLED  60 waiting, no worker alive")
    assert "reelvec_healthy 0\n" in desk.run("reelvec", "status", "--metrics").stdout, "told, not exited with"
    assert "without a beat 1: gpu-3 pid 4711 (12 min)" in shown


def test_an_outage_is_named_with_what_to_do(desk: Desk, engine: Engine, videos: int) -> None:
    worker(engine)
    why = "error_code = 'bad_credentials', error = 'the service does not know the key AK[1]', not_before = now()"
    set_jobs(
        engine, "video_id > 40", f"{why} + interval '1 min', started_at = now(), infra_since = now() - interval '40 s'"
    )
    lines = desk.run("reelvec", "status", expect=1).stdout.splitlines()
    assert lines[0] == "BLOCKED  0 done, 0 failed, 60 waiting; nothing finishes any more: bad_credentials"
    assert lines[1] == (
        "WAITING  20 videos wait for: bad_credentials 20 (the service does not know the key AK[1]);"
        " no attempts burnt; fix the key on the workers"
    )
    set_jobs(engine, "video_id = 1", "state = 'done', started_at = now(), finished_at = now()")
    found = json.loads(desk.run("reelvec", "status", "--json").stdout)
    assert (found["state"], found["outages"][0]["videos"]) == ("RUNNING", 20), "others finish"
    set_jobs(engine, "video_id = 1", "finished_at = now() - interval '40 s'")
    set_jobs(engine, "video_id = 41", "state = 'running'")
    assert desk.run("reelvec", "status", expect=1).stdout.startswith("BLOCKED")
    set_jobs(engine, "video_id = 2", "state = 'running', started_at = now() - interval '40 s'")
    assert desk.run("reelvec", "status").stdout.startswith("RUNNING"), "one of them is past its opening"


def test_failed_videos_for_a_pipe(desk: Desk, engine: Engine, videos: int) -> None:
    failed = "state = 'failed', error_code = 'truncated', attempts = 1, error = E'no\\tindex\\nTraceback'"
    set_jobs(engine, "video_id IN (3, 50)", f"{failed}, finished_at = now() - interval '3 h'")
    set_jobs(engine, "video_id = 4", f"{failed}, finished_at = now()")
    facts = "SELECT coalesce(external_id, '') || ' ' || uri FROM reelvec.videos WHERE video_id = :video_id"
    known = {i: str(one(engine, facts, video_id=i)).split(" ") for i in (3, 4, 50)}
    rows = [line.split("\t") for line in desk.run("reelvec", "status", "--failed").stdout.splitlines()]
    assert rows == [
        [str(i), external_id, "truncated", "1", uri, "no index"]
        for i, (external_id, uri) in ((i, known[i]) for i in (4, 3, 50))
    ], "latest first"
    chosen = ("--category", "Фильмы", "--error", "truncated", "--source", "films", "--since", "2h")
    found = json.loads(desk.run("reelvec", "status", "--failed", *chosen, "--json").stdout)
    assert [(row["video_id"], row["error"]) for row in found] == [(4, "no\tindex\nTraceback")]
    none = desk.run("reelvec", "status", "--failed", "--source", "s3://bucket2")
    assert (none.stdout, none.stderr.splitlines()[-1]) == ("", "no failed videos of that kind")


def test_failed_videos_on_a_terminal(desk: Desk, engine: Engine, videos: int) -> None:
    set_jobs(engine, "video_id IN (3, 4)", "state = 'failed', error_code = 'truncated', error = 'no [index]'")
    ours, terminal = pty.openpty()
    command = [REELVEC, "status", "--failed"]
    subprocess.run(command, env={**desk.environment, "COLUMNS": "200"}, stdout=terminal, check=True, timeout=60)
    header, *rows = re.sub("\x1b\\[[0-9;]*m", "", os.read(ours, 65536).decode()).splitlines()
    os.close(terminal)
    os.close(ours)
    assert header.split() == ["video", "id", "code", "attempts", "uri", "error"]
    assert [row.rstrip().endswith("no [index]") for row in rows] == [True, True]
    assert {row.index("truncated") for row in rows} == {header.index("code")}, "aligned"


def test_retry_and_cancel_say_how_many(desk: Desk, engine: Engine, videos: int) -> None:
    failed = "state = 'failed', error_code = 'truncated', attempts = 1, error = 'why', finished_at = now()"
    set_jobs(engine, "video_id IN (3, 4, 50)", failed)
    done = desk.run("reelvec", "retry", "--error", "truncated", "--source", "s3://bucket", "--json")
    assert json.loads(done.stdout) == {"retried": 1}
    assert "1 failed videos are waiting again" in done.stderr
    assert one(engine, "SELECT array_agg(video_id ORDER BY 1) FROM reelvec.jobs WHERE state = 'failed'") == [3, 4]
    assert state_of(engine, 50) == "queued", "and published at once"
    done = desk.run("reelvec", "cancel", "--category", "films", "--since", "1d", "--json")
    assert json.loads(done.stdout) == {"cancelled": 38}
    assert one(engine, "SELECT count(*) FROM reelvec.jobs WHERE state IN ('pending', 'queued')") == 20


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("status", "--error", "truncated"), "go with --failed"),
        (("status", "--watch", "--failed"), "--failed"),
        (("status", "--interval", "3"), "--watch"),
        (("status", "--metrics", "--json"), "--metrics"),
        (("status", "--failed", "--since", "noon"), "3d"),
        (("retry", "--error", "trunkated"), "did you mean truncated?"),
        (("retry", "--category", "film"), "did you mean films?"),
        (("cancel", "--category", "film"), "did you mean films?"),
        (("cancel", "--source", "ftp://x"), "s3://bucket/prefix"),
        (("status", "--failed", "--category", "cars"), "they have: films"),
    ],
)
def test_mistakes_change_nothing(
    desk: Desk, engine: Engine, videos: int, arguments: tuple[str, ...], told: str
) -> None:
    assert told in desk.run("reelvec", *arguments, expect=2).stderr
    assert one(engine, "SELECT count(*) FROM reelvec.jobs WHERE state = 'pending'") == videos


def test_watch_ends_when_all_is_done(engine: Engine, videos: int, watch: Watch) -> None:
    text_lines, json_lines = watch(), watch("--json")
    assert until(text_lines, "STALLED") == (
        "STALLED  60 waiting, no worker alive: run reelvec worker on a node with the same addresses\n"
    )
    assert json.loads(until(json_lines, "STALLED"))["exit_code"] == 1
    set_jobs(engine, "video_id = 1", "state = 'failed', error_code = 'truncated', finished_at = now()")
    set_jobs(engine, "state <> 'failed'", "state = 'done', started_at = now(), finished_at = now()")
    assert text_lines.wait(timeout=30) == json_lines.wait(timeout=30) == 0
    assert text_lines.communicate()[0].splitlines()[-1].startswith("DONE  59 done, 1 failed (truncated 1)")
    assert json.loads(json_lines.communicate()[0].splitlines()[-1])["state"] == "DONE"


def test_watch_waits_for_a_database_that_is_away(engine: Engine, database_url: str, videos: int, watch: Watch) -> None:
    process = watch()
    until(process, "STALLED")
    name = database_url.rsplit("/", 1)[1]
    server = create_engine(database_url.replace(name, "postgres"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"))
        told = until(process, "trying again", stream="stderr")
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    server.dispose()
    assert "does not answer" in told
    engine.dispose()
    set_jobs(engine, "true", "state = 'done', started_at = now(), finished_at = now()")
    until(process, "DONE  60 done")
    assert process.wait(timeout=30) == 0


def test_watch_ends_with_ctrl_c(videos: int, watch: Watch) -> None:
    process = watch()
    until(process, "STALLED")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert process.communicate()[1].endswith("\ninterrupted\n"), "one line, no traceback"


def test_watch_redraws_a_terminal(engine: Engine, videos: int, watch: Watch) -> None:
    ours, terminal = pty.openpty()
    process = watch(stdout=terminal)
    os.close(terminal)
    seen = b""
    while seen.count(b"STALLED") < 2:
        seen += os.read(ours, 4096)
    assert b"\x1b[2K" in seen.split(b"STALLED")[1], "what was there is cleared first"
    set_jobs(engine, "true", "state = 'done', started_at = now(), finished_at = now()")
    while b"DONE  60 done" not in seen:
        seen += os.read(ours, 4096)
    assert process.wait(timeout=30) == 0
    os.close(ours)
