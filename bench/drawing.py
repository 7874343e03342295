"""The map and the report in a browser without a GPU: how long 10^5 points take to open and to move.

    python -m bench.pages --folder DIR --only fill
    python -m bench.drawing --folder DIR

Needs Chromium, as the tests do (`tests/browser.py`). A long task is one that keeps the browser's main
thread for more than 50 ms: whatever is pressed meanwhile waits.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from bench.pages import MAPPED, page, row
from db.stack.local_stack import LocalStack
from tests import browser

READY = "document.getElementById('plane')?.dataset.ready !== undefined"
MOVES = 120
#: What the browser says of itself while the map is dragged.
WATCHED = """(() => {
  window.long = []; window.frames_ms = []; let last = performance.now();
  new PerformanceObserver((list) => long.push(...list.getEntries().map((one) => one.duration))).observe({ type: 'longtask' });
  const next = (now) => { frames_ms.push(now - last); last = now; requestAnimationFrame(next); };
  requestAnimationFrame(next);
})()"""
MIDDLE = "(() => { const r = document.getElementById('plane').getBoundingClientRect(); return [r.left + r.width / 2, r.top + r.height / 2]; })()"


def opened(tab: browser.Page, address: str) -> float:
    """Seconds until the points are drawn."""
    started = time.perf_counter()
    tab.open(address)
    tab.becomes(READY)
    return time.perf_counter() - started


def dragged(tab: browser.Page, what: str) -> None:
    """Move the map about with the mouse, at three scales."""
    tab.evaluate("document.getElementById('plane').scrollIntoView()")
    (x, y), whole = tab.evaluate(MIDDLE), tab.evaluate("plane.view.scale")
    for scale in (1, 3, 10):
        tab.evaluate(f"plane.view.scale = {whole * scale}")
        tab.evaluate(WATCHED)
        before = tab.evaluate("plane.view.x")
        mouse = {"button": "left", "buttons": 1, "clickCount": 1}
        tab.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **mouse)
        for number in range(MOVES):
            angle = number / 10
            tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 90 * np.sin(angle),
                     y=y + 60 * np.cos(angle), **mouse)  # fmt: skip
        tab.call("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, **mouse)
        assert tab.evaluate("plane.view.x") != before, "nothing has moved"
        long, frames = tab.evaluate("[window.long, window.frames_ms]")
        p50, p95 = np.percentile(frames, (50, 95))
        told = f"{len(long)} long tasks" + (f", the longest {max(long):.0f} ms" if long else "")
        row(f"{what}, dragged, {scale} times nearer", f"{told}; a frame p50 {p50:.0f} ms, p95 {p95:.0f} ms", "none")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    folder = parser.parse_args().folder
    stack = LocalStack(folder)
    stack.up()
    out = folder / "report.html"
    try:
        row("what", "figure", "bar")
        row("---", "---", "---")
        started = time.perf_counter()
        command = [Path(sys.executable).with_name("reelvec"), "report", "--out", out]
        environment = {**os.environ, "REELVEC_DATA_DIR": str(folder)}
        subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
        took = time.perf_counter() - started
        row("reelvec report", f"{took:.1f} s, {out.stat().st_size / 1e6:.1f} MB", "10 MB")
        with page(folder) as (host, _), browser.running() as driven, driven.page() as tab:
            tab.emulate(1280, 900)
            row("the report opens from a file", f"{opened(tab, out.as_uri()):.1f} s", "3 s")
            dragged(tab, "the report")
            row("the map opens", f"{opened(tab, f'http://{host}/map?model={MAPPED}'):.1f} s", "")
            dragged(tab, "the map")
            points = tab.evaluate("plane.points.count")
            row("points", f"{points:,}", "")
    finally:
        out.unlink(missing_ok=True)
        stack.down()


if __name__ == "__main__":
    main()
