"""Web servers as they are: caps, ranges they do not like, odd headers, other ports. The bytes are
right all the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from db.errors import VideoError
from tests.http_server import Handler, WebServer, serving
from workers.sources import retrying
from workers.sources.http import HttpStore
from workers.sources.remote import FIRST_BYTES
from workers.sources.retrying import Limits

BODY = random.Random(3).randbytes(2 * FIRST_BYTES + 17)
SMALL = BODY[:672]
LIMITS = Limits(fetch_seconds=30, bytes_per_second=1_000_000, spool_bytes=1 << 30)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_PAUSE_SECONDS", 0.005)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serving(files={"/v": BODY, "/small": SMALL, "/empty": b""}) as made:
        yield made


@pytest.fixture
def store() -> Iterator[HttpStore]:
    made = HttpStore(LIMITS, allow_private=True, s3_host=None, connections=2)
    yield made
    made.close()


def read_all(store: HttpStore, url: str) -> bytes:
    with store.open(url) as source:
        return b"".join(
            source.read(offset, FIRST_BYTES) for offset in range(0, source.size_bytes, FIRST_BYTES)
        )


def failure_of(store: HttpStore, url: str) -> VideoError:
    with pytest.raises(VideoError) as caught:
        read_all(store, url)
    return caught.value


def asked_range(handler: Handler) -> tuple[int, int] | None:
    first, _, last = handler.headers.get("Range", "").removeprefix("bytes=").partition("-")
    return (int(first), int(last)) if first else None


def body_of(handler: Handler) -> bytes:
    return handler.shared.files[handler.path]


@pytest.mark.parametrize(
    "said",
    ["bytes */{}", "Bytes */{}", "bytes */ {} ", "bytes */1", "bytes */9999999", None, "junk"],
)
def test_a_range_past_the_end_is_asked_for_again(
    server: WebServer, store: HttpStore, said: str | None
) -> None:
    """With the size the answer gives; where it gives none or a wrong one, without a range."""

    def strict(handler: Handler) -> bool:
        asked, size = asked_range(handler), len(body_of(handler))
        if asked is None or asked[1] < size:
            return False
        handler.begin(416, 0, {} if said is None else {"Content-Range": said.format(size)})
        return True

    server.bend = strict
    assert read_all(store, server.url("/v")) == BODY
    assert read_all(store, server.url("/small")) == SMALL
    assert read_all(store, server.url("/empty")) == b""


def test_only_a_size_of_zero_is_empty(server: WebServer, store: HttpStore) -> None:
    def zero(handler: Handler) -> bool:
        handler.begin(416, 0, {"Content-Range": "bytes */0"})
        return True

    server.bend = zero
    assert read_all(store, server.url("/empty")) == b""
    assert len(server.requests) == 1


@pytest.mark.parametrize("cap", [100_000, FIRST_BYTES - 1])
@pytest.mark.parametrize("honest", [True, False])
def test_a_server_that_gives_less_at_a_time_is_asked_for_the_rest(
    server: WebServer, store: HttpStore, cap: int, honest: bool
) -> None:
    """Its Content-Range says what it gives, or what it was asked for."""

    def capped(handler: Handler) -> bool:
        first, last = asked_range(handler) or (0, 0)
        given = BODY[first : min(last + 1, first + cap)]
        end = first + len(given) if honest else min(last + 1, len(BODY))
        handler.answer(206, given, {"Content-Range": f"bytes {first}-{end - 1}/{len(BODY)}"})
        return True

    server.bend = capped
    assert read_all(store, server.url("/v")) == BODY
    assert len(server.requests) == sum(-(-size // cap) for size in (FIRST_BYTES, FIRST_BYTES, 17))


def test_an_answer_without_a_byte_is_no_progress(server: WebServer, store: HttpStore) -> None:
    def nothing(handler: Handler) -> bool:
        handler.answer(206, b"", {"Content-Range": f"bytes 0-99/{len(BODY)}"})
        return True

    server.bend = nothing
    failed = failure_of(store, server.url("/v"))
    assert (failed.code, "answers without a byte" in str(failed)) == ("fetch_cut", True)
    assert len(server.requests) == retrying.TRIES


def test_a_byte_at_a_time_ends_at_the_deadline(server: WebServer) -> None:
    def grudging(handler: Handler) -> bool:
        first, _ = asked_range(handler) or (0, 0)
        handler.answer(
            206, BODY[first : first + 1], {"Content-Range": f"bytes {first}-{first}/{len(BODY)}"}
        )
        return True

    server.bend = grudging
    quick = HttpStore(
        Limits(0.9, 1 << 22, 1 << 30), allow_private=True, s3_host=None, connections=1
    )
    assert failure_of(quick, server.url("/v")).code == "fetch_timeout"
    quick.close()


@pytest.mark.parametrize(
    "written",
    [
        "bytes {}-{}/{}",
        "Bytes {}-{}/{}",
        "bytes  {} - {} / {}",
        "bytes={}-{}/{}",
        "BYTES: {}-{}/{}",
        "bytes {}-{}/*",
    ],
)
def test_a_content_range_is_understood_however_it_is_written(
    server: WebServer, store: HttpStore, written: str
) -> None:
    def ranged(handler: Handler) -> bool:
        asked = asked_range(handler)
        if asked is None:
            return False
        last = min(asked[1], len(BODY) - 1)
        handler.answer(
            206,
            BODY[asked[0] : last + 1],
            {"Content-Range": written.format(asked[0], last, len(BODY))},
        )
        return True

    server.bend = ranged
    assert read_all(store, server.url("/v")) == BODY
    assert sum(not asked for _, asked in server.requests) == written.endswith(
        "*"
    )  # its size is asked for, once


@pytest.mark.parametrize("said", [None, "bytes", "bytes 5-3/10", "items 0-9/10"])
def test_a_range_that_cannot_be_is_asked_for_whole(
    server: WebServer, store: HttpStore, said: str | None
) -> None:
    def odd(handler: Handler) -> bool:
        if asked_range(handler) is None:
            return False
        handler.answer(206, BODY[:FIRST_BYTES], {} if said is None else {"Content-Range": said})
        return True

    server.bend = odd
    assert read_all(store, server.url("/v")) == BODY


def before_each_answer(*said: bytes) -> Callable[[Handler], bool]:
    def bend(handler: Handler) -> bool:
        handler.wfile.write(b"".join(said))
        return False

    return bend


def test_what_comes_before_the_answer_is_passed_over(server: WebServer, store: HttpStore) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x.css>; rel=preload\r\nContent-Length: 9\r\n\r\n"
    server.bend = before_each_answer(
        b"HTTP/1.1 100 Continue\r\n\r\n", hints, b"HTTP/1.1 102 Processing\r\n\r\n", hints
    )
    assert read_all(store, server.url("/v")) == BODY
    server.bend = before_each_answer(*[hints] * 50)
    assert failure_of(store, server.url("/v")).code == "fetch_cut"


@pytest.mark.parametrize(
    "coding",
    ["utf-8", "none", "identity", "aws-chunked", "binary", "", "UTF-8, aws-chunked", "mp4"],
)
def test_a_coding_that_is_no_compression_changes_nothing(
    server: WebServer, store: HttpStore, coding: str
) -> None:
    def coded(handler: Handler) -> bool:
        first, last = asked_range(handler) or (0, 0)
        part = BODY[first : last + 1]
        span = f"bytes {first}-{first + len(part) - 1}/{len(BODY)}"
        handler.answer(206, part, {"Content-Encoding": coding, "Content-Range": span})
        return True

    server.bend = coded
    assert read_all(store, server.url("/v")) == BODY


@pytest.mark.parametrize(
    "coding",
    ["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress", "aws-chunked,GZip"],
)
def test_a_compression_is_refused(server: WebServer, store: HttpStore, coding: str) -> None:
    def coded(handler: Handler) -> bool:
        handler.answer(
            206,
            SMALL,
            {"Content-Encoding": coding, "Content-Range": f"bytes 0-{len(SMALL) - 1}/{len(SMALL)}"},
        )
        return True

    server.bend = coded
    failed = failure_of(store, server.url("/v"))
    assert (failed.code, "compressed" in str(failed)) == ("request_refused", True)


def test_https_at_a_port_without_tls_says_so(server: WebServer, store: HttpStore) -> None:
    failed = failure_of(store, server.url("/v").replace("http:", "https:"))
    assert failed.code == "unreachable"
    assert "does not speak TLS on this port" in str(failed)
    assert "write http:// instead of https://" in str(failed)
    assert "SSL_CERT_FILE" not in str(failed)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nThe plain HTTP request was sent to "
        b"HTTPS port",
        b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
    ],
)
def test_http_at_a_port_with_tls_says_so(server: WebServer, store: HttpStore, said: bytes) -> None:
    """As nginx and Go say it, and as TLS does by itself."""

    def tls(handler: Handler) -> bool:
        handler.wfile.write(said)
        handler.cut()
        return True

    server.bend = tls
    failed = failure_of(store, server.url("/v"))
    assert failed.code == "unreachable"
    assert "write https:// instead of http://" in str(failed)
