"""Messages can be forged: only ours are understood."""

from __future__ import annotations

import pytest

from workers import contract


def test_a_message_survives_the_journey() -> None:
    assert contract.decode(contract.encode(42)) == 42


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [1],
        [2, 42],
        [1, "42"],
        [1, 0],
        [1, -1],
        [1, 2**63],
        [1, 42, 43],
        [1, None],
        ["1", 42],
        [1, 4.5],
        [True, "x"],
    ],
)
def test_anything_else_is_refused_and_shown(arguments: list[object]) -> None:
    with pytest.raises(contract.MalformedMessageError, match="version 1"):
        contract.decode(arguments)


def test_a_long_forgery_is_not_shown_whole() -> None:
    with pytest.raises(contract.MalformedMessageError) as caught:
        contract.decode(["x" * 100_000])
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("encoder", "stage", "queue"),
    [
        (None, "video", "reelvec"),
        (None, "frames", "reelvec.frames"),
        ("siglip2", "video", "reelvec.siglip2"),
        ("siglip2", "frames", "reelvec.frames.siglip2"),
    ],
)
def test_each_stage_has_queues_of_its_own(encoder: str | None, stage: str, queue: str) -> None:
    assert contract.queue_of(encoder, stage=stage) == queue
    assert contract.stage_of(queue) == stage
