"""`reelvec ui` as a browser and as an attacker see it: every page of a catalogue with whatever may be
in one, without an error, a request elsewhere, or a string that is more than text.
"""

from __future__ import annotations

import csv
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from sqlalchemy import Engine

from db.errors import UsageError
from db.stack.local_stack import LocalStack, StackState
from producer.ui.guard import HEADERS, POLICY
from producer.ui.server import listen
from tests import browser, exhibition
from tests.browser import Page
from tests.conftest import clean_environment
from tests.ledgering import execute, one

needs_browser = pytest.mark.skipif(
    browser.executable() is None,
    reason="there is no Chromium on PATH, and REELVEC_TEST_BROWSER names none",
)


@dataclass(frozen=True)
class Site:
    """The command as it runs, and the rows that it shows."""

    address: str
    engine: Engine
    environment: dict[str, str]
    hostile: list[int]

    @property
    def host(self) -> str:
        return self.address.split("/")[2]

    def ask(
        self,
        path: str,
        method: str = "GET",
        host: str | None = None,
        body: str = "",
        **headers: str,
    ) -> http.client.HTTPResponse:
        """An answer whose body is read, whatever a browser would not send."""
        connection = http.client.HTTPConnection(self.host, timeout=30)
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", self.host if host is None else host)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body.encode() or None)
        answer = connection.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
        connection.close()
        return answer


@contextmanager
def serving(environment: dict[str, str], *options: str) -> Iterator[tuple[str, Callable[[], str]]]:
    """`reelvec ui`: its address, and all that it has said beside it."""
    command = [str(Path(sys.executable).with_name("reelvec")), "ui", "--no-browser", "--port", "0"]
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(
            [*command, *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        ) as process,
    ):

        def so_far() -> str:
            said.seek(0)
            return said.read()

        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), so_far
        finally:
            process.terminate()
            process.wait(timeout=20)


@pytest.fixture(scope="module")
def site(stack: StackState, template: str) -> Iterator[Site]:
    """One catalogue and one server for all that only looks."""
    with exhibition.opened(stack, template) as (url, engine):
        environment = {
            **clean_environment(),
            "DATABASE_URL": url,
            "CELERY_BROKER_URL": stack.broker_url,
        }
        hostile = exhibition.add_hostile(engine)
        exhibition.put_on_map(engine, hostile)
        with serving(environment, "--allow-changes") as (address, _):
            yield Site(address, engine, environment, hostile)


@pytest.fixture(scope="module")
def page(site: Site) -> Iterator[Page]:
    with browser.running() as driven, driven.page() as made:
        yield made


#: Contrast of every visible text with what is behind it (WCAG 2.2, 1.4.3), and what is out of the window.
LOOKS = """
(() => {
  const rgb = (colour) => (colour.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = (colour) => {
    const [r, g, b] = rgb(colour).map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (rgb(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest(".unseen, noscript, script")) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(style.color), light(behind(element))].sort((x, y) => y - x);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if ((a + 0.05) / (b + 0.05) < (large ? 3 : 4.5)) faint.push(walker.currentNode.data.trim().slice(0, 40) + " " + style.color);
  }
  const unnamed = [...document.querySelectorAll("a, button, input:not([type=hidden]), select")].filter((one) =>
    !one.textContent.trim() && !one.getAttribute("aria-label") && !(one.labels && one.labels.length)).map((one) => one.outerHTML);
  return { faint, unnamed, wide: document.documentElement.scrollWidth - innerWidth };
})()
"""
LIVE = "document.querySelector('.verdict') !== null"
# its scripts and styles have run and are there, too
JUDGED = "document.readyState === 'complete' && document.querySelector('.matrix') !== null"


def pages(site: Site) -> list[str]:
    done, failed, waiting = (
        one(site.engine, f"SELECT min(video_id) FROM reelvec.jobs WHERE state = '{state}'")
        for state in ("done", "failed", "pending")
    )
    return ["", "look", "look?category=films&duration=10min", "look?error=truncated", "look?model=vivit&tag=films", "look?tag=none",
            "look?category=films&tag=films&held_out=genres@1", f"look/{done}", f"look/{failed}", f"look/{waiting}",
            f"look/{done}/frames", "search", "search?words=rt-3", "map", "map?model=x-clip&tagger=x-clip/ru",
            "judge", "judge?tagger=genres@1",
            f"judge?{urlencode({'tagger': f'x-clip/mine {exhibition.HOSTILE[0]}'})}", "change/retry", "change/cancel?category=films", "change/pause",
            "change/resume?backbone=efficientnet", "changes"]  # fmt: skip


