"""`reelvec status`, `retry` and `cancel` as an operator uses them, on a ledger whose rows are made
by hand.
"""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from db.jobs.catalogue import Wanted
from db.jobs.steering import Cancelled
from producer.commands import steer
from producer.desk import operator
from tests.conftest import Desk
from tests.ledgering import Row, declare, execute, one, record, state_of, worker

Watch = Callable[..., "subprocess.Popen[str]"]

REELVEC = str(Path(sys.executable).with_name("reelvec"))


@pytest.fixture
def videos(engine: Engine, desk: Desk) -> int:
    """60 pending videos: 1-40 films below films/, 41-60 without a category in a bucket. Returns
    their number.
    """
    wanted = Wanted((declare(engine),), ())
    record(
        engine,
        [Row(f"file://{desk.folder}/films/{i:02}.mp4", f"rt-{i}", "films") for i in range(40)],
        wanted,
    )
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
            process = subprocess.Popen(
                command, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True
            )
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
    """One worker with one sampler, 30 videos in 60 s: 0.2 s fetch and 0.8 s decode each, so one a
    second at best.
    """
    desk.run("reelvec", "--help")  # what a first command imports takes a minute on busy cores
    set_jobs(
        engine,
        "video_id <= 30",
        "state = 'done', fetch_seconds = 0.2, decode_seconds = 0.8, wait_seconds = 0.2, "
        "device_seconds = 0.1, started_at = now() - make_interval(secs => 63 - 2 * video_id), "
        "finished_at = now() - make_interval(secs => 60 - 2 * video_id)",
    )
    set_jobs(
        engine,
        "video_id IN (31, 32)",
        "state = 'failed', error_code = 'truncated', finished_at = now()",
    )
    set_jobs(engine, "video_id IN (33, 34, 35)", "state = 'running', started_at = now()")
    set_jobs(
        engine, "video_id = 36", "error_code = 'server_error', not_before = now() + interval '1 h'"
    )
    worker(engine)
    shown = desk.run("reelvec", "status").stdout
    lines = shown.splitlines()
    assert re.match(  # the rate falls with every second that passes here
        r"RUNNING  30 of 60 done, 2 failed \(6\.2 %\) · 0\.[345] videos/s · what is ready is done in ",
        lines[0],
    )
    assert lines[0].endswith(" · 1 are tried again later, the last in 1 h 0 min")
    assert lines[1] == (
        "bottleneck: decode (samplers 80 % decode, 20 % fetch; devices 10 % busy):"
        " 1 more core for samplers would give about 1.0 videos/s more"
    )
    assert lines[2].split() == ["category", "videos", "done", "failed", "running", "waiting"]
    assert ["films", "40", "30", "2", "3", "5"] in [line.split() for line in lines]
    assert "workers alive 1, 3 videos in hand, last beat " in shown
    assert "failures truncated 2  → reelvec status --failed --error truncated" in shown
    assert "broker answers, 0 messages wait in it" in shown
    assert "counted" not in shown, "just now"
    found = json.loads(desk.run("reelvec", "status", "--json").stdout)
    assert (found["state"], found["bottleneck"]["stage"], found["failures"]) == (
        "RUNNING",
        "decode",
        {"truncated": 2},
    )
    assert (found["fleet"]["alive"], found["categories"][0]["waiting"], found["outages"]) == (
        1,
        25,
        [],
    )
    (one_worker,) = found["fleet"]["workers"]
    assert (one_worker["samplers"], one_worker["cores"], one_worker["videos_per_batch"]) == (
        1,
        2.0,
        1,
    )
    metrics = desk.run("reelvec", "status", "--metrics").stdout
    for line in (
        'videos{state="done"} 30.0',
        'bottleneck{stage="decode"} 1.0',
        "broker_up 1.0",
        "broker_messages 0.0",
    ):
        assert f"reelvec_{line}\n" in metrics


def test_nobody_works_and_who_went_missing(desk: Desk, engine: Engine, videos: int) -> None:
    worker(engine)
    execute(
        engine,
        "UPDATE reelvec.workers SET host = 'gpu-3', pid = 4711, beat_at = now() - interval '12 "
        "min'",
    )
    shown = desk.run("reelvec", "status", expect=1).stdout
    assert shown.startswith("STALLED  60 waiting, no worker alive")
    assert "reelvec_healthy 0.0\n" in desk.run("reelvec", "status", "--metrics").stdout, (
        "told, not exited with"
    )
    assert "without a heartbeat 1: gpu-3 pid 4711 (12 min)" in shown


