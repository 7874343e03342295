"""Every spelling of a source ends in one uri, byte-exact, without secrets."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from producer.sources.uris import canonical, file_uri, folder_uri
from workers.sources.schemes import key_of

BASE = Path("/base/folder")
ENDPOINT = "https://storage.example.net"


def uri(text: str, endpoint: str | None = ENDPOINT) -> str:
    result = canonical(text, base=BASE, s3_endpoint=endpoint)
    assert result.warning is None
    return result.uri


@pytest.mark.parametrize(
    "name",
    [
        "plain.mp4",
        "with space.mp4",
        "100%.mp4",
        "%20.mp4",
        "a#b?c=d&e.mp4",
        "a:b;c,d.mp4",
        "~tilde.mp4",
        "back\\slash.mp4",
        "«Фильм» ＂1＂.mp4",
        unicodedata.normalize("NFC", "й.mp4"),
        unicodedata.normalize("NFD", "й.mp4"),
        " leading and trailing ",
        "line\u2028separator.mp4",
    ],
)
def test_odd_names_round_trip(name: str) -> None:
    path = f"/videos/{name}"
    for result in (
        uri(path),
        file_uri(Path(path)),
        uri(f"file://{file_uri(Path(path)).removeprefix('file://')}"),
    ):
        assert unquote(urlsplit(result).path) == path
        assert key_of(result) == path
        assert uri(result) == result


def test_unicode_twins_stay_two_files() -> None:
    assert uri(unicodedata.normalize("NFC", "/й.mp4")) != uri(
        unicodedata.normalize("NFD", "/й.mp4")
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.mp4", "file:///base/folder/a.mp4"),
        ("./b/../a.mp4", "file:///base/folder/a.mp4"),
        ("/abs//a.mp4", "file:///abs/a.mp4"),
        ("//abs/a.mp4", "file:///abs/a.mp4"),
        ("12:30 news.mp4", "file:///base/folder/12%3A30%20news.mp4"),
        ("~other/a.mp4", "file:///base/folder/~other/a.mp4"),
        ("FILE:///a%20b.mp4", "file:///a%20b.mp4"),
        ("file:/a.mp4", "file:///a.mp4"),
        ("file://localhost/a.mp4", "file:///a.mp4"),
        ("file:///100%.mp4", "file:///100%25.mp4"),
        ("file:///a#1?.mp4", "file:///a%231%3F.mp4"),
        ("s3://bucket/a/b.mp4", "s3://bucket/a/b.mp4"),
        ("S3://bucket/a b%20#?.mp4", "s3://bucket/a b%20#?.mp4"),
        ("s3://bucket//a.mp4", "s3://bucket//a.mp4"),
        ("https://Host.Org/A.mp4", "https://host.org/A.mp4"),
        ("HTTPS://host.org:443/a.mp4#t=10", "https://host.org/a.mp4"),
        ("http://host.org:8080/a.mp4", "http://host.org:8080/a.mp4"),
        ("http://[::1]:8080/a.mp4", "http://[::1]:8080/a.mp4"),
        ("https://host.org", "https://host.org/"),
        ("https://host.org/a b/ф%20.mp4", "https://host.org/a%20b/%D1%84%20.mp4"),
        ("https://host.org/a.mp4?v=1&q=a%20b", "https://host.org/a.mp4?v=1&q=a%20b"),
        ("https://storage.example.net/bucket/a/b%20c.mp4", "s3://bucket/a/b c.mp4"),
        ("http://storage.example.net:80/bucket/a.mp4", "s3://bucket/a.mp4"),
        ("https://my.bucket.storage.example.net/a/b%23.mp4", "s3://my.bucket/a/b#.mp4"),
        (
            "https://otherstorage.example.net/bucket/a.mp4",
            "https://otherstorage.example.net/bucket/a.mp4",
        ),
        (
            "https://storage.example.net:9000/bucket/a.mp4",
            "https://storage.example.net:9000/bucket/a.mp4",
        ),
    ],
)
def test_spellings(text: str, expected: str) -> None:
    assert uri(text) == expected
    assert uri(expected) == expected


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert uri("~/a.mp4") == "file:///home/me/a.mp4"


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("localhost:9000", "s3://bucket/a.mp4"),
        ("http://localhost:9000", "s3://bucket/a.mp4"),
        ("http://localhost:9000/", "s3://bucket/a.mp4"),
        ("http://localhost", "http://localhost:9000/bucket/a.mp4"),
        ("", "http://localhost:9000/bucket/a.mp4"),
        (None, "http://localhost:9000/bucket/a.mp4"),
    ],
)
def test_endpoint_with_and_without_scheme_and_port(endpoint: str | None, expected: str) -> None:
    assert uri("http://localhost:9000/bucket/a.mp4", endpoint) == expected


@pytest.mark.parametrize(
    ("text", "expected", "names"),
    [
        (
            "https://storage.example.net/bucket/a.mp4?X-Amz-Signature=SECRET&x-id=GetObject",
            "s3://bucket/a.mp4",
            "X-Amz-Signature, x-id",
        ),
        (
            "https://bucket.storage.example.net/a.mp4?versionId=SECRET",
            "s3://bucket/a.mp4",
            "versionId",
        ),
        ("https://cdn.org/a.mp4?v=1&token=SECRET&w=2", "https://cdn.org/a.mp4?v=1&w=2", "token"),
        (
            "https://cdn.org/a.mp4?AWSAccessKeyId=SECRET&Expires=1&Signature=SECRET%3D",
            "https://cdn.org/a.mp4",
            "AWSAccessKeyId, Expires, Signature",
        ),
        (
            "https://cdn.org/a.mp4?x-amz-security-token=SECRET",
            "https://cdn.org/a.mp4",
            "x-amz-security-token",
        ),
        (
            "https://cdn.org/a.mp4?X%2DAmz-Signature=SECRET",
            "https://cdn.org/a.mp4",
            "X%2DAmz-Signature",
        ),
    ],
)
def test_signatures_are_dropped_and_warned_about(text: str, expected: str, names: str) -> None:
    result = canonical(text, base=BASE, s3_endpoint=ENDPOINT)
    assert result.uri == expected
    assert result.warning is not None
    assert names in result.warning
    assert "SECRET" not in result.uri + result.warning


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("a\0.mp4", r"control character '\x00' at position 1"),
        ("a\n.mp4", "control character"),
        ("https://host.org/\x85.mp4", "control character"),
        ("file:///a%00.mp4", "control character"),
        ("https://host.org/%00.mp4", "control character"),
        ("https://storage.example.net/bucket/%0A.mp4", "control character"),
        ("caf\udce9.mp4", "not UTF-8"),
        ("file:///caf%E9.mp4", "not percent-encoded UTF-8"),
        ("file://other/a.mp4", "host 'other'"),
        ("file:a.mp4", "absolute path"),
        (
            "ftp://host.org/a.mp4",
            "scheme ftp: is not supported; allowed are a path, file:, s3:, http: or https:",
        ),
        ("s3:bucket/a.mp4", "followed by //"),
        ("s3://bucket", "names no object"),
        ("s3://bucket/prefix/", "names no object"),
        ("s3:///a.mp4", "'' is not a bucket"),
        ("s3://Bucket/a.mp4", "'Bucket' is not a bucket"),
        ("s3://bucket/" + "й" * 513, "1026 bytes"),
        ("https://storage.example.net/bucket/", "names no object"),
        ("https://", "without a host"),
        ("https://host.org:port/a.mp4", "Port"),
        ("https://me:SECRET@host.org/a.mp4", "user name or password"),
        ("https://me:SECRET@host.org：80/a.mp4", "user name or password"),
    ],
)
def test_refusals_name_the_reason_and_no_secret(text: str, reason: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        canonical(text, base=BASE, s3_endpoint=ENDPOINT)
    assert reason in str(caught.value)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://s3.amazonaws.com/bucket/a%20b.mp4", "s3://bucket/a b.mp4"),
        ("https://s3.eu-west-1.amazonaws.com/bucket/a.mp4", "s3://bucket/a.mp4"),
        ("https://bucket.s3.eu-west-1.amazonaws.com/a.mp4", "s3://bucket/a.mp4"),
        ("https://my.bucket.s3-eu-west-1.amazonaws.com/x/a.mp4", "s3://my.bucket/x/a.mp4"),
        ("https://bucket.s3.dualstack.us-east-2.amazonaws.com/a.mp4", "s3://bucket/a.mp4"),
        (
            "https://bucket.s3.amazonaws.com.example.org/a.mp4",
            "https://bucket.s3.amazonaws.com.example.org/a.mp4",
        ),
        ("https://cloudfront.amazonaws.com/a.mp4", "https://cloudfront.amazonaws.com/a.mp4"),
        ("https://s3-us-gov-west-1.amazonaws.com/bucket/a.mp4", "s3://bucket/a.mp4"),
        ("https://bucket.s3-fips.dualstack.us-east-1.amazonaws.com/a.mp4", "s3://bucket/a.mp4"),
        ("https://bucket.s3-accelerate.amazonaws.com/a.mp4", "s3://bucket/a.mp4"),
        ("https://bucket.s3-accelerate.dualstack.amazonaws.com/a.mp4", "s3://bucket/a.mp4"),
        ("https://my.s3.bucket.s3.eu-west-1.amazonaws.com/a.mp4", "s3://my.s3.bucket/a.mp4"),
        (
            "https://mine.bucket.vpce-1a2b-3c.s3.us-east-1.vpce.amazonaws.com/a.mp4",
            "s3://mine/a.mp4",
        ),
        (
            "https://bucket.vpce-1a2b-3c.s3.us-east-1.vpce.amazonaws.com/mine/a.mp4",
            "s3://mine/a.mp4",
        ),
    ],
)
def test_aws_has_one_name_in_every_region(address: str, expected: str) -> None:
    assert canonical(address, base=BASE, s3_endpoint="s3.amazonaws.com").uri == expected


@pytest.mark.parametrize(
    "host",
    [
        "bucket.s3-website-us-east-1.amazonaws.com", "bucket.s3-website.eu-central-1.amazonaws.com",
        "mine-123456789012.s3-accesspoint.us-east-1.amazonaws.com", "alias.mrap.accesspoint.s3-global.amazonaws.com",
        "mine-123456789012.s3-accesspoint-fips.dualstack.us-east-1.amazonaws.com",
        "mine-123456789012.s3-object-lambda.us-east-1.amazonaws.com", "123456789012.s3-control.us-east-1.amazonaws.com",
        "mine-123456789012.accesspoint.vpce-1a2b-3c.s3.us-east-1.vpce.amazonaws.com",
        "bucket--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com", "bucket.s3.cn-north-1.amazonaws.com.cn",
        "s3-accelerate.amazonaws.com", "bucket.account.r2.cloudflarestorage.com", "storage.googleapis.com",
    ],
)  # fmt: skip
def test_a_host_that_names_no_bucket_of_the_service_stays_a_web_address(host: str) -> None:
    address = f"https://{host}/x/a.mp4"
    assert canonical(address, base=BASE, s3_endpoint="s3.amazonaws.com").uri == address
    assert folder_uri(address, s3_endpoint="s3.amazonaws.com") is None


@pytest.mark.parametrize(
    "source", ["s3://bucket/a.mp4?versionId=abc", "S3://bucket/x/?VersionID=null"]
)
def test_a_version_is_refused_by_name_and_is_no_part_of_a_key(source: str) -> None:
    for read in (
        lambda: canonical(source, base=BASE, s3_endpoint=None),
        lambda: folder_uri(source, s3_endpoint=None),
    ):
        with pytest.raises(
            ValueError, match=r"(?i)\?versionId=\w+ asks for one version of an object"
        ):
            read()


def test_any_aws_endpoint_means_aws_everywhere() -> None:
    for endpoint in (
        "s3.eu-west-1.amazonaws.com",
        "bucket.vpce-1a2b-3c.s3.us-east-1.vpce.amazonaws.com",
    ):
        for address in (
            "https://mine.s3.us-east-2.amazonaws.com/a.mp4",
            f"https://{endpoint}/mine/a.mp4",
        ):
            assert canonical(address, base=BASE, s3_endpoint=endpoint).uri == "s3://mine/a.mp4"


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("s3://bucket", "s3://bucket/"),
        ("s3://bucket/", "s3://bucket/"),
        ("s3://bucket/a/b", "s3://bucket/a/b/"),
        ("S3://bucket/a b/", "s3://bucket/a b/"),
        ("http://s3.example.net:9000/bucket/a%20b", "s3://bucket/a b/"),
        ("https://bucket.s3.amazonaws.com/a", None),
        ("https://other.example.org/bucket", None),
        ("https://me:secret@s3.example.net:9000/bucket", None),
        ("folder/x", None),
        ("file:///bucket", None),
    ],
)
def test_folders_of_buckets(source: str, folder: str | None) -> None:
    assert folder_uri(source, s3_endpoint="s3.example.net:9000") == folder


@pytest.mark.parametrize("key", ["a/../b.mp4", "./a.mp4", "..", "a/."])
def test_keys_that_cannot_be_asked_for_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="cannot ask for"):
        canonical(f"s3://bucket/{key}", base=BASE, s3_endpoint=None)