@needs_browser
def test_every_page_is_whole_legible_and_asks_nobody_else(site: Site, page: Page) -> None:
    for width, height, dark, phone in ((1280, 900, False, False), (360, 780, True, True)):
        page.emulate(width, height, dark=dark, phone=phone)
        for path in pages(site):
            page.open(site.address + path)
            if not path:
                page.becomes(LIVE)
            if path.startswith("judge"):
                page.becomes(JUDGED)
                page.evaluate(
                    "document.querySelectorAll('details').forEach((one) => (one.open = true))"
                )
            looks = page.evaluate(LOOKS)
            assert looks == {"faint": [], "unnamed": [], "wide": 0}, f"/{path} at {width} px"
    assert page.problems == []
    assert {address.split("/")[2] for address in page.requests} == {site.host}
    for headers in page.answers.values():
        assert headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY


@needs_browser
def test_strings_from_strangers_are_text_wherever_they_stand(site: Site, page: Page) -> None:
    page.requests.clear()
    page.evaluate("document.body.dataset.opened = 1")
    words = set(exhibition.HOSTILE)
    for path in ("", "look", "look?error=undecodable", f"look?{exhibition.HOSTILE[2]}=1",
                 *(f"look/{video_id}" for video_id in site.hostile)):  # fmt: skip
        page.open(site.address + path)
        if not path:
            page.becomes(LIVE)
        assert page.evaluate("typeof window.hit") == "undefined"
        assert (
            page.evaluate(
                "document.querySelectorAll('iframe, base, form:not(.filters), math, video, b b, style').length"
            )
            == 0
        )
        assert page.evaluate("document.querySelectorAll('script').length") == 2
    for tagger in ("x-clip/en", f"x-clip/mine {exhibition.HOSTILE[0]}"):
        page.open(f"{site.address}judge?{urlencode({'tagger': tagger})}")
        page.becomes(JUDGED)
        assert page.evaluate("typeof window.hit") == "undefined"
        assert (
            page.evaluate(
                "document.querySelectorAll('iframe, base, math, video, b b, style').length"
            )
            == 0
        )
        assert page.evaluate("document.querySelectorAll('script').length") == 3
    rows = page.evaluate(
        "[...document.querySelectorAll('.matrix tbody th')].map((one) => one.textContent)"
    )
    assert len(rows) == len(words)
    page.open(site.address + "look?error=undecodable")
    names = set(
        page.evaluate("[...document.querySelectorAll('.card .name')].map((one) => one.textContent)")
    )
    plain = {
        "".join(c if c.isprintable() else " " for c in one.strip().partition("\n")[0]).strip()
        for one in words
    }
    assert plain <= names
    assert page.problems == []
    assert {address.split("/")[2] for address in page.requests} == {site.host}


READY = "document.getElementById('plane').dataset.ready !== undefined"
#: Where a video lies, in pixels of the window.
LIES = """
(() => {
  const { left, top } = plane.canvas.getBoundingClientRect();
  const [x, y] = plane.place(plane.points.ids.indexOf(%d));
  return [x + left, y + top];
})()
"""


def chosen_on_map(site: Site, condition: str) -> list[int]:
    statement = "SELECT array_agg(video_id ORDER BY video_id) FROM reelvec.coordinates WHERE encoder = 'vivit' AND "
    return one(site.engine, statement + condition) or []


def drag(page: Page, start: list[float], end: list[float], *, modifiers: int = 0) -> None:
    for kind, (x, y), buttons in (
        ("mousePressed", start, 1),
        ("mouseMoved", end, 1),
        ("mouseReleased", end, 0),
    ):
        page.call(
            "Input.dispatchMouseEvent",
            type=kind,
            x=x,
            y=y,
            button="left",
            buttons=buttons,
            clickCount=1,
            modifiers=modifiers,
        )