def test_an_outage_is_named_with_what_to_do(desk: Desk, engine: Engine, videos: int) -> None:
    worker(engine)
    why = (
        "error_code = 'bad_credentials', error = 'the service does not know the key AK[1]', "
        "not_before = now()"
    )
    set_jobs(
        engine,
        "video_id > 40",
        f"{why} + interval '1 min', started_at = now(), infra_since = now() - interval '40 s'",
    )
    lines = desk.run("reelvec", "status", expect=1).stdout.splitlines()
    assert (
        lines[0]
        == "BLOCKED  0 done, 0 failed, 60 waiting; nothing finishes any more: bad_credentials"
    )
    assert lines[1] == (
        "WAITING  20 videos wait for: bad_credentials 20 (the service does not know the key AK[1]);"
        " no attempts are used up; fix the key on the workers"
    )
    set_jobs(engine, "video_id = 1", "state = 'done', started_at = now(), finished_at = now()")
    found = json.loads(desk.run("reelvec", "status", "--json").stdout)
    assert (found["state"], found["outages"][0]["videos"]) == ("RUNNING", 20), "others finish"
    set_jobs(engine, "video_id = 1", "finished_at = now() - interval '40 s'")
    set_jobs(engine, "video_id = 41", "state = 'running'")
    assert desk.run("reelvec", "status", expect=1).stdout.startswith("BLOCKED")
    set_jobs(engine, "video_id = 2", "state = 'running', started_at = now() - interval '40 s'")
    assert desk.run("reelvec", "status").stdout.startswith("RUNNING"), (
        "one of them is past its opening"
    )


def test_a_broker_that_is_away_is_said(desk: Desk, engine: Engine, videos: int) -> None:
    worker(engine)
    away = {"CELERY_BROKER_URL": "redis://:canary@127.0.0.1:1/0"}
    done = desk.run("reelvec", "status", expect=1, **away)
    assert done.stdout.startswith(
        "BLOCKED  0 done, 0 failed, 60 waiting; the broker at redis://***@127.0.0.1:1/0 does not "
        "answer: "
    )
    assert "canary" not in done.stdout + done.stderr
    found = json.loads(desk.run("reelvec", "status", "--json", expect=1, **away).stdout)
    assert (found["seconds_left"], found["broker"]["messages"]) == (None, None)
    set_jobs(engine, "true", "state = 'done', started_at = now(), finished_at = now()")
    assert desk.run("reelvec", "status", **away).stdout.startswith("DONE  60 done"), (
        "who has no work needs none"
    )


def test_a_broker_that_refuses_the_login_is_no_broker_that_is_away(
    desk: Desk, engine: Engine, videos: int
) -> None:
    worker(engine)
    place = desk.environment["CELERY_BROKER_URL"].rpartition("@")[2]
    for login, said in (
        ("", "it asks for a password"),
        (":canary@", "invalid username-password pair or user is disabled"),
    ):
        refused = {"CELERY_BROKER_URL": f"redis://{login}{place}"}
        done = desk.run("reelvec", "status", expect=1, **refused)
        verdict = done.stdout.splitlines()[0]
        assert verdict.startswith("BLOCKED  0 done, 0 failed, 60 waiting; the broker at redis://")
        told = f"refuses the login: {said}. Check user and password in REELVEC_BROKER_URL"
        assert told in verdict
        assert told in done.stdout.partition("\nbroker ")[2]
        assert "does not answer" not in done.stdout
        assert "canary" not in done.stdout + done.stderr


