"""The pictures of docs/ui.md, taken anew of a made-up catalogue: `python -m docs.pictures [NAME]`.

Needs a browser, as the tests do (`tests/browser.py`). Look at them before you keep them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from db import schema, session
from db.stack.local_stack import LocalStack
from producer.results import mapping
from tests import browser, exhibition, exhibition_judged

FOLDER = Path(__file__).parent / "ui"
PHONE_WIDTH_PX = 390


@dataclass(frozen=True)
class Picture:
    """The top of the page at `path` when `ready`, an expression of JavaScript, is true; before that
    `does`, another one, happens there.
    """

    path: str
    ready: str
    height_px: int
    width_px: int = 1200
    dark: bool = False
    does: str = "true"


LIVE = "document.querySelector('.verdict') !== null"
SHOWN = "[...document.images].slice(0, 9).every((one) => one.complete)"
JUDGED = "document.querySelector('.matrix') !== null"
MAPPED = "map?model=vivit&tagger=x-clip/en"
DRAWN = "document.getElementById('plane').dataset.ready !== undefined"
LIT = "[0, 3].forEach((one) => document.querySelectorAll('#legend button')[one].click())"
RIGHT = "document.getElementById('colour').value = 'right'; colour()"
POINTED = "point(plane.points.ids.indexOf(44), { pin: true })"
PICTURES = {
    "now-light": Picture("", LIVE, 2003),
    "now-phone": Picture("", LIVE, 844, PHONE_WIDTH_PX),
    "look-light": Picture("look?category=films", SHOWN, 760),
    "video-dark": Picture("look/4", SHOWN, 1300, dark=True),
    "video-phone": Picture("look/4", SHOWN, 844, PHONE_WIDTH_PX, dark=True),
    "search-light": Picture("search?words=rt-4", SHOWN, 900),
    "map-light": Picture(MAPPED, DRAWN, 1090, does=LIT),
    "map-dark": Picture(MAPPED, DRAWN, 1090, dark=True, does=f"{RIGHT}; {POINTED}"),
    "map-phone": Picture(MAPPED, DRAWN, 1300, PHONE_WIDTH_PX, dark=True, does=POINTED),
    "judge-light": Picture("judge?tagger=genres@1", JUDGED, 1640),
    "judge-dark": Picture(f"judge?tagger={quote('x-clip/по-русски')}", JUDGED, 1640, dark=True),
    "judge-phone": Picture("judge?tagger=genres@1", JUDGED, 844, PHONE_WIDTH_PX),
}
#: These show videos that would be in the way of the others.
FIFTY = {"judge-dark"}


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """`reelvec ui` over the servers in this folder, and its address."""
    command = [Path(sys.executable).with_name("reelvec"), "ui", "--no-browser", "--port", "0"]
    environment = {**os.environ, "REELVEC_DATA_DIR": str(folder)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def take(names: set[str], folder: Path) -> None:
    with serving(folder) as address, browser.running() as driven, driven.page() as page:
        for name in sorted(names):
            wanted = PICTURES[name]
            is_phone = wanted.width_px == PHONE_WIDTH_PX
            page.emulate(wanted.width_px, wanted.height_px, dark=wanted.dark, phone=is_phone)
            page.open(address + wanted.path)
            page.becomes(wanted.ready)
            page.evaluate(wanted.does)
            page.becomes(SHOWN)
            page.screenshot(FOLDER / f"{name}.webp", whole=False)
        assert page.problems == [], page.problems


def main() -> None:
    names = set(sys.argv[1:] or PICTURES)
    with tempfile.TemporaryDirectory(prefix="reelvec-pictures-") as made:
        folder = Path(made)
        folder.chmod(0o755)  # Postgres does not run as root
        stack = LocalStack(folder, disposable=True)
        url = stack.up().database_url
        try:
            schema.upgrade(url)
            with session.connect(url) as engine:
                exhibition.fill(engine)
                mapping.make(engine, "vivit", None, anew=False, who="docs", tell=lambda *_: None)
                take(names - FIFTY, folder)
                if names & FIFTY:
                    exhibition_judged.add_fifty(engine)
                    take(names & FIFTY, folder)
        finally:
            stack.down()


if __name__ == "__main__":
    main()
