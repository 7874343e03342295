"""What only a GPU can show. Skipped without one."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from db.labels import LabelSet
from tests.weights import synthetic_frames
from workers.backbones import registry
from workers.engine.device import Device
from workers.engine.encoding import EncodeRequest, Encoding
from workers.engine.engine import Engine, ModelKey
from workers.engine.lanes import Item, Piece

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="there is no GPU that torch can use"
)

MODELS = [name for name in registry.names() if registry.get(name).needs_torch]
LABELS = LabelSet("en", ("cooking", "films", "news"), ("cooking", "films", "news"))


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = Engine(device="cuda:0", models_dir=None, compile="off")
    yield made
    made.close()


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))


def in_float32(device: Device, request: EncodeRequest) -> Encoding:
    count = registry.get(request.key.backbone).windows_per_video
    return device.finish(
        device.start([Piece(Item(request, count, 0, 0, alone=True), 0, count)], precise=True)
    )[0]


@pytest.mark.parametrize("name", MODELS)
def test_company_order_and_precision_change_nothing_that_matters(engine: Engine, name: str) -> None:
    key = ModelKey(name, "random-tiny")
    engine.load(key)
    labels = (LABELS,) if registry.get(name).has_text else ()
    videos = [synthetic_frames(seed) for seed in range(6)]
    alone = [
        engine.submit(key, frames, labels, timeout_seconds=60, alone=True).result()
        for frames in videos
    ]
    for order in (range(6), reversed(range(6))):
        together = {
            index: engine.submit(key, videos[index], labels, timeout_seconds=60) for index in order
        }
        for index, future in together.items():
            made = future.result()
            assert made.dtype == "bfloat16"
            assert cosine(made.pooled, alone[index].pooled) > 0.9999
            for digest, expected in alone[index].probabilities.items():
                np.testing.assert_allclose(made.probabilities[digest], expected, atol=0.02)
    exact = in_float32(engine._device, EncodeRequest(key, videos[0], labels))
    assert exact.dtype == "float32"
    assert cosine(exact.pooled, alone[0].pooled) > 0.999
    assert not np.array_equal(exact.pooled, alone[0].pooled)


@pytest.mark.parametrize("name", MODELS)
def test_starting_a_batch_waits_for_nothing(engine: Engine, name: str) -> None:
    """Else the GPU has nothing to do while the next batch is put together."""
    key = ModelKey(name, "random-tiny")
    engine.load(key)
    labels = (LABELS,) if registry.get(name).has_text else ()
    frames = engine.new_frames()
    frames[:] = synthetic_frames(4)
    expected = engine.submit(
        key, frames, labels, timeout_seconds=60
    ).result()  # texts are kept from now on
    count = registry.get(name).windows_per_video
    request = EncodeRequest(key, frames, labels)
    torch.cuda.set_sync_debug_mode("error")
    try:
        started = engine._device.start([Piece(Item(request, count, 0, 0, alone=True), 0, count)])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert cosine(engine._device.finish(started)[0].pooled, expected.pooled) > 0.9999


def test_frames_lie_on_the_gpu_once_and_as_long_as_here(engine: Engine) -> None:
    keys = [ModelKey(name, "random-tiny") for name in ("vivit", "videomae")]
    for key in keys:
        engine.load(key)
    frames = engine.new_frames()
    assert torch.from_numpy(frames).is_pinned()
    frames[:] = synthetic_frames(3)
    for key in keys:
        engine.submit(key, frames, (), timeout_seconds=60).result()
    assert list(engine._device._resident) == [id(frames)]
    del frames
    gc.collect()
    assert not engine._device._resident


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(engine: Engine) -> None:
    key = ModelKey("videomae", "random-full")
    engine.load(key)
    videos = [synthetic_frames(seed) for seed in range(4)]
    before = [engine.submit(key, frames, (), timeout_seconds=60).result() for frames in videos]
    torch.cuda.empty_cache()
    room = torch.cuda.memory_allocated() + (400 << 20)  # 24 windows take about 1 GB
    torch.cuda.set_per_process_memory_fraction(
        room / torch.cuda.get_device_properties(0).total_memory
    )
    try:
        futures = [engine.submit(key, frames, (), timeout_seconds=60) for frames in videos]
        for future, expected in zip(futures, before, strict=True):
            assert cosine(future.result().pooled, expected.pooled) > 0.9999
        assert engine._batcher._lanes[str(key)].cap < 24
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_lost_context_ends_the_process_with_71() -> None:
    program = """
import logging, torch
logging.basicConfig()
from tests.weights import synthetic_frames
from workers.ending.at_once import end_process
from workers.backbones.window_model import WindowModel
from workers.engine.engine import Engine, ModelKey
engine, key = Engine(device="cuda:0", models_dir=None, compile="off", ended=end_process), ModelKey("vivit", "random-tiny")
engine.load(key)
def encode(self, windows, labels):
    torch.ones(4, device="cuda")[torch.tensor([9], device="cuda")]  # a device-side assertion
    torch.cuda.synchronize()
WindowModel.encode = encode
engine.submit(key, synthetic_frames(1), (), timeout_seconds=60).exception()
import time; time.sleep(30)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 71, done.stderr
    assert "the device is lost" in done.stderr
