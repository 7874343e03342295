"""Settings: a typo is refused, a bad value is named, layers know each other's variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from db import settings
from db.errors import UsageError
from producer.settings import ProducerSettings
from workers import settings as worker_settings
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


def test_a_bad_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELVEC_SAMPLERS", "0")
    with pytest.raises(UsageError, match="REELVEC_SAMPLERS='0'"):
        settings.load(WorkerSettings)


def test_no_two_classes_share_a_variable() -> None:
    classes = (settings.DatabaseSettings, WorkerSettings, ProducerSettings)
    assert len(set.union(*(one.variables() for one in classes))) == sum(len(one.variables()) for one in classes)


def test_roots_are_folders(tmp_path: Path) -> None:
    assert WorkerSettings(file_roots=f"{tmp_path}:").roots == (tmp_path.resolve(),)
    assert WorkerSettings(samplers=3).in_flight == 7
