"""What the page is made of, without a server: numbers that are made once for all, commands that are
safe to paste, bars that add up.
"""

from __future__ import annotations

import asyncio
import itertools
import shlex
from datetime import UTC, datetime

import pytest

from db.canary.drifts import Dispute, Drift, Drifts
from db.progress.census import Waiting
from db.progress.fleet import Fleet
from db.progress.halts import ClosedPlace, Halts, PausedBackbone, RefusingWorker
from db.progress.history import History, Slice
from db.progress.models import ModelProgress
from db.progress.rates import Stages
from producer.status.broker import Broker
from producer.status.snapshot import Snapshot
from producer.status.verdict import Verdict
from producer.ui import charts, now, pages
from producer.ui.live import Live
from producer.ui.look import Asked

HOSTILE = "x; rm -rf ~ $(id) `id` 'a\" \n"


def test_numbers_are_made_once_for_all_who_look_and_not_while_nobody_does() -> None:
    made = itertools.count(1)

    async def run() -> None:
        live = Live(lambda: next(made), pause_seconds=0.01)
        maker = asyncio.create_task(live.run())
        await asyncio.sleep(0.05)
        assert next(made) == 1, "nobody looked"

        async def follow(count: int) -> list[int]:
            followed = live.follow()
            seen = [await anext(followed) for _ in range(count)]
            await followed.aclose()
            return seen

        seen = await asyncio.gather(*(follow(3) for _ in range(10)))
        assert seen == [[2, 3, 4]] * 10
        maker.cancel()

    asyncio.run(run())


def test_a_page_waits_a_moment_for_its_numbers_and_no_longer() -> None:
    async def run() -> None:
        live = Live(lambda: "numbers", pause_seconds=60.0)
        assert await live.latest(patience_seconds=0.01) is None, "nobody makes any"
        maker = asyncio.create_task(live.run())
        assert await live.latest(patience_seconds=60.0) == "numbers"
        assert await live.latest(patience_seconds=60.0) == "numbers"
        maker.cancel()

    asyncio.run(run())


def seen(**facts: object) -> Snapshot:
    verdict = Verdict("RUNNING", "RUNNING  1 done", 0, 0.0, 0.0, None)
    return Snapshot(
        verdict, None, Stages(0), [], Waiting(), Fleet(1, 0, 1, 0, 1.0), Halts(), Broker("here", 0), [], [], **facts  # type: ignore[arg-type]
    )  # fmt: skip


def test_every_trouble_has_its_words_and_a_command_that_is_safe_to_paste() -> None:
    halts = Halts(
        7,
        tuple(ClosedPlace(f"s3://{n}", 60.0, "access_denied", "no") for n in range(6)),
        (RefusingWorker("node", HOSTILE, 1, "s3://a", 9.0, "unreachable", "no"),),
        (PausedBackbone(HOSTILE, "broken", 5.0),),
    )
    drifted = Drifts(
        (Drift(HOSTILE, HOSTILE, "cpu", "torch", "off"),), (Dispute("vivit", ("a", "b")),)
    )
    lacking = ModelProgress(HOSTILE + "2", 9, 0, 0, 9, 9)
    held_up = now.troubles(
        Snapshot(**{**vars(seen()), "halts": halts, "drifts": drifted, "models": (lacking,)})
    )
    assert [one.kind for one in held_up] == [
        *["CLOSED"] * 6, "REFUSED", "PAUSED", "DRIFTED", "DISPUTED", "WEIGHTS",
    ]  # fmt: skip
    assert held_up[5].sentence.startswith("2 more places")
    assert all(one.sentence for one in held_up)
    words = [shlex.split(one.command or "") for one in held_up]
    assert words[7] == ["reelvec", "pause", "--backbone", HOSTILE, "--resume"]
    assert words[8] == ["reelvec", "models", "accept", HOSTILE, "--worker", HOSTILE]
    assert words[10] == ["reelvec", "models", "fetch", HOSTILE + "2"]


