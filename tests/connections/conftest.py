"""Stores to call over real sockets: with and without TLS, under names that only the test knows."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

PUBLIC = "198.200.1.1"
"""Stands for a public address; the network fixture leads it to this machine."""


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_args: Any) -> None:
        pass


@dataclass
class Names:
    """The test's own name service, and what was asked of it and connected to."""

    answers: dict[str, list[list[str]]] = field(default_factory=dict)
    """Host → what each look-up answers, the last one for ever."""
    asked: list[str] = field(default_factory=list)
    connected: list[tuple[str, int]] = field(default_factory=list)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, _closed_network: None) -> Names:
    """Names resolve as the test says; the public address leads to loopback, every other one nowhere."""
    known = Names()
    connect, getaddrinfo = socket.socket.connect, socket.getaddrinfo

    def look_up(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host not in known.answers:
            return getaddrinfo(host, port, *args, **options)
        known.asked.append(host)
        left = known.answers[host]
        answer = left.pop(0) if len(left) > 1 else left[0]
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port))
            for one in answer
        ]

    def bridged(self: socket.socket, address: Any) -> None:
        known.connected.append(address[:2])
        connect(self, ("127.0.0.1", address[1]) if address[0] == PUBLIC else address)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket.socket, "connect", bridged)
    return known


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(certificate, key) for shop.test, www.shop.test and this machine, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop.test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [*map(x509.DNSName, ("shop.test", "www.shop.test", "localhost")),
                 x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem, secret = folder / "certificate.pem", folder / "key.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, secret


Answering = Callable[[Request], Response]


@dataclass
class Site:
    """A web server that answers as the test says; `requests` are (method, path with query, headers)."""

    port: int
    answer: Answering
    requests: list[Request] = field(default_factory=list)


@pytest.fixture
def serve(certificate: tuple[Path, Path]) -> Iterator[Callable[..., Site]]:
    """Start a server on this machine: serve(answer), with TLS unless tls=False."""
    running: list[tuple[Any, threading.Thread]] = []

    def start(answer: Answering, *, tls: bool = True) -> Site:
        site = Site(0, answer)

        def application(environ: Any, start_response: Any) -> Any:
            request = Request(environ)
            request.get_data()
            site.requests.append(request)
            return site.answer(request)(environ, start_response)

        context = None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
        server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Quiet, ssl_context=context)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        running.append((server, thread))
        site.port = server.server_port
        return site

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def trusted(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's certificate is one that the operator trusts."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
