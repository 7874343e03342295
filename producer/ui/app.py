"""The pages by their addresses. Whatever asks the database runs in a thread; answers are HTML that
was made here.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from db import session, strips
from db.errors import UnavailableError
from db.results import looking
from producer.ui import judge, look, pages
from producer.ui.guard import Guard
from producer.ui.judge import Judgement, Judging
from producer.ui.live import Live
from producer.ui.maps import Maps
from producer.ui.now import Looking, Now
from producer.ui.words import Words
from producer.wording import first_line

if TYPE_CHECKING:
    from sqlalchemy import Engine

Handler = Callable[[Request], Awaitable[Response]]

#: How long a page waits for its numbers before it is shown without them.
PATIENCE_SECONDS = 0.7
#: A picture is of one version of its video, which its address says.
KEPT = {"Cache-Control": "private, max-age=31536000, immutable"}
WORDS_CHARACTERS = 300
NO_VIDEO = "There is no such video; it may have been removed."
#: Of the column.
MAX_VIDEO_ID = 2**63 - 1


def application(
    database: Engine, patient: Engine, *, broker_url: str, shown: str, hosts: frozenset[str]
) -> Starlette:
    """`patient`: connections to the same database for what takes long; `shown`: the servers in use,
    secrets masked; `hosts`: what the page may be called.
    """
    live = Live(Looking(database, broker_url).take)
    judged = Live(
        Judging(patient).take,
        pause_seconds=judge.PAUSE_SECONDS,
        is_whole=lambda latest: latest.away is None,
    )
    site = _Site(database, live, judged, Words(database), shown)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(site.live.run)
            tasks.start_soon(site.judged.run)
            yield
            tasks.cancel_scope.cancel()

    return Starlette(
        routes=[
            Route("/", site.now),
            Route("/events", site.events),
            Route("/look", site.look),
            Route("/look/{video_id:int}", site.video),
            Route("/search", site.search),
            Route("/judge", site.judge),
            Route("/strips/{video_id:int}", site.strip),
            Route("/map", site.map),
            Route("/map/points", site.map_points),
            Route("/map/cards", site.map_cards),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
        ],
        middleware=[Middleware(Guard, hosts=hosts)],
        exception_handlers={
            HTTPException: site.no_page,
            UnavailableError: site.away,
            Exception: site.broken,
        },
        lifespan=lifespan,
    )


def _video_id(request: Request) -> int:
    found: int = request.path_params["video_id"]
    if found > MAX_VIDEO_ID:
        raise HTTPException(404, NO_VIDEO)
    return found


class _Site:
    def __init__(
        self,
        database: Engine,
        live: Live[Now],
        judged: Live[Judgement],
        words: Words,
        shown: str,
    ) -> None:
        self.live = live
        self.judged = judged
        self._database = database
        self._words = words
        self._maps = Maps(database)
        self._templates = pages.environment()
        self._templates.globals["shown"] = shown
        self._drawn: tuple[Now | None, str] = (None, "")

    async def now(self, _: Request) -> Response:
        latest = await self.live.latest(patience_seconds=PATIENCE_SECONDS)
        return self._page("now.html", at="now", now=latest)

    async def events(self, _: Request) -> Response:
        async def looks() -> AsyncIterator[ServerSentEvent]:
            async for latest in self.live.follow():
                yield ServerSentEvent(self._draw(latest), event="look", retry=3000)

        return EventSourceResponse(looks(), ping=15, send_timeout=15)

    def _draw(self, latest: Now) -> str:
        """The part of Now that changes, drawn once for all who follow."""
        if self._drawn[0] is not latest:
            template = self._templates.get_template("now_live.html")
            self._drawn = (latest, template.render(now=latest))
        return self._drawn[1]

    async def look(self, request: Request) -> Response:
        asked = look.Asked.of(request.query_params)
        grid = await to_thread.run_sync(look.grid, self._database, asked)
        choices = await to_thread.run_sync(self._choices)
        return self._page("look.html", at="look", asked=asked, grid=grid, choices=choices)

    def _choices(self) -> Mapping[str, list[str]]:
        """What the filters offer."""
        with session.transaction(self._database) as connection:
            return looking.choices(connection)

    async def video(self, request: Request) -> Response:
        page = await to_thread.run_sync(look.page, self._database, _video_id(request))
        if page is None:
            raise HTTPException(404, NO_VIDEO)
        return self._page("video.html", at="look", page=page)

    async def search(self, request: Request) -> Response:
        words = request.query_params.get("words", "").replace("\0", "").strip()[:WORDS_CHARACTERS]
        name = request.query_params.get("model", "")
        answer = await to_thread.run_sync(self._words.answer, words, name)
        return self._page("search.html", at="search", words=words, **vars(answer))

    async def judge(self, request: Request) -> Response:
        latest = await self.judged.latest(patience_seconds=PATIENCE_SECONDS)
        chosen = request.query_params.get("tagger")
        return self._page("judge.html", at="judge", judgement=latest, asked=chosen)

    async def strip(self, request: Request) -> Response:
        video_id = _video_id(request)

        def fetch() -> bytes | None:
            with session.one_statement(self._database) as connection:
                return strips.fetch(connection, video_id)

        picture = await to_thread.run_sync(fetch)
        if picture is None:
            raise HTTPException(404, "This video has no picture.")
        return Response(picture, media_type="image/webp", headers=KEPT)

    async def map(self, request: Request) -> Response:
        chosen = await to_thread.run_sync(self._maps.choices, request.query_params)
        return self._page("map.html", at="map", **vars(chosen))

    async def map_points(self, request: Request) -> Response:
        found = await to_thread.run_sync(self._maps.points, request.query_params)
        if found is None:
            raise HTTPException(404, "There is no map yet.")
        return Response(found, media_type="application/octet-stream")

    async def map_cards(self, request: Request) -> Response:
        asked = request.query_params.get("ids", "")
        cards = await to_thread.run_sync(self._maps.cards, asked)
        return self._page("map_cards.html", cards=cards)

    async def no_page(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        words = error.detail if error.detail != "Not Found" else "There is no such page."
        return self._trouble(error.status_code, words)

    async def away(self, _: Request, error: Exception) -> Response:
        return self._trouble(503, f"{error}. Load the page again in a moment.")

    async def broken(self, _: Request, error: Exception) -> Response:
        return self._trouble(500, f"{type(error).__name__}: {first_line(str(error))}")

    def _trouble(self, status: int, words: str) -> Response:
        return self._page("trouble.html", status=status, at="", words=words)

    def _page(self, name: str, *, status: int = 200, **facts: Any) -> HTMLResponse:
        return HTMLResponse(self._templates.get_template(name).render(**facts), status)
