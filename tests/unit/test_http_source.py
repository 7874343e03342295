"""Videos at web addresses: bytes right whatever the server does, or the code that says what it
did.
"""

from __future__ import annotations

import errno
import random
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from db.errors import ErrorClass, VideoError
from tests.http_server import Handler, WebServer, serving
from workers.sources import pools, retrying
from workers.sources.http import Asker, HttpStore
from workers.sources.pools import is_public
from workers.sources.remote import FIRST_BYTES
from workers.sources.response import only_if
from workers.sources.retrying import Cancelled, Limits

BODY = random.Random(1).randbytes(3 * FIRST_BYTES + 17)
LIMITS = Limits(fetch_seconds=1.5, bytes_per_second=100_000, spool_bytes=1 << 30)
PATH = "/a%20b/video.mp4?size=big"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_PAUSE_SECONDS", 0.005)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serving(files={PATH: BODY}) as made:
        yield made


@pytest.fixture
def store() -> Iterator[HttpStore]:
    made = HttpStore(LIMITS, allow_private=True, s3_host=None, connections=2)
    yield made
    made.close()


def code_of(store: HttpStore, url: str) -> str:
    with pytest.raises(VideoError) as caught:
        read_all(store, url)
    assert caught.value.stage == "fetch"
    return caught.value.code


def read_all(store: HttpStore, url: str) -> bytes:
    with store.open(url) as source:
        blocks = range(0, source.size_bytes, FIRST_BYTES)
        return b"".join(source.read(offset, FIRST_BYTES) for offset in blocks)


def test_ranges_are_read_and_the_first_block_only_once(server: WebServer, store: HttpStore) -> None:
    with store.open(server.url(PATH)) as source:
        assert (source.size_bytes, source.etag) == (len(BODY), "v1")
        assert source.open_seconds > 0
        assert source.read(0, FIRST_BYTES) == BODY[:FIRST_BYTES]
        assert source.read(len(BODY) - 10, 500) == BODY[-10:]
        assert source.read(len(BODY), 1) == b""
    assert server.requests == [
        (PATH, f"bytes=0-{FIRST_BYTES - 1}"),
        (PATH, f"bytes={len(BODY) - 10}-{len(BODY) - 1}"),
    ]


def test_later_ranges_are_asked_for_of_the_version_that_was_opened(store: HttpStore) -> None:
    asked: list[str | None] = []

    def note(handler: Handler) -> bool:
        asked.append(handler.headers.get("If-Match"))
        return False

    with serving(files={"/v": BODY}, etag='"v1"', bend=note) as server:
        assert read_all(store, server.url("/v")) == BODY
    assert asked == [None, '"v1"', '"v1"', '"v1"']


@pytest.mark.parametrize("stated_length", [True, False])
@pytest.mark.parametrize("size", [0, 5, FIRST_BYTES, len(BODY)])
def test_a_server_without_ranges_is_asked_once(
    store: HttpStore, stated_length: bool, size: int
) -> None:
    with serving(files={"/v": BODY[:size]}, ranges=False, stated_length=stated_length) as server:
        assert read_all(store, server.url("/v")) == BODY[:size]
        assert len(server.requests) == 1


def test_an_empty_file_has_no_bytes(store: HttpStore) -> None:
    with serving(files={"/v": b""}) as server, store.open(server.url("/v")) as source:
        assert (source.size_bytes, source.read(0, 10)) == (0, b"")


