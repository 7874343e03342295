"""`reelvec ui` as a browser and as an attacker see it: every page of a catalogue with whatever may be
in one, without an error, a request elsewhere, or a string that is more than text.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
from sqlalchemy import Engine, text

from db import session
from db.stack.local_stack import LocalStack, StackState
from producer.ui.guard import HEADERS, POLICY
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
        self, path: str, method: str = "GET", host: str | None = None, **headers: str
    ) -> http.client.HTTPResponse:
        """An answer whose body is read, whatever a browser would not send."""
        connection = http.client.HTTPConnection(self.host, timeout=30)
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", self.host if host is None else host)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
        connection.close()
        return answer


@contextmanager
def serving(environment: dict[str, str], *options: str) -> Iterator[str]:
    """`reelvec ui`, and its address."""
    command = [str(Path(sys.executable).with_name("reelvec")), "ui", "--no-browser", "--port", "0"]
    with subprocess.Popen(
        [*command, *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        yield address
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
        with serving(environment) as address:
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
JUDGED = "document.querySelector('.matrix') !== null"


def pages(site: Site) -> list[str]:
    done, failed, waiting = (
        one(site.engine, f"SELECT min(video_id) FROM reelvec.jobs WHERE state = '{state}'")
        for state in ("done", "failed", "pending")
    )
    return ["", "look", "look?category=films&duration=10min", "look?error=truncated", "look?model=vivit&tag=films", "look?tag=none",
            "look?category=films&tag=films&held_out=genres@1", f"look/{done}", f"look/{failed}", f"look/{waiting}",
            "search", "search?words=rt-3", "judge", "judge?tagger=genres@1"]  # fmt: skip


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
        assert site.ask("/look").status == 503
    finally:
        local.up()
        site.engine.dispose()
    page.becomes(f"document.querySelector('.away') === null && {LIVE}")
    execute(site.engine, "UPDATE reelvec.control SET paused = false")
    page.becomes("document.querySelector('.verdict .state').textContent !== 'PAUSED'")
    assert page.problems == []


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
    assert (
        page.evaluate("document.querySelectorAll('script, button, [href], iframe, form').length")
        == 0
    )
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
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert site.ask("/", method).status == 405
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


def test_the_session_can_change_nothing(site: Site) -> None:
    with session.connect(
        str(site.engine.url.render_as_string(hide_password=False)), read_only=True
    ) as engine:
        with pytest.raises(Exception, match="read-only transaction"):
            execute(engine, "DELETE FROM reelvec.videos")
        with (
            pytest.raises(Exception, match="read-only transaction"),
            session.one_statement(engine) as connection,
        ):
            connection.execute(text("DELETE FROM reelvec.videos"))
    asked = one(
        site.engine,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE '%READ ONLY%'",
    )
    assert asked


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.com"])
def test_another_address_than_loopback_is_refused(host: str) -> None:
    from db.errors import UsageError
    from producer.ui.server import listen

    with pytest.raises(UsageError, match="listens on loopback only"):
        listen(host, 0)
    with listen("localhost", 0) as taken, pytest.raises(UsageError, match="cannot be had"):
        listen("127.0.0.1", taken.getsockname()[1])
