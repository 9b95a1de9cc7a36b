"""The door for webhooks: a WSGI callable in front of Flask, so that nothing touches the raw bytes before us."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError

from config.logging import way_to
from gateway.domain.problems import (
    ADDRESS_UNKNOWN,
    BODY_CUT,
    BODY_TOO_LARGE,
    BODY_TOO_SLOW,
    DATABASE_AWAY,
    METHOD_REFUSED,
    TOO_MANY_BODIES,
    UNEXPECTED,
    NeedsOperator,
    Problem,
    Retry,
    describe,
)
from gateway.orders.payloads import place_of_delivery
from gateway.platforms import REGISTRY
from gateway.platforms.base import Address, HookRequest, Ping, Platform, SignatureRejected
from webhooks.directory import Busy, Directory, Entry
from webhooks.refusals import Refusal
from webhooks.store import RETRY_AFTER_SECONDS, Delivery, Writer

log = structlog.get_logger("webhooks.receiver")

PREFIX = "/webhooks/"
BODY_SECONDS = 10
BODIES_IN_HAND = 64 * 1024 * 1024
_CHUNK = 65_536

_encode = msgspec.json.Encoder().encode

StartResponse = Callable[..., Any]
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed",
            408: "Request Timeout", 413: "Content Too Large", 503: "Service Unavailable"}  # fmt: skip


class _Refused(Exception):
    def __init__(self, status: int, problem: Problem) -> None:
        self.status = status
        self.problem = problem


class Receiver:
    """Takes POST /webhooks/… and passes everything else on to `app`.

    A 2xx is given only after the raw bytes are committed; what we can't store is answered 503, never 4xx.
    """

    def __init__(
        self, app: Callable[..., Iterable[bytes]], *, writer: Writer, directory: Directory, max_body_bytes: int
    ) -> None:
        self._app = app
        self._writer = writer
        self._directory = directory
        self._max_body_bytes = max_body_bytes
        self._in_hand = 0

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path: str = environ.get("PATH_INFO", "")
        if not path.startswith(PREFIX):
            return self._app(environ, start_response)
        try:
            self._receive(environ, path)
        except _Refused as refusal:
            return self._refuse(environ, start_response, refusal)
        except Exception as error:
            # Whatever it is, it is our fault and not the webhook's: the platform shall send it again.
            log.error("webhook.unexpected", error=way_to(error))
            return self._refuse(
                environ, start_response, _Refused(503, describe(UNEXPECTED, {"why": type(error).__name__}))
            )
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "0")])
        return [b""]

    def _receive(self, environ: dict[str, Any], path: str) -> None:
        platform = REGISTRY.get(path[len(PREFIX) :].split("/", 1)[0])
        if platform is None:
            raise _Refused(404, ADDRESS_UNKNOWN)
        if environ["REQUEST_METHOD"] != "POST":
            raise _Refused(405, METHOD_REFUSED)
        with self._body(environ) as body:
            request = HookRequest(path, _headers(environ), body, datetime.now(UTC))
            address = platform.address(request)
            if isinstance(address, Ping):
                self._known(platform, path)
                return
            entry = self._verified(platform, request, address)
            try:
                self._writer.store(_delivery(platform, request, address, entry))
            except Retry as error:
                raise _Refused(503, error.problem) from None

    def _refuse(self, environ: dict[str, Any], start_response: StartResponse, refusal: _Refused) -> list[bytes]:
        """Answer with the Problem; a delivery that its store was not answered 2xx for is looked for by a catch-up."""
        if refusal.status not in (401, 404, 405):  # of strangers; a wrong signature is noted with its reason
            self._writer.note_unanswered(self._meant(environ))
        return _answer(start_response, refusal.status, refusal.problem, has_body=environ["REQUEST_METHOD"] != "HEAD")

    def _meant(self, environ: dict[str, Any]) -> int | None:
        """The connection that the request's address names, as far as it is known without asking the database."""
        path: str = environ["PATH_INFO"]
        platform = REGISTRY[path[len(PREFIX) :].split("/", 1)[0]]
        try:
            address = platform.address(HookRequest(path, _headers(environ), b"", datetime.now(UTC)))
        except Exception:
            return None  # it may be why we are here
        return None if isinstance(address, Ping) else self._directory.remembered(platform.key, address.key)

    def _known(self, platform: Platform, path: str) -> None:
        """A ping for an address that we never gave out is not ours to answer."""
        key = path.rstrip("/").rsplit("/", 1)[-1]
        if not (key.isascii() and key.isprintable()) or (
            self._look_up(platform.key, key).connection_id is None
            and self._look_up(platform.key, key, fresh=True).connection_id is None
        ):
            raise _Refused(404, ADDRESS_UNKNOWN)

    def _verified(self, platform: Platform, request: HookRequest, address: Address) -> Entry:
        entry = self._look_up(platform.key, address.key)
        try:
            platform.verify(request, entry.secrets)
        except SignatureRejected:
            # The secret may be new, or the connection: WooCommerce never sends a refused webhook again.
            entry = self._look_up(platform.key, address.key, fresh=True)
            if entry.connection_id is None and platform.key == "woocommerce":
                raise _Refused(404, ADDRESS_UNKNOWN) from None
            try:
                platform.verify(request, entry.secrets)
            except SignatureRejected as error:
                self._writer.note_refusal(Refusal(platform.key, entry.connection_id or 0, error.problem.code))
                log.warning(
                    "webhook.refused", platform=platform.key, connection=entry.connection_id,
                    reason=error.problem.code, topic=address.topic,
                )  # fmt: skip
                raise _Refused(401, error.problem) from None
        return entry

    def _look_up(self, platform: str, key: str, *, fresh: bool = False) -> Entry:
        try:
            return self._directory.look_up(platform, key, fresh=fresh)
        except Busy:
            raise _Refused(503, TOO_MANY_BODIES) from None
        except (SQLAlchemyError, NeedsOperator, TimeoutError) as error:
            log.warning("webhook.look_up_failed", error=type(error).__name__)
            raise _Refused(503, DATABASE_AWAY) from None

    @contextmanager
    def _body(self, environ: dict[str, Any]) -> Iterator[bytes]:
        """The raw body, counted against what this process may hold in hand."""
        length = _declared_length(environ)
        if length is not None and length > self._max_body_bytes:
            raise _Refused(413, BODY_TOO_LARGE)
        held = length if length is not None else self._max_body_bytes
        if self._in_hand + held > BODIES_IN_HAND:
            raise _Refused(503, TOO_MANY_BODIES)
        self._in_hand += held
        try:
            with _within(BODY_SECONDS):
                body = _read(environ["wsgi.input"], length, self._max_body_bytes)
            yield body
        finally:
            self._in_hand -= held