def cut_first(times: int, after: int) -> object:
    left = [times]

    def bend(handler: Handler) -> bool:
        if not left[0]:
            return False
        left[0] -= 1
        start, _, end = handler.headers["Range"].removeprefix("bytes=").partition("-")
        whole = BODY[int(start) : min(int(end), len(BODY) - 1) + 1]
        if handler.shared.ranges:
            span = f"bytes {start}-{int(start) + len(whole) - 1}/{len(BODY)}"
            handler.begin(206, len(whole), {"Content-Range": span})
        else:
            whole = BODY
            handler.begin(200, len(whole))
        handler.wfile.write(whole[:after])
        handler.cut()
        return True

    return bend


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_is_made_good(server: WebServer, store: HttpStore, ranges: bool) -> None:
    server.ranges = ranges
    server.bend = cut_first(2, after=FIRST_BYTES // 3)  # type: ignore[assignment]
    assert read_all(store, server.url(PATH)) == BODY


def test_after_a_cut_only_the_rest_is_asked_for(server: WebServer, store: HttpStore) -> None:
    with store.open(server.url(PATH)) as source:
        server.bend = cut_first(1, after=1000)  # type: ignore[assignment]
        assert source.read(FIRST_BYTES, 5000) == BODY[FIRST_BYTES : FIRST_BYTES + 5000]
    assert server.requests[-1][1] == f"bytes={FIRST_BYTES + 1000}-{FIRST_BYTES + 4999}"


@pytest.mark.parametrize("ranges", [True, False])
def test_one_that_cuts_every_time_has_its_code(
    server: WebServer, store: HttpStore, ranges: bool
) -> None:
    server.ranges = ranges
    server.bend = cut_first(100, after=10)  # type: ignore[assignment]
    assert code_of(store, server.url(PATH)) == "fetch_cut"


def test_silence_and_trickle_end_at_the_deadline(server: WebServer) -> None:
    def stall(handler: Handler) -> bool:
        handler.begin(206, 1000, {"Content-Range": "bytes 0-999/1000"})
        handler.shared.closing.wait(10)
        handler.cut()
        return True

    def trickle(handler: Handler) -> bool:
        handler.begin(
            200 if not handler.shared.ranges else 206, 1000, {"Content-Range": "bytes 0-999/1000"}
        )
        for _ in range(1000):
            handler.wfile.write(b"x")
            if handler.shared.closing.wait(0.02):
                break
        handler.cut()
        return True

    quick = HttpStore(
        Limits(fetch_seconds=0.6, bytes_per_second=1 << 22, spool_bytes=1 << 30),
        allow_private=True, s3_host=None, connections=2,
    )  # fmt: skip
    for bend, ranges in ((stall, True), (trickle, True), (trickle, False)):
        server.bend, server.ranges = bend, ranges
        started = time.monotonic()
        assert code_of(quick, server.url(PATH)) == "fetch_timeout"
        assert time.monotonic() - started < 5  # not the 20 s the body takes
    quick.close()


@pytest.mark.parametrize("etag", ['"v1"', 'W/"v1"', None])
def test_a_file_replaced_halfway_is_noticed(store: HttpStore, etag: str | None) -> None:
    with serving(files={"/v": BODY}, etag=etag) as server, store.open(server.url("/v")) as source:
        assert source.read(FIRST_BYTES, 10) == BODY[FIRST_BYTES : FIRST_BYTES + 10]
        server.files["/v"] = BODY + b"longer" if etag is None else BODY[::-1]
        server.etag = etag and etag.replace("v1", "v2")
        with pytest.raises(VideoError, match="replaced") as caught:
            source.read(2 * FIRST_BYTES, 10)
        assert caught.value.code == "source_changed"


def test_a_whole_body_replaced_after_a_cut_is_noticed(server: WebServer, store: HttpStore) -> None:
    server.ranges = False
    cut = cut_first(1, after=2 * FIRST_BYTES)

    def replaced(handler: Handler) -> bool:
        if len(server.requests) > 1:
            server.etag = '"v2"'
        return bool(cut(handler))  # type: ignore[operator]

    server.bend = replaced
    assert code_of(store, server.url(PATH)) == "source_changed"


def test_no_pause_goes_beyond_the_deadline(
    server: WebServer, store: HttpStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "FIRST_PAUSE_SECONDS", 60)
    server.bend = cut_first(1, after=10)  # type: ignore[assignment]
    assert code_of(store, server.url(PATH)) == "fetch_cut"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "not_found"),
        (410, "not_found"),
        (401, "access_denied"),
        (403, "access_denied"),
        (429, "server_error"),
        (500, "server_error"),
        (503, "server_error"),
        (400, "request_refused"),
        (412, "request_refused"),
        (451, "request_refused"),
    ],
)
def test_every_status_has_its_code(
    server: WebServer, store: HttpStore, status: int, code: str
) -> None:
    def refuse(handler: Handler) -> bool:
        handler.answer(status, b"no")
        return True

    server.bend = refuse
    assert code_of(store, server.url(PATH)) == code
    assert len(server.requests) == (retrying.TRIES if code == "server_error" else 1)


