"""`reelvec ui` as a browser and as an attacker see it: every page of a catalogue with whatever may be
in one, without an error, a request elsewhere, or a string that is more than text.
"""

from __future__ import annotations

import http.client
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

import pytest
from sqlalchemy import Engine, text

from db import session
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


def pages(site: Site) -> list[str]:
    done, failed, waiting = (
        one(site.engine, f"SELECT min(video_id) FROM reelvec.jobs WHERE state = '{state}'")
        for state in ("done", "failed", "pending")
    )
    return ["", "look", "look?category=films&duration=10min", "look?error=truncated", "look?model=vivit&tag=films", "look?tag=none",
            f"look/{done}", f"look/{failed}", f"look/{waiting}", f"look/{done}/frames", "search", "search?words=rt-3",
            "change/retry", "change/cancel?category=films", "change/pause", "change/resume?backbone=efficientnet", "changes"]  # fmt: skip


@needs_browser
def test_every_page_is_whole_legible_and_asks_nobody_else(site: Site, page: Page) -> None:
    for width, height, dark, phone in ((1280, 900, False, False), (390, 844, True, True)):
        page.emulate(width, height, dark=dark, phone=phone)
        for path in pages(site):
            page.open(site.address + path)
            if not path:
                page.becomes(LIVE)
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
    assert (
        page.evaluate("document.querySelectorAll('script, button, [href], iframe, form').length")
        == 0
    )
    assert page.evaluate("document.querySelectorAll('img').length") > 50
    assert page.evaluate("typeof window.hit") == "undefined"
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
