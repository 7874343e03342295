"""Who is let in where the page listens on another address than loopback: whoever has entered the
token that stands on the terminal of `reelvec ui`, and nowhere else.

The token is sent once, in the body of a form. What a browser keeps is another secret, a cookie that
no script reads and no other site's link carries along.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from producer.ui import forms

ENTRY = "/enter"
#: What is shown before anybody has entered: the form, and the look of it.
OPEN_PATHS = (ENTRY, "/static/")
#: After a wrong token none from the same address is looked at for so long, twice as long after
#: each; so many addresses are remembered.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0
ADDRESSES = 1000
WRONG = "This is not the token. It stands on the terminal of reelvec ui."
LATER = "That was a wrong token. Wait {:.0f} s before you enter another one."


class Door:
    """`port` distinguishes the cookie: a browser sends it to every port of a host. `draw` gives the
    page with the form, from words about what went wrong and a status.
    """

    def __init__(
        self,
        token: str,
        port: int,
        draw: Callable[[str, int], Response],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token = token
        self._cookie = f"reelvec_{port}"
        self._pass = secrets.token_urlsafe(32)
        self._draw = draw
        self._now = now
        #: by address: until when it waits, and how long after its next wrong token
        self._wrong: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application for those who were let in, and the form for all others."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and not self._lets_in(Request(scope)):
                await self._draw("", 401)(scope, receive, send)
            else:
                await app(scope, receive, send)

        return guarded

    def _lets_in(self, request: Request) -> bool:
        path: str = request.scope["path"]
        is_open = path == ENTRY or path.startswith(OPEN_PATHS[1])
        return is_open or _are_equal(request.cookies.get(self._cookie, ""), self._pass)

    async def enter(self, request: Request) -> Response:
        """The form, and what it sends."""
        if request.method != "POST":
            return self._draw("", 200)
        async with forms.sent(request) as fields:
            token = forms.text(fields, "token").strip()
        address = request.client.host if request.client else ""
        closed_until, pause_seconds = self._wrong.pop(address, (0.0, FIRST_PAUSE_SECONDS))
        if (wait_seconds := closed_until - self._now()) > 0:
            self._wrong[address] = closed_until, pause_seconds
            refused = self._draw(LATER.format(max(1.0, wait_seconds)), 429)
            refused.headers["Retry-After"] = str(max(1, round(wait_seconds)))
            return refused
        if not _are_equal(token, self._token):
            longer = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)
            self._wrong[address] = self._now() + pause_seconds, longer
            while len(self._wrong) > ADDRESSES:
                self._wrong.popitem(last=False)
            return self._draw(WRONG, 403)
        let_in = RedirectResponse("/", 303)
        let_in.set_cookie(self._cookie, self._pass, httponly=True, samesite="strict")
        return let_in


def _are_equal(given: str, secret: str) -> bool:
    """In a time that does not depend on how much of it is right."""
    return secrets.compare_digest(given.encode(), secret.encode())