def test_a_busy_server_is_asked_again(server: WebServer, store: HttpStore) -> None:
    def busy_once(handler: Handler) -> bool:
        if len(server.requests) > 1:
            return False
        handler.answer(503, b"busy")
        return True

    server.bend = busy_once
    assert read_all(store, server.url(PATH)) == BODY


@pytest.mark.parametrize(("said", "tries"), [("1", 2), ("60", 1), ("9" * 5000, 1), ("soon", 2)])
def test_a_server_that_says_when_to_come_back_is_left_alone_until_then(
    server: WebServer, store: HttpStore, monkeypatch: pytest.MonkeyPatch, said: str, tries: int
) -> None:
    """Retry-After; where the deadline comes first, asking again would be in vain."""
    slept: list[float] = []
    monkeypatch.setattr(LIMITS.stop, "wait", slept.append)

    def busy_once(handler: Handler) -> bool:
        if len(server.requests) > 1:
            return False
        handler.begin(503, 0, {"Retry-After": said})
        return True

    server.bend = busy_once
    if tries == 1:
        assert code_of(store, server.url(PATH)) == "server_error"
        assert (len(server.requests), slept) == (1, [])
    else:
        assert read_all(store, server.url(PATH)) == BODY
        assert (slept[0] > 1) == (said == "1")


