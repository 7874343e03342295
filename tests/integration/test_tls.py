"""Videos over TLS: trusted authorities only, one's own by name of its file, and never a name for
another's certificate.
"""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from db.errors import ErrorClass, VideoError
from tests.http_server import WebServer, serving
from workers.sources import pools
from workers.sources.http import HttpStore
from workers.sources.retrying import Limits
from workers.sources.s3 import S3Store
from workers.sources.s3_account import Account, Chain

BODY = b"a video" * 1000
HOST = "videos.example"
LIMITS = Limits(1.5, 100_000, 1 << 20)


def certificate(folder: Path) -> Path:
    """A key and a certificate that is its own authority, for HOST and 127.0.0.1, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName(
        [x509.DNSName(HOST), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    return certificate(tmp_path)


@pytest.fixture
def server(authority: Path) -> Iterator[WebServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    with serving(files={"/v.mp4": BODY}, tls=context) as made:
        yield made


def read(url: str, *, allow_private: bool = True) -> bytes:
    store = HttpStore(LIMITS, allow_private=allow_private, s3_host=None, connections=1)
    try:
        with store.open(url) as source:
            return source.read(0, len(BODY))
    finally:
        store.close()


def test_an_unknown_authority_is_unreachable_and_says_what_to_set(server: WebServer) -> None:
    with pytest.raises(VideoError, match="set SSL_CERT_FILE, for S3 alone AWS_CA_BUNDLE") as caught:
        read(f"https://127.0.0.1:{server.port}/v.mp4")
    assert (caught.value.code, caught.value.error_class) == ("unreachable", ErrorClass.INFRA)


def test_an_authority_of_ones_own_is_trusted(
    server: WebServer, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert read(f"https://127.0.0.1:{server.port}/v.mp4") == BODY


def test_s3_has_a_variable_of_its_own_that_goes_first(
    server: WebServer, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/bucket/v.mp4"] = BODY
    account = Account(
        f"127.0.0.1:{server.port}", secure=True, region="us-east-1", credentials=Chain({})
    )
    monkeypatch.setenv("SSL_CERT_FILE", certifi.where())
    with pytest.raises(VideoError, match="TLS failed"):
        S3Store(account, LIMITS, connections=1).open("s3://bucket/v.mp4")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
    store = S3Store(account, LIMITS, connections=1)
    with store.open("s3://bucket/v.mp4") as source:
        assert source.read(0, len(BODY)) == BODY
    store.close()


def test_a_private_address_is_refused_over_tls_too(server: WebServer) -> None:
    with pytest.raises(VideoError) as caught:
        read(f"https://127.0.0.1:{server.port}/v.mp4", allow_private=False)
    assert caught.value.code == "address_refused"


@pytest.mark.parametrize(("host", "is_right"), [(HOST, True), ("other.example", False)])
def test_the_judged_address_must_still_prove_the_name(
    server: WebServer, authority: Path, monkeypatch: pytest.MonkeyPatch, host: str, is_right: bool
) -> None:
    """The connection goes to an address; the certificate is held against the name."""

    def connect(*_: object, **__: object) -> socket.socket:
        made = socket.socket()
        made.connect(("127.0.0.1", server.port))
        return made

    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    public = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", 443))]
    monkeypatch.setattr(pools.socket, "getaddrinfo", lambda *_, **__: public)
    monkeypatch.setattr(pools.sockets, "create_connection", connect)
    if is_right:
        assert read(f"https://{host}/v.mp4", allow_private=False) == BODY
    else:
        with pytest.raises(VideoError, match="TLS failed"):
            read(f"https://{host}/v.mp4", allow_private=False)


def test_plain_http_at_a_port_with_tls_is_told(server: WebServer) -> None:
    """This server ends the connection without a word."""
    with pytest.raises(VideoError, match="if its port is one with TLS, write https://"):
        read(f"http://127.0.0.1:{server.port}/v.mp4")
    account = Account(
        f"127.0.0.1:{server.port}",
        secure=False,
        region="x",
        credentials=Chain({}),
        asked="so says X",
    )
    with pytest.raises(VideoError, match="if its port is one with TLS, write https://; so says X"):
        S3Store(account, LIMITS, connections=1).open("s3://bucket/v.mp4")
