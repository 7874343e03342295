"""The engine with all the models: batches change nothing, and the numbers do not drift."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from db import machine
from db.errors import RefusedConfigurationError
from db.labels import LabelSet
from tests.weights import synthetic_frames
from workers.backbones import registry
from workers.engine.device import Device
from workers.engine.encoding import EncodeRequest
from workers.engine.engine import Engine, ModelKey
from workers.engine.lanes import Item, Piece

GOLDEN = Path(__file__).parents[1] / "golden" / "random_tiny.json"
MODELS = [name for name in registry.names() if registry.get(name).needs_torch]

ENGLISH = LabelSet(
    "en", ("Category: cooking", "Category: films", "Category: news"), ("cooking", "films", "news")
)
BARE = LabelSet("bare", ("кино", "cooking", "фильм"), ("films", "cooking", "films"))


def encode(device: Device, requests: list[EncodeRequest]) -> list:
    """The outcome of each request, all in one batch."""
    whole = [registry.get(request.key.backbone).windows_per_video for request in requests]
    pieces = [
        Piece(Item(request, count, 0, 0, alone=False), 0, count)
        for request, count in zip(requests, whole, strict=True)
    ]
    return device.finish(device.start(pieces))


@pytest.fixture(scope="module")
def tiny() -> Device:
    made = Device("cpu", None)
    for name in MODELS:
        made.load(ModelKey(name, "random-tiny"))
    return made


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = Engine(device="cpu", models_dir=None)
    yield made
    made.close()


def golden_numbers(engine: Engine, name: str) -> dict:
    """The numbers kept in tests/golden/random_tiny.json for one backbone."""
    key = ModelKey(name, "random-tiny")
    bound = engine.load(key)
    encoding = engine.submit(key, synthetic_frames(7), (ENGLISH, BARE), timeout_seconds=60).result(
        60
    )
    numbers = {
        "digest": bound.digest,
        "pooling": bound.pooling,
        "pooled": encoding.pooled[:6].tolist(),
    }
    for labels in (ENGLISH, BARE):
        if labels.digest in encoding.probabilities:
            numbers[labels.name] = encoding.probabilities[labels.digest].tolist()
    return numbers


@pytest.mark.parametrize("name", registry.names())
def test_numbers_do_not_drift(engine: Engine, name: str) -> None:
    got, expected = golden_numbers(engine, name), json.loads(GOLDEN.read_text())[name]
    assert got.keys() == expected.keys()
    for what, value in expected.items():
        if isinstance(value, str):
            assert got[what] == value
        else:
            np.testing.assert_allclose(got[what], value, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_videos_in_one_batch_are_what_they_are_alone(tiny: Device, name: str) -> None:
    key = ModelKey(name, "random-tiny")
    videos = [synthetic_frames(seed) for seed in (1, 2)]
    wanted = [(ENGLISH,), (BARE, ENGLISH)] if registry.get(name).has_text else [(), ()]
    requests = [
        EncodeRequest(key, frames, labels) for frames, labels in zip(videos, wanted, strict=True)
    ]
    together = encode(tiny, requests)
    alone = [encode(tiny, [request])[0] for request in requests]
    for index, one in enumerate(alone):
        np.testing.assert_allclose(together[index].windows, one.windows, atol=2e-6)
        np.testing.assert_allclose(together[index].pooled, one.pooled, atol=2e-6)
        assert together[index].probabilities.keys() == {labels.digest for labels in wanted[index]}
        for digest, expected in one.probabilities.items():
            np.testing.assert_allclose(together[index].probabilities[digest], expected, atol=1e-5)
            np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-6)
        for other in range(2):
            apart = np.abs(together[index].windows - alone[other].windows).max()
            assert (apart < 1e-5) == (other == index)


@pytest.mark.parametrize("name", MODELS)
def test_windows_are_in_the_order_of_the_video(tiny: Device, name: str) -> None:
    key = ModelKey(name, "random-tiny")
    frames = synthetic_frames(4)
    length = registry.get(name).frames_per_window
    swapped = np.concatenate([frames[length : 2 * length], frames[:length], frames[2 * length :]])
    (one,), (other,) = (
        encode(tiny, [EncodeRequest(key, frames, ())]),
        encode(tiny, [EncodeRequest(key, swapped, ())]),
    )
    np.testing.assert_allclose(one.windows[[1, 0]], other.windows[:2], atol=2e-6)
    assert np.abs(one.windows[0] - one.windows[1]).max() > 1e-3


def test_frames_of_a_read_only_buffer_are_encoded_without_a_warning(tiny: Device) -> None:
    frames = synthetic_frames(5)
    key = ModelKey("videomae", "random-tiny")
    (expected,) = encode(tiny, [EncodeRequest(key, frames.copy(), ())])
    frames.flags.writeable = False
    (got,) = encode(tiny, [EncodeRequest(key, frames, ())])
    np.testing.assert_array_equal(got.windows, expected.windows)


@pytest.mark.parametrize("name", ["x-clip", "siglip2"])
def test_a_prompt_chunk_or_a_label_set_more_changes_no_probability(
    tiny: Device, monkeypatch, name: str
) -> None:
    from workers.backbones import texts, xclip

    key = ModelKey(name, "random-tiny")
    many = LabelSet(
        "many", tuple(f"prompt {i}" for i in range(20)), tuple(f"c{i % 7}" for i in range(20))
    )
    request = EncodeRequest(key, synthetic_frames(6), (many,))
    (whole,) = encode(tiny, [request])
    monkeypatch.setattr(texts, "TEXT_CHUNK", 3)
    monkeypatch.setattr(xclip, "SCORE_CHUNK", 4)
    monkeypatch.setattr(texts, "KEPT_LABEL_SETS", 1)
    encode(tiny, [EncodeRequest(key, request.frames, (ENGLISH,))])
    (chunked,) = encode(tiny, [request])
    np.testing.assert_allclose(
        chunked.probabilities[many.digest], whole.probabilities[many.digest], atol=1e-5
    )


def test_a_gpu_torch_cannot_use_is_refused_not_worked_around(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(machine, "DEVICE_FILES", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    key = ModelKey("vivit", "random-tiny")
    with pytest.raises(
        RefusedConfigurationError,
        match=r"1 GPU \(0\), but torch .* cannot use one.*REELVEC_DEVICE=cpu",
    ):
        Engine(device=None, models_dir=None)
    with pytest.raises(RefusedConfigurationError, match="device 'meta' does not work"):
        Engine(device="meta", models_dir=None)
    cpu = Engine(device="cpu", models_dir=None)
    assert cpu.load(key).dim == 32
    cpu.close()