def test_once_stopped_nothing_is_tried_again(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that drains waits for one stalled read at most, and for no pause."""
    monkeypatch.setattr(retrying, "FIRST_PAUSE_SECONDS", 60)
    stopped = Limits(300, 100_000, 1 << 20)
    store = HttpStore(stopped, allow_private=True, s3_host=None, connections=1)

    def busy(handler: Handler) -> bool:
        handler.begin(503, 0)
        threading.Timer(0.1, stopped.stop.set).start()
        return True

    server.bend = busy
    with pytest.raises(Cancelled):
        store.open(server.url(PATH))
    with pytest.raises(Cancelled):
        store.open(server.url(PATH))
    assert len(server.requests) == 2, "one try each, the first with its pause cut short"
    store.close()


def test_what_is_no_answer_to_the_question_is_refused(server: WebServer, store: HttpStore) -> None:
    def other_range(handler: Handler) -> bool:
        handler.answer(206, b"12345", {"Content-Range": "bytes 5-9/100"})
        return True

    def compressed(handler: Handler) -> bool:
        handler.answer(200, b"\x1f\x8b", {"Content-Encoding": "gzip"})
        return True

    def compressed_range(handler: Handler) -> bool:
        handler.answer(
            206, b"\x1f\x8b", {"Content-Encoding": "gzip", "Content-Range": "bytes 0-1/2"}
        )
        return True

    for server.bend in (other_range, compressed, compressed_range):
        assert code_of(store, server.url(PATH)) == "request_refused"


@pytest.mark.parametrize("size", ["*", "-5", str((1 << 50) + 1), "9" * 5000])
def test_an_impossible_size_is_refused(server: WebServer, store: HttpStore, size: str) -> None:
    def claim(handler: Handler) -> bool:
        handler.answer(206, b"12345", {"Content-Range": f"bytes 0-4/{size}"})
        return True

    server.bend = claim
    assert code_of(store, server.url(PATH)) == "request_refused"


def test_a_body_over_the_limit_is_not_taken(server: WebServer) -> None:
    small = HttpStore(
        Limits(1.5, 100_000, spool_bytes=2000), allow_private=True, s3_host=None, connections=1
    )
    server.ranges = False
    for server.stated_length in (True, False):
        assert code_of(small, server.url(PATH)) == "over_limits"
    small.close()


class Flood:
    """Answers without an end. `taken`: what the client let through before it left, what lies in
    sockets included.
    """

    def __init__(self, status: int, *headers: tuple[str, str]) -> None:
        self._status, self._headers = status, headers
        self.taken = 0

    def __call__(self, handler: Handler) -> bool:
        handler.send_response(self._status)
        for name, value in self._headers:
            handler.send_header(name, value)
        handler.end_headers()
        piece = (
            b"10000\r\n" + bytes(1 << 16) + b"\r\n"
        )  # one of Transfer-Encoding: chunked, or just bytes
        while self.taken < 64 << 20 and not handler.shared.closing.is_set():
            handler.wfile.write(piece)
            self.taken += len(piece)
        return True


CHUNKED = ("Transfer-Encoding", "chunked")
TEN_TERABYTES = str(10 * 10**12)


@pytest.mark.parametrize(
    ("flood", "code"),
    [
        (Flood(200, CHUNKED), "over_limits"),
        (Flood(200), "over_limits"),
        (Flood(200, ("Content-Length", TEN_TERABYTES)), "over_limits"),
        (Flood(200, ("Content-Length", "9" * 5000)), "over_limits"),
        (Flood(200, CHUNKED, ("Content-Encoding", "gzip")), "request_refused"),
        (
            Flood(206, CHUNKED, ("Content-Encoding", "gzip"), ("Content-Range", "bytes 0-9/10")),
            "request_refused",
        ),
        (Flood(404, CHUNKED), "not_found"),
        (Flood(302, CHUNKED, ("Location", "ftp://host/")), "address_refused"),
    ],
)
def test_a_body_without_an_end_is_not_read(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flood: Flood, code: str
) -> None:
    """Of an endless body, one of ten terabytes, or a bomb that unpacks to more, at most the limit
    is taken.
    """
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    small = HttpStore(
        Limits(1.5, 100_000, spool_bytes=2 << 20), allow_private=True, s3_host=None, connections=1
    )
    server.bend = flood
    with pytest.raises(VideoError) as caught:
        small.open(server.url(PATH))
    assert caught.value.code == code
    assert flood.taken < 32 << 20
    assert list(tmp_path.iterdir()) == []
    small.close()


def test_of_an_object_of_ten_terabytes_only_what_is_asked_for_is_read(
    server: WebServer, store: HttpStore
) -> None:
    span = ("Content-Range", f"bytes 0-{FIRST_BYTES - 1}/{TEN_TERABYTES}")
    server.bend = flood = Flood(206, span, ("Content-Length", TEN_TERABYTES))
    with store.open(server.url(PATH)) as source:
        assert source.size_bytes == 10 * 10**12
        assert len(source.read(0, FIRST_BYTES)) == FIRST_BYTES
    assert flood.taken < 32 << 20


@pytest.mark.parametrize("cuts", [1, 100])
def test_a_body_of_unstated_length_that_is_cut_is_not_taken_for_whole(
    server: WebServer, store: HttpStore, cuts: int
) -> None:
    server.ranges = server.stated_length = False

    def cut(handler: Handler) -> bool:
        if len(server.requests) > cuts:
            return False
        handler.begin(200, None)
        handler.wfile.write(b"%x\r\n" % len(BODY) + BODY[: len(BODY) // 2])
        handler.cut()
        return True

    server.bend = cut
    if cuts == 1:
        assert read_all(store, server.url(PATH)) == BODY
    else:
        assert code_of(store, server.url(PATH)) == "fetch_cut"


@contextmanager
def small_disk(size_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond `size_bytes`: to it, a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("missing", [1, 100, 1 << 20, len(BODY)])
def test_a_full_disk_is_not_the_videos_fault_and_keeps_nothing(
    server: WebServer,
    store: HttpStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    missing: int,
) -> None:
    """Wherever the room ends: among the last bytes, which may wait in a buffer, too."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server.ranges = False
    with small_disk(len(BODY) - missing), pytest.raises(VideoError, match="TMPDIR") as caught:
        read_all(store, server.url(PATH))
    assert (caught.value.code, caught.value.error_class) == ("io_error", ErrorClass.TRANSIENT)
    assert list(tmp_path.iterdir()) == []
    assert read_all(store, server.url(PATH)) == BODY


def redirect(handler: Handler) -> bool:
    if not handler.path.startswith("/to/"):
        return False
    handler.begin(302, 0, {"Location": handler.path.removeprefix("/to/")})
    return True


def test_few_redirects_are_followed(server: WebServer, store: HttpStore) -> None:
    server.bend = redirect
    assert read_all(store, server.url(f"/to//to/{PATH}")) == BODY
    assert len(server.requests) == 3 + 3  # where they lead is remembered
    assert code_of(store, server.url("/to//to//to//to/" + PATH)) == "address_refused"
    assert code_of(store, server.url("/to/file:///etc/passwd")) == "address_refused"
    assert code_of(store, server.url("/to/ftp://127.0.0.1/x")) == "address_refused"
    assert code_of(store, server.url("/to/http://user:secret@127.0.0.1/x")) == "address_refused"


def test_a_redirect_may_not_leave_https(store: HttpStore) -> None:
    asker = Asker(store, "https://host.example/v.mp4")
    assert asker.redirected("http://host.example/v.mp4", "https://host.example/v.mp4").startswith(
        "https:"
    )
    with pytest.raises(VideoError, match="from https: to http:"):
        asker.redirected("https://host.example/v.mp4", "http://host.example/v.mp4")


PUBLIC, OTHER = "93.184.215.14", "93.184.215.15"


class Internet:
    """Names as they are to be resolved, one list of addresses per question; public addresses lead
    to one server.
    """

    def __init__(
        self, server: WebServer, monkeypatch: pytest.MonkeyPatch, **names: list[list[str]]
    ) -> None:
        self._server, self._names = server, names
        self._resolve = socket.getaddrinfo
        self.reached: list[str] = []
        monkeypatch.setattr(pools.socket, "getaddrinfo", self._found)
        monkeypatch.setattr(pools.sockets, "create_connection", self._connected)

    def _found(self, host: str, port: int, *arguments: int, **options: int) -> list[object]:
        if host not in self._names:
            return list(self._resolve(host, port, *arguments, **options))
        addresses = self._names[host].pop(0)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses
        ]

    def _connected(self, address: tuple[str, int], *_: object, **__: object) -> socket.socket:
        self.reached.append(address[0])
        return socket.create_connection(("127.0.0.1", self._server.port))


