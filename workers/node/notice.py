"""The word that a spot or preemptible node is about to be taken away: asked for again and again, so
that it drains in time.

A command that ends with 0 gives notice. An address does with a status of 200, unless its text is
`FALSE`: Google's answers 200 before, too, AWS's 404. Addresses that want a token first (IMDSv2) or
are to be searched (Azure) are asked by a command.
"""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable

from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError

log = logging.getLogger(__name__)

#: AWS recommends this interval; Google gives 30 s from notice to end.
INTERVAL_SECONDS = 5.0
#: A question that takes longer is asked again.
PATIENCE_SECONDS = 4.0
#: Google's address answers only to this; others do not mind.
HEADERS = {"Metadata-Flavor": "Google"}


def watch(source: str, given: Callable[[], None]) -> None:
    """Call `given`, once and in a thread of its own, when `source`, a shell command or an http(s)
    address, gives notice.
    """
    ask = _ask_address if source.startswith(("http://", "https://")) else _ask_command

    def wait() -> None:
        trouble = ""
        pause = threading.Event()
        while True:
            try:
                if ask(source):
                    log.warning("notice was given: this node will be taken away")
                    given()
                    return
                trouble = ""
            except (HTTPError, OSError, subprocess.TimeoutExpired) as error:
                if trouble != (
                    trouble := f"{type(error).__name__}: {error}"
                ):  # once, not every 5 s
                    log.warning("REELVEC_SPOT_NOTICE cannot be asked: %s", trouble)
            pause.wait(INTERVAL_SECONDS)

    threading.Thread(target=wait, name="spot-notice", daemon=True).start()


def _ask_command(command: str) -> bool:
    done = subprocess.run(
        ["sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    if done.returncode in (126, 127):
        raise OSError(f"the shell cannot run it (exit {done.returncode})")
    return done.returncode == 0


def _ask_address(url: str) -> bool:
    """Proxies of the environment are not used, redirects not followed."""
    with PoolManager(timeout=Timeout(total=PATIENCE_SECONDS), headers=HEADERS) as pool:
        answer = pool.request("GET", url, retries=False, redirect=False, preload_content=False)
        try:
            return answer.status == 200 and answer.read(16).strip() != b"FALSE"
        finally:
            answer.close()
