"""A headless Chromium, driven by the DevTools protocol over its own websocket: no driver binary, no
framework.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

PATIENCE_SECONDS = 60.0
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-dev-shm-usage", "--mute-audio", "--hide-scrollbars", "--force-color-profile=srgb", "--lang=en-US",
)  # fmt: skip
LISTENING = re.compile(r"DevTools listening on (ws://\S+)")


def executable() -> str | None:
    """REELVEC_TEST_BROWSER, else what is on PATH."""
    named = os.environ.get("REELVEC_TEST_BROWSER")
    names = [named] if named else ["chromium", "chromium-browser", "google-chrome", "chrome"]
    return next((found for name in names if (found := shutil.which(name))), None)


@contextmanager
def running() -> Iterator[Browser]:
    """One browser with a profile of its own, gone with it."""
    program = executable()
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="reelvec-browser-") as profile:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert process.stderr is not None
            found = next(filter(None, map(LISTENING.search, process.stderr)))
            with connect(found[1], max_size=None) as channel:
                yield Browser(channel)
                channel.send(json.dumps({"id": 0, "method": "Browser.close"}))
            process.wait(timeout=20)
        finally:
            process.kill()
            process.wait()
            process.stderr.close()


@dataclass
class Browser:
    """Speaks to the browser's one websocket; what it says of its pages is kept with them."""

    channel: ClientConnection
    pages: dict[str, Page] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def call(self, method: str, session: str | None = None, **facts: Any) -> dict[str, Any]:
        """The answer to one command."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": facts}
        self.channel.send(json.dumps(message | ({"sessionId": session} if session else {})))
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            heard = self._hear(end - time.monotonic())
            if heard is not None and heard.get("id") == number:
                assert "error" not in heard, f"{method}: {heard['error']}"
                return heard["result"]  # type: ignore[no-any-return]
        raise AssertionError(f"{method}: no answer")

    def listen(self, seconds: float) -> None:
        """Take in what happens meanwhile."""
        self._hear(seconds)

    def _hear(self, seconds: float) -> dict[str, Any] | None:
        try:
            heard: dict[str, Any] = json.loads(self.channel.recv(timeout=max(0.0, seconds)))
        except TimeoutError:
            return None
        if (page := self.pages.get(heard.get("sessionId", ""))) and "method" in heard:
            page.happened(heard["method"], heard["params"])
        return heard

    @contextmanager
    def page(self) -> Iterator[Page]:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        page.call("Page.setLifecycleEventsEnabled", enabled=True)
        yield page
        self.call("Target.closeTarget", targetId=target)


@dataclass
class Page:
    """One tab. `problems`: everything that a console or a network panel would show in red;
    `requests`: every address that was asked; `answers`: headers by address.
    """

    browser: Browser
    session: str
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    answers: dict[str, dict[str, str]] = field(default_factory=dict)
    _loaded: set[str] = field(default_factory=set)

    def call(self, method: str, **facts: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **facts)

    def happened(self, event: str, facts: dict[str, Any]) -> None:
        if event == "Page.lifecycleEvent" and facts["name"] == "load":
            self._loaded.add(facts["loaderId"])
        elif event == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])
        elif event == "Network.responseReceived":
            answer = facts["response"]
            self.answers[answer["url"]] = {k.lower(): v for k, v in answer["headers"].items()}
            if answer["status"] >= 400:
                self.problems.append(f"{answer['status']} {answer['url']}")
        elif event == "Network.loadingFailed" and not facts.get("canceled"):
            self.problems.append(f"{facts['errorText']} {facts.get('blockedReason', '')}")
        elif event == "Runtime.exceptionThrown":
            self.problems.append(str(facts["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and facts["type"] in (
            "error",
            "warning",
            "assert",
        ):
            self.problems.append(str(facts["args"]))
        elif event == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
            self.problems.append(facts["entry"]["text"])
        elif event == "Page.javascriptDialogOpening":
            self.problems.append(f"a dialog: {facts['message']}")

    def open(self, address: str) -> None:
        """Until it is loaded, its pictures too; that the page before it is loaded is no answer."""
        answer = self.call("Page.navigate", url=address)
        assert not answer.get("errorText"), f"{address}: {answer['errorText']}"
        self.until(lambda: answer["loaderId"] in self._loaded, f"{address} to load")

    def evaluate(self, script: str) -> Any:
        """The value of an expression, or of the promise it is. The page's own policy forbids it no
        `eval`: nothing is evaluated as a string in the page.
        """
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition: Callable[[], object], what: str) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < end, f"waited for {what}; problems: {self.problems}"
            self.browser.listen(0.1)

    def becomes(self, script: str) -> None:
        """Wait until an expression is true."""
        self.until(lambda: self.evaluate(script), script)

    def press(self, key: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                      text="\r" if key == "Enter" and kind == "keyDown" else "")  # fmt: skip

    def emulate(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=2 if phone else 1, mobile=phone)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.call("Emulation.setEmulatedMedia", features=[scheme, still])

    def screenshot(self, path: Path, *, whole: bool = True, quality: int = 80) -> None:
        """A WebP picture of the whole page, or of what the window shows."""
        made = self.call(
            "Page.captureScreenshot", format="webp", quality=quality, captureBeyondViewport=whole
        )
        path.write_bytes(base64.b64decode(made["data"]))
