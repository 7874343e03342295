"""The engine's face and what it makes of a device's errors, with the probe: no torch needed."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from db.errors import RefusedConfigurationError, VideoError
from workers.backbones import probe
from workers.engine import device_choice, outcomes
from workers.engine.device import Device
from workers.engine.encoding import DeviceLostError, EncodeRequest, Encoding
from workers.engine.engine import Engine, ModelKey
from workers.engine.lanes import Item, Piece
from workers.sampling.plan import SHAPE

KEY = ModelKey("probe", "pretrained")


def signed(number: int) -> np.ndarray:
    """A video that says which it is: its colour, in steps of 8, and another one in its second
    window.
    """
    colours = np.empty((96, 1, 1, 3), np.uint8)
    colours[:] = np.array([number % 32, number // 32, 5], np.uint8) * 8
    colours[32:64, ..., 2] = 200
    return np.broadcast_to(colours, SHAPE)


def read_signature(encoding: Encoding) -> int:
    """The number back from a vector of its first window."""
    rows = probe.matrix()
    channels = rows[:-1].reshape(-1, 3, 64).sum(axis=0)
    scaled = np.linalg.lstsq(channels.T, encoding.windows[0] - rows[-1], rcond=None)[0]
    red, green, _ = ((scaled + probe.SPEC.offset) / probe.SPEC.scale / 8).round().astype(int)
    return int(red + 32 * green)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch):
    """One that makes batches of up to four videos, as on a GPU."""
    monkeypatch.setattr(Device, "sizes", lambda self, key: (3, 6, 12))
    made = Engine(device="cpu", models_dir=None)
    made.load(KEY)
    yield made
    made.close()


def test_every_vector_belongs_to_its_video_under_32_threads(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    encode = probe.Probe.encode

    def counted(self, windows, label_sets):
        batches.append(len(windows))
        return encode(self, windows, label_sets)

    monkeypatch.setattr(probe.Probe, "encode", counted)
    wrong: list[tuple[int, int]] = []
    alone = {
        number: engine.submit(KEY, signed(number), (), timeout_seconds=60).result()
        for number in range(4)
    }

    def client(slot: int) -> None:
        for number in range(slot, 128, 32):
            made = engine.submit(
                KEY, signed(number), (), timeout_seconds=60, alone=number == 77
            ).result()
            if read_signature(made) != number:
                wrong.append((number, read_signature(made)))
            if number in alone:
                np.testing.assert_allclose(made.windows, alone[number].windows, atol=1e-5)

    threads = [threading.Thread(target=client, args=(slot,)) for slot in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert 12 in batches, "there was company"


def test_a_video_that_is_to_be_alone_is(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    encode = probe.Probe.encode
    monkeypatch.setattr(
        probe.Probe,
        "encode",
        lambda self, windows, sets: batches.append(len(windows)) or encode(self, windows, sets),
    )
    for alone in (True, False):
        futures = [
            engine.submit(KEY, signed(number), (), timeout_seconds=60, alone=alone)
            for number in (1, 2)
        ]
        assert [read_signature(future.result()) for future in futures] == [1, 2]
    assert batches == [3, 3, 6]


def test_loading_may_take_longer_than_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    load, ended = probe.load, []
    monkeypatch.setattr(probe, "load", lambda *arguments: time.sleep(0.5) or load(*arguments))
    slow = Engine(
        device="cpu", models_dir=None, stall_seconds=0.1, ended=lambda *why: ended.append(why)
    )
    assert slow.load(KEY).dim == 64
    slow.close()
    assert not ended


def test_a_vector_that_is_not_finite_is_made_once_more(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, calls = probe.Probe.encode, []

    def rough(self, windows, label_sets):
        calls.append(len(windows))
        made = encode(self, windows, label_sets)
        if len(calls) == 1:
            made.embeddings[1] = np.nan
        return made

    monkeypatch.setattr(probe.Probe, "encode", rough)
    made = engine.submit(KEY, signed(3), (), timeout_seconds=60).result()
    assert np.isfinite(made.windows).all()
    assert calls == [3, 3]


def one(number: int = 1, count: int = 3) -> list[Piece]:
    return [Piece(Item(EncodeRequest(KEY, signed(number), ()), count, 0, 0, alone=False), 0, count)]


def test_parts_of_a_video_join_to_what_it_is_whole() -> None:
    made = Device("cpu", None)
    made.load(KEY)
    (whole,) = made.finish(made.start(one()))
    (item,) = {piece.item for piece in one()}
    parts = [made.finish(made.start([Piece(item, *ends)]))[0] for ends in ((0, 1), (1, 3))]
    joined = outcomes.join(parts)
    one_of_three, two_of_three = made.finish(made.start([Piece(item, 0, 1), Piece(item, 1, 3)]))
    assert two_of_three.device_seconds == pytest.approx(2 * one_of_three.device_seconds)
    np.testing.assert_allclose(joined.windows, whole.windows, atol=1e-5)
    np.testing.assert_allclose(joined.pooled, whole.pooled, atol=1e-5)
    assert joined.device_seconds == sum(part.device_seconds for part in parts)


class InductorError(Exception):
    __module__ = "torch._inductor.exc"


@pytest.mark.parametrize(
    ("error", "answers", "expected", "code"),
    [
        (MemoryError("no"), False, VideoError, "device_out_of_memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            False,
            VideoError,
            "device_out_of_memory",
        ),
        (ValueError("five"), True, VideoError, "device_error"),
        (
            RuntimeError("CUDA error: an illegal memory access was encountered"),
            False,
            DeviceLostError,
            None,
        ),
        (InductorError("no compiler"), True, RefusedConfigurationError, None),
        (VideoError("nonfinite", "NaN", stage="encode"), True, VideoError, "nonfinite"),
    ],
)
def test_what_an_error_on_a_gpu_means(
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    answers: bool,
    expected: type[Exception],
    code: str | None,
) -> None:
    """A GPU that still answers has lost one batch; one that does not has lost everything in this
    process.
    """
    made = Device("cpu", None)
    made.load(KEY)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(probe.Probe, "encode", fail)
    monkeypatch.setattr(Device, "_on_gpu", True)
    monkeypatch.setattr(Device, "_mark", lambda _: None)
    monkeypatch.setattr(Device, "_free", lambda _: None)
    monkeypatch.setattr(Device, "_answers", lambda _: answers)
    with pytest.raises(expected) as caught:
        made.start(one())
    assert getattr(caught.value, "code", None) == code or expected is RefusedConfigurationError
    if expected is RefusedConfigurationError:
        assert "REELVEC_COMPILE=off" in str(caught.value)


def test_a_gpu_that_is_lost_while_it_computes_is_found_when_its_batch_is_finished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Lost:
        def query(self) -> bool:
            raise RuntimeError("CUDA error: unspecified launch failure")

        synchronize = query

    made = Device("cpu", None)
    made.load(KEY)
    started = dataclasses.replace(made.start(one()), ended=Lost())
    monkeypatch.setattr(Device, "_on_gpu", True)
    monkeypatch.setattr(Device, "_answers", lambda _: False)
    assert made.is_done(started)
    with pytest.raises(DeviceLostError, match="unspecified launch failure"):
        made.finish(started)


@pytest.mark.parametrize(
    ("setting", "on_gpu", "missing", "expected"),
    [
        ("auto", True, None, True),
        ("auto", True, "a C compiler", False),
        ("auto", False, None, False),
        ("on", False, "a C compiler", True),
        ("off", True, None, False),
    ],
)
def test_where_models_are_compiled(
    monkeypatch: pytest.MonkeyPatch,
    caplog,
    setting: str,
    on_gpu: bool,
    missing: str | None,
    expected: bool,
) -> None:
    monkeypatch.setattr(device_choice, "_missing", lambda: missing)
    assert device_choice.wants_compiling(setting, on_gpu=on_gpu) is expected
    assert ("a C compiler is not there" in caplog.text) == (
        setting == "auto" and missing is not None
    )


@pytest.mark.parametrize(
    ("batch", "on_gpu", "sizes"),
    [
        (4, True, (3, 6, 12)),
        (3, True, (3, 6)),
        (1, True, (3,)),
        (64, True, (3, 6, 12)),
        (4, False, (3,)),
    ],
)
def test_batches_have_the_windows_of_1_2_and_4_videos(
    monkeypatch: pytest.MonkeyPatch, batch: int, on_gpu: bool, sizes: tuple[int, ...]
) -> None:
    from workers.backbones import vivit

    made = Device("cpu", None, videos_per_batch=batch)
    key = ModelKey("vivit", "random-tiny")
    made._loaded[key] = type("Loaded", (), {"spec": vivit.SPEC})()
    monkeypatch.setattr(Device, "_on_gpu", on_gpu)
    assert made.sizes(key) == sizes


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        ("raise DeviceLostError('illegal access')", 71, "the device is lost: illegal access"),
        ("time.sleep(60)", 72, "gave no result in 1 seconds"),
        ("raise SystemExit", 73, "the engine's thread died: SystemExit"),
    ],
)
def test_a_process_whose_device_is_gone_says_where_it_stands_and_ends(
    fault: str, code: int, said: str
) -> None:
    program = f"""
import logging, time
logging.basicConfig()
from tests.unit.test_engine import KEY, signed
from workers.ending.at_once import end_process
from workers.engine.device import Device
from workers.engine.engine import Engine
from workers.engine.encoding import DeviceLostError
engine = Engine(device="cpu", models_dir=None, stall_seconds=1, ended=end_process)
engine.load(KEY)
def encode(*_, **__):
    {fault}
Device.start = encode
engine.submit(KEY, signed(1), (), timeout_seconds=30).exception()
time.sleep(30)
"""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Current thread" in done.stderr
    assert "end_process" in done.stderr
    assert time.monotonic() - started < 25
