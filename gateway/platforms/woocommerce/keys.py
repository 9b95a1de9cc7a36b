"""Keys of a WooCommerce shop: sent the way this host lets through, and proven before they are believed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, quote, urlsplit

import msgspec

from gateway.domain.problems import (
    KEYS_MALFORMED,
    KEYS_WRONG,
    STORE_CACHED,
    TOKEN_REVOKED,
    GatewayError,
    NeedsMerchant,
    Refused,
)
from gateway.http import Answer
from gateway.platforms.base import StoreAccess

_KEY, _SECRET = re.compile(r"\Ack_[0-9A-Za-z]{8,100}\Z"), re.compile(r"\Acs_[0-9A-Za-z]{8,100}\Z")

DATE_SECONDS = 1.1
"""Two answers this far apart have different Dates, or one of them came from a cache."""


def checked(key: str, secret: str) -> dict[str, str]:
    """The pair as credentials. Raises Refused when it can't be one, before anything is sent."""
    key, secret = key.strip(), secret.strip()
    if not _KEY.match(key) or not _SECRET.match(secret):
        raise Refused(KEYS_MALFORMED)
    return {"consumer_key": key, "consumer_secret": secret}


@dataclass(frozen=True, slots=True)
class Way:
    """How a call carries its keys: in the Authorization header, in the query where the host strips that header, or as a
    signature of the call."""

    auth: tuple[str, str] | None
    params: Mapping[str, str]


def way(credentials: Mapping[str, str], method: str, url: str, params: Mapping[str, str]) -> Way:
    """How this call carries its keys; the parameters given are among those of the answer."""
    pair = (credentials["consumer_key"], credentials["consumer_secret"])
    fresh = {"_nocache": secrets.token_hex(8)} if credentials.get("fresh") == "query" else {}
    params = {**params, **fresh}
    match credentials.get("auth"):
        case "query":
            return Way(None, {**params, "consumer_key": pair[0], "consumer_secret": pair[1]})
        case "signed":
            return Way(None, {**params, **_signed(pair, method, url, params)})
        case _:
            return Way(pair, params)


def _signed(pair: tuple[str, str], method: str, url: str, params: Mapping[str, str]) -> dict[str, str]:
    """OAuth 1.0a without a token, as WooCommerce wants it over plain http (class-wc-rest-authentication.php, 11.1): the
    secret itself is not sent. The address is signed without its query and without a slash at its end, which is how
    WordPress's get_home_url() writes the root of a shop with plain permalinks."""
    parts = urlsplit(url)
    ours = {
        "oauth_consumer_key": pair[0], "oauth_nonce": secrets.token_hex(16), "oauth_signature_method": "HMAC-SHA256",
        "oauth_timestamp": str(int(time.time())),
    }  # fmt: skip
    asked = {**dict(parse_qsl(parts.query, keep_blank_values=True)), **params, **ours}
    listed = "&".join(f"{quote(name, safe='')}={quote(asked[name], safe='')}" for name in sorted(asked))
    address = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    message = "&".join(quote(part, safe="") for part in (method, address, listed))
    digest = hmac.new(f"{pair[1]}&".encode(), message.encode(), hashlib.sha256).digest()
    return {**ours, "oauth_signature": base64.b64encode(digest).decode()}


@dataclass(frozen=True, slots=True)
class Proof:
    """What a few calls showed of keys. `credentials`: the pair with the way in which this host takes it."""

    credentials: Mapping[str, str]
    strips_header: bool
    caches: bool


Call = Callable[..., Answer]


def prove(access: StoreAccess, call: Call, *, wait: Callable[[float], None] = time.sleep) -> Proof:
    """Show that the keys read orders, and find out how they have to be sent.

    `call(access, method, path, **options)` is one classified API call. Raises what the last answer means.
    """
    plain = {name: access.credentials[name] for name in ("consumer_key", "consumer_secret")}
    access = replace(access, credentials=plain)
    # Some hosts take the Authorization header away before PHP sees it; then the same keys work as a query. Over plain
    # http, which only the operator can allow, WooCommerce takes neither, but signed calls (sheet fact 11).
    ways = ["header", "query", *(["signed"] if access.base_url.startswith("http://") else [])]
    refusal: NeedsMerchant | None = None
    for auth in ways:
        access = replace(access, credentials=plain if auth == "header" else {**plain, "auth": auth})
        try:
            first = _read(access, call)
            break
        except NeedsMerchant as refused:
            if refused.problem is not TOKEN_REVOKED:
                raise
            refusal = refusal or refused
    else:
        assert refusal is not None
        raise NeedsMerchant(KEYS_WRONG, refusal.detail, **refusal.facts) from None
    wait(DATE_SECONDS)
    caches = _is_cached(first, _read(access, call))
    if caches:
        access = replace(access, credentials={**access.credentials, "fresh": "query"})
        first = _read(access, call)
        wait(DATE_SECONDS)
        if _is_cached(first, _read(access, call)):
            raise NeedsMerchant(STORE_CACHED, "the same Date twice, in spite of a query that never repeats")
    return Proof(access.credentials, access.credentials.get("auth") == "query", caches)


def may_write(access: StoreAccess, call: Call) -> bool:
    """Whether the keys may write, asked by a batch of nothing.

    class-wc-rest-authentication.php looks at a key's permission before the route does anything: 401 for POST.
    """
    try:
        call(access, "POST", "webhooks/batch", json={})
    except GatewayError as refused:
        return refused.problem is not TOKEN_REVOKED
    return True


def _read(access: StoreAccess, call: Call) -> Answer:
    answer = call(access, "GET", "orders", params={"per_page": "1", "_fields": "id"})
    try:
        rows = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise answer.not_json("it is not a list of orders") from None
    if not isinstance(rows, list):
        raise answer.not_json("it is not a list of orders")
    return answer


def _is_cached(first: Answer, second: Answer) -> bool:
    return first.date is not None and first.date == second.date