@pytest.fixture
def strict() -> Iterator[HttpStore]:
    made = HttpStore(LIMITS, allow_private=False, s3_host=None, connections=1)
    yield made
    made.close()


def test_the_connection_goes_to_the_address_that_was_judged(
    server: WebServer, strict: HttpStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name with a private and a public address is read at the public one."""
    internet = Internet(server, monkeypatch, twofaced=[["10.0.0.1", PUBLIC]])
    assert read_all(strict, "http://twofaced" + PATH) == BODY
    assert internet.reached == [PUBLIC]


def test_a_name_that_changes_its_mind_is_judged_at_every_connection(
    server: WebServer, strict: HttpStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: public when it was first asked for, then this machine."""
    internet = Internet(server, monkeypatch, rebound=[[PUBLIC], ["127.0.0.1"]])
    server.bend = cut_first(1, after=1000)  # type: ignore[assignment]  # so that it must connect again
    assert code_of(strict, "http://rebound" + PATH) == "address_refused"
    assert internet.reached == [PUBLIC]


@pytest.mark.parametrize(
    "address",
    ["10.1.2.3", "127.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:192.168.0.1", "0.0.0.0"],
)
def test_a_name_of_a_private_address_is_refused(
    server: WebServer, strict: HttpStore, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    internet = Internet(server, monkeypatch, inside=[[address]])
    with pytest.raises(VideoError, match="REELVEC_HTTP_ALLOW_PRIVATE") as caught:
        strict.open("http://inside" + PATH)
    assert caught.value.code == "address_refused"
    assert internet.reached == server.requests == []


@pytest.mark.parametrize(
    "target",
    ["http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:{port}/x", "http://[::1]:{port}/x",
     "http://[::ffff:127.0.0.1]:{port}/x", "http://0.0.0.0:{port}/x", "http://2130706433:{port}/x",
     "http://localhost:{port}/x", "http://inside/x", "//inside/x", "https://inside/x", "file:///etc/passwd",
     "ftp://public/x", "data:,x", "http://me:secret@public/x"],
)  # fmt: skip
def test_a_public_server_cannot_send_us_into_the_private_network(
    server: WebServer, strict: HttpStore, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    internet = Internet(server, monkeypatch, public=[[PUBLIC]], inside=[["192.168.1.1"]])

    def bend(handler: Handler) -> bool:
        handler.begin(302, 0, {"Location": target.format(port=server.port)})
        return True

    server.bend = bend
    with pytest.raises(VideoError) as caught:
        strict.open("http://public" + PATH)
    assert caught.value.code == "address_refused"
    assert internet.reached == [PUBLIC]
    assert [path for path, _ in server.requests] == [PATH]


def test_a_public_server_may_send_us_to_another(
    server: WebServer, strict: HttpStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    internet = Internet(server, monkeypatch, public=[[PUBLIC]], other=[[OTHER]])
    server.bend = redirect
    assert read_all(strict, "http://public/to/http://other" + PATH) == BODY
    assert internet.reached == [PUBLIC, OTHER]


def test_a_redirect_that_had_its_time_is_asked_for_again(
    server: WebServer, store: HttpStore
) -> None:
    expired: list[str] = []

    def signed(handler: Handler) -> bool:
        if handler.path == "/old":
            handler.begin(302, 0, {"Location": f"/signed{len(expired)}"})
            return True
        if handler.path in expired:
            handler.answer(403, b"expired")
            return True
        handler.path = PATH
        return False

    server.bend = signed
    with store.open(server.url("/old")) as source:
        expired.append("/signed0")
        assert source.read(FIRST_BYTES, 10) == BODY[FIRST_BYTES : FIRST_BYTES + 10]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.1.1",
     "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
     "64:ff9b::a9fe:a9fe", "2002:7f00:1::1", "ff02::1"],
)  # fmt: skip
def test_private_addresses_are_known_in_every_dress(address: str) -> None:
    assert not is_public(address)


def test_public_addresses_are_public() -> None:
    assert all(map(is_public, ("1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8")))


def test_private_addresses_are_refused_where_the_connection_is_made(server: WebServer) -> None:
    strict = HttpStore(LIMITS, allow_private=False, s3_host=None, connections=1)
    for host in (
        "127.0.0.1",
        "localhost",
        "[::1]",
        "0.0.0.0",
        "127.1",
        "[::ffff:127.0.0.1]",
        "2130706433",
    ):
        with pytest.raises(VideoError, match="REELVEC_HTTP_ALLOW_PRIVATE") as caught:
            strict.open(f"http://{host}:{server.port}{PATH}")
        assert caught.value.code == "address_refused"
    assert not server.requests
    strict.close()


def test_the_s3_endpoint_may_be_private_and_redirects_to_others_may_not(server: WebServer) -> None:
    exempt = HttpStore(
        LIMITS, allow_private=False, s3_host=f"127.0.0.1:{server.port}", connections=1
    )
    server.bend = redirect
    assert read_all(exempt, server.url(PATH)) == BODY
    assert (
        code_of(exempt, server.url(f"/to/http://localhost:{server.port}{PATH}"))
        == "address_refused"
    )
    exempt.close()


def test_nobody_there_is_unreachable(store: HttpStore) -> None:
    assert code_of(store, "http://127.0.0.1:9/v.mp4") == "unreachable"
    assert code_of(store, "http://no-such-host.invalid/v.mp4") == "unreachable"


def test_an_address_that_does_not_answer_is_unreachable() -> None:
    """As behind a firewall that drops what it does not like: here, a queue of connections that is
    full.
    """
    quick = HttpStore(Limits(0.6, 100_000, 1), allow_private=True, s3_host=None, connections=1)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            assert each.connect_ex(silent.getsockname()) == errno.EINPROGRESS
        assert code_of(quick, f"http://127.0.0.1:{silent.getsockname()[1]}/v.mp4") == "unreachable"
        for each in waiting:
            each.close()
    quick.close()


def test_no_message_holds_a_query(server: WebServer, store: HttpStore) -> None:
    with pytest.raises(VideoError) as caught:
        store.open(server.url("/missing?token=SECRET"))
    assert "SECRET" not in str(caught.value)


def test_a_spool_leaves_nothing_behind(
    server: WebServer, store: HttpStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server.ranges = False
    with store.open(server.url(PATH)) as source:
        source.read(len(BODY) - 5, 5)
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="closed"):
        source.read(0, 1)


def test_a_range_is_asked_for_of_one_version_only() -> None:
    assert only_if('"a"') == {"If-Match": '"a"'}
    assert only_if('W/"a"') == {}, "a weak version is no promise about bytes"
    assert only_if(None) == {}