def test_nothing_is_claimed_although_work_is_ready(desk: Desk, engine: Engine, videos: int) -> None:
    """Workers beat and take nothing, as after a broker was away: from 60 s on that is not
    RUNNING.
    """
    worker(engine)
    assert desk.run("reelvec", "status").stdout.startswith("RUNNING  0 of 60"), "enqueued just now"
    execute(engine, "UPDATE reelvec.jobs SET enqueued_at = now() - interval '1 h'")
    shown = desk.run("reelvec", "status", expect=1).stdout
    assert shown.startswith(
        "STALLED  0 done, 0 failed, 60 waiting; 60 are ready and none was claimed for 1 h 0 min; "
        "the broker"
    )
    done = "state = 'done', started_at = now() - interval '{0} s', finished_at = now()"
    set_jobs(engine, "video_id <= 2", done.format(61))
    assert (
        json.loads(desk.run("reelvec", "status", "--json", expect=1).stdout)["state"] == "STALLED"
    ), "it ended later"
    set_jobs(engine, "video_id = 1", done.format(50))
    assert desk.run("reelvec", "status").stdout.startswith("RUNNING  2 of 60")
    set_jobs(engine, "video_id = 1", done.format(61))
    execute(engine, "UPDATE reelvec.workers SET claimed_at = now()")
    assert desk.run("reelvec", "status").stdout.startswith("RUNNING  2 of 60"), (
        "and failed to commit it"
    )
    execute(engine, "UPDATE reelvec.workers SET claimed_at = NULL")
    set_jobs(engine, "state = 'pending'", "not_before = now() + interval '4 min'")
    shown = desk.run("reelvec", "status").stdout
    assert shown.startswith(
        "RUNNING  2 of 60 done, 0 failed · 58 are tried again later, the last in 4 min\n"
    )
    set_jobs(engine, "state = 'pending'", "state = 'failed', error_code = 'not_found'")
    desk.run("reelvec", "retry")
    assert desk.run("reelvec", "status").stdout.startswith("RUNNING"), (
        "they were made ready just now"
    )
    found = json.loads(desk.run("reelvec", "status", "--json").stdout)
    assert found["broker"]["messages"] == 58, "what the feeder has sent is seen"


def test_failures_never_look_like_progress(desk: Desk, engine: Engine, videos: int) -> None:
    worker(engine)
    failed = "state = 'failed', error_code = '{0}', started_at = now(), finished_at = now()"
    set_jobs(engine, "video_id <= 20", failed.format("truncated"))
    line = desk.run("reelvec", "status").stdout.splitlines()[0]
    assert line.startswith(
        "RUNNING  0 of 60 done, 20 FAILED, 20 of the last 20 that ended (truncated 20) · 0.0 "
        "videos/s"
    )
    assert "done in" not in line
    set_jobs(engine, "video_id <= 20", failed.format("device_error"))
    found = json.loads(desk.run("reelvec", "status", "--json", expect=1).stdout)
    assert (found["state"], found["videos_per_second"]) == ("FAILING", 0.0)
    assert found["failed_per_second"] > 1


def test_what_is_closed_refused_and_paused(desk: Desk, engine: Engine, videos: int) -> None:
    """A bucket that fails everybody, a worker that alone fails at the other, a backbone at rest."""
    me = worker(engine)
    execute(engine, "UPDATE reelvec.workers SET host = 'node-1', name = 'gpu0'")
    execute(
        engine,
        "INSERT INTO reelvec.places (place) VALUES ('file://'), ('s3://bucket') ON CONFLICT DO "
        "NOTHING",
    )
    execute(engine, "UPDATE reelvec.jobs j SET place_id = p.place_id FROM reelvec.videos v, reelvec.places p"
                    " WHERE v.video_id = j.video_id AND p.place = reelvec.place_of(v.uri)")  # fmt: skip
    execute(engine, "UPDATE reelvec.places SET closed_at = now(), error_code = 'bad_credentials', error = 'no such key'"
                    " WHERE place = 's3://bucket'")  # fmt: skip
    execute(engine, "INSERT INTO reelvec.place_workers (place_id, worker_id, failing_since, error_code, error)"
                    " SELECT place_id, :me, now(), 'unreachable', 'no route' FROM reelvec.places", me=me)  # fmt: skip
    lines = desk.run("reelvec", "status").stdout.splitlines()
    assert lines[0].endswith("20 wait behind closed places: s3://bucket (bad_credentials)")
    shown = re.sub("for [0-9]+ s", "for a moment", "\n".join(lines))
    assert (
        "CLOSED  s3://bucket for a moment: bad_credentials (no such key); one video is tried every "
        "10 s, " in shown
    )
    assert (
        "\nREFUSED  gpu0 on node-1 could not read file:// for a moment, but others can: "
        "unreachable (no route)\n" in shown
    )
    execute(engine, "UPDATE reelvec.jobs SET enqueued_at = now() - interval '1 h'")
    line = desk.run("reelvec", "status", expect=1).stdout.splitlines()[0]
    assert line.startswith("BLOCKED")
    assert line.endswith("gpu0 on node-1 cannot read file:// (unreachable)")
    set_jobs(engine, "video_id <= 40", "state = 'done', finished_at = now()")
    line = desk.run("reelvec", "status", expect=1).stdout.splitlines()[0]
    assert line.endswith(
        "20 waiting; all of them wait behind closed places: s3://bucket (bad_credentials)"
    )
    execute(engine, "UPDATE reelvec.places SET closed_at = NULL")
    desk.run("reelvec", "pause", "--backbone", "probe", "--reason", "new weights")
    found = json.loads(desk.run("reelvec", "status", "--json", expect=1).stdout)
    assert (found["state"], found["waiting"]["paused"]) == ("BLOCKED", 20)
    assert found["line"].endswith("all of them wait for paused backbones: probe (new weights)")
    assert [halt["place"] for halt in found["halts"]["workers"]] == ["file://", "s3://bucket"], (
        "it is open now"
    )
    desk.run("reelvec", "pause", "--resume")
    assert one(engine, "SELECT paused FROM reelvec.paused_backbones") is False
    assert desk.run("reelvec", "status").stdout.startswith("RUNNING"), "ready since the resume"


