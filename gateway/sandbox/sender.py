"""Sends the webhooks that are due over real HTTP, many at a time, and tells the world what came back."""

from __future__ import annotations

import http.client
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from gateway.sandbox.deliveries import WebhookRequest
from gateway.sandbox.world import World

MAX_IN_FLIGHT = 256
CONNECT_SECONDS = 1.0  # Shopify allows 1 s to connect; on loopback that is plenty for all three


class Sender:
    """One thread that collects, and up to MAX_IN_FLIGHT that wait for answers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sandbox-sender", daemon=True)
        self._pool = ThreadPoolExecutor(MAX_IN_FLIGHT, thread_name_prefix="sandbox-webhook")
        world.send_now = send

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop collecting; what is on its way is given up and stays unrecorded."""
        self._stopping.set()
        self._world.wake()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._stopping.is_set():
            for request in self._world.collect():
                self._pool.submit(self._deliver, request)
            self._world.wait(0.2)

    def _deliver(self, request: WebhookRequest) -> None:
        self._world.record(request, send(request))


def send(request: WebhookRequest) -> int | None:
    """The status that the gateway answered, None when it did not. Redirects are not followed."""
    target = urlsplit(request.url)
    kind = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
    connection = kind(target.hostname or "", target.port, timeout=CONNECT_SECONDS)
    try:
        connection.connect()
        connection.sock.settimeout(request.timeout_seconds)
        path = (target.path or "/") + (f"?{target.query}" if target.query else "")
        connection.putrequest(request.method, path, skip_accept_encoding=True)
        for name, value in request.headers:
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body)
        answer = connection.getresponse()
        answer.read(65536)
        return answer.status
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
