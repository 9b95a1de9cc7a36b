"""The WSGI application of the sandbox: the three platforms, the control API and a page, from one world.

`create_app(world)` serves tests without sockets; the process (__main__.py) serves it on loopback.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit
from wsgiref.handlers import format_date_time

from werkzeug.wrappers import Request, Response

from gateway.sandbox import control, etsy_api, page, shopify_api, woocommerce_api, woocommerce_auth
from gateway.sandbox.shopify import ShopifyStore
from gateway.sandbox.stores import Store
from gateway.sandbox.woocommerce import WooStore
from gateway.sandbox.world import World

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class SandboxApp:
    """A WSGI callable over one world."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        response = self._answer(request)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        path = request.path
        first, _, rest = path.lstrip("/").partition("/")
        if first in ("shopify", "woocommerce", "etsy"):
            return self._platform(request, first, rest)
        if not self._may_control(request):
            return Response("This page is only for this machine.\n", status=403, mimetype="text/plain")
        if path.startswith("/sandbox/api/"):
            return control.answer(self.world, request, path.removeprefix("/sandbox/api/"))
        return page.answer(self.world, request, path)

    def _may_control(self, request: Request) -> bool:
        """Loopback names only (DNS rebinding), and writes only from our own page (other sites' forms)."""
        host = request.host
        if host.rpartition(":")[0] not in LOOPBACK and host not in (
            *LOOPBACK,
            urlsplit(self.world.base_url).netloc,
        ):
            return False
        origin = request.headers.get("Origin")
        return origin is None or request.method == "GET" or urlsplit(origin).netloc == host

    def _platform(self, request: Request, platform: str, rest: str) -> Response:
        store, path = self._store(request, platform, rest)
        if store is not None:
            broken = _misbehave(store, request)
            if broken is not None:
                return broken
        # A webhook's registration waits for the answer to its ping, so it may not hold the lock meanwhile.
        registers = platform == "woocommerce" and request.method == "POST" and path.endswith("/webhooks")
        if isinstance(store, WooStore) and path.startswith(woocommerce_auth.BASE):
            return woocommerce_auth.answer(store, request, path)
        with contextlib.nullcontext() if registers else self.world.lock:
            if platform == "shopify":
                assert store is None or isinstance(store, ShopifyStore)
                response = shopify_api.answer(store, request, path)
            elif platform == "woocommerce":
                if not isinstance(store, WooStore):
                    return Response("Not Found", status=404, mimetype="text/html")
                response = woocommerce_api.answer(store, request, path)
            else:
                response = etsy_api.answer(self.world, request, path)
        if store is not None and store.faults.slow_seconds:
            _linger(store, response)
        if store is not None and store.faults.take("cut"):
            return _cut(request, response)
        return response

    def _store(self, request: Request, platform: str, rest: str) -> tuple[Store | None, str]:
        if platform == "etsy":
            match = re.search(r"/shops/(\d+)", rest)
            token = request.headers.get("Authorization", "").partition(" ")[2]
            for store in self.world.of("etsy"):
                if (match and store.key == match.group(1)) or token.startswith(f"{getattr(store, 'user_id', '')}."):
                    return store, "/" + rest
            return None, "/" + rest
        key, _, path = rest.partition("/")
        return self.world.store(platform, key), "/" + path


def _misbehave(store: Store, request: Request) -> Response | None:
    """The API's faults, except a cut connection, which needs the answer first."""
    if store.faults.take("server_error"):
        text = "<html><body><h1>503 Service Unavailable</h1></body></html>"
        return Response(text, status=503, mimetype="text/html")
    # WooCommerce has no limit of its own, but hosts do. Shopify throttles at HTTP 200, Etsy with its own body:
    # those two take the fault themselves.
    if store.platform == "woocommerce" and store.faults.take("throttle"):
        headers = {"Retry-After": "2"}
        return Response("Too Many Requests", status=429, mimetype="text/html", headers=headers)
    return None


def _linger(store: Store, response: Response) -> None:
    """The worst kind of slow: read early, sent late, and Date written at the end, later than the content is true."""
    store.world.sleep(store.faults.slow_seconds)
    response.headers["Date"] = format_date_time(store.now().timestamp())


def _cut(request: Request, response: Response) -> Response:
    """Half of the answer, then nothing: the connection is gone."""
    body = response.get_data()
    sock = request.environ.get("werkzeug.socket")
    if sock is None:
        raise ConnectionAbortedError("the sandbox cut the connection")

    def half() -> Iterable[bytes]:
        yield body[: len(body) // 2]
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    cut = Response(half(), status=response.status_code, headers=response.headers)
    cut.headers["Content-Length"] = str(len(body))
    cut.headers["Connection"] = "close"
    return cut


def create_app(world: World) -> SandboxApp:
    """The WSGI callable that serves all APIs of that world."""
    return SandboxApp(world)
