"""The lines above and below the table of categories, and the words they share."""

from __future__ import annotations

from dataclasses import replace

from db.errors import VIDEO_ERROR_CLASSES, ErrorClass
from db.progress.ahead import Ahead
from db.progress.fleet import Fleet, FleetWorker
from db.progress.halts import ClosedPlace, Halts, PausedBackbone, RefusingWorker
from db.progress.rates import Outage, Stages
from producer.status import lines
from producer.status.broker import Broker
from producer.wording import duration, first_line, listed

ALIVE = Fleet(alive=2, draining=0, in_flight=6, gpus=2, last_beat_seconds=3.0)
WORKER = FleetWorker("gpu-3", 4711, "cuda:0 (H100)", False, 34, 15, 15.5, 4, beat_seconds=720.0)
KEY = Outage(
    "bad_credentials", 158_000, newest_try_seconds=20.0, waited_seconds=720.0, example="no key AK"
)
BUCKET = Outage("no_bucket", 893, newest_try_seconds=50.0, waited_seconds=29.0, example="gone")


def test_the_waiting_line_names_code_example_and_remedy() -> None:
    assert lines.waiting([]) is None
    assert lines.waiting([KEY, BUCKET]) == (
        "WAITING  158,893 videos wait for: bad_credentials 158,000 (no key AK), no_bucket 893;"
        " no attempts are used up; fix the key on the workers"
    )
    assert len(lines.waiting([replace(KEY, example="x" * 2000)]) or "") < 400


def test_every_outage_has_a_remedy() -> None:
    assert {
        code for code, kind in VIDEO_ERROR_CLASSES.items() if kind is ErrorClass.INFRA
    } == lines.REMEDIES.keys()


def test_workers_that_went_missing_are_named() -> None:
    assert lines.workers(ALIVE, running=5) == "workers alive 2, 5 videos in hand, last beat 3 s ago"
    nobody = Fleet(0, 0, 0, 0, None)
    assert lines.workers(nobody, running=0) == "no worker is alive, 0 videos in hand"
    lost = replace(nobody, last_beat_seconds=60.0, stale=(WORKER,))
    assert lines.workers(lost, running=3).startswith(
        "no worker is alive, 3 videos in hand, last beat 60 s ago · without a heartbeat 1: "
    )
    gone = tuple(replace(WORKER, pid=pid) for pid in range(4711, 4718))
    line = lines.workers(replace(ALIVE, draining=1, stale=gone), running=5)
    assert "alive 2 (1 draining)" in line
    assert "without a heartbeat 7: gpu-3 pid 4711 (12 min), " in line
    assert line.endswith("gpu-3 pid 4715 (12 min) and 2 more")


def test_what_is_closed_refused_and_paused_has_a_line_each() -> None:
    place = ClosedPlace("s3://bad", 90.0, "bad_credentials", "no such key\nTraceback")
    refusal = RefusingWorker("node-1", "gpu0", 7, "s3://good", 200.0, "access_denied", "403")
    paused = PausedBackbone("vivit", "device_error", 60.0)
    assert lines.halted(Halts(7, (place,) * 7, (refusal,), (paused,)))[4:] == [
        "CLOSED  s3://bad for 90 s: bad_credentials (no such key); one video is tried every 10 s, "
        "and all go on when it succeeds",
        "CLOSED  2 more places: reelvec status --json",
        "REFUSED  gpu0 on node-1 could not read s3://good for 3 min, but others can: access_denied "
        "(403)",
        "PAUSED  vivit for 60 s: device_error; go on with: reelvec pause --backbone vivit --resume",
    ]
    assert lines.halted(Halts()) == []


def test_the_broker_is_told_either_way() -> None:
    assert (
        lines.broker(Broker("redis://h", messages=1200))
        == "broker answers, 1,200 messages wait in it"
    )
    assert (
        lines.broker(Broker("redis://h", error="refused"))
        == "broker redis://h does not answer: refused"
    )


def test_counts_tell_their_age_when_it_is_more_than_a_moment() -> None:
    assert (lines.counts(1.9), lines.counts(6.4)) == (None, "counted 6 s ago")


def test_a_worker_in_one_row() -> None:
    told = replace(WORKER, name="gpu0", beat_seconds=3.0, claimed_seconds=2.0, videos_done=1234, videos_failed=5,
                   videos_per_second=2.25, last_error="truncated: it\tends", last_error_seconds=70.0,
                   models=("probe", "vivit", "vivit-random-tiny"), refused=("siglip2",))  # fmt: skip
    assert lines.worker_cells(told, is_alive=True, refuses=["s3://b"]) == [
        "gpu-3", "gpu0", "4711", "cuda:0 (H100)", "working", "3 s ago", "2 s ago", "2.2", "1,234", "5",
        "probe vivit (not siglip2)", "s3://b",
        "70 s ago: truncated: it ends",
    ]  # fmt: skip
    silent = lines.worker_cells(WORKER, is_alive=False, refuses=[])
    assert silent[4:] == ["silent", "12 min ago", "never", "-", "-", "-", "-", "-", "-"]
    assert (
        lines.worker_cells(replace(told, draining=True), is_alive=True, refuses=[])[4] == "draining"
    )
    assert len(silent) == len(lines.WORKER_COLUMNS)
    node = replace(WORKER, models=(), stage="sample")
    assert "only samples" in lines.worker_cells(node, is_alive=True, refuses=[])


def test_frames_are_told_of_where_they_are_used() -> None:
    stages = Stages(20, bytes_read=16.2e6, bytes_written=3.6e6, frames_bytes=3.6e6)
    assert lines.frames(ALIVE, Ahead(whole=3), stages) is None
    node = replace(WORKER, stage="sample")
    assert lines.frames(
        replace(ALIVE, workers=(node, replace(node, draining=True))), Ahead(1200, 12, 8, 3), stages
    ) == (
        "frames: 1 sampler node, 8 videos being sampled there, 1,200 sampled ahead, 12 being "
        "embedded; a video: 16.2 MB of it read, 3.6 MB of frames written, 3.6 MB read"
    )


def test_failures_come_with_the_command_to_look_at_them() -> None:
    assert lines.failures([]) is None
    assert lines.failures([("truncated", 2010), ("no_video", 80)]) == (
        "failures truncated 2,010 · no_video 80  → reelvec status --failed --error truncated"
    )


def test_the_first_line_of_an_error_is_safe_to_print() -> None:
    assert first_line("\n a\tb \x1b[31mred\nTraceback") == "a b  [31mred"


def test_durations_read_like_speech() -> None:
    assert [duration(seconds) for seconds in (40, 180, 8700, 400000)] == [
        "40 s",
        "3 min",
        "2 h 25 min",
        "5 days",
    ]


def test_long_lists_are_cut() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"