def test_a_line_for_each_worker(desk: Desk, engine: Engine) -> None:
    worker(engine)
    told = (
        "name = 'gpu0', claimed_at = now() - interval '2 min', videos_done = 1234, videos_failed = "
        "5,"
    )
    told += (
        " videos_per_second = 2.25, last_error = 'truncated: it ends', last_error_at = now() - "
        "interval '1 h'"
    )
    execute(
        engine,
        f"UPDATE reelvec.workers SET host = 'node-1', pid = 7, device = 'cuda:0 (H100)', {told}",
    )
    worker(engine)
    execute(engine, "UPDATE reelvec.workers SET host = 'node-2', pid = 8, beat_at = now() - interval '12 min'"
                    " WHERE host = 'here'")  # fmt: skip
    done = desk.run("reelvec", "status", "--workers")
    header, *rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert rows == [
        ["node-1", "gpu0", "7", "cuda:0 (H100)", "working", rows[0][5], "2 min ago", "2.2", "1,234", "5", "-", "-",
         "1 h 0 min ago: truncated: it ends"],
        ["node-2", "-", "8", "cpu", "silent", "12 min ago", "never", "0.0", "0", "0", "-", "-", "-"],
    ]  # fmt: skip
    assert (len(header), header[0], header[-1]) == (13, "host", "last error")
    (told_json,) = json.loads(desk.run("reelvec", "status", "--workers", "--json").stdout)["fleet"][
        "workers"
    ]
    assert (told_json["name"], told_json["videos_done"], told_json["last_error"]) == (
        "gpu0",
        1234,
        "truncated: it ends",
    )


def test_failed_videos_for_a_pipe(desk: Desk, engine: Engine, videos: int) -> None:
    failed = (
        "state = 'failed', error_code = 'truncated', attempts = 1, error = "
        "E'no\\tindex\\nTraceback'"
    )
    set_jobs(engine, "video_id IN (3, 50)", f"{failed}, finished_at = now() - interval '3 h'")
    set_jobs(engine, "video_id = 4", f"{failed}, finished_at = now()")
    facts = (
        r"SELECT coalesce(external_id, '\N') || ' ' || uri FROM reelvec.videos WHERE video_id "
        r"= :video_id"
    )
    known = {i: str(one(engine, facts, video_id=i)).split(" ") for i in (3, 4, 50)}
    columns, *rows = [
        line.split("\t") for line in desk.run("reelvec", "status", "--failed").stdout.splitlines()
    ]
    assert columns == ["video", "id", "code", "attempts", "uri", "error"]
    assert rows == [
        [str(i), external_id, "truncated", "1", uri, "no index"]
        for i, (external_id, uri) in ((i, known[i]) for i in (4, 3, 50))
    ], "latest first"
    chosen = ("--category", "Фильмы", "--error", "truncated", "--source", "films", "--since", "2h")
    found = json.loads(desk.run("reelvec", "status", "--failed", *chosen, "--json").stdout)
    assert [(row["video_id"], row["error"]) for row in found] == [(4, "no\tindex\nTraceback")]
    none = desk.run("reelvec", "status", "--failed", "--source", "s3://bucket2")
    assert none.stderr.splitlines()[-1] == "no failed videos of that kind"
    assert none.stdout.split() == columns


