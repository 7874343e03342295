"""The verdict line and its exit code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from db.progress.census import Progress, Waiting
from db.progress.fleet import Fleet
from db.progress.halts import ClosedPlace, Halts, PausedBackbone, RefusingWorker
from db.progress.rates import OUR_CODES, Outage, Recent
from producer.status.broker import Broker
from producer.status.verdict import Facts, Verdict
from producer.status.verdict import judge as judge_facts

ALIVE = Fleet(alive=2, draining=0, in_flight=6, gpus=2, last_beat_seconds=3.0)
NOBODY = Fleet(alive=0, draining=0, in_flight=0, gpus=0, last_beat_seconds=None)
NEVER = Recent(0, 0, 0, 0.0, None)
#: 1,200 videos in 600 s.
STEADY = Recent(1200, 0, 0, 600.0, 0.0)
ANSWERS = Broker("redis://h", messages=7)
AWAY = Broker("redis://h", error="Connection refused")
KEY = Outage(
    "bad_credentials", 158_000, newest_try_seconds=20.0, waited_seconds=720.0, example="no key AK"
)
BUCKET = Outage("no_bucket", 893, newest_try_seconds=50.0, waited_seconds=29.0, example="gone")
CLOSED = Halts(1, places=(ClosedPlace("s3://bad", 90.0, "bad_credentials", "no key"),))
PAUSED = Halts(backbones=(PausedBackbone("vivit", "device_error on 20 videos", 60.0),))


def total(
    *, done: int = 0, failed: int = 0, running: int = 0, waiting: int = 0, cancelled: int = 0
) -> list[Progress]:
    videos = done + failed + running + waiting + cancelled
    return [Progress("(all)", videos, done, failed, running, waiting, cancelled)]


def judge(
    rows: list[Progress], recent: Recent, fleet: Fleet, broker: Broker = ANSWERS, **facts: Any
) -> Verdict:
    """What waits is ready unless `waiting` says otherwise."""
    waiting = facts.pop("waiting", Waiting(ready=rows[0].waiting if rows else 0))
    return judge_facts(Facts(rows, recent, fleet, broker, waiting=waiting, **facts))


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


def test_who_has_nothing_left_is_told_that_nothing_new_will_begin() -> None:
    paused = replace(ALIVE, paused=True, pause_reason="bucket")
    for rows in (total(done=5), []):
        verdict = judge(rows, STEADY, paused)
        assert verdict.exit_code == 0
        assert verdict.line.endswith(
            " · paused (bucket), so no other video will begin: reelvec pause --resume"
        )
        assert "paused" not in judge(rows, STEADY, ALIVE).line


def test_a_running_line_reads_as_promised() -> None:
    rows = total(done=41_207, failed=312, running=100, waiting=158_793, cancelled=7)
    verdict = judge(rows, Recent(10_900, 80, 0, 600.0, 0.0), ALIVE)
    assert verdict.line == (
        "RUNNING  41,207 of 200,412 done, 312 failed (0.8 %) · 18.2 videos/s · done in 2 h 25 min"
    )
    assert (round(verdict.videos_per_second, 2), round(verdict.failed_per_second, 2)) == (
        18.17,
        0.13,
    )


def test_time_left_counts_later_retries() -> None:
    assert judge(total(done=100, waiting=60, running=20), STEADY, ALIVE).seconds_left == 40.0
    later = Waiting(ready=2, delayed=28, delay_seconds=240.0)
    retries = judge(total(done=100, waiting=30), STEADY, ALIVE, waiting=later)
    assert retries.seconds_left == 240.0
    assert retries.line == (
        "RUNNING  100 of 130 done, 0 failed · 2.0 videos/s · what is ready is done in 1 s"
        " · 28 are tried again later, the last in 4 min"
    )
    only = judge(total(done=100, waiting=28), STEADY, ALIVE, waiting=replace(later, ready=0))
    assert (
        only.line
        == "RUNNING  100 of 128 done, 0 failed · 28 are tried again later, the last in 4 min"
    )
    assert (only.exit_code, only.seconds_left) == (0, 240.0)
    many = judge(total(done=100, waiting=1200), STEADY, ALIVE, waiting=replace(later, ready=1172))
    assert many.seconds_left == 600.0, "what is ready takes longer than the retries wait"
    assert (
        judge(total(waiting=1), NEVER, ALIVE).line == "RUNNING  0 of 1 done, 0 failed · no rate yet"
    )


def test_the_rate_falls_while_nothing_ends_and_is_kept_when_all_is_done() -> None:
    rows = total(done=1200, waiting=10)
    assert judge(rows, replace(STEADY, idle_seconds=600.0), ALIVE).videos_per_second == 1.0
    assert judge(rows, replace(STEADY, idle_seconds=601.0), ALIVE).videos_per_second == 0.0
    assert (
        judge(total(done=1200), replace(STEADY, idle_seconds=1e6), NOBODY).videos_per_second == 2.0
    )
    assert judge(total(done=1), Recent(1, 0, 0, 0.2, 0.0), NOBODY).videos_per_second == 1.0, (
        "not 5/s from a short one"
    )


def test_done_says_why_some_failed() -> None:
    codes = [("truncated", 1), ("no_video", 1)]
    verdict = judge(
        total(done=198, failed=2, cancelled=3), Recent(198, 2, 0, 32.5, 5.0), NOBODY, codes=codes
    )
    assert (
        verdict.line
        == "DONE  198 done, 2 failed (truncated 1, no_video 1), 3 cancelled · 6.1 videos/s"
    )
    assert judge(total(done=4, failed=6), NEVER, NOBODY).line == "DONE  4 done, 6 failed"


class TestFailures:
    def test_they_never_look_like_progress(self) -> None:
        rows, recent = total(failed=20, waiting=40), Recent(0, 20, 0, 10.0, 0.0)
        verdict = judge(rows, recent, ALIVE, codes=[("truncated", 20)])
        assert verdict.line == (
            "RUNNING  0 of 60 done, 20 FAILED, 20 of the last 20 that ended (truncated 20) · 0.0 "
            "videos/s · the rest is tried in 20 s"
        )
        assert (verdict.exit_code, verdict.videos_per_second, verdict.failed_per_second) == (
            0,
            0.0,
            2.0,
        )

    def test_many_for_no_fault_of_theirs_are_somebodys_business(self) -> None:
        rows = total(done=5000, failed=25, waiting=9)
        failing = judge(
            rows,
            Recent(15, 10, 5, 10.0, 0.0),
            ALIVE,
            codes=[("device_error", 5), ("not_media", 20)],
        )
        assert (failing.state, failing.exit_code) == ("FAILING", 1)
        assert "10 of the last 25 that ended (device_error 5, not_media 20)" in failing.line
        assert judge(rows, Recent(15, 10, 4, 10.0, 0.0), ALIVE).state == "RUNNING", (
            "four may be chance"
        )
        assert judge(rows, Recent(1000, 50, 50, 10.0, 0.0), ALIVE).state == "RUNNING", (
            "one in twenty"
        )

    def test_the_end_of_a_run_that_failed_is_not_healthy(self) -> None:
        verdict = judge(
            total(failed=20), Recent(0, 20, 20, 10.0, 0.0), NOBODY, codes=[("internal", 20)]
        )
        assert (verdict.state, verdict.exit_code) == ("DONE", 1)
        assert "repair the cause, then reelvec retry" in verdict.line
        assert judge(total(failed=20), NEVER, NOBODY, codes=[("not_media", 20)]).exit_code == 0

    def test_codes_that_describe_a_file_are_not_ours(self) -> None:
        assert {
            "device_error",
            "nonfinite",
            "sampler_crashed",
            "sampler_defect",
            "internal",
            "outside_roots",
        } <= OUR_CODES
        assert (
            not {"not_media", "truncated", "not_found", "access_denied", "fetch_timeout"}
            & OUR_CODES
        )


def blocked(
    recent: Recent, *, running: int = 0, oldest: float | None = None, outage: Outage = KEY
) -> Verdict:
    rows = total(done=5, running=running, waiting=158_893)
    return judge(rows, recent, ALIVE, outages=[outage, BUCKET], oldest_run_seconds=oldest)


@pytest.mark.parametrize("recent", [NEVER, Recent(100, 0, 0, 60.0, 31.0)])
def test_blocked_when_an_outage_recurs_and_nothing_ends(recent: Recent) -> None:
    verdict = blocked(recent, running=3, oldest=2.0)
    assert (verdict.state, verdict.exit_code, verdict.seconds_left) == ("BLOCKED", 1, None)
    assert verdict.line == (
        "BLOCKED  5 done, 0 failed, 158,896 waiting; nothing finishes any more: bad_credentials"
    )


def test_an_outage_of_some_videos_blocks_nothing() -> None:
    ended = Recent(100, 0, 0, 60.0, 29.0)
    assert blocked(ended).state == "RUNNING", "others ended just now"
    assert blocked(NEVER, running=1, oldest=31.0).state == "RUNNING", "one got past opening"
    assert blocked(NEVER, outage=replace(KEY, waited_seconds=29.9)).state == "RUNNING", (
        "it has only begun"
    )
    assert (
        blocked(
            replace(ended, idle_seconds=550.0), outage=replace(KEY, newest_try_seconds=560.0)
        ).state
        == "BLOCKED"
    )
    old = replace(KEY, newest_try_seconds=1801.0)
    assert judge(total(waiting=9), NEVER, ALIVE, outages=[old]).state == "RUNNING", "nothing recurs"
    later, since = replace(KEY, newest_try_seconds=40.0), replace(ended, idle_seconds=35.0)
    assert judge(total(waiting=9), since, ALIVE, outages=[later]).state == "RUNNING", (
        "one ended since"
    )
    assert judge(total(waiting=9), NEVER, NOBODY, outages=[KEY]).state == "STALLED"


class TestBroker:
    def test_without_it_nothing_goes_on(self) -> None:
        verdict = judge(total(done=5, waiting=9), STEADY, ALIVE, AWAY)
        assert (verdict.state, verdict.exit_code, verdict.seconds_left) == ("BLOCKED", 1, None)
        assert verdict.line == (
            "BLOCKED  5 done, 0 failed, 9 waiting; the broker at redis://h does not answer: "
            "Connection refused"
        )
        assert judge(total(running=1), STEADY, ALIVE, AWAY).exit_code == 1

    def test_it_is_said_beside_other_trouble(self) -> None:
        for fleet in (NOBODY, replace(ALIVE, paused=True)):
            assert (
                "also, the broker at redis://h does not answer: Connection refused"
                in judge(total(waiting=1), NEVER, fleet, AWAY).line
            )

    def test_who_has_no_work_needs_none(self) -> None:
        assert (
            judge(total(done=1), NEVER, ALIVE, AWAY).exit_code
            == judge([], NEVER, ALIVE, AWAY).exit_code
            == 0
        )


class TestNothingIsClaimed:
    """Workers beat, the broker answers, videos are ready, and for a minute nobody has taken one."""

    def unclaimed(
        self, fleet: Fleet = ALIVE, broker: Broker = ANSWERS, *, seconds: float = 60.0, **facts: Any
    ) -> Verdict:
        rows = total(done=5, running=facts.pop("running", 0), waiting=9)
        return judge(rows, STEADY, fleet, broker, unclaimed_seconds=seconds, **facts)

    def test_stalled(self) -> None:
        verdict = self.unclaimed()
        assert (verdict.state, verdict.exit_code, verdict.seconds_left) == ("STALLED", 1, None)
        assert verdict.line == (
            "STALLED  5 done, 0 failed, 9 waiting; 9 are ready and none was claimed for 60 s;"
            " 2 workers are alive and take none of 7 messages: see their logs, restart them"
        )
        assert self.unclaimed(running=5, oldest_run_seconds=70.0).state == "STALLED", (
            "there is a free place"
        )

    def test_not_yet(self) -> None:
        assert self.unclaimed(seconds=59.9).state == "RUNNING"
        assert self.unclaimed(seconds=600.0, waiting=Waiting(delayed=9)).state == "RUNNING", (
            "none is ready"
        )

    def test_busy_with_long_videos_for_a_while(self) -> None:
        busy = self.unclaimed(running=6, seconds=599.0)
        assert (busy.state, busy.exit_code) == ("BUSY", 0)
        assert "all 6 slots are taken" in busy.line
        stuck = self.unclaimed(running=6, seconds=600.0, oldest_run_seconds=720.0)
        assert (stuck.state, stuck.exit_code) == ("STALLED", 1)
        assert "all 6 slots are taken, the longest for 12 min" in stuck.line

    def test_the_reason_is_named(self) -> None:
        assert (
            "every worker alive is draining"
            in self.unclaimed(replace(ALIVE, draining=2, in_flight=0)).line
        )
        assert (
            "the broker holds no message"
            in self.unclaimed(broker=replace(ANSWERS, messages=0)).line
        )
        refuses = RefusingWorker("node-1", "gpu0", 7, "s3://b", 90.0, "access_denied", "no")
        verdict = self.unclaimed(halts=Halts(workers=(refuses,)))
        assert (verdict.state, verdict.exit_code) == ("BLOCKED", 1)
        assert verdict.line.endswith("gpu0 on node-1 cannot read s3://b (access_denied)")
        paused = self.unclaimed(halts=PAUSED)
        assert paused.state == "BLOCKED"
        assert paused.line.endswith("paused: vivit (device_error on 20 videos)")


class TestHeldUp:
    def test_behind_closed_places_alone(self) -> None:
        verdict = judge(
            total(done=5, waiting=9), STEADY, ALIVE, waiting=Waiting(closed=9), halts=CLOSED
        )
        assert (verdict.state, verdict.exit_code) == ("BLOCKED", 1)
        assert verdict.line == (
            "BLOCKED  5 done, 0 failed, 9 waiting; all of them wait behind closed places: s3://bad "
            "(bad_credentials)"
        )

    def test_for_a_paused_backbone_alone(self) -> None:
        verdict = judge(total(waiting=9), STEADY, ALIVE, waiting=Waiting(paused=9), halts=PAUSED)
        assert (verdict.state, verdict.exit_code) == ("BLOCKED", 1)
        assert verdict.line.endswith(
            "all of them wait for paused backbones: vivit (device_error on 20 videos)"
        )

    def test_others_go_on(self) -> None:
        rows, waiting = total(done=5, running=1, waiting=9), Waiting(ready=2, closed=7)
        closed = judge(rows, STEADY, ALIVE, waiting=waiting, halts=CLOSED)
        assert (closed.state, closed.exit_code, closed.seconds_left) == ("RUNNING", 0, None)
        assert closed.line == (
            "RUNNING  5 of 15 done, 0 failed · 2.0 videos/s · what is ready is done in 2 s"
            " · 7 wait behind closed places: s3://bad (bad_credentials)"
        )
        paused = judge(rows, STEADY, ALIVE, waiting=Waiting(ready=2, paused=7), halts=PAUSED)
        assert (paused.state, paused.exit_code) == ("RUNNING", 1), "it waits for somebody"
        many = replace(CLOSED, closed_places=100_000)
        assert (
            "s3://bad (bad_credentials) and 99,999 more"
            in judge(rows, STEADY, ALIVE, waiting=waiting, halts=many).line
        )
