"""Settings: a typo is refused, a bad value is named, layers know each other's variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from db import machine, settings
from db.errors import UsageError
from producer.settings import ProducerSettings
from workers import settings as worker_settings
from workers.node.shape import Shape
from workers.settings import WorkerSettings


def test_a_mistyped_variable_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELVEC_SAMPLER", "2")
    with pytest.raises(UsageError, match=r"REELVEC_SAMPLER .* REELVEC_SAMPLERS"):
        worker_settings.refuse_unknown()


def test_variables_of_every_layer_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ProducerSettings.variables() == worker_settings.PRODUCER_VARIABLES
    for name in ProducerSettings.variables() | WorkerSettings.variables():
        monkeypatch.setenv(name, "1")
    worker_settings.refuse_unknown()


def test_what_was_a_setting_is_told_and_not_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("REELVEC_STUCK_SECONDS", "4000")
    worker_settings.refuse_unknown()
    assert "REELVEC_STUCK_SECONDS is no setting any more" in caplog.text
    assert not worker_settings.REMOVED_VARIABLES.keys() & worker_settings.known_variables()


@pytest.mark.parametrize(
    ("chosen", "other"),
    [
        ({"STALE_SECONDS": "45", "BEAT_SECONDS": "60"}, "more than 120"),
        ({"JOB_SECONDS": "60"}, "REELVEC_SAMPLING_WALL_SECONDS=120"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str], other: str
) -> None:
    for name, value in chosen.items():
        monkeypatch.setenv(f"REELVEC_{name}", value)
    with pytest.raises(UsageError) as refused:
        settings.load(WorkerSettings)
    assert other in str(refused.value)
    assert all(f"REELVEC_{name}={value}" in str(refused.value) for name, value in chosen.items())


def test_what_follows_from_the_beat_and_the_deadline_follows() -> None:
    slow = WorkerSettings(beat_seconds=60, job_seconds=7200)
    assert (slow.stale_seconds, slow.idle_seconds, slow.stuck_seconds) == (270.0, 360.0, 7600.0)
    assert WorkerSettings().stale_seconds == 45.0


def test_a_bad_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELVEC_SAMPLERS", "0")
    with pytest.raises(UsageError, match="REELVEC_SAMPLERS='0'"):
        settings.load(WorkerSettings)


def test_no_two_classes_share_a_variable() -> None:
    classes = (settings.DatabaseSettings, WorkerSettings, ProducerSettings)
    assert len(set.union(*(one.variables() for one in classes))) == sum(
        len(one.variables()) for one in classes
    )


def test_roots_are_folders(tmp_path: Path) -> None:
    assert WorkerSettings(file_roots=f"{tmp_path}:").roots == (tmp_path.resolve(),)


def test_the_shape_is_this_machines_and_what_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 64.0)
    monkeypatch.setattr(machine, "memory_bytes", lambda: 512 << 30)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert WorkerSettings(processes=8).shape == Shape(7, 4, 8.0, "8 of 64 cores less one")
    assert WorkerSettings(samplers=3).in_flight == 10
    assert WorkerSettings(samplers=3, videos_per_batch=2).in_flight == 8
    assert WorkerSettings(samplers=3, device="cpu").in_flight == 7, "a GPU that is not used"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert WorkerSettings(samplers=3).in_flight == 7
    assert WorkerSettings(samplers=3, device="cuda:0").in_flight == 10
    one_stage = WorkerSettings(samplers=3, device="cuda:0")
    assert (one_stage.slots, one_stage.pack_slots, one_stage.video_slots) == (10, 0, None)
    embeds = WorkerSettings(samplers=3, device="cuda:0", frames="/frames")
    assert (embeds.slots, embeds.pack_slots, embeds.video_slots) == (22, 12, 10)
    node = WorkerSettings(samplers=3, device="cuda:0", frames="/frames", stage="sample")
    assert (node.slots, node.pack_slots, node.video_slots, node.on_gpu) == (6, 0, None, False)
