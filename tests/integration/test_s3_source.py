"""Objects of a real S3 service, and every way it can fail: the right code and class, and nothing
left behind.
"""

from __future__ import annotations

import random
import resource
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from minio.credentials.credentials import Credentials
from minio.credentials.providers import Provider

from db import settings
from db.errors import ErrorClass, RefusedConfigurationError, UsageError, VideoError
from tests.http_server import Handler, serving
from tests.proxy import Proxy
from tests.s3_server import S3Server
from workers.settings import WorkerSettings
from workers.sources import listing, retrying, s3_account
from workers.sources import storage as storage_module
from workers.sources.remote import RemoteSource
from workers.sources.storage import Storage

MIB = 1 << 20
BODY = random.Random(2).randbytes(3 * MIB + 17)

OpenStorage = Callable[..., Storage]


@pytest.fixture
def storage(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenStorage]:
    """Opens a `Storage` in the server's environment, changed by what is given; None unsets a
    variable.
    """
    opened: list[Storage] = []

    def make(**variables: str | None) -> Storage:
        for name, value in {**s3.environment, "REELVEC_FETCH_SECONDS": "1.5", **variables}.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        opened.append(Storage(settings.load(WorkerSettings), roots=None))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def failure_of(storage: Storage, uri: str, *, offset: int = 0) -> VideoError:
    with pytest.raises(VideoError) as caught, storage.open(uri) as source:
        source.read(offset, MIB)
    assert caught.value.stage == "fetch"
    return caught.value


KEYS = [
    "48.0_films/a b/ä+1.mp4", "юни/к😀.mp4", "x//y.mp4", "/lead.mp4", "q?x=1&y#z.mp4", "per%20cent.mp4", "new\nline.mp4",
    "q'\"<>.mp4", "space .mp4", "%2e%2e/x.mp4", "rtl\u202egpj.mp4", "dot.", unicodedata.normalize("NFC", "й.mp4"),
    unicodedata.normalize("NFD", "й.mp4"), "long/" + "n" * 1019,
]  # fmt: skip


def test_odd_keys_are_listed_and_read_byte_for_byte(s3: S3Server, storage: OpenStorage) -> None:
    bucket = s3.bucket()
    etags = {key: s3.put(bucket, key, BODY[: 1000 + index]) for index, key in enumerate(KEYS)}
    here = storage()
    found = list(here.list(f"s3://{bucket}/"))
    assert {each.key: each.etag for each in found} == etags
    assert {each.key: each.size_bytes for each in found} == {
        key: 1000 + i for i, key in enumerate(KEYS)
    }
    for each in found:
        with here.open(f"s3://{bucket}/{each.key}") as source:
            assert (source.size_bytes, source.etag) == (each.size_bytes, each.etag)
            assert source.read(0, MIB) == BODY[: each.size_bytes]


def test_ranges_are_read_and_an_empty_object_is_empty(s3: S3Server, storage: OpenStorage) -> None:
    bucket = s3.bucket()
    s3.put(bucket, "big.mp4", BODY)
    s3.put(bucket, "empty.mp4", b"")
    with storage().open(f"s3://{bucket}/big.mp4") as source:
        assert source.read(2 * MIB - 5, 10) == BODY[2 * MIB - 5 : 2 * MIB + 5]
        assert source.read(3 * MIB, MIB) == BODY[3 * MIB :]
    with storage().open(f"s3://{bucket}/empty.mp4") as source:
        assert (source.size_bytes, source.read(0, 10)) == (0, b"")


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "bad_credentials"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "bad_credentials"),
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}, "unreachable"),
        ({"AWS_ENDPOINT_URL_S3": "http://no-such-host.invalid"}, "unreachable"),
        ({"AWS_ENDPOINT_URL_S3": "https://{endpoint}"}, "unreachable"),  # no TLS there
    ],
)
def test_what_is_wrong_with_the_account_is_no_fault_of_the_video(
    s3: S3Server, storage: OpenStorage, variables: dict[str, str], code: str
) -> None:
    bucket = s3.bucket()
    s3.put(bucket, "v.mp4", BODY[:100])
    here = storage(
        **{name: value.format(endpoint=s3.endpoint) for name, value in variables.items()}
    )
    failed = failure_of(here, f"s3://{bucket}/v.mp4")
    assert (failed.code, failed.error_class) == (code, ErrorClass.INFRA)
    with pytest.raises(VideoError) as caught:
        list(here.list(f"s3://{bucket}/"))
    assert caught.value.code == code
    assert "only-for-tests" not in str(failed) + str(caught.value)