@needs_browser
def test_the_map_is_pointed_at_moved_and_selected_from(site: Site, page: Page) -> None:
    page.emulate(1280, 900)
    page.open(site.address + "map?model=vivit&tagger=x-clip/en")
    page.becomes(READY)
    names = page.evaluate(
        "[...document.querySelectorAll('#legend button')].map((one) => [one.children[1].textContent, one.children[2].textContent])"
    )
    assert ["films", "20"] in names
    assert names[-1] == ["no category", "10"]
    # a point is where its video is, in its ink
    px, py = page.evaluate(LIES % 44)
    # by way of a canvas that is made for it: Chromium warns whoever reads another one often
    ink = """(() => {
      const [x, y] = plane.place(plane.points.ids.indexOf(44)).map(Math.floor);
      const read = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
      read.drawImage(plane.context.canvas, x, y, 1, 1, 0, 0, 1, 1);
      return [...read.getImageData(0, 0, 1, 1).data.slice(0, 3)];
    })()"""
    page.becomes(f"{ink}.join() === '77,95,176'")
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=px, y=py)
    page.becomes("document.querySelector('#tip:not([hidden]) img')?.naturalWidth === 336")
    title = one(site.engine, "SELECT title FROM reelvec.videos WHERE video_id = 44")
    assert page.evaluate("document.querySelector('#tip .name').textContent") == title
    # moved and brought nearer with keys, and the video in the middle is told
    before = page.evaluate("plane.view")
    page.evaluate("document.getElementById('plane').focus()")
    page.press("ArrowRight", 39)
    assert page.evaluate("plane.view.x") > before["x"]
    page.press("+", 187)
    assert page.evaluate("plane.view.scale") > before["scale"]
    page.evaluate(
        "(() => { const i = plane.points.ids.indexOf(44); plane.view.x = plane.points.x[i]; plane.view.y = plane.points.y[i]; })()"
    )
    page.press("Enter", 13)
    page.becomes(f"document.getElementById('said').textContent === {json.dumps(title)}")
    page.press("0", 48)
    assert page.evaluate("plane.view") == before
    # a rectangle, with shift held
    corners = page.evaluate(
        "(() => { const { left, top, width, height } = plane.canvas.getBoundingClientRect(); return [[left + width * 0.1, top + 9], [left + width * 0.55, top + height / 2]]; })()"
    )
    drag(page, *corners, modifiers=8)
    page.becomes("!document.getElementById('selected').hidden")
    low, high = (page.evaluate(f"[plane.view.x + ({x} - plane.canvas.getBoundingClientRect().left - plane.canvas.clientWidth / 2) / plane.view.scale,"
                               f" plane.view.y - ({y} - plane.canvas.getBoundingClientRect().top - plane.canvas.clientHeight / 2) / plane.view.scale]") for x, y in corners)  # fmt: skip
    wanted = chosen_on_map(
        site, f"x BETWEEN {low[0]} AND {high[0]} AND y BETWEEN {high[1]} AND {low[1]}"
    )
    assert 3 < len(wanted) < 90
    page.browser.call(
        "Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"]
    )
    page.call("Page.bringToFront")
    page.evaluate("document.getElementById('copy-ids').click()")
    page.becomes("document.getElementById('said').textContent.startsWith('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == "\n".join(map(str, wanted))
    lines = list(csv.DictReader(io.StringIO(page.evaluate("table()"), newline="")))
    assert [int(line["video_id"]) for line in lines] == wanted
    stored = one(
        site.engine,
        f"SELECT array_agg(coalesce(category, '') ORDER BY video_id) FROM reelvec.videos WHERE video_id IN ({','.join(map(str, wanted))})",
    )
    assert [line["category"] for line in lines] == stored
    page.becomes(f"document.querySelectorAll('#selected .card').length === {min(24, len(wanted))}")
    page.evaluate("document.getElementById('clear').click()")
    page.evaluate("document.getElementById('select-shown').click()")
    assert (
        page.evaluate("document.getElementById('said').textContent")
        == f"{len(chosen_on_map(site, 'true'))} videos selected"
    )
    # the hand moves it, two fingers bring it nearer
    drag(page, *corners)
    assert page.evaluate("plane.view.x") < before["x"]
    page.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
    for kind, apart in (("touchStart", 20), ("touchMove", 60), ("touchMove", 120), ("touchEnd", 0)):
        page.call(
            "Input.dispatchTouchEvent",
            type=kind,
            touchPoints=[
                {"x": 400 + side * apart, "y": 600, "id": side + 1} for side in (-1, 1) if apart
            ],
        )
    page.becomes(f"plane.view.scale > {2 * before['scale']}")
    page.call("Emulation.setTouchEmulationEnabled", enabled=False)
    assert page.problems == []


@needs_browser
def test_the_map_says_where_tags_are_right_and_lights_up_what_is_pressed(
    site: Site, page: Page
) -> None:
    page.open(site.address + "map?model=vivit&tagger=x-clip/en")
    page.becomes(READY)
    page.evaluate(
        "(() => { const s = document.getElementById('colour'); s.value = 'right'; s.dispatchEvent(new Event('change')); })()"
    )
    counts = page.evaluate("Object.fromEntries(classes.map((one) => [one.name, one.count]))")
    agreed = """SELECT count(*) FROM reelvec.coordinates c JOIN reelvec.videos v USING (video_id) LEFT JOIN reelvec.scores s
      ON s.video_id = c.video_id AND s.tagger_id = (SELECT tagger_id FROM reelvec.taggers WHERE tagger = 'x-clip/en') WHERE """
    known = "v.category IN ('animals', 'design', 'interview', 'films')"
    wanted = {
        "right": f"{known} AND s.tag = v.category",
        "wrong": f"{known} AND s.tag <> v.category",
        "no tag": "s.tag IS NULL",
        "no category that the tagger knows": f"s.tag IS NOT NULL AND ({known}) IS NOT TRUE",
    }
    expected = {name: one(site.engine, agreed + condition) for name, condition in wanted.items()}
    assert counts == {name: count for name, count in expected.items() if count}
    assert expected["wrong"] == 3
    page.evaluate("document.querySelectorAll('#legend button')[1].click()")
    assert page.evaluate("plane.lit.reduce((sum, one) => sum + one, 0)") == expected["wrong"]
    assert (
        page.evaluate("document.querySelectorAll('#legend button')[1].getAttribute('aria-pressed')")
        == "true"
    )
    assert page.problems == []


@needs_browser
def test_names_from_strangers_are_text_on_the_map(site: Site, page: Page) -> None:
    page.open(site.address + "map?model=vivit")  # the tagger that speaks first is theirs
    page.becomes(READY)
    legend = "[...document.querySelectorAll('#legend bdi')].map((one) => one.textContent)"
    words = set(exhibition.HOSTILE)
    assert words <= set(page.evaluate(legend))
    page.evaluate(
        "(() => { const s = document.getElementById('colour'); s.value = 'tag'; s.dispatchEvent(new Event('change')); })()"
    )
    assert page.evaluate(legend)[0] in words
    for some in (site.hostile[:20], site.hostile[20:]):
        page.evaluate(
            f"choose(Uint8Array.from(plane.points.ids, (id) => {some}.includes(id) ? 1 : 0))"
        )
        page.becomes(f"document.querySelectorAll('#selected .card').length === {len(some)}")
        page.evaluate(f"point(plane.points.ids.indexOf({some[0]}), {{ pin: true }})")
        assert page.evaluate("document.querySelectorAll('#tip .card').length") == 1
        assert (
            page.evaluate(
                "document.querySelectorAll('main :is(script, iframe, base, math, video, b, style, form:not(.filters), details)').length"
            )
            == 0
        )
    assert page.evaluate("typeof window.hit") == "undefined"
    assert page.problems == []


def test_points_come_as_numbers_and_nothing_that_is_asked_for_breaks_them(site: Site) -> None:
    answer = site.ask("/map/points?model=vivit&tagger=x-clip/ru")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    body = answer.body  # type: ignore[attr-defined]
    length, count = np.frombuffer(body, "<u4", 2)
    head = json.loads(body[8 : 8 + length])
    ids = np.frombuffer(body, "<u4", count, 8 + length)
    x, y = np.frombuffer(body, "<f4", 2 * count, 8 + length + 4 * count).reshape(2, -1)
    category, tag = np.frombuffer(body, "<i2", 2 * count, 8 + length + 12 * count).reshape(2, -1)
    assert len(body) == 8 + length + 16 * count
    rows = one(
        site.engine,
        "SELECT array_agg(ARRAY[video_id, x, y] ORDER BY video_id) FROM reelvec.coordinates WHERE encoder = 'vivit'",
    )
    order = np.argsort(ids)
    np.testing.assert_array_equal(np.stack([ids, x, y], axis=1)[order], np.array(rows, np.float32))
    assert (head["total"], head["unplaced"], head["wide"]) == (count, 0, False)
    at = list(ids).index(44)
    assert (head["categories"][category[at]], head["tags"][tag[at]]) == ("interview", "интервью")
    for query in ("", "model=%00", "model=none&tagger=%ff", "tagger=1"):
        assert site.ask(f"/map/points?{query}").status == 200, query
        assert site.ask(f"/map?{query}").status == 200, query
    for ids_asked, cards in (
        ("", 0),
        ("x", 0),
        ("-1", 0),
        ("44,5,9999999", 2),
        ("9" * 40, 0),
        ("%00", 0),
        (",".join(map(str, range(1, 99))), 24),
    ):
        found = site.ask(f"/map/cards?ids={ids_asked}")
        assert (found.status, found.body.count(b'class="card"')) == (200, cards), ids_asked  # type: ignore[attr-defined]


@needs_browser
def test_the_keyboard_reaches_everything_and_a_command_is_copied(site: Site, page: Page) -> None:
    page.open(site.address)
    page.becomes(LIVE)
    page.press("Tab", 9)
    assert page.evaluate("document.activeElement.className") == "skip"
    page.browser.call(
        "Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"]
    )
    page.call("Page.bringToFront")
    page.evaluate("document.querySelector('.verdict .copy').focus()")
    page.press("Enter", 13)
    page.becomes("document.getElementById('said').textContent === 'copied: reelvec pause --resume'")
    assert page.evaluate("navigator.clipboard.readText()") == "reelvec pause --resume"
    # the numbers come anew and leave the focus where it is
    before = page.evaluate("document.querySelector('.age').textContent")
    page.becomes(f"document.querySelector('.age').textContent !== {json.dumps(before)}")
    assert page.evaluate("document.activeElement.dataset.copy") == "reelvec pause --resume"
    page.open(site.address + "look")
    page.evaluate("(() => { const s = document.querySelector('select[name=duration]'); s.value = 'long';"
                  " s.dispatchEvent(new Event('change', { bubbles: true })) })()")  # fmt: skip
    page.becomes("location.search.includes('duration=long')")
    assert page.problems == []


