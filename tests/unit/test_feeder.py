"""How much the broker may hold."""

from __future__ import annotations

from workers import feeder


def test_the_window_follows_the_fleet_within_bounds() -> None:
    assert [feeder.window(in_flight) for in_flight in (0, 10, 11, 500, 100_000)] == [200, 200, 220, 10_000, 20_000]
