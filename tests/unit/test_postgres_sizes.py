"""What the local stack's Postgres is given of a machine's memory."""

from __future__ import annotations

import pytest

from db.stack.postgres import sizes

GIB = 1 << 30


@pytest.mark.parametrize(
    ("memory_bytes", "cache", "expected_on_disk"),
    [
        (GIB // 4, "128MB", "256MB"),
        (24 * GIB, "6144MB", "12288MB"),
        (1024 * GIB, "8192MB", "524288MB"),
    ],
)
def test_a_quarter_of_the_memory_at_most_eight_gib(
    memory_bytes: int, cache: str, expected_on_disk: str
) -> None:
    assert sizes(memory_bytes) == {
        "shared_buffers": cache,
        "effective_cache_size": expected_on_disk,
    }
