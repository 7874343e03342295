"""A TCP proxy for tests: it passes bytes on, and on command delays, cuts, swallows, holds back or
refuses them.

It runs in a thread of the test's own process; what is under test knows nothing but its port:

    with Proxy("127.0.0.1:5432") as proxy:
        start_worker(DATABASE_URL=proxy.url(database_url))
        proxy.black_hole()
        ...
        proxy.forward()

Every command has taken effect when it returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

T = TypeVar("T")
#: `request`: from the client to the server. `answer`: the other way.
Direction = Literal["request", "answer"]
BOTH: tuple[Direction, Direction] = ("request", "answer")
#: Closing a socket with this option set sends RST at once instead of FIN after what is still to be
#: sent.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
CHUNK_BYTES = 1 << 16


@dataclass(eq=False)
class _Link:
    """One connection: both ends, and the directions in which nothing comes through any more."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    dead: set[Direction] = field(default_factory=set)
    passed_bytes: dict[Direction, int] = field(default_factory=lambda: {"request": 0, "answer": 0})

    def close(self, *, reset: bool = False) -> None:
        for end in (self.near, self.far):
            if reset:
                with contextlib.suppress(OSError):  # it may be closed already
                    end.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE
                    )
                end.transport.abort()
            else:
                end.close()


@dataclass
class _Trap:
    """What happens to a connection that has passed on so many bytes, or is about to pass on certain
    ones.
    """

    direction: Direction
    after_bytes: int | None
    at: bytes | None
    then: Literal["cut", "black_hole"]
    times: int

    def split(self, link: _Link, data: bytes) -> int | None:
        """How much of `data` still comes through; None: all of it, the trap is not touched."""
        if self.at is not None:
            found = data.find(self.at)
            return None if found < 0 else len(data)
        assert self.after_bytes is not None
        left = self.after_bytes - link.passed_bytes[self.direction]
        return None if len(data) <= left else max(0, left)


@dataclass
class _Mode:
    """What is done to everything that passes; the default is nothing."""

    delay_seconds: float = 0.0
    bytes_per_second: float | None = None
    dead_at_birth: tuple[Direction, ...] = ()
    trap: _Trap | None = None


