"""Stores to call over real sockets: with and without TLS, under names that only the test knows."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from argon2 import PasswordHasher
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

import app as composition
from gateway.accounts import passwords
from gateway.connections.access import Access
from gateway.sandbox.sender import Sender
from gateway.sandbox.server import create_app as sandbox_app
from gateway.sandbox.woocommerce import WooStore
from gateway.sandbox.world import World as SandboxWorld
from tests.web.conftest import settings
from tests.web.world import PASSWORD
from tests.web.world import World as People

PUBLIC = "198.200.1.1"
"""Stands for a public address; the network fixture leads it to this machine."""


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_args: Any) -> None:
        pass

    def send_response(self, code: int, message: str | None = None) -> None:
        # A simulated store writes its own Date; the server's would stand before it.
        self.send_response_only(code, message)


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


# --- the whole product and simulated platforms, over real HTTP ---------------------------------------------------
@dataclass
class Person:
    """Someone with a browser: cookies kept, redirects followed only where the test does."""

    address: str
    session: requests.Session = field(default_factory=requests.Session)

    def log_in(self, email: str) -> Person:
        self.post("/login", email=email, password=PASSWORD)
        return self

    def get(self, url: str, **params: str) -> requests.Response:
        return self.session.get(self._full(url), params=params, allow_redirects=False, timeout=30)

    def post(self, path: str, **form: str) -> requests.Response:
        page = self.session.get(self._full("/login" if path == "/login" else "/settings"), timeout=30)
        token = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
        assert token, "the page has no form"
        data = {**form, "csrf_token": token[1]}
        return self.session.post(self._full(path), data=data, allow_redirects=False, timeout=30)

    def _full(self, url: str) -> str:
        return url if "://" in url else self.address + url


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _serving(application: Any, port: int) -> Iterator[str]:
    server = make_server("127.0.0.1", port, application, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session", autouse=True)
def _cheap_passwords() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
        yield


@pytest.fixture(scope="session")
def application(database_url: str) -> Iterator[Any]:
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    given = dataclasses.replace(
        settings(database_url, address), port=port, allow_private_store_urls=True, etsy_keystring="k" * 24,
        etsy_shared_secret="s" * 10,
    )  # fmt: skip
    made = composition.create_app(given)
    made.extensions["address"] = address
    yield made
    made.extensions["database"].close()
    made.extensions["access"].database.close()
    receiver: Any = made.wsgi_app
    receiver._writer.close()
    receiver._directory.database.close()


@pytest.fixture(scope="session")
def _gateway(application: Any) -> Iterator[str]:
    yield from _serving(application, int(application.extensions["address"].rsplit(":", 1)[1]))


@pytest.fixture
def access(application: Any, clean_database: str) -> Access:
    found: Access = application.extensions["access"]
    return found


@pytest.fixture
def people(application: Any, clean_database: str) -> People:
    return People(application.extensions["database"], application.extensions["access"].payloads)


@pytest.fixture
def gateway(_gateway: str, access: Access) -> str:
    """The product's address, on an empty database."""
    return _gateway


@pytest.fixture
def sandbox(gateway: str) -> Iterator[SandboxWorld]:
    """Simulated platforms that call the product, and are called by it."""
    port = _free_port()
    world = SandboxWorld(7, gateway_url=gateway, base_url=f"http://127.0.0.1:{port}")
    sender = Sender(world)
    sender.start()
    for _ in (running := _serving(sandbox_app(world), port)):
        yield world
        break
    sender.stop()
    next(running, None)


@pytest.fixture
def shop(sandbox: SandboxWorld) -> WooStore:
    made = sandbox.add_store("woocommerce", "claywoods", time_zone="Europe/Berlin", currency="EUR")
    assert isinstance(made, WooStore)
    return made


@pytest.fixture
def maya(people: People, gateway: str) -> Person:
    people.user()
    return Person(gateway).log_in("maya@example.com")