def test_failed_videos_on_a_terminal(desk: Desk, engine: Engine, videos: int) -> None:
    set_jobs(
        engine,
        "video_id IN (3, 4)",
        "state = 'failed', error_code = 'truncated', error = 'no [index]'",
    )
    ours, terminal = pty.openpty()
    command = [REELVEC, "status", "--failed"]
    subprocess.run(
        command, env={**desk.environment, "COLUMNS": "200"}, stdout=terminal, check=True, timeout=60
    )
    header, *rows = re.sub("\x1b\\[[0-9;]*m", "", os.read(ours, 65536).decode()).splitlines()
    os.close(terminal)
    os.close(ours)
    assert header.split() == ["video", "id", "code", "attempts", "uri", "error"]
    assert [row.rstrip().endswith("no [index]") for row in rows] == [True, True]
    assert {row.index("truncated") for row in rows} == {header.index("code")}, "aligned"


def test_who_did_what_is_on_record(desk: Desk, engine: Engine, videos: int) -> None:
    assert "nothing was retried" in desk.run("reelvec", "status", "--log").stderr
    desk.run("reelvec", "cancel", "--category", "films", "--source", "films")
    paused = desk.run("reelvec", "pause", "--reason", "moving the bucket")
    assert paused.stderr.splitlines()[-1].startswith("paused: no worker takes a video until ")
    desk.run("reelvec", "pause", "--resume")
    _, *rows = [
        line.split("\t") for line in desk.run("reelvec", "status", "--log").stdout.splitlines()
    ]
    assert [row[2:] for row in rows] == [
        ["resume", r"\N", ""],
        ["pause", r"\N", "--reason 'moving the bucket'"],
        ["cancel", "40", "--category films --source films"],
    ]
    assert {row[1] for row in rows} == {operator()}
    (latest,) = json.loads(desk.run("reelvec", "status", "--log", "--limit", "1", "--json").stdout)
    assert (latest["action"], latest["videos"]) == ("resume", None)
    assert datetime.fromisoformat(latest["at"]) == one(
        engine, "SELECT max(at) FROM reelvec.actions"
    )


def test_retry_and_cancel_say_how_many(desk: Desk, engine: Engine, videos: int) -> None:
    failed = (
        "state = 'failed', error_code = 'truncated', attempts = 1, error = 'why', finished_at = "
        "now()"
    )
    set_jobs(engine, "video_id IN (3, 4, 50)", failed)
    done = desk.run("reelvec", "retry", "--error", "truncated", "--source", "s3://bucket", "--json")
    assert json.loads(done.stdout) == {"retried": 1}
    assert "1 failed video is waiting again" in done.stderr
    assert one(
        engine, "SELECT array_agg(video_id ORDER BY 1) FROM reelvec.jobs WHERE state = 'failed'"
    ) == [3, 4]
    assert state_of(engine, 50) == "queued", "and published at once"
    done = desk.run("reelvec", "cancel", "--category", "films", "--since", "1d", "--json")
    assert json.loads(done.stdout) == {"cancelled": 38}
    assert (
        one(engine, "SELECT count(*) FROM reelvec.jobs WHERE state IN ('pending', 'queued')") == 20
    )
    assert "38 waiting videos are cancelled\n" in done.stderr
    again = desk.run("reelvec", "cancel", "--category", "films").stderr
    assert "none of these videos was waiting: nothing is cancelled" in again


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (Cancelled(1), "1 waiting video is cancelled"),
        (
            Cancelled(0, done=3),
            "3 videos that had some vectors already get no more, and count as done",
        ),
        (
            Cancelled(2, done=1),
            "2 waiting videos are cancelled; 1 video that had some vectors already gets no more, "
            "and counts as done",
        ),
    ],
)
def test_what_is_cancelled_is_told_without_zeros(found: Cancelled, told: str) -> None:
    assert steer._cancelled(found) == told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("status", "--error", "truncated"), "need --failed"),
        (("status", "--watch", "--failed"), "--failed"),
        (("status", "--interval", "3"), "--watch"),
        (("status", "--limit", "3"), "--failed or --log"),
        (("status", "--log", "--workers"), "--workers and --log"),
        (("status", "--log", "--watch"), "--log"),
        (("pause", "--backbone", "vivvit"), "did you mean vivit?"),
        (("pause", "--resume", "--reason", "x"), "--resume"),
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