class Proxy:
    """Passes TCP on to `target` (`host:port`). `connections` counts those it has taken, dead ones
    too. `host`: where all of them listen.
    """

    host = "127.0.0.1"

    def __init__(self, target: str) -> None:
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self.connections = 0
        self._links: set[_Link] = set()
        self._mode = _Mode()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._do(self._listen(0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def endpoint(self) -> str:
        """`host:port` to connect to."""
        return f"{self.host}:{self.port}"

    def url(self, original: str) -> str:
        """An address of the target, leading through this proxy."""
        parts = urlsplit(original)
        account = parts.netloc.rpartition("@")[0]
        return urlunsplit(
            parts._replace(netloc=f"{account}@{self.endpoint}" if account else self.endpoint)
        )

    def live(self) -> int:
        """Connections that are open at both ends, swallowed ones too."""
        return len(self._links)

    # What can be done to the connections

    def forward(self) -> None:
        """Everything comes through again, new connections too. What was swallowed stays lost, and
        its connections dead.
        """
        self._do(self._forward())

    def slow(self, *, delay_seconds: float = 0.0, bytes_per_second: float | None = None) -> None:
        """Every piece arrives late by `delay_seconds`, and no connection is faster than
        `bytes_per_second`.
        """
        self._mode.delay_seconds, self._mode.bytes_per_second = delay_seconds, bytes_per_second

    def cut(self, *, reset: bool = True) -> int:
        """Close every connection with RST, or else with FIN; new ones work. Returns how many there
        were.
        """
        return self._do(self._cut(reset))

    def black_hole(self, *directions: Direction, new: bool = True) -> int:
        """Both ends stay open and have their bytes acknowledged, but nothing arrives in
        `directions` (none: both).

        `new`: so it is with connections that are made from now on, until `forward`. Returns how
        many were open.
        """
        return self._do(self._black_hole(directions or BOTH, new))

    def freeze(self) -> None:
        """Hold back every byte until `forward`: a network that was away and lost nothing."""
        self._do(self._freeze())

    def refuse(self) -> None:
        """Refuse new connections until `forward`; those that are open stay."""
        self._do(self._refuse())

    def trap(
        self,
        *,
        direction: Direction,
        after_bytes: int | None = None,
        at: bytes | None = None,
        then: Literal["cut", "black_hole"] = "cut",
        times: int = 1,
    ) -> None:
        """Break the next `times` connections that pass on more than `after_bytes`, or a piece in
        which `at` occurs.

        That piece arrives, what comes after it does not: `direction="request", at=b"COMMIT"` is a
        commit whose outcome the client never learns.
        """
        assert (after_bytes is None) != (at is None), "one of both"
        self._mode.trap = _Trap(direction, after_bytes, at, then, times)

    @property
    def traps_left(self) -> int:
        """How many connections the trap that was set last has still to break."""
        return self._mode.trap.times if self._mode.trap else 0

    def close(self) -> None:
        """Stop listening and close every connection."""
        if self._loop.is_closed():
            return
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # In the proxy's own thread

    def _do(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    async def _listen(self, port: int) -> None:
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._server = await asyncio.start_server(self._serve, self.host, port)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _forward(self) -> None:
        self._mode = _Mode()
        self._thawed.set()
        if not self._server.is_serving():
            await self._listen(self.port)

    async def _cut(self, reset: bool) -> int:
        links = list(self._links)
        self._links.clear()
        for link in links:
            link.close(reset=reset)
        await asyncio.sleep(0)
        return len(links)

    async def _black_hole(self, directions: tuple[Direction, ...], new: bool) -> int:
        for link in self._links:
            link.dead.update(directions)
        if new:
            self._mode.dead_at_birth = directions
        return len(self._links)

    async def _freeze(self) -> None:
        self._thawed.clear()

    async def _refuse(self) -> None:
        self._server.close()

    async def _stop(self) -> None:
        self._server.close()
        self._thawed.set()
        await self._cut(reset=True)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, near_reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            far_reader, far = await asyncio.open_connection(*self._target)
        except OSError:  # the server behind is away: so are we
            near.close()
            return
        link = _Link(near, far, set(self._mode.dead_at_birth))
        self._links.add(link)
        pumps = (
            self._pump(link, "request", near_reader, far),
            self._pump(link, "answer", far_reader, near),
        )
        with contextlib.suppress(asyncio.CancelledError):  # by `close`; asyncio would print it
            await asyncio.gather(*pumps)

    async def _pump(
        self,
        link: _Link,
        direction: Direction,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
    ) -> None:
        try:
            while data := await source.read(CHUNK_BYTES):
                await self._wait(len(data))
                await self._pass_on(link, direction, data, sink)
        except OSError:  # reset by one end: the other end hears of it below
            pass
        await self._thawed.wait()
        if (
            direction not in link.dead
        ):  # the end of a connection does not come through a black hole either
            link.close()
            self._links.discard(link)

    async def _wait(self, size_bytes: int) -> None:
        mode = self._mode
        seconds = mode.delay_seconds + (
            size_bytes / mode.bytes_per_second if mode.bytes_per_second else 0.0
        )
        if seconds:
            await asyncio.sleep(seconds)
        await self._thawed.wait()

    async def _pass_on(
        self, link: _Link, direction: Direction, data: bytes, sink: asyncio.StreamWriter
    ) -> None:
        if direction in link.dead:
            return
        trap = self._mode.trap
        kept = (
            trap.split(link, data)
            if trap is not None and trap.times and trap.direction == direction
            else None
        )
        sink.write(data if kept is None else data[:kept])
        await sink.drain()
        link.passed_bytes[direction] += len(data) if kept is None else kept
        if kept is None or trap is None:
            return
        trap.times -= 1
        if trap.then == "black_hole":
            link.dead.update(BOTH)
        else:
            link.close()
            self._links.discard(link)
