"""The one way out: every call to a platform goes through here, with timeouts, a size limit and our User-Agent."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from math import isnan
from typing import Any
from urllib.parse import urlsplit

import msgspec
import requests
from urllib3.exceptions import NameResolutionError

from gateway.domain.problems import (
    STORE_ERROR,
    STORE_NAME_UNKNOWN,
    STORE_NOT_JSON,
    STORE_REQUEST_REFUSED,
    STORE_TIMED_OUT,
    STORE_TLS,
    STORE_UNREACHABLE,
    Refused,
    Retry,
)
from gateway.domain.window import floor_second

CONNECT_SECONDS = 5
READ_SECONDS = 30
MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_FILE_BYTES = 4 * 1024 * 1024 * 1024
SLOWEST_BYTES = 1024 * 1024
"""Of a file so much must come within twice the time that an answer may take."""

MAX_RETRY_AFTER_SECONDS = 6 * 3600.0
NO_CLOCK = timedelta(days=366)
"""A Date as far off as this (1970, say) is written by something that has no clock."""
USER_AGENT = "OrderSyncGateway/1"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a platform answered. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    seconds: float
    """From sending to the first byte of the answer."""
    received_at: datetime
    """By our own clock, when the first byte came."""

    @property
    def date(self) -> datetime | None:
        """The platform's clock when it wrote the answer."""
        try:
            moment = parsedate_to_datetime(self.headers["date"])
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (KeyError, ValueError, OverflowError):
            return None
        return moment if abs(moment - self.received_at) < NO_CLOCK else None

    @property
    def observed_at(self) -> datetime | None:
        """When the content was true by the platform's clock: never later than it was read.

        Date is written when a slow answer ends, and a cache hands out an old one with an Age: both are taken off.
        None without a Date: such a read settles nothing.
        """
        date = self.date
        if date is None:
            return None
        try:
            return floor_second(date - timedelta(seconds=self._age + self.seconds))
        except OverflowError:
            return None

    @property
    def skew(self) -> timedelta | None:
        """Our clock minus the platform's, to the second; None: the answer has no Date, or a cache handed it out:
        that is no clock of the store."""
        date = self.date
        return None if date is None or self._age else self.received_at - date

    @property
    def retry_after(self) -> float | None:
        """Seconds that the platform asks us to wait, at most six hours; None: it names none."""
        named = self.headers.get("retry-after", "")
        try:
            seconds = float(named)
        except ValueError:
            try:
                seconds = (parsedate_to_datetime(named) - (self.date or self.received_at)).total_seconds()
            except (ValueError, TypeError, OverflowError):
                return None
        return None if isnan(seconds) else min(max(seconds, 1.0), MAX_RETRY_AFTER_SECONDS)

    @property
    def _age(self) -> int:
        named = self.headers.get("age", "")
        return int(named) if named.isdecimal() else 0

    def json(self) -> Any:
        """The body as JSON, or Retry: a firewall's page is not the platform's answer."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self.not_json("it is not JSON") from None

    def not_json(self, why: str) -> Retry:
        kind = self.headers.get("content-type", "no content type")[:60]
        return Retry(STORE_NOT_JSON, f"{self.status}, {kind}: {why}", after_seconds=60, why=f"{kind}, {why}")


@dataclass(slots=True)
class Http:
    """Calls to one store. `before` may wait or raise (pacing); `after` sees each answer."""

    session: requests.Session = field(default_factory=requests.Session)
    before: Callable[[float], None] | None = None
    after: Callable[[Answer], None] | None = None
    read_seconds: float | None = None
    """How long an answer may keep us waiting; None: READ_SECONDS. Pages, behind which a person waits, set less."""

    def call(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        cost: float = 1.0,
    ) -> Answer:
        """One request, one answer; redirects are not followed: keys go to nobody else.

        Raises Retry when there is no answer at all: name, connection, TLS, time; NeedsMerchant when the address is one
        that may not be called (outbound.py).
        """
        if self.before is not None:
            self.before(cost)
        patience = READ_SECONDS if self.read_seconds is None else self.read_seconds
        sent = time.monotonic()
        try:
            with self.session.request(
                method,
                url,
                params=params,
                headers={"User-Agent": USER_AGENT, "Accept": "application/json", **(headers or {})},
                json=json,
                data=form,
                auth=auth,
                timeout=(CONNECT_SECONDS, patience),
                allow_redirects=False,
                stream=True,
            ) as response:
                seconds = time.monotonic() - sent
                received_at = datetime.now(UTC)
                body = self._read(response, deadline=sent + 2 * patience)
        except requests.RequestException as error:
            raise no_answer(error, urlsplit(url).hostname or "", patience) from None
        answer = Answer(
            response.status_code, {k.lower(): v for k, v in response.headers.items()}, body, seconds, received_at
        )
        if self.after is not None:
            self.after(answer)
        return answer

    def stream(self, url: str, *, after: int = 0) -> Iterator[bytes]:
        """A file behind a link, from the byte `after` on, in pieces: it may be larger than what can be held.

        The link is the only key, and where it leads is another host than the store's: no credentials go along, no
        budget is drawn on, and its clock tells nothing. Redirects are not followed. Raises Refused when there is
        nothing to be read there, Retry and NeedsMerchant as `call` does, also in the middle.
        """
        host = _host(url)
        patience = READ_SECONDS if self.read_seconds is None else self.read_seconds
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        if after:
            headers["Range"] = f"bytes={after}-"
        try:
            with self.session.get(
                url, headers=headers, timeout=(CONNECT_SECONDS, patience), allow_redirects=False, stream=True
            ) as response:
                skipped = _file_begins(response, after, host)
                size, waited = 0, 0.0
                pieces = response.iter_content(65_536)
                while True:
                    asked = time.monotonic()
                    piece = next(pieces, None)
                    if piece is None:
                        return
                    waited += time.monotonic() - asked  # what the reader takes for a piece is not the host's slowness
                    if waited > 2 * patience:
                        raise requests.Timeout("the file does not come on")
                    before, size = size, size + len(piece)
                    if size > MAX_FILE_BYTES:
                        raise _no_file(host, response.status_code, "the file is too large")
                    if before // SLOWEST_BYTES != size // SLOWEST_BYTES:
                        waited = 0.0
                    yield piece[max(0, skipped - before) :]
        except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL, requests.exceptions.MissingSchema):
            raise _no_file(host, 0, "it is no link") from None
        except requests.RequestException as error:
            raise no_answer(error, host, patience) from None

    @staticmethod
    def _read(response: requests.Response, *, deadline: float) -> bytes:
        pieces = []
        size = 0
        for piece in response.iter_content(65_536):
            size += len(piece)
            if size > MAX_ANSWER_BYTES:
                raise _TooLarge
            if time.monotonic() > deadline:
                raise requests.Timeout("the answer did not end")
            pieces.append(piece)
        return b"".join(pieces)


class _TooLarge(requests.ConnectionError):
    pass


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _file_begins(response: requests.Response, after: int, host: str) -> int:
    """How many bytes of this answer come before the byte that was asked for: a host may ignore Range."""
    status = response.status_code
    if status == 200:
        return after
    if status == 206 and after and response.headers.get("Content-Range", "").startswith(f"bytes {after}-"):
        return 0
    if status == 429 or status >= 500:
        raise Retry(STORE_ERROR, f"{host}: {status}", after_seconds=15, status=status)
    raise _no_file(host, status, "the link leads to nothing")


def _no_file(host: str, status: int, why: str) -> Refused:
    return Refused(STORE_REQUEST_REFUSED, f"{host}: {status}, {why}", status=status, why=why)


def no_answer(error: requests.RequestException, host: str, patience: float) -> Retry:
    """Why there was none, by layer. The error's own text may name the URL with its keys, so it is not told."""
    if isinstance(error, requests.exceptions.SSLError):
        why = _tls_reason(error)
        return Retry(STORE_TLS, f"{host}: {why}", after_seconds=60, host=host, why=why)
    if isinstance(error, requests.Timeout):
        seconds: float = CONNECT_SECONDS if isinstance(error, requests.ConnectTimeout) else patience
        return Retry(STORE_TIMED_OUT, f"{host}: {seconds} s", after_seconds=15, host=host, seconds=seconds)
    cause = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(cause, NameResolutionError):
        return Retry(STORE_NAME_UNKNOWN, host, after_seconds=60, host=host)
    why = type(cause or error).__name__
    broken = "the connection broke off"
    why = {"NewConnectionError": "the connection was refused", "ProtocolError": broken, "ConnectionError": broken,
           "ChunkedEncodingError": broken, "_TooLarge": "the answer is too large"}.get(why, why)  # fmt: skip
    return Retry(STORE_UNREACHABLE, f"{host}: {why}", after_seconds=15, host=host, why=why)


def _tls_reason(error: requests.exceptions.SSLError) -> str:
    """OpenSSL's own words for a certificate that is not trusted; they name no URL."""
    cause: BaseException | None = getattr(error.args[0], "reason", None) if error.args else None
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, ssl.SSLError):
            return (cause.reason or "no agreement").replace("_", " ").lower()
        cause = cause.args[0] if cause.args and isinstance(cause.args[0], BaseException) else None
    return "no agreement"