@pytest.mark.parametrize("command", [("retry",), ("cancel",), ("status", "--failed")])
def test_a_source_that_no_video_is_from_is_said(
    desk: Desk, videos: int, command: tuple[str, ...]
) -> None:
    told = desk.run("reelvec", *command, "--source", "nowhere").stderr
    assert f"--source: no recorded video is from file://{desk.folder}/nowhere; a source is" in told
    none = ("--since", "2000-01-01") if command == ("retry",) else ("--error", "truncated")
    assert "--source" not in desk.run("reelvec", *command, *none).stderr


def test_watch_ends_when_all_is_done(engine: Engine, videos: int, watch: Watch) -> None:
    text_lines, json_lines = watch(), watch("--json")
    assert until(text_lines, "STALLED") == (
        "STALLED  60 waiting, no worker alive: run reelvec worker on a node with the same "
        "addresses\n"
    )
    assert json.loads(until(json_lines, "STALLED"))["exit_code"] == 1
    set_jobs(
        engine, "video_id = 1", "state = 'failed', error_code = 'truncated', finished_at = now()"
    )
    set_jobs(engine, "state <> 'failed'", "state = 'done', started_at = now(), finished_at = now()")
    assert text_lines.wait(timeout=30) == json_lines.wait(timeout=30) == 0
    assert (
        text_lines.communicate()[0]
        .splitlines()[-1]
        .startswith("DONE  59 done, 1 failed (truncated 1)")
    )
    assert json.loads(json_lines.communicate()[0].splitlines()[-1])["state"] == "DONE"


def test_watch_waits_for_a_database_that_is_away(
    engine: Engine, database_url: str, videos: int, watch: Watch
) -> None:
    process = watch()
    until(process, "STALLED")
    name = database_url.rsplit("/", 1)[1]
    server = create_engine(database_url.replace(name, "postgres"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        connection.execute(
            text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        )
        told = until(process, "trying again", stream="stderr")
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    server.dispose()
    assert "does not answer" in told
    engine.dispose()
    set_jobs(engine, "true", "state = 'done', started_at = now(), finished_at = now()")
    until(process, "DONE  60 done")
    assert process.wait(timeout=30) == 0


def test_waiting_says_what_holds_it_up(desk: Desk, engine: Engine) -> None:
    """`enqueue --wait`, here without a worker: nobody is left to wait in silence."""
    for name in ("a.mp4", "b.mp4"):
        (desk.folder / name).touch()
    enqueue = [
        str(Path(sys.executable).with_name("enqueue")),
        str(desk.folder),
        "--backbone",
        "probe",
        "--wait",
    ]
    process = subprocess.Popen(enqueue, env=desk.environment, stderr=subprocess.PIPE, text=True)
    try:
        until(process, "STALLED  2 waiting, no worker alive", stream="stderr")
        set_jobs(
            engine,
            "video_id = 1",
            "state = 'failed', error_code = 'truncated', finished_at = now()",
        )
        set_jobs(
            engine, "state <> 'failed'", "state = 'done', started_at = now(), finished_at = now()"
        )
        until(process, "DONE 1 done, 1 failed → reelvec status --failed", stream="stderr")
        assert process.wait(timeout=30) == 3
    finally:
        process.kill()
        process.communicate()


def test_who_no_longer_waits_is_told_that_the_videos_stay(desk: Desk, engine: Engine) -> None:
    (desk.folder / "a.mp4").touch()
    enqueue = [str(Path(sys.executable).with_name("enqueue")), str(desk.folder)]
    process = subprocess.Popen(
        [*enqueue, "--backbone", "probe", "--wait"],
        env=desk.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(process, "STALLED", stream="stderr")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    finally:
        process.kill()
        told = process.communicate()[1]
    assert told.endswith(
        "no longer waiting: the videos stay queued, and reelvec status shows them\ninterrupted\n"
    )
    assert one(engine, "SELECT count(*) FROM reelvec.jobs WHERE state = 'queued'") == 1


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
