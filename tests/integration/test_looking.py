"""What the page reads: the pace over time, videos by filters, one of them whole, and what is near."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
from sqlalchemy import Engine

from db.administration import indexes
from db.errors import UsageError
from db.jobs.selection import Selection
from db.progress import history
from db.progress.history import SLICES, Slice
from db.results import charted, looking
from db.results.looking import Filters
from db.stack.local_stack import StackState
from producer import same_weights
from producer.results import dedupe, mapping
from producer.ui import copies, judge, look, maps
from producer.ui.judge import Judging
from producer.ui.look import Asked
from producer.ui.matrix import matrix
from producer.ui.words import Words
from tests import exhibition, exhibition_judged
from tests.ledgering import ago, execute, read, set_jobs, ten_videos
from tests.vectors import bound, filled


def test_the_span_is_the_shortest_that_holds_all_that_ended(engine: Engine) -> None:
    assert read(engine, history.read).slices == ()
    ten_videos(engine)
    set_jobs(engine, "1,2,3", state="'done'", finished_at=ago(301))
    set_jobs(engine, "4", state="'failed'", finished_at=ago(1))
    set_jobs(engine, "5", state="'cancelled'", finished_at=ago(1))
    lately = read(engine, history.read)
    assert (lately.slice_seconds, len(lately.slices)) == (10.0, SLICES)
    assert lately.span_seconds == 600.0
    assert lately.slices[-1] == Slice(0, 1)
    assert [one for one in lately.slices if one.done] == [Slice(3, 0)]
    assert lately.slices.index(Slice(3, 0)) == SLICES - 31
    set_jobs(engine, "1", finished_at=ago(4000))
    assert read(engine, history.read).span_seconds == 21_600.0
    # a run of yesterday: the chart ends with it
    set_jobs(engine, "1,2,3,4,5", finished_at=ago(50_000))
    set_jobs(engine, "2", finished_at=ago(50_500))
    old = read(engine, history.read)
    assert old.span_seconds == 600.0
    assert old.slices[-1] == Slice(2, 1)
    assert sum(one.done for one in old.slices) == 3


@pytest.fixture(scope="module")
def catalogue(stack: StackState, template: str) -> Iterator[Engine]:
    with exhibition.opened(stack, template) as (_, engine):
        yield engine


def test_filters_find_what_they_say_newest_first(catalogue: Engine) -> None:
    def found(before: int | None = None, limit: int = 99, **filters: object) -> list[int]:
        wanted = Filters(**filters)  # type: ignore[arg-type]
        return read(catalogue, lambda c: looking.found(c, wanted, before=before, limit=limit))

    def of(condition: str) -> list[int]:
        statement = f"SELECT video_id FROM reelvec.videos v JOIN reelvec.jobs USING (video_id) WHERE {condition} ORDER BY 1 DESC"
        return read(catalogue, lambda c: list(c.exec_driver_sql(statement).scalars()))

    assert found() == of("true")
    assert found(limit=3) == of("true")[:3]
    assert found(before=of("true")[2]) == of("true")[3:]
    assert found(category="films") == of("category = 'films'") != []
    assert found(error="damaged") == of("error_code = 'damaged'") != []
    assert found(encoder="vivit") == of("state = 'done'") != []
    assert found(least_seconds=60, most_seconds=600) == of("duration_seconds IN (93, 560)") != []
    tagged = of(
        "EXISTS (SELECT FROM reelvec.scores s WHERE s.video_id = v.video_id AND s.tag = 'films')"
    )
    assert found(tag="films") == tagged != []
    assert found(tag="films", tagger="x-clip/en") == tagged
    assert found(tag="films", tagger="x-clip/ru") == found(tagger="genres@1") == []
    assert found(tagger="x-clip/ru") == of("state = 'done'")
    both = found(tag="films", category="films", least_seconds=0)
    assert both == [video_id for video_id in tagged if video_id in of("category = 'films'")] != []
    assert found(category="none such") == found(tag="none such") == found(encoder="none such") == []
    choices = read(catalogue, looking.choices)
    assert choices["category"] == ["animals", "design", "films", "interview"]
    assert choices["error"] == ["damaged", "not_found", "truncated"]
    assert choices["model"] == ["vivit", "x-clip", "efficientnet"]
    assert {"films", "фильмы"} <= set(choices["tag"])


def test_a_page_holds_all_that_is_known_and_what_is_near(catalogue: Engine) -> None:
    page = look.page(catalogue, 4)
    assert page is not None
    whole = page.whole
    assert whole.card.external_id == "rt-4"
    assert whole.card.strip_version is not None
    assert {made.encoder: len(made.spans) for made in whole.windows} == {
        "vivit": 3,
        "x-clip": 3,
        "efficientnet": 6,
    }
    assert {one.tagger for one in whole.scores} == {"x-clip/en", "x-clip/ru"}
    assert all(
        one.best == tuple(sorted(one.best, key=lambda pair: -pair[1])) for one in whole.scores
    )
    assert whole.job is not None
    assert whole.job["held_seconds"] == pytest.approx(6.4)
    for model in page.neighbours:
        distances = [distance for _, distance in model.near]
        assert len(distances) == look.NEIGHBOURS
        assert distances == sorted(distances)
        assert 4 not in [card.video_id for card, _ in model.near]
    failed = look.page(catalogue, exhibition.DONE + 1)
    assert failed is not None
    assert (failed.neighbours, failed.whole.card.strip_version) == ([], None)
    assert [attempt.attempt for attempt in failed.whole.attempts] == [2, 1]
    assert failed.whole.attempts[0].worker in ("node-1", "node-2")
    assert look.page(catalogue, 999) is None


def test_a_map_is_shown_with_names_and_a_large_one_as_a_sample(
    catalogue: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = maps.Maps(catalogue)
    assert shown.choices({}).encoder is None
    assert shown.points({}) is None
    mapping.make(catalogue, "vivit", None, anew=False, who="me", tell=lambda *_: None)

    def read(**query: str) -> charted.Charted:
        chosen = maps.Maps(catalogue).choices(query)
        assert chosen.encoder is not None
        assert chosen.made is not None
        return maps.read(catalogue, chosen.encoder, chosen.made, chosen.speaker)

    assert shown.choices({"tagger": "x"}).speaker == shown.choices({}).speaker
    whole = read(tagger="x-clip/ru")
    assert (len(whole.video_ids), whole.total, whole.unplaced) == (70, 70, 0)
    assert whole.categories == ("films", "animals", "design", "interview")
    four = whole.video_ids.tolist().index(4)
    assert (whole.categories[whole.category[four]], whole.tags[whole.tag[four]]) == (
        "animals",
        "животные",
    )
    assert (whole.category < 0).sum() == 10, "without a category"
    assert (whole.tag < 0).sum() == 0
    chosen = maps.Maps(catalogue).choices({"tagger": "x-clip/ru"})
    assert chosen.encoder is not None
    assert chosen.made is not None
    assert chosen.speaker is not None
    unsure = replace(chosen.speaker, unsure_below=1.0)
    assert (maps.read(catalogue, chosen.encoder, chosen.made, unsure).tag < 0).all()

    monkeypatch.setattr(maps, "MOST_POINTS", 30)
    some, again = read(), read()
    assert 10 < len(some.video_ids) < 50
    assert some.total == 70
    assert set(some.video_ids.tolist()) < set(whole.video_ids.tolist())
    np.testing.assert_array_equal(some.video_ids, again.video_ids)

    monkeypatch.setattr(maps, "MOST_POINTS", 70)
    monkeypatch.setattr(charted, "NAMES", 1)
    few = read()
    assert few.categories == ("films", charted.OTHERS)
    assert set(few.category.tolist()) == {-1, 0, 1}

    # read once for all who look, and again when the map is another one
    reads: list[object] = []
    true = charted.read
    monkeypatch.setattr(charted, "read", lambda *a, **k: reads.append(a) or true(*a, **k))
    assert shown.points({}) == shown.points({"model": "vivit"})
    assert len(reads) == 1
    mapping.make(catalogue, "vivit", None, anew=True, who="me", tell=lambda *_: None)
    shown.points({})
    shown.points({"tagger": "x-clip/ru"})
    assert len(reads) == 3


def test_a_name_is_a_number_first_and_an_id_else(catalogue: Engine) -> None:
    execute(catalogue, "UPDATE reelvec.videos SET external_id = '5' WHERE video_id = 9")

    def named(name: str) -> int | None:
        return read(catalogue, lambda c: looking.named(c, name))

    assert [named(name) for name in ("5", "rt-7", "999", "x", "9" * 30, "٣")] == [
        5,
        7,
        None,
        None,
        None,
        None,
    ]


def test_words_are_searched_with_a_model_that_is_loaded_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []

    class Reader:
        def text_vectors(self, words: list[str]) -> np.ndarray:
            return np.array([[1.0, len(words[0])]], np.float32)

    def loaded(space: object, *, doing: str) -> Reader:
        loads.append(space)
        return Reader()

    monkeypatch.setattr(same_weights, "load", loaded)
    words = Words(engine)
    nothing = words.answer("a dog", "")
    assert (nothing.spaces, nothing.hits, nothing.trouble) == ([], (), None)
    bound(engine, "vivit", 2)  # it reads no text
    filled(engine, bound(engine, "siglip2", 2), np.array([[1, 0], [1, 1], [1, 9]], np.float32))
    assert words.answer("", "").space is not None
    assert loads == []
    far = [card.video_id for card, _ in words.answer("a" * 9, "siglip2").hits]
    near = [card.video_id for card, _ in words.answer("", "x").hits]
    one = words.answer("2", "of no model")
    assert (far, near) == ([3, 2, 1], [])
    assert [card.video_id for card, _ in one.hits] == [2, 3, 1]
    assert one.named is not None
    assert one.named.whole.card.video_id == 2
    assert len(loads) == 1

    def refused(space: object, *, doing: str) -> Reader:
        raise UsageError("pip install '.[worker]'")

    monkeypatch.setattr(same_weights, "load", refused)
    assert words.answer("a dog", "").hits != ()
    assert Words(engine).answer("a dog", "").trouble == "pip install '.[worker]'"


def test_the_videos_of_a_square_are_those_that_were_counted_in_it(
    catalogue: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    judgement = Judging(catalogue).look()
    assert [one.tagger for one in judgement.judged] == ["x-clip/en", "x-clip/ru", "genres@1"][::2]
    for one in judgement.judged:
        assert one.cells
        assert sum(cell.videos for cell in one.cells) == one.videos
        right = sum(cell.videos for cell in one.cells if cell.category == cell.tag)
        assert 100 * right / one.videos == pytest.approx(one.shares[0].percent)
        for cell in one.cells:
            query = dict(parse_qsl(urlsplit(one.address(cell)).query))
            grid = look.grid(catalogue, Asked.of(query))
            assert [card.category for card in grid.cards] == [cell.category] * cell.videos
            if one.kind is None:
                assert {card.tag for card in grid.cards} == {cell.tag}
    monkeypatch.setattr(judge, "VIDEOS", 25)
    sampled = Judging(catalogue).look().judged[0]
    assert 8 < sampled.videos < 35
    assert any("one of 3 videos" in remark for remark in sampled.remarks)
    assert sampled.cells == judgement.judged[0].cells
    assert judgement.chosen("genres@1") is judgement.judged[1]
    assert judgement.chosen("no such") is judgement.judged[0], "it is right more often"
    assert judgement.lacking == ()
    assert matrix(judgement.judged[1].cells or ()).mistakes
    execute(catalogue, "UPDATE reelvec.encoders SET weights = 'random-tiny'")
    assert Judging(catalogue).look().judged == ()
    execute(catalogue, "UPDATE reelvec.encoders SET weights = 'pretrained'")  # for the next test


def test_of_copies_the_best_is_kept_and_the_others_are_beside_it(
    catalogue: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = {one.encoder: one for one in copies.every(catalogue)}
    assert set(every) == {"vivit", "x-clip", "efficientnet"}
    for found in every.values():
        groups = [{m.card.video_id: m for m in group.members} for group in found.shown]
        assert found.groups == len(groups)
        for copy, original in exhibition_judged.COPIES.items():
            (group,) = [one for one in groups if copy in one]
            assert original in group
        (cats,) = [one for one in groups if 4 in one]
        kept = [video_id for video_id, member in cats.items() if member.is_kept]
        assert kept == [next(iter(cats))] == [40], "of one size the most bytes"
        assert cats[22].distance == pytest.approx(0, abs=1e-3)
        assert cats[40].distance is None
    # it is the same as what the command finds
    listed = dedupe.groups(catalogue, "vivit", Selection(), above=0.95, keep="largest", tell=print)
    assert every["vivit"].spare_bytes == sum(group.spare_bytes for group in listed)
    monkeypatch.setattr(indexes, "WORTH_VECTORS", 60)
    (slow, *_) = copies.every(catalogue)
    assert (slow.groups, slow.command) == (0, "reelvec db index vivit")
    monkeypatch.setattr(indexes, "WORTH_VECTORS", 1000)
    execute(
        catalogue, "UPDATE reelvec.encoders SET weights = 'random-tiny' WHERE encoder = 'vivit'"
    )
    assert [one.encoder for one in copies.every(catalogue)] == ["x-clip", "efficientnet"]


def test_an_empty_catalogue_says_what_to_type_and_a_failure_keeps_what_was(engine: Engine) -> None:
    judging = Judging(engine)
    nothing = judging.take()
    assert (nothing.judged, nothing.copies, nothing.away) == ((), (), None)
    assert [one.command for one in nothing.lacking] == [
        "enqueue ./films --as films",
        "reelvec status",
    ]
    assert nothing.chosen(None) is None
    execute(engine, "ALTER TABLE reelvec.heads RENAME TO gone")
    broken = judging.take()
    assert broken.made_at == nothing.made_at
    assert "heads" in (broken.away or "")
    execute(engine, "ALTER TABLE reelvec.gone RENAME TO heads")
    assert judging.take().away is None
