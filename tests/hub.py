"""A model hub on loopback: the two addresses that fetching a checkpoint needs, and every way they
can fail.

Large files are served as the published hub does: a redirect to another server, with size and
SHA-256 in `X-Linked-*`.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from workers.weights.hub import git_blob_sha1

LARGE = (".safetensors", ".bin")


@dataclass
class Hub:
    """`trees`: folders by (repository, commit). What is set below `refs` makes requests fail."""

    port: int = 0
    store_port: int = 0
    trees: dict[tuple[str, str], Path] = field(default_factory=dict)
    refs: dict[tuple[str, str], str] = field(default_factory=dict)
    #: Status and `X-Error-Code` of addresses with this in them.
    answers: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    #: Names of files that are served with one bit changed.
    flipped: set[str] = field(default_factory=set)
    #: Bytes at which a file ends, said to be its whole length.
    short: dict[str, int] = field(default_factory=dict)
    #: How often the connection breaks in the middle of a file.
    broken: dict[str, int] = field(default_factory=dict)
    #: A file that stops in the middle: `halfway` is set then, and it goes on once `release` is.
    held: str | None = None
    halfway: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    #: Method, address and Authorization of every request.
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, repository: str, ref: str, folder: Path) -> str:
        """Publish a folder under a ref; returns its commit, which is that of its content."""
        sha = hashlib.sha1(repository.encode())
        for path in sorted(folder.iterdir()):
            sha.update(path.name.encode() + path.read_bytes())
        self.trees[repository, sha.hexdigest()] = folder
        self.refs[repository, ref] = sha.hexdigest()
        return sha.hexdigest()

    def served(self, method: str = "GET") -> list[str]:
        """Names of the files that were sent (GET) or asked about (HEAD)."""
        found = [
            path
            for kind, path, _ in self.requests
            if kind == method and not path.startswith("/api/")
        ]
        return [path.rsplit("/", 1)[1].partition("?")[0] for path in found]


@contextmanager
def running() -> Iterator[Hub]:
    """A hub without any repository. It may be stopped earlier by leaving the block."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [_Server(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.port, hub.store_port = (server.server_address[1] for server in servers)
    threads = [
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        for server in servers
    ]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        hub.release.set()
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that was killed is no news."""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        """Not on stderr."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.hub.requests.append((self.command, self.path, self.headers.get("Authorization")))
        for part, (status, word) in self.hub.answers.items():
            if part in self.path:
                self._send(status, b"", {"X-Error-Code": word} if word else {})
                return
        path = urlsplit(self.path).path
        if found := re.fullmatch(r"/api/models/(.+?)/revision/(.+)", path):
            self._tree(found[1], unquote(found[2]))
        elif found := re.fullmatch(r"/(.+?)/resolve/([0-9a-f]{40})/([^/]+)", path):
            self._file(found[1], found[2], found[3], redirect=found[3].endswith(LARGE))
        elif found := re.fullmatch(r"/cdn/(.+?)/([0-9a-f]{40})/([^/]+)", path):
            self._file(found[1], found[2], found[3], redirect=False)
        else:
            self._send(404, b"", {})

    def _tree(self, repository: str, revision: str) -> None:
        sha = self.hub.refs.get((repository, revision), revision)
        if (repository, sha) not in self.hub.trees:
            known = any(name == repository for name, _ in self.hub.trees)
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound" if known else "RepoNotFound"})
            return
        siblings = [
            self._sibling(path) for path in sorted(self.hub.trees[repository, sha].iterdir())
        ]
        content = {
            "_id": "1",
            "id": repository,
            "modelId": repository,
            "sha": sha,
            "siblings": siblings,
        }
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _sibling(self, path: Path) -> dict[str, Any]:
        size = path.stat().st_size
        facts = {"rfilename": path.name, "size": size, "blobId": git_blob_sha1(path)}
        if path.name.endswith(LARGE):
            facts["lfs"] = {"sha256": _sha256(path), "size": size, "pointerSize": 134}
        return facts

    def _file(self, repository: str, sha: str, name: str, *, redirect: bool) -> None:
        tree = self.hub.trees.get((repository, sha))
        if tree is None or not (tree / name).exists():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        path = tree / name
        headers = {
            "X-Repo-Commit": sha,
            "ETag": f'"{git_blob_sha1(path)}"',
            "Accept-Ranges": "bytes",
        }
        if redirect:
            headers["X-Linked-Size"] = str(path.stat().st_size)
            headers["X-Linked-Etag"] = f'"{_sha256(path)}"'
            headers["Location"] = (
                f"http://127.0.0.1:{self.hub.store_port}/cdn/{repository}/{sha}/{name}?X-Amz-Signature=s3cr3t"
            )
            self._send(302, b"", headers)
        else:
            self._content(name, path.read_bytes(), headers)

    def _content(self, name: str, content: bytes, headers: dict[str, str]) -> None:
        if name in self.hub.flipped:
            content = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        if self.command == "GET" and name in self.hub.short:
            content = content[: self.hub.short[name]]
        status, start = 200, 0
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            status, start = 206, int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(status, content[start:], headers, name)

    def _send(self, status: int, content: bytes, headers: dict[str, str], name: str = "") -> None:
        self.send_response(status)
        for header, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(content) // 2
        if name and name == self.hub.held:
            self.wfile.write(content[:half])
            self.hub.halfway.set()
            self.hub.release.wait()
            content = content[half:]
        if self.hub.broken.get(name, 0) > 0:
            self.hub.broken[name] -= 1
            self.wfile.write(content[:half])
            self.close_connection = True
            return
        self.wfile.write(content)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
