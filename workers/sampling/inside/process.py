"""A sampler process: decodes one video after the other and opens nothing.

It is started by `workers.sampling.child` with an empty environment and two descriptors: a socket,
over which it asks for the blocks of a video that some worker thread reads, and memory for blocks
and frames. `workers.sampling.inside.lockdown` takes the rest away: whatever a hostile video makes
of it has no files, no network, no credentials, and ends with its process.
"""

from __future__ import annotations

import gc
import importlib
import json
import mmap
import os
import socket
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from db.errors import VideoError
from workers.sampling.inside import lockdown
from workers.sampling.inside.heap import Heap
from workers.sampling.wire import BLOCK_BYTES, FRAMES_START, LENGTH, SLOTS, pack

if TYPE_CHECKING:
    import numpy as np

    from workers.sampling.frames import Decoded

#: What PyAV and Pillow import only when they need it, which here is when no file can be opened any
#: more.
LATE_IMPORTS = (
    "PIL.ImageFile",
    "av.audio.codeccontext",
    "av.audio.stream",
    "av.subtitles.codeccontext",
    "av.subtitles.stream",
)
#: The same file would end the same way again, so this is its end and no strike. Many such files
#: pause everything.
DEFECT = (
    "{}: {}: something in this file is not foreseen here; please report it, and retry it with a "
    "newer version"
)


class AbortedError(Exception):
    """The worker cannot read on and wants this video dropped."""


class Channel:
    """This end of the socket. When the other end closes, the process ends where it stands."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, message: dict[str, Any]) -> None:
        try:
            self._connection.sendall(pack(message))
        except OSError:
            leave()

    def receive(self) -> dict[str, Any]:
        (json_bytes,) = LENGTH.unpack(self._exactly(LENGTH.size))
        message: dict[str, Any] = json.loads(self._exactly(json_bytes))
        return message

    def _exactly(self, count: int) -> bytearray:
        data = bytearray(count)
        view = memoryview(data)
        while view:
            try:
                received = self._connection.recv_into(view)
            except OSError:
                leave()
            if not received:
                leave()
            view = view[received:]
        return data


def leave() -> NoReturn:
    """End at once. `sys.exit` would not do: FFmpeg's read callback swallows it."""
    os._exit(0)


class RemoteFile:
    """A file whose blocks are asked for over the channel
    (`workers.sampling.inside.boxes.ByteFile`).
    """

    def __init__(self, channel: Channel, memory: mmap.mmap, size_bytes: int) -> None:
        self._channel = channel
        self._memory = memory
        self._size_bytes = size_bytes
        self._position = 0
        self._slots: OrderedDict[int, int] = OrderedDict()  # by block, the one used last at the end
        self.aborted = False

    def read(self, count: int) -> bytes:
        """At most `count` bytes, fewer at a block's end. Raises `AbortedError`."""
        if self._position >= self._size_bytes:
            return b""
        index, offset = divmod(self._position, BLOCK_BYTES)
        count = min(count, BLOCK_BYTES - offset, self._size_bytes - self._position)
        start = self._slot(index) * BLOCK_BYTES + offset
        self._position += count
        return self._memory[start : start + count]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = (
            offset
            + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size_bytes}[whence]
        )
        return self._position

    def tell(self) -> int:
        return self._position

    def _slot(self, block: int) -> int:
        """Where this block lies, fetched if it is not there."""
        if self.aborted:
            raise AbortedError
        if block not in self._slots:
            slot = (
                len(self._slots) if len(self._slots) < SLOTS else self._slots.popitem(last=False)[1]
            )
            self._channel.send({"kind": "read", "block": block, "slot": slot})
            if self._channel.receive()["kind"] == "abort":
                self.aborted = True
                raise AbortedError
            self._slots[block] = slot
        self._slots.move_to_end(block)
        return self._slots[block]


def answer(
    sample: Callable[..., Decoded], file: RemoteFile, policy: str, frames: np.ndarray
) -> dict[str, Any]:
    """Decode into `frames` and say how it went."""
    try:
        decoded = sample(file, policy, frames)
    except AbortedError:
        return {"kind": "aborted"}
    except MemoryError:
        allowed_mib = lockdown.MEMORY_BYTES >> 20
        message = (
            f"decoding needs more than the {allowed_mib} MiB of memory a sampler may use: a "
            "smaller rendition fits"
        )
        return {"kind": "failed", "code": "over_limits", "message": message}
    except VideoError as error:
        failed = {"kind": "failed", "code": error.code, "message": str(error)}
        # FFmpeg may take a failed read for the end of the file: then this is no word about the
        # video
        return {"kind": "aborted"} if file.aborted else failed
    if file.aborted:
        return {"kind": "aborted"}
    told = vars(decoded) | vars(decoded.facts)
    del told["pixels"], told["facts"]
    arrays = {name: told[name].tolist() for name in ("indices", "pts_seconds")}
    return {"kind": "done", **told, **arrays}


def main(arguments: list[str]) -> None:
    """`arguments`: descriptor of the socket, descriptor of the shared memory, CPU seconds a video
    may use, parent's id.
    """
    socket_fd, memory_fd, cpu_seconds, parent_pid = map(int, arguments)
    lockdown.die_with(parent_pid)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy comes: it would start a thread per core
    import numpy as np

    from workers.sampling.inside.decode import sample
    from workers.sampling.inside.still import sample_or_still
    from workers.sampling.plan import SHAPE

    for name in LATE_IMPORTS:
        importlib.import_module(name)
    memory = mmap.mmap(memory_fd, 0)
    frames = np.frombuffer(memory, np.uint8, offset=FRAMES_START).reshape(SHAPE)
    channel = Channel(socket.socket(fileno=socket_fd))
    heap = Heap()
    gc.freeze()  # the modules stay: `tidy` need not look through them
    channel.send({"kind": "ready", "seccomp": lockdown.lock_down(socket_fd)})
    while True:
        request = channel.receive()
        lockdown.limit_cpu(cpu_seconds)
        try:
            file = RemoteFile(channel, memory, request["size_bytes"])
            way = sample_or_still if request["stills"] else sample
            channel.send(answer(way, file, request["policy"], frames))
        except Exception as error:
            # a defect of ours: say which, then do not trust this process any more
            said = DEFECT.format(type(error).__name__, error)
            channel.send({"kind": "failed", "code": "sampler_defect", "message": said})
            raise
        heap.tidy()


if __name__ == "__main__":
    main(sys.argv[1:])
