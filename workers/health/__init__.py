"""Whether a worker lives and takes work, for those who look from outside: `/healthz`, `/readyz`,
`/metrics`.

Off unless an address is set: only then is what it takes imported.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.health.address import Address
    from workers.health.node import Process
    from workers.runtime import Runtime


def of_process(
    address: Address | None, runtime: Callable[[], Runtime | None]
) -> AbstractContextManager[None]:
    """Serves the health of this worker process; `runtime` gives None until it is prepared."""
    if address is None:
        return contextlib.nullcontext()
    from workers.health import process

    return process.serving(address, runtime)


def of_node(address: Address | None, processes: Sequence[Process]) -> AbstractContextManager[None]:
    """Serves the health of all worker processes of a supervisor, which are to be started in it."""
    if address is None:
        return contextlib.nullcontext()
    from workers.health import node

    return node.serving(address, processes)
