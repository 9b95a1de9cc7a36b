"""Which addresses a call may go to: the public internet over TLS, unless the operator allows more.

A store's URL comes from a person, so it may name our own machine, its network, or a cloud's metadata service. The
check is made on the very addresses that the socket connects to, at each new connection: a name that changes its answer
between check and connect (DNS rebinding) gains nothing. Connections kept open were checked when they were made.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import sys
from collections.abc import Iterable
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from gateway.domain.problems import STORE_ADDRESS_PRIVATE, STORE_NOT_HTTPS, NeedsMerchant

_REFUSED_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
            "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
            # Azure's platform address answers on a public one: its documentation "What is IP address 168.63.129.16".
            "168.63.129.16/32",
        ),
    )
)  # fmt: skip
"""IANA's special-purpose registry (RFC 6890), spelled out: what `ipaddress` calls global changes with its version."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_REFUSED_V6 = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "3fff::/20")))


def is_public(address: str) -> bool:
    """Whether a literal address belongs to the public internet; an IPv4 address within an IPv6 one is judged itself."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return not any(found in network for network in _REFUSED_V4)
    if found.ipv4_mapped is not None:
        return is_public(str(found.ipv4_mapped))
    if found.sixtofour is not None:
        return is_public(str(found.sixtofour))
    if found in _NAT64:
        return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF)))
    return found in _GLOBAL_V6 and not any(found in network for network in _REFUSED_V6)


def session(*, allow_private: bool = False, trusted: Iterable[str] = ()) -> requests.Session:
    """A session for calls to stores; none of its answers can leave a cookie behind.

    `allow_private`: the operator's ALLOW_PRIVATE_STORE_URLS, nothing is checked then. `trusted`: URLs of the operator's
    own settings, whose scheme, host and port may be called wherever they lead.
    """
    made = requests.Session()
    made.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    if not allow_private:
        made.mount("https://", _Guarded())
        made.mount("http://", _NoTls())
        for url in trusted:
            made.mount(_origin(url) + "/", HTTPAdapter())
    return made


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
    """What getaddrinfo knows of a host, once each address has been found public.

    Raises NeedsMerchant when one is not (a name with a public and a private address is refused whole), and
    socket.gaierror when the name is not known.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, socket.AF_UNSPEC, socket.SOCK_STREAM)
    except UnicodeError:
        raise socket.gaierror(socket.EAI_NONAME, "the name is not one") from None
    if not found or not all(is_public(str(entry[4][0])) for entry in found):
        # The address itself is not told: it would map our network for whoever asks.
        raise NeedsMerchant(STORE_ADDRESS_PRIVATE, host, host=host)
    return list(found)


def _connect(connection: HTTPConnection) -> socket.socket:
    """Connect to one of the addresses that were checked: the name is not looked up a second time."""
    host, port = connection._dns_host, connection.port or connection.default_port
    try:
        found = resolve(host, port)
    except socket.gaierror as error:
        raise NameResolutionError(connection.host, connection, error) from error
    failure: OSError | None = None
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            for option in connection.socket_options or ():
                sock.setsockopt(*option)
            sock.settimeout(connection.timeout)
            sock.connect(address)
        except OSError as error:
            failure = error
            sock.close()
            continue
        sys.audit("http.client.connect", connection, connection.host, connection.port)
        return sock
    if isinstance(failure, TimeoutError):
        raise ConnectTimeoutError(connection, f"Connection to {connection.host} timed out.") from failure
    raise NewConnectionError(connection, f"Failed to establish a new connection: {failure}") from failure


class _PlainConnection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self)


class _TlsConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self)


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Guarded(HTTPAdapter):
    """Connects to public addresses only. With a proxy of the operator's the name is checked, and the proxy decides."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        url = request.url or ""
        if select_proxy(url, options.get("proxies")):
            parts = urlsplit(url)
            with contextlib.suppress(socket.gaierror):  # only the proxy may know the name
                resolve(parts.hostname or "", parts.port or 443)
        return super().send(request, *args, **options)


class _NoTls(HTTPAdapter):
    """Keys and orders never go over a line that others can read."""

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        host = urlsplit(request.url or "").hostname or ""
        raise NeedsMerchant(STORE_NOT_HTTPS, host, host=host)
