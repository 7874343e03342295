"""S3 services as they are: other regions, listings that lead nowhere, refusals that say what is
missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from minio.credentials.providers import StaticProvider

from db.errors import UnavailableError, VideoError
from producer.categories import load_shipped
from producer.sources.buckets import bucket_rows
from tests.http_server import Handler, WebServer, serving
from workers.sources import listing, retrying, s3
from workers.sources.remote import FIRST_BYTES
from workers.sources.retrying import Limits
from workers.sources.s3 import S3Store
from workers.sources.s3_account import Account, Chain
from workers.sources.s3_client import S3Client

LIMITS = Limits(fetch_seconds=30, bytes_per_second=1_000_000, spool_bytes=1 << 30)
BODY = bytes(range(256)) * 3
XML = {"Content-Type": "application/xml"}
ASKED = "this service was asked"
KEYS = [f"p/{number:02d}.mp4" for number in range(12)]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_PAUSE_SECONDS", 0.005)
    monkeypatch.setattr(s3.time, "sleep", lambda _: None)
    monkeypatch.setattr(listing, "PAGE_KEYS", 5)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serving(files={"/bucket/v.mp4": BODY}) as made:
        yield made


def store_at(server: WebServer, *, region: str | None = "us-east-1", keys: bool = True) -> S3Store:
    chain = Chain({"environment": StaticProvider("key", "secret")} if keys else {})
    account = Account(
        f"127.0.0.1:{server.port}", secure=False, region=region, credentials=chain, asked=ASKED
    )
    return S3Store(account, LIMITS, connections=2)


def read(store: S3Store) -> bytes:
    with store.open("s3://bucket/v.mp4") as source:
        return source.read(0, len(BODY))


def test_later_ranges_are_asked_for_of_the_version_that_was_opened() -> None:
    asked: list[str | None] = []

    def note(handler: Handler) -> bool:
        asked.append(handler.headers.get("If-Match"))
        return False

    body = bytes(FIRST_BYTES) + BODY
    with (
        serving(files={"/bucket/v.mp4": body}, etag='"v1"', bend=note) as server,
        store_at(server).open("s3://bucket/v.mp4") as source,
    ):
        assert source.read(FIRST_BYTES, len(BODY)) == BODY
    assert asked == [None, '"v1"']


def refuse(
    handler: Handler,
    status: int,
    code: str,
    inside: str = "",
    headers: dict[str, str] | None = None,
) -> bool:
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code>{inside}</Error>'
    handler.answer(status, body.encode(), XML | (headers or {}))
    return True


def signed_region(handler: Handler) -> str:
    return re.findall(r"Credential=key/\d+/([^/]+)/s3", handler.headers["Authorization"])[0]


@pytest.mark.parametrize(
    ("status", "code", "inside", "headers"),
    [
        (
            301,
            "PermanentRedirect",
            "<Endpoint>bucket.s3.amazonaws.com</Endpoint>",
            {"x-amz-bucket-region": "eu-west-3"},
        ),
        (
            307,
            "TemporaryRedirect",
            "",
            {"x-amz-bucket-region": "eu-west-3", "Location": "http://elsewhere.example/v.mp4"},
        ),
        (307, "TemporaryRedirect", "<Endpoint>bucket.s3.eu-west-3.amazonaws.com</Endpoint>", {}),
        (403, "AccessDenied", "", {"x-amz-bucket-region": "eu-west-3"}),
        (400, "AuthorizationHeaderMalformed", "<Region>eu-west-3</Region>", {}),
        (
            400,
            "AuthorizationHeaderMalformed",
            "<Message>region 'a' is wrong; expecting 'eu-west-3'</Message>",
            {},
        ),
    ],
)
def test_a_bucket_is_followed_to_its_region_and_that_is_remembered(
    server: WebServer, status: int, code: str, inside: str, headers: dict[str, str]
) -> None:
    def elsewhere(handler: Handler) -> bool:
        return signed_region(handler) != "eu-west-3" and refuse(
            handler, status, code, inside, headers
        )

    server.bend = elsewhere
    store = store_at(server)
    assert read(store) == BODY
    assert read(store) == BODY
    assert len(server.requests) == 3
    store.close()


def test_a_region_that_cannot_be_followed_is_named(server: WebServer) -> None:
    regions = iter(f"eu-west-{number}" for number in range(100))
    server.bend = lambda handler: refuse(
        handler, 301, "PermanentRedirect", "", {"x-amz-bucket-region": next(regions)}
    )
    with pytest.raises(
        VideoError, match=r"in the region 'eu-west-2'.*AWS_REGION=eu-west-2"
    ) as caught:
        read(store_at(server))
    assert caught.value.code == "no_bucket"  # of class infra: the video is not to blame
    assert len(server.requests) == 3


def test_a_request_is_not_signed_for_another_host(server: WebServer) -> None:
    with serving(files={"/bucket/v.mp4": BODY}) as other:
        server.bend = lambda handler: refuse(
            handler, 302, "Moved", "", {"Location": other.url("/bucket/v.mp4?x=SECRET")}
        )
        other_name = f"http://localhost:{other.port}"
        server.bend = lambda handler: refuse(
            handler, 302, "Moved", "", {"Location": f"{other_name}/v.mp4?x=SECRET"}
        )
        with pytest.raises(VideoError, match=f"redirects this to {other_name}/v.mp4") as caught:
            read(store_at(server))
        assert (caught.value.code, "SECRET" in str(caught.value), other.requests) == (
            "no_bucket",
            False,
            [],
        )


def test_a_redirect_within_the_service_is_followed(server: WebServer) -> None:
    server.files["/moved/v.mp4"] = BODY
    server.bend = lambda handler: (
        handler.path.startswith("/bucket")
        and refuse(handler, 307, "Moved", "", {"Location": "/moved/v.mp4"})
    )
    assert read(store_at(server)) == BODY


def test_regions_have_hosts_of_their_own_on_aws() -> None:
    def host(asked: str, bucket: str = "bucket", region: str = "eu-west-3") -> str:
        account = Account(asked, secure=True, region=None, credentials=Chain({}))
        client = S3Client(account, None, wait_seconds=1)  # type: ignore[arg-type]
        return str(client._url(region, bucket, "v.mp4", None).netloc)

    assert host("s3.amazonaws.com") == "bucket.s3.eu-west-3.amazonaws.com"
    assert host("s3.us-east-1.amazonaws.com") == "bucket.s3.eu-west-3.amazonaws.com"
    assert (
        host("s3.dualstack.us-east-1.amazonaws.com")
        == "bucket.s3.dualstack.eu-west-3.amazonaws.com"
    )
    assert (
        host("s3.amazonaws.com", "my.bucket") == "s3.eu-west-3.amazonaws.com"
    )  # no certificate is for its dots
    assert host("minio.example:9000") == "minio.example:9000"


@pytest.mark.parametrize("inside", ["<ActualObjectSize>768</ActualObjectSize>", ""])
@pytest.mark.parametrize("headers", [{"Content-Range": "bytes */768"}, {}])
def test_a_range_past_the_end_is_asked_for_again(
    server: WebServer, inside: str, headers: dict[str, str]
) -> None:
    def strict(handler: Handler) -> bool:
        asked = handler.headers.get("Range", "")
        return asked.endswith(f"-{(1 << 20) - 1}") and refuse(
            handler, 416, "InvalidRange", inside, headers
        )

    server.bend = strict
    assert read(store_at(server)) == BODY


# listings


def entry(
    key: str, inside: str = "<LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>7</Size>"
) -> str:
    return f"<Contents><Key>{key}</Key>{inside}</Contents>"


def answer_page(
    handler: Handler, inside: str, *, truncated: bool = False, root: str = "ListBucketResult"
) -> bool:
    more = f"<IsTruncated>{str(truncated).lower()}</IsTruncated>"
    handler.answer(
        200, f'<{root} xmlns="http://any.example/">{inside}{more}</{root}>'.encode(), XML
    )
    return True


def asked_for(handler: Handler) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(handler.path).query).items()}


Keys = list[str]


def listed(server: WebServer) -> Keys:
    return [each.key for each in store_at(server).list("s3://bucket/p/")]


def page_after(handler: Handler, after: str) -> tuple[str, bool]:
    rest = [key for key in KEYS if key > after]
    return "".join(map(entry, rest[:5])), len(rest) > 5


def no_token(handler: Handler) -> bool:
    entries, truncated = page_after(handler, asked_for(handler).get("start-after", ""))
    return answer_page(handler, f"<KeyCount>5</KeyCount>{entries}", truncated=truncated)


def same_token(handler: Handler) -> bool:
    entries, truncated = page_after(handler, asked_for(handler).get("start-after", ""))
    token = "<NextContinuationToken>same</NextContinuationToken>"
    return answer_page(handler, f"<KeyCount>5</KeyCount>{token}{entries}", truncated=truncated)


def version_1(handler: Handler) -> bool:
    """As services answer that do not know the parameter `list-type`."""
    entries, truncated = page_after(handler, asked_for(handler).get("marker", ""))
    return answer_page(handler, f"<Marker></Marker>{entries}", truncated=truncated)


def refuses_version_2(handler: Handler) -> bool:
    return (
        refuse(handler, 501, "NotImplemented")
        if "list-type" in asked_for(handler)
        else version_1(handler)
    )


def cut_at_first(handler: Handler) -> bool:
    if len(handler.shared.requests) % 2:
        handler.begin(200, 5000, XML)
        handler.wfile.write(b"<ListBucketResult>" + b" " * 100)
        handler.cut()
        return True
    return no_token(handler)


@pytest.mark.parametrize("bend", [no_token, version_1, refuses_version_2, cut_at_first])
def test_a_listing_goes_on_however_it_says_where(
    server: WebServer, bend: Callable[[Handler], bool]
) -> None:
    server.bend = bend
    assert listed(server) == KEYS


def test_a_token_that_comes_again_is_not_asked_for_again(server: WebServer) -> None:
    """It may be that the service means the same page by it: the last key is where it goes on."""
    server.bend = same_token
    assert listed(server) == KEYS


def first_page_for_ever(handler: Handler) -> bool:
    return answer_page(handler, "".join(map(entry, KEYS[:5])), truncated=True)


def new_tokens_for_ever(handler: Handler) -> bool:
    token = f"<NextContinuationToken>{len(handler.shared.requests)}</NextContinuationToken>"
    return answer_page(handler, token, truncated=True)


def same_token_for_ever(handler: Handler) -> bool:
    return answer_page(
        handler, "<NextContinuationToken>same</NextContinuationToken>", truncated=True
    )


def nothing_for_ever(handler: Handler) -> bool:
    return answer_page(handler, "", truncated=True)


def old_marker_for_ever(handler: Handler) -> bool:
    return answer_page(handler, "<Marker></Marker><NextMarker>p/x</NextMarker>", truncated=True)


def no_key(handler: Handler) -> bool:
    return answer_page(handler, "<Contents><Size>1</Size></Contents>")


def no_xml(handler: Handler) -> bool:
    handler.answer(200, b"<!DOCTYPE html><p>Sign in", {"Content-Type": "text/html"})
    return True


def all_buckets(handler: Handler) -> bool:
    return answer_page(handler, "<Buckets></Buckets>", root="ListAllMyBucketsResult")


def error_as_success(handler: Handler) -> bool:
    return refuse(handler, 200, "InternalError", "<Message>sorry</Message>")


@pytest.mark.parametrize(
    ("bend", "said"),
    [
        (first_page_for_ever, "its pages repeat"),
        (new_tokens_for_ever, "201 times without an object"),
        (same_token_for_ever, "more follows, but not where"),
        (nothing_for_ever, "more follows, but not where"),
        (old_marker_for_ever, "more follows, but not where"),
        (no_key, "one of its entries has no key"),
        (no_xml, "it is no XML .*DOCTYPE html"),
        (all_buckets, "it is no listing but <ListAllMyBucketsResult>"),
        (error_as_success, "it is an error, InternalError: sorry"),
    ],
)
def test_a_bad_listing_ends_and_is_called_one(
    server: WebServer, bend: Callable[[Handler], bool], said: str
) -> None:
    server.bend = bend
    with pytest.raises(
        UnavailableError, match=f"answer to a listing cannot be used: .*{said}.*{ASKED}"
    ):
        list(
            bucket_rows(
                "s3://bucket/p/", categories=load_shipped(), match=None, storage=store_at(server)
            )
        )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("inside", "size_bytes", "etag"),
    [
        (
            "<LastModified>Sat, 28 Nov 2026 10:00:00 "
            'GMT</LastModified><Size>7</Size><ETag>"e"</ETag>',
            7,
            "e",
        ),
        ("<LastModified>1764324000</LastModified><Size></Size><ETag></ETag>", None, None),
        ("<LastModified/><Size>many</Size>", None, None),
        ("<Size> 7 </Size><Owner><ID>x</ID></Owner><ETag>&quot;e-2&quot;</ETag>", 7, "e-2"),
        ("", None, None),
    ],
)
def test_what_a_listing_does_not_need_is_not_insisted_on(
    server: WebServer, inside: str, size_bytes: int | None, etag: str | None
) -> None:
    server.bend = lambda handler: answer_page(handler, entry("p/a.mp4", inside))
    rows = list(
        bucket_rows(
            "s3://bucket/p/", categories=load_shipped(), match=None, storage=store_at(server)
        )
    )  # type: ignore[arg-type]
    assert [(row.uri, row.size_bytes, row.etag) for row in rows] == [
        ("s3://bucket/p/a.mp4", size_bytes, etag)
    ]  # type: ignore[union-attr]


def test_encoded_keys_are_read_as_they_are_only_where_the_answer_says_so(server: WebServer) -> None:
    server.bend = lambda handler: answer_page(
        handler, entry("p/a%2Bb+c.mp4") + "<EncodingType>url</EncodingType>"
    )
    assert listed(server) == ["p/a+b c.mp4"]
    server.bend = lambda handler: answer_page(handler, entry("p/a%2Bb+c.mp4"))
    assert listed(server) == ["p/a%2Bb+c.mp4"]


# refusals


@pytest.mark.parametrize("keys", [True, False])
@pytest.mark.parametrize("with_words", [True, False])
def test_a_refusal_names_the_right_that_is_missing(
    server: WebServer, keys: bool, with_words: bool
) -> None:
    def deny(handler: Handler) -> bool:
        if with_words:
            return refuse(handler, 403, "AccessDenied", "<Message>no\nexplicit  allow</Message>")
        handler.answer(403, b"<html>denied</html>", {"Content-Type": "text/html"})
        return True

    server.bend = deny
    store = store_at(server, keys=keys)
    who = "the key lacks" if keys else "no keys were found"
    words = "AccessDenied: no explicit allow" if with_words else "HTTP 403"
    with pytest.raises(VideoError, match=rf"{words}.*{who}.*s3:GetObject.*s3:ListBucket") as caught:
        read(store)
    assert caught.value.code == "access_denied"
    with pytest.raises(VideoError, match=f"{words}.*{who}.*s3:ListBucket"):
        list(store.list("s3://bucket/"))


def test_without_an_endpoint_an_error_says_that_aws_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from workers.sources.s3_account import account

    for name in (
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL",
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")

    def no_dns(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", no_dns)
    store = S3Store(account(), LIMITS, connections=1)
    with pytest.raises(UnavailableError) as caught:
        list(bucket_rows("s3://bucket/", categories=load_shipped(), match=None, storage=store))  # type: ignore[arg-type]
    said = str(caught.value)
    assert "bucket.s3.us-east-1.amazonaws.com" in said
    assert "no AWS_ENDPOINT_URL_S3 is set, so AWS itself was asked" in said
    assert "set it to https://HOST" in said