@needs_browser
def test_a_square_of_the_matrix_leads_to_its_videos(site: Site, page: Page) -> None:
    page.emulate(1280, 900)
    for tagger in ("x-clip/en", "genres@1"):
        page.open(f"{site.address}judge?tagger={tagger}")
        page.becomes(JUDGED)
        # one stop for the keyboard, and arrows from there
        stops = page.evaluate(
            "document.querySelectorAll('.matrix a:not([tabindex=\"-1\"])').length"
        )
        assert stops == 1
        page.evaluate("document.querySelector('.matrix a[tabindex=\"0\"]').focus()")
        place = "(() => { const c = document.activeElement.closest('td'); return [c.parentElement.rowIndex, c.cellIndex] })()"
        before = page.evaluate(place)
        page.press("ArrowDown", 40)
        after = page.evaluate(place)
        if after == before:  # nothing below it in this column
            page.press("ArrowRight", 39)
            after = page.evaluate(place)
        square = "document.activeElement"
        wanted, title = (
            page.evaluate(f"Number({square}.textContent)"),
            page.evaluate(f"{square}.title"),
        )
        assert f": {wanted} of its videos" in title
        page.press("Enter", 13)
        page.becomes("location.pathname === '/look' && document.readyState === 'complete'")
        assert page.evaluate("document.querySelectorAll('.card').length") == wanted
        assert (
            page.evaluate("document.querySelector('select[name=category]').value")
            == title.split(",")[0]
        )
    assert "had learnt from them" in page.evaluate("document.querySelector('main').textContent")
    assert page.problems == []


