"""The stage that limits: every number below is worked out by hand in the comment beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from db.progress.ahead import Ahead
from db.progress.fleet import Fleet, FleetWorker
from db.progress.rates import Stages
from producer.status.bottleneck import MIN_VIDEOS, Bottleneck, Capacity, capacity, limiting_stage


def busy(
    samplers: int, devices: int, *, gpus: int | None = None, cores: float | None = None
) -> Capacity:
    """A fleet with a video in every place, and one core more than samplers per worker."""
    places = 2 * samplers + devices
    cores = samplers + devices if cores is None else cores
    return Capacity(
        samplers,
        cores,
        devices,
        devices if gpus is None else gpus,
        places,
        taken=places,
        ready=1000,
    )


def means(fetch: float, decode: float, device: float, **facts: float) -> Stages:
    """Timings of a video; `held` is left short, so that the stages explain it."""
    rest = {
        "wait_seconds": device,
        "held_seconds": fetch + decode + device,
        "bytes_read": 18e6,
        **facts,
    }
    return Stages(1000, fetch, decode, device_seconds=device, **rest)


def shares(found: Bottleneck) -> list[float | None]:
    return [found.decode_share, found.fetch_share, found.device_share]


def test_decode_limits_and_twice_the_cores_are_as_much_as_is_promised() -> None:
    found = limiting_stage(
        means(0.2, 2.2, 0.04), busy(48, 4)
    )  # 48 / 2.4 s = 20/s; devices 4 / 0.04 s = 100/s
    assert found.stage == "decode"
    assert found.videos_per_second == pytest.approx(20.0)
    # 20/s x 2.2 s / 48, 20/s x 0.2 s / 48, 20/s x 0.04 s / 4
    assert shares(found) == pytest.approx([0.91667, 0.08333, 0.2], abs=1e-4)
    assert found.gain_videos_per_second == pytest.approx(20.0)
    assert found.line == (
        "bottleneck: decode (samplers 92 % decode, 8 % fetch; devices 20 % busy):"
        " 48 more cores for samplers would give about 20 videos/s more"
    )


def test_more_cores_help_until_the_device_limits() -> None:
    found = limiting_stage(
        means(0.2, 2.2, 0.16), busy(48, 4)
    )  # devices 4 / 0.16 s = 25/s, which 25 x 2.4 = 60 samplers feed
    assert found.gain_videos_per_second == pytest.approx(5.0)
    assert (
        found.advice
        == "12 more cores for samplers would give about 5.0 videos/s more (then the device limits)"
    )
    # 4 / 0.158 s = 25.32/s, which 60.8 samplers feed: a part of a core is a whole one
    assert limiting_stage(means(0.2, 2.2, 0.158), busy(48, 4)).advice.startswith("13 more cores ")
    # 4 / 0.199 s = 20.1/s, which 48.2 samplers feed
    assert limiting_stage(means(0.2, 2.2, 0.199), busy(48, 4)).advice.startswith(
        "1 more core for samplers would give about 0.1 "
    )


def test_fetch_limits_where_samplers_mostly_wait_for_bytes() -> None:
    found = limiting_stage(means(0.9, 0.1, 0.1), busy(8, 2))  # 8 / 1 s = 8/s; devices 20/s
    assert found.stage == "fetch"
    assert shares(found) == pytest.approx([0.1, 0.9, 0.4])
    assert found.gain_videos_per_second == pytest.approx(8.0)
    assert "one sampler reads 20.0 MB/s" in found.advice  # 18 MB in 0.9 s
    assert (
        "REELVEC_SAMPLERS=8 (now 4 per worker) would give about 8.0 videos/s more; or move"
        in found.advice
    )
    capped = limiting_stage(
        means(0.9, 0.1, 0.2), busy(8, 2)
    )  # devices 10/s, which 10 samplers feed
    assert (
        "REELVEC_SAMPLERS=5 (now 4 per worker) would give about 2.0 videos/s more (then the device"
        in capped.advice
    )


def test_device_limits() -> None:
    found = limiting_stage(
        means(0.1, 0.3, 0.1), busy(32, 2)
    )  # samplers 32 / 0.4 s = 80/s; devices 2 / 0.1 s = 20/s
    assert found.stage == "device"
    assert shares(found) == pytest.approx([0.1875, 0.0625, 1.0])
    assert found.advice == "another GPU would give about 10 videos/s more"  # 3 / 0.1 s = 30/s
    fed = limiting_stage(means(0.1, 1.18, 0.1), busy(32, 2))  # samplers 32 / 1.28 s = 25/s
    assert fed.advice == "another GPU would give about 5.0 videos/s more (then decode limits)"
    assert "(then fetch limits)" in limiting_stage(means(1.18, 0.1, 0.1), busy(32, 2)).advice


def test_where_the_cpu_computes_no_other_gpu_is_promised() -> None:
    found = limiting_stage(
        means(0.1, 0.3, 1.0), busy(2, 2, gpus=0)
    )  # devices 2 / 1 s = 2/s, one of them 1/s
    assert found.stage == "device"
    assert (
        found.advice
        == "a GPU would help; another node like these would give about 1.0 videos/s more"
    )


@pytest.mark.parametrize("videos", [0, MIN_VIDEOS - 1])
def test_few_finished_say_nothing(videos: int) -> None:
    found = limiting_stage(replace(means(0.2, 2.2, 0.04), videos=videos), busy(48, 4))
    assert found.stage == "unknown"
    assert shares(found) == [None, None, None]
    assert found.line.endswith(
        f"too few finished in the last 10 minutes to say ({videos} of {MIN_VIDEOS})"
    )
    assert (
        limiting_stage(replace(means(0.2, 2.2, 0.04), videos=MIN_VIDEOS), busy(48, 4)).stage
        == "decode"
    )


def test_empty_hands_are_no_bottleneck() -> None:
    full = busy(16, 2)
    idle = replace(full, taken=full.slots // 2 - 1, ready=5)
    assert limiting_stage(means(0.2, 2.2, 0.04), idle).line == (
        "bottleneck: nothing: only 16 of 34 slots of the workers are taken"
    )
    assert limiting_stage(means(0.2, 2.2, 0.04), replace(idle, taken=17)).stage == "decode"
    unfed = limiting_stage(means(0.2, 2.2, 0.04), replace(idle, ready=35))
    assert unfed.advice.endswith(
        "although 35 videos are ready: check that the broker answers and that the workers listen "
        "to the queue reelvec (no -Q)"
    )


def test_time_the_stages_do_not_explain_is_not_blamed_on_one_of_them() -> None:
    # 20/s from 100 places means 5 s a video in hand; at more than 10 s the machine is busy with
    # something else
    assert limiting_stage(means(0.2, 2.2, 0.04, held_seconds=9.9), busy(48, 4)).stage == "decode"
    found = limiting_stage(means(0.2, 2.2, 0.04, held_seconds=10.1), busy(48, 4))
    assert found.stage == "unknown"
    assert "holds a video for 10.1 s" in found.advice
    assert limiting_stage(means(0.0, 0.0, 0.0), busy(48, 4)).stage == "unknown"


def test_nobody_takes_videos() -> None:
    assert limiting_stage(means(0.2, 2.2, 0.04), busy(0, 0)).advice == "no worker takes videos"


def test_more_samplers_than_cores_are_named() -> None:
    # 63 / 2.4 s = 26.2/s, but 16 cores decode 16 / 2.2 s = 7.27/s; the device 25/s
    found = limiting_stage(means(0.2, 2.2, 0.04), busy(63, 1, cores=16))
    assert found.stage == "decode"
    assert found.videos_per_second == pytest.approx(16 / 2.2)
    assert shares(found) == pytest.approx([16 / 63, 16 / 2.2 * 0.2 / 63, 16 / 2.2 * 0.04])
    assert found.advice == (
        "16 more cores for samplers would give about 7.3 videos/s more;"
        " 63 samplers are too many for 16 cores: REELVEC_SAMPLERS=15 (per worker)"
    )
    # 21.5 cores decode 21.5 / 2.2 s = 9.77/s; with half a core more the samplers limit, 24 / 2.4 s
    # = 10/s
    few = limiting_stage(means(0.2, 2.2, 0.04), busy(24, 1, cores=21.5))
    assert few.gain_videos_per_second == pytest.approx(10 - 21.5 / 2.2)
    assert few.advice.startswith(
        "1 more core for samplers would give about 0.2 videos/s more; 24 samplers are too many"
    )


def test_samplers_that_wait_for_bytes_may_outnumber_the_cores() -> None:
    found = limiting_stage(
        means(0.9, 0.1, 0.01), busy(32, 1, cores=8)
    )  # 32 / 1 s = 32/s; 8 cores 80/s; the device 100/s
    assert found.stage == "fetch"
    assert "too many" not in found.advice
    crowded = limiting_stage(
        means(1.1, 0.9, 0.01), busy(32, 1, cores=8)
    )  # 32 / 2 s = 16/s, but 8 cores decode 8.9/s
    assert crowded.stage == "decode", "however long the bytes take"


def test_a_gpu_is_worth_what_the_cores_can_feed_it() -> None:
    found = limiting_stage(
        means(0.1, 0.9, 0.2), busy(32, 1, cores=8)
    )  # the device 5/s, two 10/s; 8 cores decode 8.89/s
    assert (found.stage, found.gain_videos_per_second) == ("device", pytest.approx(8 / 0.9 - 5))
    assert found.advice.endswith("(then decode limits)")


def test_what_is_not_explained_may_be_the_crowd() -> None:
    have = busy(48, 4, cores=40)
    found = limiting_stage(means(0.2, 2.2, 0.04, held_seconds=99), have)
    assert found.advice.endswith(
        "explain; 48 samplers are too many for 40 cores: REELVEC_SAMPLERS=9 (per worker)"
    )
    alone = busy(4, 4, cores=2)  # each worker has the one it needs
    assert limiting_stage(means(0.2, 2.2, 0.04, held_seconds=99), alone).advice.endswith(
        "do other programs use the cores?"
    )


def test_a_fleet_has_what_its_workers_say_they_have() -> None:
    one = FleetWorker(
        "a", 1, "cuda:0", draining=False, in_flight=18, samplers=7, cores=8, videos_per_batch=4
    )
    fleet = Fleet(
        alive=3, draining=1, in_flight=25, gpus=1, last_beat_seconds=1.0,
        workers=(one, replace(one, draining=True), replace(one, device="cpu", in_flight=7, samplers=3, cores=3.5)),
    )  # fmt: skip
    assert capacity(fleet, Ahead(whole=4), ready=5) == Capacity(
        10, 11.5, 2, 1, slots=25, taken=4, ready=5, sides=((4, 25), (0, 0), (0, 0))
    )


def two_kinds(embedding: int = 12) -> Capacity:
    """A GPU node with one sampler and 12 slots for frames, and two sampler nodes of four."""
    gpu = FleetWorker(
        "a", 1, "cuda:0", draining=False, in_flight=6, samplers=1, cores=2, videos_per_batch=4,
        pack_slots=12,
    )  # fmt: skip
    node = FleetWorker(
        "b", 1, "cpu", draining=False, in_flight=8, samplers=4, cores=4, videos_per_batch=0,
        stage="sample",
    )  # fmt: skip
    fleet = Fleet(
        alive=3, draining=0, in_flight=34, gpus=1, last_beat_seconds=1.0, workers=(gpu, node, node)
    )
    return capacity(fleet, Ahead(whole=0, embedding=embedding, sampling=0), ready=50)


def test_one_more_node_of_either_kind_is_worth_what_it_adds() -> None:
    have = two_kinds()
    assert (have.devices, have.samplers, have.nodes, have.node_samplers) == (1, 9, 2, 8)
    found = limiting_stage(means(0.0, 1.0, 0.05), have)  # nine samplers 9/s, the device 20/s
    assert found.stage == "decode"
    assert found.advice == (
        "one more sampler node would give about 4.0 videos/s more, one more GPU 1.0"
    )
    assert found.gain_videos_per_second == pytest.approx(4.0)
    found = limiting_stage(means(0.0, 1.0, 0.2), have)  # the device 5/s
    assert found.stage == "device"
    assert found.advice == (
        "one more sampler node would give about 0.0 videos/s more, one more GPU 5.0"
    )


def test_slots_for_frames_and_for_videos_are_full_each_by_itself() -> None:
    assert not two_kinds().is_idle, "12 of 12 slots for frames, though 12 of 34 altogether"
    assert two_kinds(embedding=5).is_idle
    alone = replace(two_kinds(), devices=0)
    assert "only sampler nodes" in limiting_stage(means(0.1, 0.1, 0.1), alone).advice