def _declared_length(environ: dict[str, Any]) -> int | None:
    """The Content-Length; None for a chunked body, 0 where neither is given."""
    value = environ.get("CONTENT_LENGTH") or ""
    if value:
        if not value.isdigit():
            raise _Refused(400, BODY_CUT)
        return int(value)
    return None if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower() else 0


def _read(stream: Any, length: int | None, limit: int) -> bytes:
    """All of the body: as long as it was declared, or to its end when chunked."""
    if length is not None:
        try:
            body: bytes = stream.read(length) if length else b""
        except OSError:
            raise _Refused(400, BODY_CUT) from None
        if len(body) < length:
            raise _Refused(400, BODY_CUT)
        return body
    pieces: list[bytes] = []
    size = 0
    try:
        while piece := stream.read(_CHUNK):
            size += len(piece)
            if size > limit:
                raise _Refused(413, BODY_TOO_LARGE)
            pieces.append(piece)
    except OSError:
        raise _Refused(400, BODY_CUT) from None
    return b"".join(pieces)


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Under gevent a body that trickles is given up after `seconds`; it holds no thread meanwhile."""
    from gevent import Timeout, monkey

    if not monkey.is_module_patched("socket"):
        yield
        return
    with Timeout(seconds, _Refused(408, BODY_TOO_SLOW)):
        yield


@lru_cache(maxsize=1024)
def _header_name(name: str) -> str:
    return name[5:].replace("_", "-").lower()


def _headers(environ: dict[str, Any]) -> dict[str, str]:
    headers = {_header_name(name): value for name, value in environ.items() if name.startswith("HTTP_")}
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers[name.replace("_", "-").lower()] = environ[name]
    return headers


def _delivery(platform: Platform, request: HookRequest, address: Address, entry: Entry) -> Delivery:
    observed_at = address.observed_at
    if platform.capabilities.built_at_delivery:
        # The content was true when the request left: our clock, less what the store's differs from it.
        observed_at = request.received_at - entry.skew
    unknown = entry.connection_id is None and bool(address.key)
    return Delivery(
        platform=platform.key,
        shop=address.key,
        account_id=entry.account_id,
        connection_id=entry.connection_id,
        delivery_key=address.delivery_key.replace("\x00", ""),
        topic=address.topic.replace("\x00", ""),
        received_at=request.received_at,
        observed_at=observed_at,
        headers=_encode(list(request.headers.items())),
        body_bytes=len(request.body),
        body=entry.data_key.seal(request.body, place_of_delivery(request.received_at)),
        state="parked" if unknown else "waiting",
    )


def _answer(start_response: StartResponse, status: int, problem: Problem, *, has_body: bool) -> list[bytes]:
    """A Problem (RFC 9457), so that whoever looks at the platform's delivery log reads what to do."""
    body = json.dumps(
        {"type": f"urn:problem:{problem.code}", "title": problem.title, "status": status, "detail": problem.cause,
         "fix": problem.fix}
    ).encode()  # fmt: skip
    headers = [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body)))]
    if status == 503:
        headers.append(("Retry-After", str(RETRY_AFTER_SECONDS)))
    if status == 405:
        headers.append(("Allow", "POST"))
    if status in (400, 408, 413):
        # The rest of the body was not read: this connection can't carry another request.
        headers.append(("Connection", "close"))
    start_response(f"{status} {_REASONS[status]}", headers)
    return [body] if has_body else []