@needs_browser
def test_the_numbers_go_on_after_postgres_was_away(
    site: Site, page: Page, local: LocalStack
) -> None:
    page.open(site.address)
    page.becomes(LIVE)
    state = local.state()
    assert state is not None
    os.kill(state.postgres_pid, signal.SIGINT)
    try:
        page.becomes("document.querySelector('.away b')?.textContent === 'No new numbers.'")
        assert page.evaluate(LIVE), "the last numbers stay"
        page.becomes("/, \\d+ s ago/.test(document.querySelector('.away').textContent)")
        assert site.ask("/look").status == 503
    finally:
        local.up()
        site.engine.dispose()
    page.becomes(f"document.querySelector('.away') === null && {LIVE}")
    execute(site.engine, "UPDATE reelvec.control SET paused = false")
    page.becomes("document.querySelector('.verdict .state').textContent !== 'PAUSED'")
    assert page.problems == []


@needs_browser
def test_a_browser_sends_what_a_form_asks_for(site: Site, page: Page, tmp_path: Path) -> None:
    """As itself: its Origin is the page's own."""
    page.open(site.address)
    page.becomes(LIVE)
    link = "a.here[href='/change/retry?error=not_found']"
    page.becomes(f"document.querySelector({link!r}) !== null")
    page.evaluate(f"document.querySelector({link!r}).click()")
    page.becomes("document.querySelector('.confirm button') !== null")
    page.evaluate("document.querySelector('.confirm button').click()")
    page.becomes("location.pathname === '/changes' && document.querySelector('tbody') !== null")
    cells = page.evaluate("[...document.querySelectorAll('tbody tr:first-child td')].map((one) => one.textContent)")  # fmt: skip
    assert cells[2:] == ["retry", "1", "--error not_found"]
    assert cells[1].endswith("by the page from 127.0.0.1")
    assert page.problems == []
    (tmp_path / "<b>cat<b>.png").write_bytes(b"nothing")
    page.open(site.address + "search")
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    field = page.call("DOM.querySelector", nodeId=root, selector="input[type=file]")["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=field, files=[str(tmp_path / "<b>cat<b>.png")])
    page.evaluate("document.querySelector('input[type=file]').form.requestSubmit()")
    page.becomes(
        "document.readyState === 'complete' && document.querySelector('.away b')?.textContent === '<b>cat<b>.png'"
    )
    assert all("422" in one for one in page.problems)  # there is no model for it
    page.problems.clear()


@needs_browser
def test_the_report_is_one_file_that_opens_from_disk(
    site: Site, page: Page, tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    command = [str(Path(sys.executable).with_name("reelvec")), "report", "--out", str(out)]
    done = subprocess.run(
        command, env=site.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size < 10_000_000
    page.problems.clear()
    page.requests.clear()
    page.open(out.as_uri())
    assert page.evaluate(LOOKS) == {"faint": [], "unnamed": [], "wide": 0}
    page.becomes(READY)
    assert page.evaluate("document.querySelectorAll('[href], iframe, form').length") == 0
    assert page.evaluate("document.querySelectorAll('script').length") == 2, (
        "its map: points, and what draws them"
    )
    px, py = page.evaluate(LIES % 44)
    page.evaluate(f"scrollTo(0, {py - 400})")
    px, py = page.evaluate(LIES % 44)
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=px, y=py)
    page.becomes("document.querySelector('#tip:not([hidden]) img')?.naturalWidth === 336")
    page.evaluate("document.getElementById('select-shown').click()")
    page.becomes("document.querySelectorAll('#selected .card').length === 24")
    assert page.evaluate("document.querySelectorAll('img').length") > 50
    assert page.evaluate("typeof window.hit") == "undefined"
    assert page.evaluate("document.querySelectorAll('.matrix').length") == 3, "of every tagger"
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.becomes("[...document.images].some((one) => one.naturalWidth === 336)")
    assert page.problems == []
    assert {address.split(":")[0] for address in page.requests} <= {"file", "data"}


def test_who_asks_for_another_name_or_from_another_page_is_refused(site: Site) -> None:
    port = site.host.split(":")[1]
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        f"127.0.0.1:{port}.evil.example",
        "",
    ):
        assert site.ask("/", host=host).status == 421, host
        assert site.ask("/static/page.js", host=host).status == 421
    assert site.ask("/look", host=f"LOCALHOST:{port}").status == 200
    for origin in (
        "http://evil.example",
        "null",
        f"https://{site.host}",
        "http://127.0.0.1:1",
        f"http://localhost:{port}",
    ):
        assert site.ask("/events", Origin=origin).status == 403, origin
    assert site.ask("/look", Origin=f"http://{site.host}").status == 200
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        assert site.ask("/", method).status == 405
    assert site.ask("/", "POST", Origin=f"http://{site.host}").status == 405
    assert site.ask("/search", "POST").status == 403, "a form says where it stands"
    for path in ("/nothing", "/static/../../cli.py", "/static/%2e%2e/%2e%2e/cli.py", "/look/9999999", "/strips/9999999",
                 "/look/99999999999999999999999"):  # fmt: skip
        answer = site.ask(path)
        assert answer.status == 404, path
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS


def test_nothing_that_is_typed_into_an_address_breaks_a_page(site: Site) -> None:
    for query in (
        "before=-1",
        "before=x",
        "before=99999999999999999999",
        "category=%00",
        "duration=long&duration=x",
        "tag=%ff",
        "x=1",
    ):
        assert site.ask(f"/look?{query}").status == 200, query
    for words in ("%00", "%ff", "9" * 30, "%F0%9F%90%B6", "a" * 5000):
        assert site.ask(f"/search?words={words}").status == 200, words


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("0.0.0.0", "must know what it is called"),
        ("::", "must know what it is called"),
        ("203.0.113.77", "cannot be had"),
        ("no.such.name.invalid", "no address of this machine"),
        ("", "no address of this machine"),
    ],
)
def test_an_address_that_is_not_this_machines_own_is_refused(host: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        listen(host, 0)


def test_a_port_that_is_taken_is_refused_and_loopback_has_its_names() -> None:
    taken = listen("127.0.0.1", 0)
    with taken.socket:
        port = taken.port
        with pytest.raises(UsageError, match="cannot be had"):
            listen("127.0.0.1", port)
    assert taken.is_loopback
    assert taken.hosts == {f"127.0.0.1:{port}", f"localhost:{port}"}


def test_another_address_than_loopback_asks_for_the_token_that_the_terminal_shows(
    site: Site, request: pytest.FixtureRequest
) -> None:
    """The command itself: who may do what stands in `tests/integration/test_ui_safe.py`."""
    address = own_address()
    if address is None:
        pytest.skip("this machine has no other address than loopback")
    with serving(site.environment, "--host", address, "--allow-changes") as (opened, said):
        elsewhere = Site(opened, site.engine, site.environment, [])
        assert elsewhere.host.startswith(f"{address}:")
        (token,) = re.findall("token, to be entered in the page: (.+)", said())
        assert elsewhere.ask("/").status == 401
        assert elsewhere.ask("/look", Cookie=f"reelvec={token}").status == 401
        assert elsewhere.ask("/", host=f"localhost:{opened.split(':')[2]}").status == 421
        own = {"Origin": opened.rstrip("/"), "Content-Type": "application/x-www-form-urlencoded"}
        entered = elsewhere.ask("/enter", "POST", body=f"token={token}", **own)
        assert entered.status == 303
        cookie = str(entered.headers["Set-Cookie"]).partition(";")[0]
        assert elsewhere.ask("/change/pause", Cookie=cookie).status == 200
        assert token not in elsewhere.ask("/", Cookie=cookie).body.decode()  # type: ignore[attr-defined]
        if browser.executable() is not None:
            page: Page = request.getfixturevalue("page")
            page.open(opened + "look")
            page.becomes("document.querySelector('input[name=token]') !== null")
            page.evaluate(f"document.querySelector('input[name=token]').value = {token!r}")
            page.evaluate("document.querySelector('main button').click()")
            page.becomes(f"location.pathname === '/' && {LIVE}")
            page.becomes("document.querySelectorAll('a.here').length > 0")
        assert said().count(token) == 1
    if browser.executable() is not None:
        page.becomes("document.body.classList.contains('disconnected')")
        page.becomes("/from \\d+ s ago/.test(document.querySelector('.cut').textContent)")
        assert page.evaluate(LIVE), "the last numbers stay"


def own_address() -> str | None:
    """An address of this machine that others may reach; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = asked.getsockname()[0]
        return None if address.startswith("127.") else address
