"""The probe backbone and the engine around it: numpy alone."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

from db.errors import RefusedConfigurationError, UsageError, VideoError
from tests.weights import synthetic_frames
from workers.backbones import probe
from workers.backbones.base import Encoded
from workers.engine.engine import Engine, ModelKey

KEY = ModelKey("probe", "pretrained")


@pytest.fixture
def engine():
    made = Engine(device=None, models_dir=None)
    made.load(KEY)
    yield made
    made.close()


def test_a_vector_belongs_to_its_video(engine: Engine) -> None:
    videos = [synthetic_frames(seed) for seed in range(6)]
    futures = [engine.submit(KEY, frames, (), timeout_seconds=10) for frames in videos]
    alone = [
        probe.Probe().encode(frames.reshape(3, 32, 224, 224, 3), ()).embeddings for frames in videos
    ]
    for index, future in enumerate(futures):
        encoding = future.result(10)
        assert encoding.windows.shape == (3, 64)
        assert encoding.dtype == "float32"
        assert encoding.device_seconds > 0
        np.testing.assert_array_equal(encoding.windows, alone[index])
        np.testing.assert_allclose(encoding.pooled, alone[index].mean(axis=0), rtol=1e-6)
        cosines = [
            float(encoding.pooled @ other.mean(0) / np.linalg.norm(other.mean(0)))
            for other in alone
        ]
        order = np.argsort(cosines)
        assert order[-1] == index
        assert cosines[order[-2]] < 0.98 * cosines[index]


def test_what_a_model_turned_out_to_be_is_said_once_loaded(engine: Engine) -> None:
    bound = engine.load(KEY)
    assert (bound.dim, bound.pooling, len(bound.digest)) == (64, "projection", 64)
    assert bound.digest == probe.Probe().digest
    assert engine.device_name == "cpu"


def test_an_engine_of_probes_never_imports_torch() -> None:
    code = """
import sys, numpy as np
from workers.engine.engine import Engine, ModelKey
engine, key = Engine(device=None, models_dir=None), ModelKey("probe", "pretrained")
engine.load(key)
engine.submit(key, np.zeros((96, 224, 224, 3), np.uint8), (), timeout_seconds=10).result(10)
engine.close()
print([name for name in ("torch", "transformers", "av") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_black_has_a_length() -> None:
    for level in (0, 127, 128, 255):
        frames = np.full((1, 32, 224, 224, 3), level, np.uint8)
        assert np.linalg.norm(probe.Probe().encode(frames, ()).embeddings) > 0.1


def test_what_is_no_video_or_no_loaded_model_is_refused_at_the_door(engine: Engine) -> None:
    frames = np.zeros((96, 224, 224, 3), np.uint8)
    with pytest.raises(ValueError, match=r"float32 \(96, 224, 224, 3\), not uint8"):
        engine.submit(KEY, frames.astype(np.float32), (), timeout_seconds=1)
    with pytest.raises(ValueError, match=r"\(95, 224"):
        engine.submit(KEY, frames[1:], (), timeout_seconds=1)
    with pytest.raises(ValueError, match="vivit:pretrained is not loaded"):
        engine.submit(ModelKey("vivit", "pretrained"), frames, (), timeout_seconds=1)
    with pytest.raises(UsageError, match="no backbone"):
        engine.load(ModelKey("pobe", "pretrained"))


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, 2.0], [np.nan, 1.0], [1.0, 1.0]], "not finite"),
        ([[1.0, 2.0], [1.0, np.inf], [1.0, 1.0]], "not finite"),
        ([[1.0, 2.0], [0.0, 0.0], [1.0, 1.0]], "length zero"),
        ([[1.0, 2.0], [-1.0, -2.0], [0.0, 0.0]], "length zero"),
    ],
)
def test_numbers_that_cannot_be_searched_are_an_error(
    engine: Engine, monkeypatch, vectors, message: str
) -> None:
    answer = Encoded(np.array(vectors, np.float32), {})
    monkeypatch.setattr(probe.Probe, "encode", lambda self, windows, label_sets: answer)
    future = engine.submit(KEY, synthetic_frames(1), (), timeout_seconds=10)
    with pytest.raises(VideoError, match=message) as caught:
        future.result(10)
    assert (caught.value.code, caught.value.stage) == ("nonfinite", "encode")


#: Stands for torch's class of this name.
CudaOutOfMemory = type("OutOfMemoryError", (RuntimeError,), {})


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (CudaOutOfMemory("tried to allocate"), "device_out_of_memory"),
        (MemoryError(), "device_out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "device_out_of_memory"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "device_error"),
    ],
)
def test_a_failing_device_has_its_code(
    engine: Engine, monkeypatch, failure: Exception, code: str
) -> None:
    def fail(self, windows, label_sets):
        raise failure

    monkeypatch.setattr(probe.Probe, "encode", fail)
    future = engine.submit(KEY, synthetic_frames(1), (), timeout_seconds=10)
    with pytest.raises(VideoError) as caught:
        future.result(10)
    assert caught.value.code == code


def test_a_model_is_loaded_once_whoever_asks(monkeypatch) -> None:
    loads = []
    real = probe.load
    monkeypatch.setattr(probe, "load", lambda *arguments: loads.append(1) or real(*arguments))
    engine = Engine(device=None, models_dir=None)
    threads = [threading.Thread(target=engine.load, args=(KEY,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    engine.close()
    assert loads == [1]


def test_pretrained_weights_without_a_folder_say_what_to_set() -> None:
    from workers.backbones.base import Weights
    from workers.backbones.vivit import SPEC
    from workers.weights.loading import folder_of

    with pytest.raises(
        RefusedConfigurationError,
        match=r"vivit: there are no weights, as REELVEC_MODELS_DIR is not set",
    ):
        folder_of(SPEC, Weights("pretrained"))
