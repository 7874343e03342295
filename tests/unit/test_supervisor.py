"""Which GPUs get a process, and its share of the cores."""

from __future__ import annotations

import os

import pytest

from workers import supervisor


@pytest.mark.parametrize(("allowed", "gpus"), [("", []), ("-1", []), ("2,5", ["2", "5"]), ("GPU-abc", ["GPU-abc"])])
def test_the_environment_decides_which(monkeypatch: pytest.MonkeyPatch, allowed: str, gpus: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert supervisor.visible_gpus() == gpus


def test_each_process_gets_its_gpu_and_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    made = supervisor.environment_of("3", 8)
    assert (made["CUDA_VISIBLE_DEVICES"], made["REELVEC_SAMPLERS"]) == ("3", "7")
    monkeypatch.setenv("REELVEC_SAMPLERS", "2")
    assert supervisor.environment_of("3", 8)["REELVEC_SAMPLERS"] == "2"
