"""Who may ask the page, and what its answers allow a browser to do.

Every program and every web site that a browser has open can reach an address that this machine
listens on. A site that has its own name point here (DNS rebinding) is known by the Host it asks
for, one that sends a form or a script's request by its Origin, one that only embeds what is here by
what the browser says of the request. Titles and error texts come from strangers: they are escaped
by the templates, and if one of them were not, the policy runs no script and loads no style but the
page's own files, and asks no other address.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

#: Which of them a page answers is for its route to say.
METHODS = ("GET", "HEAD", "POST")
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # "no-referrer" would hide the Origin of the page's own forms, too
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """Stands around the whole application, its page for errors too. Answers 421 to another Host
    than `hosts` (such as `localhost:8740`), 403 to another Origin and to a form without one, and
    405 to methods that no page has; all answers get `HEADERS`.
    """

    def __init__(self, app: Starlette, hosts: frozenset[str]) -> None:
        self.app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # a websocket: nothing here has any
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refused = self._refusal(scope["method"], Headers(scope=scope))
        await (refused or self.app)(scope, receive, guarded)

    def _refusal(self, method: str, headers: Headers) -> PlainTextResponse | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return PlainTextResponse("this page has another address\n", 421)
        own = f"http://{hosts[0].lower()}"
        if any(origin.lower() != own for origin in origins) or _is_embedded_elsewhere(headers):
            return PlainTextResponse("another page may not ask this one\n", 403)
        if method not in METHODS:
            return PlainTextResponse("no page does that\n", 405, {"Allow": ", ".join(METHODS)})
        if method == "POST" and len(origins) != 1:  # every browser says where a form stands
            return PlainTextResponse("a form must say which page it stands on\n", 403)
        return None


def _is_embedded_elsewhere(headers: Headers) -> bool:
    """Whether another site's page loads this (as a picture, a script), which a link to it does
    not.
    """
    is_foreign = headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
    return is_foreign and headers.get("sec-fetch-mode") != "navigate"
