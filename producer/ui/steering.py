"""The pages that change something: the question, the answer to it, and the record of all steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from anyio import to_thread
from sqlalchemy import Engine
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from db import session
from db.jobs import steering
from db.jobs.steering import Action
from db.results import looking
from producer.ui import changes, forms
from producer.ui.changes import Change, Tokens
from producer.ui.pages import Draw

#: Steps shown, and of a reason.
SHOWN, REASON_CHARACTERS = 100, 300
STALE = (
    "This question is too old, was answered already, or is another one's: load its page again, "
    "and answer there."
)


@dataclass(frozen=True)
class Hand:
    """Whose hand it is: connections that may write, and `who` started the page, for the records."""

    database: Engine
    who: str


class Steering:
    """`reading`: connections that cannot write, for the questions."""

    def __init__(self, reading: Engine, hand: Hand, draw: Draw) -> None:
        self._reading = reading
        self._hand = hand
        self._draw = draw
        self._tokens = Tokens()
        self.routes = [
            Route("/change/{action}", self.ask, methods=["GET"]),
            Route("/change/{action}", self.answer, methods=["POST"]),
            Route("/changes", self.record),
        ]

    async def ask(self, request: Request) -> Response:
        change = _named(request, request.query_params)
        count = await to_thread.run_sync(changes.concerned, self._reading, change)
        choices = await to_thread.run_sync(self._choices)
        return self._draw(
            "change.html",
            at="changes",
            change=change,
            chosen=dict(change.chosen),
            choices=choices,
            count=count,
            most=steering.COUNTED,
            token=self._tokens.new(change),
        )

    def _choices(self) -> Mapping[str, list[str]]:
        with session.transaction(self._reading) as connection:
            return looking.choices(connection)

    async def answer(self, request: Request) -> Response:
        async with forms.sent(request) as fields:
            sent = {name: forms.text(fields, name) for name in (*fields.keys(), "token", "reason")}
        change = _named(request, sent)
        if not self._tokens.take(sent["token"], change):
            raise HTTPException(403, STALE)
        reason = sent["reason"].strip()[:REASON_CHARACTERS] or None
        who = f"{self._hand.who}, by the page"
        if request.client is not None:
            who += f" from {request.client.host}"

        def make() -> None:
            changes.make(self._hand.database, change, who=who, reason=reason)

        await to_thread.run_sync(make)
        return RedirectResponse("/changes", 303)

    async def record(self, _: Request) -> Response:
        return self._draw(
            "changes.html", at="changes", actions=await to_thread.run_sync(self._latest)
        )

    def _latest(self) -> list[Action]:
        with session.transaction(self._reading) as connection:
            return steering.latest(connection, limit=SHOWN)


def _named(request: Request, asked: Mapping[str, str]) -> Change:
    change = Change.of(request.path_params["action"], asked)
    if change is None:
        raise HTTPException(404)
    return change