@pytest.mark.parametrize(
    ("state", "alive", "code", "command"),
    [
        ("RUNNING", 1, 0, None),
        ("DONE", 1, 0, None),
        ("PAUSED", 1, 1, "reelvec pause --resume"),
        ("STALLED", 0, 1, "reelvec worker"),
        ("STALLED", 1, 1, "reelvec status --workers"),
        ("BLOCKED", 1, 1, "reelvec doctor"),
        ("FAILING", 1, 1, "reelvec status --failed --error internal"),
    ],
)
def test_what_mends_a_verdict(state: str, alive: int, code: int, command: str | None) -> None:
    verdict = Verdict(state, state, code, 0.0, 0.0, None)
    fleet = Fleet(alive, 0, alive, 0, 1.0)
    facts = {**vars(seen()), "verdict": verdict, "fleet": fleet, "codes": [("internal", 9)]}
    assert now.remedy(Snapshot(**facts)) == command


def test_a_bar_is_whole_and_a_chart_reaches_its_top() -> None:
    parts = charts.parts((("done", 30), ("failed", 0), ("waiting", 10)))
    assert [(part.name, part.start, part.length) for part in parts] == [
        ("done", 0.0, 75.0),
        ("waiting", 75.0, 25.0),
    ]
    assert charts.parts((("done", 0),)) == ()
    history = History(10.0, datetime.now(UTC), (Slice(0, 0), Slice(30, 10), Slice(20, 0)))
    chart = charts.pace(history)
    assert chart.top == 5.0
    first, second, third = chart.columns
    assert (first.done_height, first.failed_height) == (0.0, 0.0)
    assert second.done_height + second.failed_height == pytest.approx(0.8 * charts.HEIGHT)
    assert second.done_top + second.done_height + second.failed_height == pytest.approx(
        charts.HEIGHT
    )
    assert third.label == "2.00 videos/s done"
    assert charts.pace(History(0.0, None)).columns == ()


def test_numbers_have_units_and_lines_stay_lines() -> None:
    assert [pages.seconds(value) for value in (None, 0.012, 3.14159, 600.0)] == [
        "–",
        "12 ms",
        "3.1 s",
        "10 min",
    ]
    assert [pages.size(value) for value in (None, 999, 1500, 16_400_000)] == [
        "–",
        "999 bytes",
        "1.5 kB",
        "16.4 MB",
    ]
    assert [pages.rate(value) for value in (0.042, 4.56, 1234.5)] == [
        "0.04 videos/s",
        "4.6 videos/s",
        "1,234 videos/s",
    ]
    assert pages.clock(64.46) == "1:04.5"
    assert pages.plain("a\u202eb\x1b[1m\nc") == "a b [1m"


def test_whatever_an_address_asks_for_is_a_filter_or_nothing() -> None:
    asked = Asked.of(
        {"category": "films", "tag": "", "duration": "10min", "before": "17", "other": "x"}
    )
    assert (asked.filters.category, asked.filters.tag, asked.before) == ("films", None, 17)
    assert (asked.filters.least_seconds, asked.filters.most_seconds) == (60.0, 600.0)
    assert asked.address(5) == "/look?category=films&duration=10min&before=5"
    assert Asked.of({"duration": "ages", "before": "-1"}) == Asked({})


def test_templates_escape_and_switch_it_off_nowhere() -> None:
    environment = pages.environment()
    names = environment.list_templates()
    assert len(names) == 21
    for name in names:
        assert environment.loader is not None
        source = environment.loader.get_source(environment, name)[0]
        assert not {"|safe", "| safe", "autoescape", " style=", " onclick", "javascript:"} & {
            word
            for word in ("|safe", "| safe", "autoescape", " style=", " onclick", "javascript:")
            if word in source
        }, name
    assert environment.from_string("{{ x }}").render(x="<b>'\"&") == "&lt;b&gt;&#39;&#34;&amp;"
