"""A sampler process: decodes one video after the other and opens nothing.

It is started by `workers.sampling.child` with an empty environment and two descriptors: a socket, over which it asks for the
blocks of a video that some worker thread reads, and memory for the frames. Whatever a hostile video makes of it has no
files, no network, no credentials, and ends with its process.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import math
import mmap
import os
import resource
import signal
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from db.errors import VideoError
from workers.sampling.wire import BLOCK_BYTES, LENGTHS, pack

if TYPE_CHECKING:
    import numpy as np

    from workers.sampling.decode import Decoded

#: Address space, libraries included; an 8K decoder needs about 2 GB.
MEMORY_BYTES = 4 << 30
#: The worker's own threads come first.
NICENESS = 5
#: Blocks kept here: interleaved sound and picture may lie in two places.
KEPT_BLOCKS = 2

#: What PyAV and Pillow import only when they need it, which here is when no file can be opened any more.
LATE_IMPORTS = (
    "PIL.ImageFile",
    "av.audio.codeccontext",
    "av.audio.stream",
    "av.subtitles.codeccontext",
    "av.subtitles.stream",
)

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


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

    def receive(self) -> tuple[dict[str, Any], bytes]:
        json_bytes, payload_bytes = LENGTHS.unpack(self._exactly(LENGTHS.size))
        message: dict[str, Any] = json.loads(self._exactly(json_bytes))
        return message, self._exactly(payload_bytes)

    def _exactly(self, count: int) -> bytes:
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
        return bytes(data)


def leave() -> NoReturn:
    """End at once. `sys.exit` would not do: FFmpeg's read callback swallows it."""
    os._exit(0)


class RemoteFile:
    """A file whose blocks are asked for over the channel (`workers.sampling.boxes.ByteFile`)."""

    def __init__(self, channel: Channel, size_bytes: int) -> None:
        self._channel = channel
        self._size_bytes = size_bytes
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self.aborted = False

    def read(self, count: int) -> bytes:
        """At most `count` bytes, fewer at a block's end. Raises `AbortedError`."""
        if self._position >= self._size_bytes:
            return b""
        index, offset = divmod(self._position, BLOCK_BYTES)
        piece = self._block(index)[offset : offset + count]
        self._position += len(piece)
        return piece

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size_bytes}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def _block(self, index: int) -> bytes:
        if self.aborted:
            raise AbortedError
        if index not in self._blocks:
            self._channel.send({"kind": "read", "block": index})
            answer, payload = self._channel.receive()
            if answer["kind"] == "abort":
                self.aborted = True
                raise AbortedError
            self._blocks[index] = payload
            if len(self._blocks) > KEPT_BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(index)
        return self._blocks[index]


def lock_down() -> None:
    """Give up everything that decoding does not need. Whatever is imported or opened must be so by now."""
    os.chdir("/")
    os.nice(NICENESS)
    # an operator's Ctrl-C or a supervisor's SIGTERM is for the worker, which ends its samplers itself
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (0, 0)
    )  # the frames are written through a mapping, which it does not touch
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))  # 0, 1, 2 are taken: no descriptor can be opened any more
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def limit_cpu(seconds: int) -> None:
    """From now on `seconds` of CPU time, then SIGXCPU ends the process."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + seconds, hard))


def answer(sample: Callable[..., Decoded], file: RemoteFile, policy: str, frames: np.ndarray) -> dict[str, Any]:
    """Decode into `frames` and say how it went."""
    try:
        decoded = sample(file, policy, frames)
    except AbortedError:
        return {"kind": "aborted"}
    except VideoError as error:
        # FFmpeg may take a failed read for the end of the file: then this is no word about the video
        return {"kind": "aborted"} if file.aborted else {"kind": "failed", "code": error.code, "message": str(error)}
    if file.aborted:
        return {"kind": "aborted"}
    facts = {name: value for name, value in vars(decoded).items() if name != "frames"}
    arrays = {name: facts[name].tolist() for name in ("frame_indices", "pts_seconds")}
    return {"kind": "done", **facts, **arrays}


def tidy() -> None:
    """Give a video's memory back to the system: otherwise each process would keep its largest video's for ever."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim:
        trim(0)


def main(arguments: list[str]) -> None:
    """`arguments`: descriptor of the socket, descriptor of the frames' memory, CPU seconds a video may use."""
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    socket_fd, memory_fd, cpu_seconds = map(int, arguments)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy comes: it would start a thread per core
    import numpy as np

    from workers.sampling.decode import sample
    from workers.sampling.plan import SHAPE

    for name in LATE_IMPORTS:
        importlib.import_module(name)
    frames = np.frombuffer(mmap.mmap(memory_fd, math.prod(SHAPE)), np.uint8).reshape(SHAPE)
    os.close(memory_fd)
    channel = Channel(socket.socket(fileno=socket_fd))
    gc.freeze()  # the modules stay: `tidy` need not look through them
    lock_down()
    channel.send({"kind": "ready"})
    while True:
        request, _ = channel.receive()
        limit_cpu(cpu_seconds)
        try:
            channel.send(answer(sample, RemoteFile(channel, request["size_bytes"]), request["policy"], frames))
        except Exception as error:  # a defect of ours: say which, then do not trust this process any more
            channel.send({"kind": "failed", "code": "sampler_crashed", "message": f"{type(error).__name__}: {error}"})
            raise
        tidy()


if __name__ == "__main__":
    main(sys.argv[1:])
