"""By which queue a video goes, from what it owes and what the live workers can make."""

from __future__ import annotations

import pytest

from db.jobs.abilities import Abilities, Makers, Route

#: Of four workers all can make 1, one can make 2, two 3, nobody 4; 5 and 6 are paused.
FLEET = Abilities(
    4,
    40,
    (
        Makers(1, "vivit", "vivit", 4, 40),
        Makers(2, "siglip2", "siglip2", 1, 10),
        Makers(3, "x-clip", "x-clip", 2, 20),
        Makers(4, "vjepa2", "vjepa2", 0, 0),
        Makers(5, "probe", "probe", 4, 40, paused=True),
        Makers(6, "videomae", "videomae", 1, 10, paused=True),
    ),
)


@pytest.mark.parametrize(
    ("owed", "route"),
    [
        ((1,), Route(common=True)),
        ((2,), Route(2)),
        ((1, 2), Route(2, common=True)),
        ((2, 3), Route(2)),
        ((3, 4), Route(3)),
        ((1, 4), Route(common=True)),
        ((4,), Route()),
        ((5,), Route()),
        ((6,), Route()),
        ((1, 6), Route(common=True)),
        ((4, 5), Route()),
        ((), Route(common=True)),
        ((99,), Route()),
    ],
)
def test_the_rarest_that_can_be_made_chooses_the_queue(owed: tuple[int, ...], route: Route) -> None:
    assert FLEET.route(owed) == route


def test_without_workers_nobody_knows_so_everything_but_what_is_paused_is_for_all() -> None:
    nobody = Abilities(0, 0, FLEET.encoders)
    assert [nobody.route(owed) for owed in ((4,), (5,), ())] == [
        Route(common=True),
        Route(),
        Route(common=True),
    ]
    assert nobody.rare() == nobody.lacking() == []


def test_what_is_rare_and_what_is_lacking() -> None:
    assert [makers.encoder for makers in FLEET.rare()] == ["siglip2", "x-clip", "videomae"]
    assert [makers.encoder for makers in FLEET.lacking()] == ["vjepa2"]
    assert FLEET.makeable == [1, 2, 3]
