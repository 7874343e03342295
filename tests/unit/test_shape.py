"""The shape of a worker on machines of all kinds; every number is worked out by hand beside it."""

from __future__ import annotations

import pytest

from workers.node import shape

GIB = 1 << 30


@pytest.mark.parametrize(
    ("cores", "gib", "processes", "on_gpu", "samplers", "in_flight", "reason"),
    [
        (2, 24, 1, False, 1, 3, "2 cores less one"),
        (1, 24, 1, False, 1, 3, "1 core"),
        (1.5, 24, 1, False, 1, 3, "1.5 cores"),
        (16, 128, 1, True, 15, 34, "16 cores less one"),
        (64, 512, 8, True, 7, 18, "8 of 64 cores less one"),
        (6, 64, 4, True, 1, 6, "1.5 of 6 cores"),
        # 8 - 3 - 4 x 0.029 GiB = 4.88 GiB of 360 MiB each
        (16, 8, 1, True, 13, 30, "8.0 GiB of memory; 16 cores would feed 15"),
        # of 32 GiB each: 28.97 GiB of 360 MiB each
        (768, 256, 8, False, 82, 165, "32.0 GiB of memory; 96 of 768 cores would feed 95"),
        (16, 2, 1, False, 1, 3, "2.0 GiB of memory; 16 cores would feed 15"),
    ],
)
def test_machines(
    cores: float, gib: int, processes: int, on_gpu: bool, samplers: int, in_flight: int, reason: str
) -> None:
    made = shape.choose(cores=cores, memory_bytes=gib * GIB, processes=processes, on_gpu=on_gpu)
    assert (made.samplers, made.in_flight, made.reason) == (samplers, in_flight, reason)
    assert made.cores == cores / processes


def test_who_only_samples_has_every_core_and_no_model() -> None:
    made = shape.choose(
        cores=16, memory_bytes=8 * GIB, processes=1, on_gpu=False, only_samples=True
    )
    assert (made.samplers, made.in_flight, made.pack_slots) == (16, 32, 0)
    assert shape.describe(made, 0) == (
        "16 samplers (16 cores), 32 videos in flight, frames for other workers; "
        "REELVEC_SAMPLERS changes it"
    )
    assert shape.choose(cores=4, memory_bytes=GIB, processes=1, on_gpu=True).pack_slots == 12


def test_what_was_chosen_is_taken() -> None:
    made = shape.choose(
        cores=4, memory_bytes=GIB, processes=1, on_gpu=True, samplers=9, videos_per_batch=2
    )
    assert (made.samplers, made.videos_per_batch, made.in_flight) == (9, 2, 20)


@pytest.mark.parametrize(
    ("card_bytes", "videos"),
    [
        (None, 1),
        (6 * GIB, 1),
        (int(7.6 * GIB), 2),  # sold as 8 GB
        (12 * GIB, 2),
        (int(14.6 * GIB), 4),  # sold as 16 GB
        (80 * GIB, 4),
    ],
)
def test_cards(card_bytes: int | None, videos: int) -> None:
    assert shape.videos_per_batch(card_bytes) == videos


def test_what_is_said_at_the_start() -> None:
    made = shape.choose(cores=16, memory_bytes=128 * GIB, processes=1, on_gpu=True)
    assert shape.describe(made, 4) == (
        "15 samplers (16 cores less one), 34 videos in flight, batches of 4 videos; "
        "REELVEC_SAMPLERS changes it"
    )
    made = shape.choose(cores=16, memory_bytes=128 * GIB, processes=1, on_gpu=False, samplers=1)
    assert (
        shape.describe(made, 1)
        == "1 sampler (REELVEC_SAMPLERS), 3 videos in flight, batches of 1 video"
    )