def test_missing_buckets_and_objects_have_their_codes(s3: S3Server, storage: OpenStorage) -> None:
    bucket = s3.bucket()
    here = storage()
    missing = failure_of(here, "s3://no-such-bucket/v.mp4")
    assert (missing.code, missing.error_class) == ("no_bucket", ErrorClass.INFRA)
    with pytest.raises(VideoError, match="no bucket 'no-such-bucket'"):
        list(here.list("s3://no-such-bucket/"))
    deleted = failure_of(here, f"s3://{bucket}/deleted.mp4")
    assert (deleted.code, deleted.error_class) == ("not_found", ErrorClass.PERMANENT)
    assert failure_of(here, f"s3://{bucket}/a/../b.mp4").code == "request_refused"


REFUSAL = "<Error><Code>{}</Code><Message>no</Message><Resource>/b/v</Resource><RequestId>1</RequestId></Error>"


@pytest.mark.parametrize(
    ("status", "word", "code", "error_class"),
    [
        (503, "SlowDown", "server_error", ErrorClass.TRANSIENT),
        (500, "InternalError", "server_error", ErrorClass.TRANSIENT),
        (429, "TooManyRequests", "server_error", ErrorClass.TRANSIENT),
        (403, "AccessDenied", "access_denied", ErrorClass.INFRA),
        (400, "ExpiredToken", "bad_credentials", ErrorClass.INFRA),
        (403, "RequestTimeTooSkewed", "bad_credentials", ErrorClass.INFRA),
        (403, "InvalidObjectState", "request_refused", ErrorClass.PERMANENT),  # archived
        (404, "NoSuchKey", "not_found", ErrorClass.PERMANENT),
        (404, "NoSuchBucket", "no_bucket", ErrorClass.INFRA),
    ],
)
def test_what_the_service_says_has_its_code(
    storage: OpenStorage,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    word: str,
    code: str,
    error_class: ErrorClass,
) -> None:
    monkeypatch.setattr(retrying, "FIRST_PAUSE_SECONDS", 0.005)

    def refuse(handler: Handler) -> bool:
        handler.answer(status, REFUSAL.format(word).encode(), {"Content-Type": "application/xml"})
        return True

    with serving(bend=refuse) as server:
        failed = failure_of(storage(AWS_ENDPOINT_URL_S3=server.url("")), "s3://bucket/v.mp4")
        assert (failed.code, failed.error_class) == (code, error_class)
        assert len(server.requests) == (retrying.TRIES if code == "server_error" else 1)


