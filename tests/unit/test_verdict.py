"""The verdict line and its exit code, and the lines below it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from db.errors import VIDEO_ERROR_CLASSES, ErrorClass
from db.fleet import Fleet, StaleWorker
from db.results import Outage, Progress, Recent
from producer.verdict import (
    REMEDIES,
    Verdict,
    duration,
    failures_line,
    first_line,
    judge,
    waiting_line,
    workers_line,
)

ALIVE = Fleet(alive=2, draining=0, in_flight=6, gpus=2, last_beat_seconds=3.0)
NOBODY = Fleet(alive=0, draining=0, in_flight=0, gpus=0, last_beat_seconds=None)
NEVER = Recent(0, 0.0, None)
#: 1,200 videos in 600 s.
STEADY = Recent(1200, 600.0, 0.0)
KEY = Outage("bad_credentials", 158_000, newest_try_seconds=20.0, waited_seconds=720.0, example="no key AK")
BUCKET = Outage("no_bucket", 893, newest_try_seconds=50.0, waited_seconds=29.0, example="gone")


def total(*, done: int = 0, failed: int = 0, running: int = 0, waiting: int = 0, cancelled: int = 0) -> list[Progress]:
    videos = done + failed + running + waiting + cancelled
    return [Progress("(all)", videos, done, failed, running, waiting, cancelled)]


@pytest.mark.parametrize(
    ("rows", "fleet", "state", "code"),
    [
        ([], ALIVE, "IDLE", 0),
        (total(done=5, failed=1), NOBODY, "DONE", 0),
        (total(done=5, waiting=1), ALIVE, "RUNNING", 0),
        (total(done=5, waiting=1), NOBODY, "STALLED", 1),
        (total(running=1), replace(ALIVE, paused=True, pause_reason="bucket"), "PAUSED", 1),
    ],
)
def test_states(rows: list[Progress], fleet: Fleet, state: str, code: int) -> None:
    verdict = judge(rows, STEADY, fleet)
    assert (verdict.state, verdict.exit_code) == (state, code)
    assert verdict.line.startswith(state)


def test_a_running_line_reads_as_promised() -> None:
    rows = total(done=41_207, failed=312, running=100, waiting=158_793, cancelled=7)
    verdict = judge(rows, Recent(10_980, 600.0, 0.0), ALIVE)
    assert verdict.line == ("RUNNING  41,207 of 200,412 done, 312 failed (0.8 %) · 18.3 videos/s · done in 2 h 25 min")


def test_time_left_is_what_is_ready_over_the_rate() -> None:
    assert judge(total(done=100, waiting=60, running=20), STEADY, ALIVE).seconds_left == 40.0
    retries = judge(total(done=100, waiting=60, running=20), STEADY, ALIVE, delayed=50)
    assert retries.seconds_left == 15.0
    assert retries.line.endswith("done in 15 s · 50 are tried again later")
    only = judge(total(done=100, waiting=60), STEADY, ALIVE, delayed=60)
    assert only.seconds_left is None
    assert only.line == "RUNNING  100 of 160 done, 0 failed · 60 are tried again later"
    assert judge(total(waiting=1), NEVER, ALIVE).line == "RUNNING  0 of 1 done, 0 failed · no rate yet"


def test_the_rate_falls_while_nothing_ends_and_is_kept_when_all_is_done() -> None:
    rows = total(done=1200, waiting=10)
    assert judge(rows, replace(STEADY, idle_seconds=600.0), ALIVE).videos_per_second == 1.0
    assert judge(rows, replace(STEADY, idle_seconds=601.0), ALIVE).videos_per_second == 0.0
    assert judge(total(done=1200), replace(STEADY, idle_seconds=1e6), NOBODY).videos_per_second == 2.0
    assert judge(total(done=1), Recent(1, 0.2, 0.0), NOBODY).videos_per_second == 1.0, "not 5/s from one short video"


def test_done_says_why_some_failed() -> None:
    codes = [("truncated", 1), ("no_video", 1)]
    verdict = judge(total(done=198, failed=2, cancelled=3), Recent(200, 32.8, 5.0), NOBODY, codes=codes)
    assert verdict.line == "DONE  198 done, 2 failed (truncated 1, no_video 1), 3 cancelled · 6.1 videos/s"
    assert judge(total(done=4, failed=6), NEVER, NOBODY).line == "DONE  4 done, 6 failed"


def blocked(recent: Recent, *, running: int = 0, oldest: float | None = None, outage: Outage = KEY) -> Verdict:
    rows = total(done=5, running=running, waiting=158_893)
    return judge(rows, recent, ALIVE, outages=[outage, BUCKET], oldest_run_seconds=oldest)


@pytest.mark.parametrize("recent", [NEVER, Recent(100, 60.0, 31.0)])
def test_blocked_when_an_outage_recurs_and_nothing_ends(recent: Recent) -> None:
    verdict = blocked(recent, running=3, oldest=2.0)
    assert (verdict.state, verdict.exit_code, verdict.seconds_left) == ("BLOCKED", 1, None)
    assert verdict.line == ("BLOCKED  5 done, 0 failed, 158,896 waiting; nothing finishes any more: bad_credentials")


def test_an_outage_of_some_videos_blocks_nothing() -> None:
    assert blocked(Recent(100, 60.0, 29.0)).state == "RUNNING", "others ended just now"
    assert blocked(NEVER, running=1, oldest=31.0).state == "RUNNING", "one got past opening"
    assert blocked(NEVER, outage=replace(KEY, waited_seconds=29.9)).state == "RUNNING", "it has only begun"
    assert blocked(Recent(1, 60.0, 550.0), outage=replace(KEY, newest_try_seconds=560.0)).state == "BLOCKED", "BUCKET's"
    old = replace(KEY, newest_try_seconds=1801.0)
    assert judge(total(waiting=9), NEVER, ALIVE, outages=[old]).state == "RUNNING", "nothing recurs"
    later = replace(KEY, newest_try_seconds=40.0)
    assert judge(total(waiting=9), Recent(1, 1.0, 35.0), ALIVE, outages=[later]).state == "RUNNING", "one ended since"
    assert judge(total(waiting=9), NEVER, NOBODY, outages=[KEY]).state == "STALLED"


def test_the_waiting_line_names_code_example_and_remedy() -> None:
    assert waiting_line([]) is None
    assert waiting_line([KEY, BUCKET]) == (
        "WAITING  158,893 videos wait for: bad_credentials 158,000 (no key AK), no_bucket 893;"
        " no attempts burnt; fix the key on the workers"
    )
    assert len(waiting_line([replace(KEY, example="x" * 2000)]) or "") < 400


def test_every_outage_has_a_remedy() -> None:
    assert {code for code, kind in VIDEO_ERROR_CLASSES.items() if kind is ErrorClass.INFRA} == REMEDIES.keys()


def test_workers_that_went_missing_are_named() -> None:
    assert workers_line(ALIVE, running=5) == "workers alive 2, 5 videos in hand, last beat 3 s ago"
    assert workers_line(NOBODY, running=0).endswith("last beat none yet")
    gone = tuple(StaleWorker("gpu-3", pid, 720.0) for pid in range(4711, 4718))
    line = workers_line(replace(ALIVE, draining=1, stale=gone), running=5)
    assert "alive 2 (1 draining)" in line
    assert "without a beat 7: gpu-3 pid 4711 (12 min), " in line
    assert line.endswith("gpu-3 pid 4715 (12 min) and 2 more")


def test_failures_come_with_the_command_to_look_at_them() -> None:
    assert failures_line([]) is None
    assert failures_line([("truncated", 2010), ("no_video", 80)]) == (
        "failures truncated 2,010 · no_video 80  → reelvec status --failed --error truncated"
    )


def test_the_first_line_of_an_error_is_safe_to_print() -> None:
    assert first_line("\n a\tb \x1b[31mred\nTraceback") == "a b  [31mred"


def test_durations_read_like_speech() -> None:
    assert [duration(seconds) for seconds in (40, 180, 8700, 400000)] == ["40 s", "3 min", "2 h 25 min", "5 days"]
