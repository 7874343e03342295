"""The pages by their addresses. Whatever asks the database runs in a thread; answers are HTML that
was made here.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from db import session, strips
from db.errors import ReelvecError, UnavailableError
from db.masking import mask
from db.results import looking
from producer.ui import forms, judge, look, pages, reading
from producer.ui.door import ENTRY, Door
from producer.ui.guard import Guard
from producer.ui.judge import Judgement, Judging
from producer.ui.live import Live
from producer.ui.maps import Maps
from producer.ui.now import Looking, Now
from producer.ui.reading import Reader, Turns
from producer.ui.seen import Seen
from producer.ui.sheets import Sheets
from producer.ui.steering import Hand, Steering
from producer.ui.words import Words
from producer.wording import first_line

if TYPE_CHECKING:
    from sqlalchemy import Engine

#: How long a page waits for its numbers before it is shown without them.
PATIENCE_SECONDS = 0.7
#: A picture is of one version of its video, which its address says.
KEPT = {"Cache-Control": "private, max-age=31536000, immutable"}
WORDS_CHARACTERS = 300
NO_VIDEO = "There is no such video; it may have been removed."
#: Of the column.
MAX_VIDEO_ID = 2**63 - 1


@dataclass(frozen=True)
class Access:
    """Who may do what: `hosts` are the names of the page; `token`, where one must be entered, and
    the `port`; `hand`, where the page may change something; `any_folder` as for `Reader`.
    """

    hosts: frozenset[str]
    any_folder: bool = False
    token: str | None = None
    port: int = 0
    hand: Hand | None = None


def application(
    database: Engine, patient: Engine, *, broker_url: str, shown: str, access: Access
) -> Guard:
    """`patient`: connections to the same database for what takes long; `shown`: the servers in use,
    secrets masked.
    """
    live = Live(Looking(database, broker_url).take)
    judged = Live(
        Judging(patient).take,
        pause_seconds=judge.PAUSE_SECONDS,
        is_whole=lambda latest: latest.away is None,
    )
    site = _Site(database, live, judged, shown, access)
    steering = Steering(database, access.hand, site.page) if access.hand else None
    door = Door(access.token, access.port, site.entry) if access.token else None

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(site.live.run)
            tasks.start_soon(site.judged.run)
            yield
            tasks.cancel_scope.cancel()
        site.close()

    inner = Starlette(
        routes=[
            Route("/", site.now),
            Route("/events", site.events),
            Route("/look", site.look),
            Route("/look/{video_id:int}", site.video),
            Route("/look/{video_id:int}/frames", site.frames),
            Route("/sheets/{key}", site.sheet),
            Route("/search", site.search, methods=["GET"]),
            Route("/search", site.search_file, methods=["POST"]),
            Route("/judge", site.judge),
            Route("/strips/{video_id:int}", site.strip),
            Route("/map", site.map),
            Route("/map/points", site.map_points),
            Route("/map/cards", site.map_cards),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
            *(steering.routes if steering else []),
            *([Route(ENTRY, door.enter, methods=["GET", "POST"])] if door else []),
        ],
        middleware=[Middleware(door.around)] if door else [],
        exception_handlers={
            HTTPException: site.no_page,
            UnavailableError: site.away,
            ReelvecError: site.refused,
            Exception: site.broken,
        },
        lifespan=lifespan,
    )
    return Guard(inner, access.hosts)


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
        shown: str,
        access: Access,
    ) -> None:
        self.live = live
        self.judged = judged
        self._database = database
        self._maps = Maps(database)
        self._reader = Reader(any_folder=access.any_folder)
        self._sheets = Sheets(database, self._reader)
        self._seen = Seen(database, self._reader)
        self._words = Words(database)
        self._sheet_turns, self._file_turns = Turns(), Turns()
        self._templates = pages.environment()
        self._templates.globals |= {"shown": shown, "changes": access.hand is not None}
        self._drawn: tuple[Now | None, str] = (None, "")

    def close(self) -> None:
        self._seen.close()
        self._reader.close()

    async def now(self, _: Request) -> Response:
        latest = await self.live.latest(patience_seconds=PATIENCE_SECONDS)
        return self.page("now.html", at="now", now=latest)

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
        return self.page("look.html", at="look", asked=asked, grid=grid, choices=choices)

    def _choices(self) -> Mapping[str, list[str]]:
        """What the filters offer."""
        with session.transaction(self._database) as connection:
            return looking.choices(connection)

    async def video(self, request: Request) -> Response:
        page = await to_thread.run_sync(look.page, self._database, _video_id(request))
        if page is None:
            raise HTTPException(404, NO_VIDEO)
        return self.page("video.html", at="look", page=page)

    async def search(self, request: Request) -> Response:
        words = request.query_params.get("words", "").replace("\0", "").strip()[:WORDS_CHARACTERS]
        name = request.query_params.get("model", "")
        answer = await to_thread.run_sync(self._words.answer, words, name)
        return self.page("search.html", at="search", words=words, **vars(answer))

    async def search_file(self, request: Request) -> Response:
        async with forms.sent(request, most_bytes=reading.UPLOAD_BYTES) as fields:
            upload, model = fields.get("file"), forms.text(fields, "model")
            if not isinstance(upload, UploadFile) or not upload.filename:
                raise HTTPException(400, "No file was chosen.")
            work = functools.partial(self._seen.answer, upload.file, upload.filename, model)
            answer = await self._file_turns.take(work)
        status = 422 if answer.trouble else 200
        return self.page("search.html", at="search", status=status, words="", **vars(answer))

    async def frames(self, request: Request) -> Response:
        work = functools.partial(self._sheets.draw, _video_id(request))
        sheet = await self._sheet_turns.take(work)
        if sheet is None:
            raise HTTPException(404, NO_VIDEO)
        return self.page("frames.html", at="look", sheet=sheet)

    async def sheet(self, request: Request) -> Response:
        picture = self._sheets.picture(request.path_params["key"])
        if picture is None:
            raise HTTPException(404, "This sheet is not kept any more: load its page again.")
        return Response(picture, media_type="image/webp")

    async def judge(self, request: Request) -> Response:
        latest = await self.judged.latest(patience_seconds=PATIENCE_SECONDS)
        chosen = request.query_params.get("tagger")
        return self.page("judge.html", at="judge", judgement=latest, asked=chosen)

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
        return self.page("map.html", at="map", **vars(chosen))

    async def map_points(self, request: Request) -> Response:
        found = await to_thread.run_sync(self._maps.points, request.query_params)
        if found is None:
            raise HTTPException(404, "There is no map yet.")
        return Response(found, media_type="application/octet-stream")

    async def map_cards(self, request: Request) -> Response:
        asked = request.query_params.get("ids", "")
        cards = await to_thread.run_sync(self._maps.cards, asked)
        return self.page("map_cards.html", at="map", cards=cards)

    async def no_page(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        words = error.detail if error.detail != "Not Found" else "There is no such page."
        return self._trouble(error.status_code, words)

    async def away(self, _: Request, error: Exception) -> Response:
        return self._trouble(503, f"{error}. Load the page again in a moment.")

    async def refused(self, _: Request, error: Exception) -> Response:
        return self._trouble(400, str(error))

    async def broken(self, _: Request, error: Exception) -> Response:
        return self._trouble(500, f"{type(error).__name__}: {first_line(mask(str(error)))}")

    def entry(self, words: str, status: int) -> Response:
        """The form for the token."""
        return self.page("enter.html", at="", status=status, words=words)

    def _trouble(self, status: int, words: str) -> Response:
        return self.page("trouble.html", status=status, at="", words=words)

    def page(self, name: str, *, at: str, status: int = 200, **facts: Any) -> Response:
        return HTMLResponse(self._templates.get_template(name).render(at=at, **facts), status)