def test_a_service_that_asks_for_a_pause_gets_it_and_is_asked_again(
    storage: OpenStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    class NeverStopped(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            slept.append(timeout or 0.0)
            return False

    monkeypatch.setattr("workers.sources.storage.threading", SimpleNamespace(Event=NeverStopped))

    def slow_down(handler: Handler) -> bool:
        if len(server.requests) > 1:
            return False
        body = REFUSAL.format("SlowDown").encode()
        handler.answer(503, body, {"Content-Type": "application/xml", "Retry-After": "1"})
        return True

    with serving(files={"/bucket/v.mp4": BODY}, bend=slow_down) as server:
        with storage(AWS_ENDPOINT_URL_S3=server.url("")).open("s3://bucket/v.mp4") as source:
            assert source.read(0, MIB) == BODY[:MIB]
        assert 1 < slept[0] < 1.5


def test_an_object_deleted_or_replaced_halfway_is_noticed(
    s3: S3Server, storage: OpenStorage
) -> None:
    bucket = s3.bucket()
    s3.put(bucket, "v.mp4", BODY)
    with storage().open(f"s3://{bucket}/v.mp4") as source:
        s3.put(bucket, "v.mp4", BODY[::-1])
        with pytest.raises(VideoError, match="replaced") as caught:
            source.read(2 * MIB, MIB)
    assert (caught.value.code, caught.value.error_class) == ("source_changed", ErrorClass.TRANSIENT)
    with storage().open(f"s3://{bucket}/v.mp4") as source:
        s3.client.remove_object(bucket, "v.mp4")
        with pytest.raises(VideoError) as caught:
            source.read(2 * MIB, MIB)
    assert caught.value.code == "not_found"


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[Proxy]:
    with Proxy(s3.endpoint) as made:
        yield made


def test_a_cut_at_one_megabyte_is_made_good_or_has_its_code(
    s3: S3Server, storage: OpenStorage, proxy: Proxy, tmp_path: Path
) -> None:
    bucket = s3.bucket()
    s3.put(bucket, "v.mp4", BODY)
    here = storage(AWS_ENDPOINT_URL_S3=f"http://{proxy.endpoint}")
    uri = f"s3://{bucket}/v.mp4"
    proxy.trap(direction="answer", after_bytes=1_000_000, times=2)
    target = tmp_path / "v.mp4"
    here.download(uri, target)
    assert target.read_bytes() == BODY
    assert proxy.traps_left == 0
    target.unlink()
    proxy.trap(direction="answer", after_bytes=1, times=1000)
    failed = failure_of(here, uri)
    assert (failed.code, failed.error_class) == ("fetch_cut", ErrorClass.TRANSIENT)
    with pytest.raises(VideoError, match=r"ended early|stalled"):
        here.download(uri, target)
    assert list(tmp_path.iterdir()) == []


def test_a_stalled_connection_ends_at_the_deadline(
    s3: S3Server, storage: OpenStorage, proxy: Proxy, tmp_path: Path
) -> None:
    bucket = s3.bucket()
    s3.put(bucket, "v.mp4", BODY)
    here = storage(AWS_ENDPOINT_URL_S3=f"http://{proxy.endpoint}")
    uri = f"s3://{bucket}/v.mp4"
    proxy.trap(direction="answer", after_bytes=500_000, times=1, then="black_hole")
    with here.open(uri) as source:  # the second try goes on behind the stall
        assert source.read(0, MIB) == BODY[:MIB]
    proxy.trap(direction="answer", after_bytes=100, times=1000, then="black_hole")
    failed = failure_of(
        storage(AWS_ENDPOINT_URL_S3=f"http://{proxy.endpoint}", REELVEC_FETCH_SECONDS="0.6"), uri
    )
    assert (failed.code, failed.error_class) == ("fetch_timeout", ErrorClass.TRANSIENT)


def test_a_listing_goes_on_where_it_was_cut(
    s3: S3Server, storage: OpenStorage, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3.bucket()
    keys = [f"p/{index:02d}.mp4" for index in range(12)]
    for key in keys:
        s3.put(bucket, key, b"x")
    monkeypatch.setattr(listing, "PAGE_KEYS", 5)
    here = storage(AWS_ENDPOINT_URL_S3=f"http://{proxy.endpoint}")
    listed = here.list(f"s3://{bucket}/p/")
    found = [next(listed).key]
    proxy.trap(direction="answer", after_bytes=700, times=1)  # amid the second page
    assert found + [each.key for each in listed] == keys
    assert proxy.traps_left == 0


def test_files_go_up_and_come_down(s3: S3Server, storage: OpenStorage, tmp_path: Path) -> None:
    bucket = s3.bucket()
    (tmp_path / "a").write_bytes(BODY)
    here = storage()
    here.upload(tmp_path / "a", f"s3://{bucket}/x/a")
    here.download(f"s3://{bucket}/x/a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == BODY
    with pytest.raises(VideoError) as caught:
        here.upload(tmp_path / "a", "s3://no-such-bucket/a")
    assert caught.value.code == "no_bucket"
    with pytest.raises(VideoError, match="cannot be written"):
        here.download(f"s3://{bucket}/x/a", tmp_path / "missing" / "b")


def test_a_download_that_fails_halfway_leaves_no_file(
    s3: S3Server, storage: OpenStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3.bucket()
    s3.put(bucket, "v.mp4", BODY)
    monkeypatch.setattr(storage_module, "CHUNK_BYTES", MIB)
    real = RemoteSource.read

    def fails(self: RemoteSource, offset: int, length: int) -> bytes:
        if offset == 2 * MIB:
            assert (tmp_path / "v.mp4").exists()
            raise VideoError("fetch_cut", "cut", stage="fetch")
        return real(self, offset, length)

    monkeypatch.setattr(RemoteSource, "read", fails)
    with pytest.raises(VideoError, match="cut"):
        storage().download(f"s3://{bucket}/v.mp4", tmp_path / "v.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_not_the_objects_fault_and_keeps_no_file(
    s3: S3Server, storage: OpenStorage, tmp_path: Path
) -> None:
    bucket = s3.bucket()
    s3.put(bucket, "v.mp4", BODY)
    here = storage()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (len(BODY) - 1, before[1])
    )  # to this process, a full disk
    try:
        with pytest.raises(VideoError, match="cannot be written") as caught:
            here.download(f"s3://{bucket}/v.mp4", tmp_path / "v.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (caught.value.code, caught.value.error_class) == ("io_error", ErrorClass.TRANSIENT)
    assert list(tmp_path.iterdir()) == []


def test_keys_come_from_the_environment_a_profile_or_nowhere(
    s3: S3Server, storage: OpenStorage, tmp_path: Path
) -> None:
    """Environment before profile; without keys requests go unsigned, which this bucket refuses."""
    bucket = s3.bucket()
    s3.put(bucket, "v.mp4", b"x")
    uri = f"s3://{bucket}/v.mp4"
    credentials = tmp_path / "credentials"
    key, secret = s3.environment["AWS_ACCESS_KEY_ID"], s3.environment["AWS_SECRET_ACCESS_KEY"]
    credentials.write_text(
        f"[team]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n[sso]\nregion = x\n"
    )
    files = {
        "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }
    no_keys = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    storage(**no_keys, **files, AWS_PROFILE="team").open(uri).close()
    assert s3_account.account().credentials.retrieve() is not None
    failed = failure_of(
        storage(**files, AWS_PROFILE="team", AWS_ACCESS_KEY_ID="nobody", AWS_SECRET_ACCESS_KEY="x"),
        uri,
    )
    assert failed.code == "bad_credentials"
    assert (
        failure_of(storage(**no_keys, **files, AWS_PROFILE=None), uri).code == "request_refused"
    )  # Swift's own 400
    chain = s3_account.account().credentials
    assert (chain.retrieve(), chain.source) == (None, "anonymous")
    with pytest.raises(
        RefusedConfigurationError, match="aws configure export-credentials --profile sso"
    ):
        storage(**no_keys, **files, AWS_PROFILE="sso").open(uri)
    with pytest.raises(RefusedConfigurationError, match="AWS_SECRET_ACCESS_KEY is not"):
        storage(AWS_SECRET_ACCESS_KEY=None, AWS_PROFILE=None).open(uri)
    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL_S3='ftp://x'"):
        storage(AWS_ENDPOINT_URL_S3="ftp://x")


def test_an_instance_without_a_role_is_not_asked_at_every_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    class NoRole(Provider):
        def retrieve(self) -> Credentials:
            asked.append("role")
            raise ValueError("no role")

    chain = s3_account.Chain({"role": NoRole()})
    assert chain.retrieve() is None
    assert chain.retrieve() is None
    assert asked == ["role"]
    monkeypatch.setattr(s3_account.time, "monotonic", lambda: time.time() + 1e9)
    assert chain.retrieve() is None
    assert asked == ["role", "role"]


def test_the_role_of_a_container_is_used(
    s3: S3Server, storage: OpenStorage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def role(handler: Handler) -> bool:
        key, secret = s3.environment["AWS_ACCESS_KEY_ID"], s3.environment["AWS_SECRET_ACCESS_KEY"]
        body = (
            f'{{"AccessKeyId": "{key}", "SecretAccessKey": "{secret}", "Token": "",'
            ' "Expiration": "2999-01-01T00:00:00Z", "Code": "Success"}'
        )
        handler.answer(200, body.encode())
        return True

    bucket = s3.bucket()
    s3.put(bucket, "v.mp4", b"x")
    with serving(bend=role) as metadata:
        here = storage(
            AWS_ACCESS_KEY_ID=None,
            AWS_SECRET_ACCESS_KEY=None,
            AWS_CONTAINER_CREDENTIALS_FULL_URI=metadata.url("/role"),
            AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "none"),
            AWS_CONFIG_FILE=str(tmp_path / "none"),
        )
        here.open(f"s3://{bucket}/v.mp4").close()
        here.open(f"s3://{bucket}/v.mp4").close()
        assert len(metadata.requests) == 1  # kept until they end
