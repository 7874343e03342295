"""Who may ask the page and change something by it, and what strangers can put into it: over every
route that the application has, in this process.
"""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import Engine, text
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from db import encoders, session
from db.jobs import steering
from db.stack.local_stack import StackState
from producer.commands.ui import ui
from producer.request import declared_encoder
from producer.ui import app as pages
from producer.ui import door as entrance
from producer.ui import report, server, sheets
from producer.ui.app import Access
from producer.ui.guard import HEADERS, Guard
from producer.ui.steering import Hand
from tests import exhibition, media
from tests.ledgering import execute, one, read
from workers.backbones import registry
from workers.backbones.base import Weights

HOST = "127.0.0.1:8740"
TOKEN = "the token of the terminal"


@dataclass(frozen=True)
class Site:
    """`wide` has everything: changes, and a token that must be entered; `plain` is `reelvec ui`
    without an option.
    """

    url: str
    engine: Engine
    hostile: list[int]
    plain: Guard
    wide: Guard
    another: Callable[[], Guard]


@pytest.fixture(scope="module")
def site(
    stack: StackState, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with exhibition.opened(stack, template) as (url, engine):
        hostile = exhibition.add_hostile(engine)
        _own_videos(engine, tmp_path_factory.mktemp("clips"))
        with session.connect(url, read_only=True) as reading:
            facts: dict[str, Any] = {"broker_url": stack.broker_url, "shown": "the servers"}
            hosts = frozenset({HOST})

            def plain() -> Guard:
                return pages.application(
                    reading, reading, access=Access(hosts, any_folder=True), **facts
                )

            access = Access(hosts, True, TOKEN, 8740, Hand(engine, "ann@desk"))
            wide = pages.application(reading, reading, access=access, **facts)
            yield Site(url, engine, hostile, plain(), wide, plain)


def _own_videos(engine: Engine, folder: Path) -> None:
    """Two videos that can be read, with vectors of a model that is here."""
    loaded = registry.module("probe").load(Weights("pretrained"), "cpu")
    with session.transaction(engine) as connection:
        encoders.declare_encoder(connection, declared_encoder("probe", "pretrained", "notebook"))
        declared = encoders.fetch_encoder(connection, "probe")
        assert declared is not None
        encoders.bind(connection, declared, weights_digest=loaded.digest, dim=64, pooling="mean")
    for seed in (1, 2):
        path = media.make_clip(folder / f"{seed}.mp4", seconds=1, seed=seed)
        execute(
            engine,
            "INSERT INTO reelvec.videos (uri, title) VALUES (:uri, :title)",
            uri=f"file://{path}",
            title=f"clip {seed}",
        )
        execute(engine, "INSERT INTO reelvec.video_embeddings SELECT encoder_id, (SELECT max(video_id) FROM reelvec.videos),"
                        " CAST(:vector AS public.vector), 'float32', gen_random_uuid() FROM reelvec.encoders WHERE encoder = 'probe'",
                vector=str(np.eye(64)[seed].tolist()))  # fmt: skip


def own_video(site: Site, seed: int = 1) -> int:
    return one(site.engine, f"SELECT video_id FROM reelvec.videos WHERE title = 'clip {seed}'")


@pytest.fixture(scope="module")
def visitor(site: Site) -> Iterator[TestClient]:
    """A browser of one who looks."""
    with TestClient(site.plain, base_url=f"http://{HOST}", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def operator(site: Site) -> Iterator[TestClient]:
    """A browser of one who has entered the token."""
    with TestClient(site.wide, base_url=f"http://{HOST}", raise_server_exceptions=False) as client:
        entered = client.post("/enter", data={"token": TOKEN}, headers=OWN, follow_redirects=False)
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        yield client


OWN = {"Origin": f"http://{HOST}"}


def routes(guard: Guard) -> list[Route | Mount]:
    return [route for route in guard.app.routes if isinstance(route, Route | Mount)]


def addresses(site: Site, guard: Guard) -> list[tuple[str, str]]:
    """(method, path) of every route, with something in the place of every parameter. A parameter
    that is not known here must be added here: no page is left out.
    """
    known = {
        "video_id:int": [str(site.hostile[0]), str(own_video(site)), "999999"],
        "action": ["retry", "cancel", "pause", "resume", "nothing"],
        "key": ["nothing"],
    }
    found = []
    for route in routes(guard):
        if isinstance(route, Mount):
            found += [("GET", f"{route.path}/page.js"), ("GET", f"{route.path}/nothing")]
            continue
        paths = [route.path]
        for name in re.findall(r"{(.+?)}", route.path):
            assert name in known, f"say above what may stand in the place of {name}"
            paths = [path.replace(f"{{{name}}}", text) for path in paths for text in known[name]]
        found += [(method, path) for path in paths for method in sorted(route.methods or ())]
    return found


def start_of(
    guard: Guard, method: str, path: str, headers: dict[str, str]
) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer, whether or not it ever ends."""
    told: list[dict[str, Any]] = []

    async def ask() -> None:
        raw = [(name.lower().encode(), text.encode("latin-1")) for name, text in headers.items()]
        path_only, _, query = path.partition("?")
        scope = {"type": "http", "method": method, "path": path_only, "raw_path": path_only.encode(), "query_string": query.encode(),
                 "headers": raw, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8740), "scheme": "http", "root_path": "",
                 "http_version": "1.1", "asgi": {"version": "3.0"}}  # fmt: skip
        started = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await started.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            told.append(message)
            started.set()

        await guard(scope, receive, send)

    asyncio.run(ask())
    return told[0]["status"], {name.decode(): text.decode() for name, text in told[0]["headers"]}


def test_every_answer_of_every_route_has_the_headers(
    site: Site, operator: TestClient, visitor: TestClient
) -> None:
    for client, guard in ((operator, site.wide), (visitor, site.plain)):
        asked = addresses(site, guard)
        assert len(asked) > 12
        for method, path in (*asked, ("GET", "/no/such/page"), ("DELETE", "/"), ("POST", "/look")):
            if path == "/events":
                continue  # it never ends: below
            answer = client.request(method, path, headers=OWN, follow_redirects=False)
            assert answer.status_code < 500, f"{method} {path}: {answer.text}"
            lacking = {name for name, text in HEADERS.items() if answer.headers.get(name) != text}
            assert not lacking, f"{method} {path}"
            kept = (
                "no-store"
                if not path.startswith("/strips/") or answer.status_code != 200
                else "private, max-age=31536000, immutable"
            )
            assert answer.headers["cache-control"] == kept, f"{method} {path}"
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    status, headers = start_of(site.another(), "GET", "/events", {"Host": HOST})
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["content-security-policy"] == policy


def test_a_mistake_of_ours_is_a_page_with_the_headers_and_without_secrets(
    site: Site, visitor: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("<b>x</b> postgresql://ann:hunter2hunter2@db/v")

    monkeypatch.setattr(pages.look, "grid", broken)
    answer = visitor.get("/look")
    assert answer.status_code == 500
    assert "RuntimeError: &lt;b&gt;x" in answer.text
    assert "hunter2" not in answer.text
    assert '<nav aria-label="Pages">' in answer.text
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    lost = visitor.get("/no/such/page")
    assert lost.status_code == 404
    assert "There is no such page." in lost.text
    assert '<nav aria-label="Pages">' in lost.text


def test_another_host_and_another_origin_are_refused_by_every_route(site: Site) -> None:
    for guard in (site.plain, site.wide):
        for method, path in addresses(site, guard):
            for host in ("evil.example", "127.0.0.1:1", f"{HOST}.evil.example", ""):
                assert start_of(guard, method, path, {"Host": host})[0] == 421, f"{method} {path}"
            for origin in ("http://evil.example", "null", f"https://{HOST}", "http://127.0.0.1:1"):
                refused = start_of(guard, method, path, {"Host": HOST, "Origin": origin})
                assert refused[0] == 403, f"{method} {path} {origin}"
            embedded = {"Host": HOST, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
            assert start_of(guard, method, path, embedded)[0] == 403, f"{method} {path}"
            if method == "POST":
                assert start_of(guard, method, path, {"Host": HOST})[0] == 403, path


def test_a_link_from_another_site_leads_to_the_page(visitor: TestClient) -> None:
    led = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert visitor.get("/search", headers=led).status_code == 200


# The token


def test_without_the_token_no_route_says_anything(site: Site) -> None:
    bare = {"Host": HOST, **OWN}
    for cookie in (
        {},
        {"Cookie": "reelvec_8740=x"},
        {"Cookie": f"reelvec_8740={TOKEN}"},
        {"Cookie": "reelvec_8740=\xe9"},
    ):
        for method, path in addresses(site, site.wide):
            status, headers = start_of(site.wide, method, path, {**bare, **cookie})
            is_open = path == "/enter" or path.startswith("/static/")
            assert is_open or status == 401, f"{method} {path}"
            assert "set-cookie" not in headers
    # not as a context: the app follows the numbers in one event loop alone, that of `operator`
    seen = TestClient(site.wide, base_url=f"http://{HOST}").get("/look")
    assert "password" in seen.text
    assert "clip 1" not in seen.text
    assert TOKEN not in seen.text


def test_the_token_is_sent_once_and_is_in_no_address_and_no_cookie(site: Site) -> None:
    client = TestClient(site.wide, base_url=f"http://{HOST}", follow_redirects=False)
    asked = client.get(f"/enter?token={TOKEN}")
    assert "set-cookie" not in asked.headers, "an address is no place for it"
    entered = client.post("/enter", data={"token": f" {TOKEN}\n"}, headers=OWN)
    kept = entered.headers["set-cookie"]
    assert re.fullmatch(r"reelvec_8740=[\w-]{43}; HttpOnly; Path=/; SameSite=strict", kept)
    assert TOKEN not in str(entered.headers)
    assert client.get("/look").status_code == 200


def test_wrong_tokens_are_slowed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(entrance, "ADDRESSES", 3)
    door = entrance.Door(TOKEN, 1, PlainTextResponse, now=lambda: clock[0])
    inner = Starlette(routes=[Route("/enter", door.enter, methods=["GET", "POST"])])
    client = TestClient(inner, follow_redirects=False)

    def enter(token: str) -> int:
        return client.post("/enter", data={"token": token}).status_code

    assert enter("wrong") == 403
    assert enter(TOKEN) == 429, "not even the right one, so that nobody learns by trying fast"
    clock[0] += 1.1
    assert enter("") == 403
    clock[0] += 1.1
    assert enter(TOKEN) == 429, "twice as long after the second"
    clock[0] += 1.0
    assert enter(TOKEN) == 303
    for number in range(5):  # others do not wait for them, and not all are remembered
        other = TestClient(inner, client=(f"10.0.0.{number}", 1))
        assert other.post("/enter", data={"token": "x"}).status_code == 403
    assert len(door._wrong) == 3
    long = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/enter", content=b"x" * 70_000, headers=long).status_code == 413


# Changes


def hidden(page: str) -> dict[str, str]:
    """The hidden fields of the form that changes something."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))


def state_of(site: Site, state: str) -> int:
    return one(site.engine, f"SELECT count(*) FROM reelvec.jobs WHERE state = '{state}'")


def test_a_change_is_asked_for_confirmed_once_and_recorded(
    site: Site, operator: TestClient
) -> None:
    before = state_of(site, "failed")
    question = operator.get("/change/retry?error=truncated")
    assert "Retry 1 failed video?" in " ".join(question.text.split())
    fields = hidden(question.text)
    assert fields.keys() == {"error", "token"}
    for forged in ({}, {**fields, "token": "x"}, {**fields, "error": "damaged"}):
        refused = operator.post("/change/retry", data=forged, headers=OWN, follow_redirects=False)
        assert refused.status_code == 403
    fields = hidden(operator.get("/change/retry?error=truncated").text)  # a wrong step used it up
    assert operator.post("/change/cancel", data=fields, headers=OWN).status_code == 403
    assert operator.get("/change/retry", params=fields).status_code == 200, (
        "a question changes nothing"
    )
    assert state_of(site, "failed") == before
    fields = hidden(operator.get("/change/retry?error=truncated").text)
    done = operator.post("/change/retry", data=fields, headers=OWN, follow_redirects=False)
    assert (done.status_code, done.headers["location"]) == (303, "/changes")
    assert state_of(site, "failed") == before - 1
    assert operator.post("/change/retry", data=fields, headers=OWN).status_code == 403, "once"
    latest = read(site.engine, lambda c: steering.latest(c, limit=1))[0]
    assert (latest.action, latest.what, latest.videos) == ("retry", "--error truncated", 1)
    assert latest.who == "ann@desk, by the page from testclient"
    assert "ann@desk, by the page from testclient" in operator.get("/changes").text


def test_what_is_paused_by_the_page_goes_on_by_it(site: Site, operator: TestClient) -> None:
    def answer(address: str, **more: str) -> None:
        fields = hidden(operator.get(address).text)
        action = address.partition("?")[0]
        assert operator.post(action, data=fields | more, headers=OWN).status_code == 200

    answer("/change/pause", reason="<b>moving</b>")
    paused = "SELECT reason FROM reelvec.control WHERE name = 'operator' AND paused"
    assert one(site.engine, paused) == "<b>moving</b>"
    assert "&lt;b&gt;moving" in operator.get("/changes").text
    answer("/change/pause?backbone=vivit")
    assert one(
        site.engine,
        "SELECT reason FROM reelvec.paused_backbones WHERE backbone = 'vivit' AND paused",
    ).startswith("paused by ann@desk")
    answer("/change/resume?backbone=vivit")
    assert (
        one(
            site.engine,
            "SELECT count(*) FROM reelvec.paused_backbones WHERE backbone = 'vivit' AND paused",
        )
        == 0
    )
    answer("/change/resume")
    assert one(site.engine, "SELECT count(*) FROM reelvec.control WHERE paused") == 0
    waiting = state_of(site, "pending")
    category = one(
        site.engine,
        "SELECT category FROM reelvec.videos JOIN reelvec.jobs USING (video_id)"
        " WHERE state = 'pending' AND category IN ('animals', 'films', 'design') LIMIT 1",
    )
    answer(f"/change/cancel?category={category}")
    assert state_of(site, "pending") < waiting
    for address in ("/change/retry?error=nonsense", "/change/retry?category=nowhere"):
        assert 'type="submit">Yes' not in operator.get(address).text
    assert "no error code" in operator.get("/change/retry?error=nonsense").text
    fields = hidden(operator.get("/change/pause?backbone=nonsense").text)
    assert operator.post("/change/pause", data=fields, headers=OWN).status_code == 400


def test_commands_that_the_page_can_take_have_a_link_and_no_other(
    operator: TestClient, visitor: TestClient
) -> None:
    from producer.ui.changes import Change

    def address(command: str) -> str | None:
        change = Change.of_command(command)
        return change and change.address

    assert address("reelvec retry --error truncated") == "/change/retry?error=truncated"
    assert address("reelvec pause --resume") == "/change/resume"
    assert address("reelvec pause --backbone 'a b' --resume") == "/change/resume?backbone=a+b"
    for other in (
        "reelvec doctor",
        "enqueue ./videos",
        "reelvec",
        "reelvec models accept x --worker y",
        "reelvec retry --since 2h",
    ):
        assert address(other) is None, other
    for command in ("reelvec retry --error truncated", "reelvec pause --resume --backbone vivit"):
        change = Change.of_command(command)
        assert change is not None
        assert set(change.command.split()) == set(command.split())


@pytest.mark.parametrize("allow_changes", [False, True])
def test_what_the_command_reads_with_can_change_nothing(
    site: Site, stack: StackState, monkeypatch: pytest.MonkeyPatch, allow_changes: bool
) -> None:
    """Postgres itself says no; only the steps of --allow-changes have other connections."""
    given: list[tuple[tuple[Engine, ...], Access]] = []
    monkeypatch.setenv("DATABASE_URL", site.url)
    monkeypatch.setenv("CELERY_BROKER_URL", stack.broker_url)
    monkeypatch.setattr(
        pages, "application", lambda *databases, access, **_: given.append((databases, access))
    )

    def try_it(*_: object) -> None:
        ((databases, access),) = given
        statement = "DELETE FROM reelvec.videos WHERE false"
        for database in databases:
            with pytest.raises(Exception, match="read-only transaction"):
                execute(database, statement)
            alone = session.one_statement(database)
            with pytest.raises(Exception, match="read-only transaction"), alone as connection:
                connection.execute(text(statement))
        assert (access.hand is not None) == allow_changes
        if access.hand:
            execute(access.hand.database, statement)

    monkeypatch.setattr(server, "serve", try_it)
    ui(port=0, host="127.0.0.1", allow_changes=allow_changes, no_browser=True)
    assert given


def test_without_the_option_there_is_nothing_that_changes(site: Site, visitor: TestClient) -> None:
    assert not {"/change/{action}", "/changes", "/enter"} & {
        route.path for route in routes(site.plain)
    }
    assert [path for method, path in addresses(site, site.plain) if method == "POST"] == ["/search"]
    for method, path in addresses(site, site.wide):
        if path.startswith("/change"):
            answer = visitor.request(method, path, headers=OWN)
            assert answer.status_code == 404, path
    shown = visitor.get("/").text + visitor.get(f"/look/{site.hostile[0]}").text
    assert "/change" not in shown
    assert "do it here" not in shown


# Strings of strangers


class Active(HTMLParser):
    """Collects in `found` what a browser would run, follow or fetch by itself, and `words`, what it
    shows.
    """

    ELSEWHERE = ("src", "href", "action", "formaction", "data", "poster", "srcset", "xlink:href")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.words = ""
        self._in_script = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_script = tag == "script"
        told = dict(attrs)
        if tag in ("base", "object", "embed", "style", "math", "video", "frame"):
            self.found.append(f"<{tag}>")
        reloads = told.get("http-equiv") == "refresh" and (told.get("content") or "").isdigit()
        if (tag == "meta" and "http-equiv" in told and not reloads) or (
            tag == "script" and "src" not in told
        ):
            self.found.append(f"<{tag} {attrs}>")
        for name, value in attrs:
            if name.startswith("on") or name in ("style", "srcdoc"):
                self.found.append(f"{name}={value}")
            if name in self.ELSEWHERE and not re.match(r"/(?!/)|#|\?", value or ""):
                self.found.append(f"{name}={value}")

    def handle_data(self, data: str) -> None:
        if self._in_script and data.strip():
            self.found.append(data)
        self.words += data

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_comment(self, data: str) -> None:
        self.found.append(f"<!--{data}-->")


def together(strings: Sequence[str], most_characters: int = 290) -> Iterator[str]:
    """As few as hold all of them: what cuts a parameter cuts none of these."""
    held = ""
    for one_of_them in strings:
        if held and len(held) + len(one_of_them) > most_characters:
            yield held
            held = ""
        held += one_of_them
    yield held


NAMES = (
    "category",
    "tag",
    "model",
    "error",
    "duration",
    "words",
    "backbone",
    "tagger",
    "encoder",
    "colour",
    "before",
    "x",
)


def test_hostile_strings_are_text_on_every_page_and_in_every_parameter(
    site: Site, operator: TestClient
) -> None:
    asked = {
        path for method, path in addresses(site, site.wide) if method == "GET" and path != "/events"
    }
    asked |= {f"/look/{video_id}" for video_id in site.hostile}
    for path in sorted(asked):
        answer = operator.get(path)
        if answer.headers["content-type"].startswith("text/html"):
            assert Active(answer.text).found == [], path
    pages_alone = [
        route.path
        for route in routes(site.wide)
        if isinstance(route, Route) and "{" not in route.path
    ]
    for words in together(exhibition.HOSTILE):
        for path in {"/change/retry", *pages_alone} - {"/events"}:
            answer = operator.get(path, params=dict.fromkeys(NAMES, words))
            assert answer.status_code in (200, 400, 404), path
            assert Active(answer.text).found == [], f"{path} {words}"
    # and they are shown: nothing was found because nothing was there
    shown = Active(operator.get(f"/look/{site.hostile[0]}").text).words
    assert exhibition.HOSTILE[0] in shown


def test_hostile_strings_are_text_in_the_report(site: Site, stack: StackState) -> None:
    with session.connect(site.url, read_only=True) as reading:
        made = report.html(reading, broker_url=stack.broker_url, shown=exhibition.HOSTILE[0])
    head, _, rest = made.partition("</head>")
    # what draws the map: `Content-Security-Policy` names its hash, a page of strangers' words has none
    rest = re.sub(r"<script>.*</script>\n</body>", "", rest, flags=re.S)
    assert [
        one for one in Active(rest).found if not one.startswith("src=data:image/webp;base64,")
    ] == []
    assert exhibition.HOSTILE[0] in Active(rest).words
    assert head.count("<style>") == 1


# Uploads


def picture(**size: int) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((size.get("width", 90), size.get("height", 60)), 60).save(file, "png")
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 pixels in some kB."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size)
        + chunk(b"IDAT", zlib.compress(bytes(6_000_000), 9))
        + chunk(b"IEND", b"")
    )


def send(client: TestClient, data: bytes, name: str = "x.mp4", model: str = "probe") -> Any:
    files = {"file": (name, data, "video/mp4")}
    return client.post("/search", files=files, data={"model": model}, headers=OWN)


def test_a_video_and_a_picture_find_what_is_near(
    site: Site, visitor: TestClient, tmp_path: Path
) -> None:
    clip = media.make_clip(tmp_path / "new.mp4", seconds=1, seed=5).read_bytes()
    for data, name in ((clip, "new.mp4"), (picture(), "a cat.png")):
        found = send(visitor, data, name)
        assert found.status_code == 200, found.text
        shown = Active(found.text).words
        assert f"Nearest to {name}, by probe" in " ".join(shown.split())
        assert "clip 1" in shown
        assert "clip 2" in shown
    other = send(visitor, clip, model="vivit")
    assert other.status_code == 422
    assert "cannot be embedded here" in other.text


def test_hostile_uploads_end_with_our_own_codes_and_names_are_text(
    site: Site, visitor: TestClient
) -> None:
    for data, code in (
        (bomb(), "undecodable"),
        (b"", "empty_file"),
        (b"<html><script>window.hit=1</script>", "not_media"),
        (b"PK\x03\x04" + bytes(500), "not_media"),
        (b"\xff\xd8\xff<script>", "undecodable"),
        (picture()[:60], "undecodable"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "not_media"),
    ):
        refused = send(visitor, data, "a.png")
        assert refused.status_code == 422
        assert f"{code}:" in Active(refused.text).words, code
        assert Active(refused.text).found == []
    for words in exhibition.HOSTILE:
        refused = send(visitor, b"nothing", words.replace("\r", "").replace("\n", "") or "x")
        assert refused.status_code in (422, 400), words
        assert Active(refused.text).found == [], words


def test_what_is_too_large_or_no_form_is_refused(
    site: Site, visitor: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages.reading, "UPLOAD_BYTES", 100_000)
    assert send(visitor, bytes(100_001)).status_code == 413

    def piecewise() -> Iterator[bytes]:  # no length is stated
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        for _ in range(20):
            yield bytes(10_000)

    kind = {"Content-Type": "multipart/form-data; boundary=b", **OWN}
    assert visitor.post("/search", content=piecewise(), headers=kind).status_code == 413
    for body in (b"", b"--b", b"--b\r\nContent-Disposition: nonsense\r\n\r\n", b"x" * 90_000):
        assert visitor.post("/search", content=body, headers=kind).status_code == 400, body[:40]
    two = [("file", ("a", b"1", "video/mp4")), ("file", ("b", b"2", "video/mp4"))]
    assert visitor.post("/search", files=two, headers=OWN).status_code == 400
    assert visitor.post("/search", data={"file": "/etc/passwd"}, headers=OWN).status_code == 400
    assert visitor.post("/search", headers=OWN).status_code == 400


def test_nothing_of_an_upload_stays_and_none_has_a_name(
    site: Site, visitor: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    from producer.ui.reading import Upload

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[tuple[list[Path], Any]] = []
    real = Upload.__init__

    def look(self: Upload, file: Any) -> None:
        seen.append((list(tmp_path.iterdir()), file))
        real(self, file)

    monkeypatch.setattr(Upload, "__init__", look)
    send(visitor, bytes(3_000_000), "../../x.mp4")
    ((names, file),) = seen
    assert names == []
    assert file._rolled, "it was on the disk"
    assert file.closed
    assert list(tmp_path.iterdir()) == []


def test_without_the_packages_of_a_worker_the_page_says_which(
    visitor: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from producer.doctor import packages

    monkeypatch.setattr(packages, "_is_there", lambda module: module != "av")
    for said in (send(visitor, b"x").text, visitor.get(f"/look/{own_video(site)}/frames").text):
        assert "needs av, not installed here: pip install" in said


# The sheet of 96 frames


def test_the_sheet_is_that_of_sample(
    site: Site, visitor: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheets, "KEPT", 1)
    page = visitor.get(f"/look/{own_video(site)}/frames")
    (address,) = re.findall(r'src="(/sheets/[\w-]+)"', page.text)
    answer = visitor.get(address)
    assert answer.headers["content-type"] == "image/webp"
    drawn = Image.open(io.BytesIO(answer.content))
    assert drawn.width == 1894
    assert f'width="{drawn.width}" height="{drawn.height}"' in page.text
    visitor.get(f"/look/{own_video(site)}/frames")
    assert visitor.get(address).status_code == 404, "the one before is not kept"


def test_what_cannot_be_read_is_said_in_words(site: Site, visitor: TestClient) -> None:
    lost = visitor.get(f"/look/{site.hostile[0]}/frames")
    assert "The frames cannot be shown." in lost.text
    assert "not_found: " in lost.text
    assert visitor.get("/look/999999/frames").status_code == 404


def test_one_is_read_at_a_time_and_the_deadline_ends_it() -> None:
    from producer.ui.reading import Turns, told
    from workers.sources.retrying import Cancelled

    async def run() -> None:
        turns = Turns(deadline_seconds=0.05, patience_seconds=60)
        running: list[int] = []

        def work(stop: Any) -> str:
            running.append(1)
            assert len(running) == 1
            assert stop.wait(60), "the deadline came"
            running.pop()
            return told(Cancelled())

        ended = await asyncio.gather(turns.take(work), turns.take(work))
        assert ended == ["fetch_timeout: it could not be read within 30 s"] * 2
        impatient = Turns(deadline_seconds=0.2, patience_seconds=0.01)
        first = asyncio.create_task(impatient.take(lambda stop: stop.wait(60)))
        await asyncio.sleep(0)
        with pytest.raises(Exception, match="another video is being read, one at a time"):
            await impatient.take(lambda stop: None)
        assert await first

    asyncio.run(run())
