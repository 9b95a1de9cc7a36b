"""Shopify's authorization-code grant for a standalone app, and its tokens (sheet section 4)."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote, unquote_plus, urlencode

from gateway.domain.problems import (
    CONNECT_CODE_REFUSED,
    INSTALL_NOT_VERIFIED,
    STORE_ERROR,
    STORE_THROTTLED,
    TOKEN_REVOKED,
    NeedsMerchant,
    Refused,
    Retry,
)
from gateway.http import Answer
from gateway.platforms.base import App, StoreAccess, Tokens
from gateway.platforms.shopify.client import base_url
from gateway.platforms.shopify.hooks import SHOP

SCOPES = ("read_orders",)
"""All that our queries need (a test holds them against the schema); asking for more would have to be justified."""

APP_PATH = "/install/shopify"
CALLBACK_PATH = "/install/shopify/callback"
FRESH_FOR = timedelta(minutes=5)
"""How old a signed query may be, either way: Shopify's libraries take 90 s to 24 h."""

_ONCE = ("shop", "hmac", "timestamp", "state", "code", "host")


# --- signed queries --------------------------------------------------------------------------------------------
def verified_query(raw: str, secrets: Sequence[str], *, now: datetime) -> dict[str, str]:
    """The parameters of a query that Shopify signed for us just now. Raises Refused with the reason.

    `raw`: the query string as it came. The signature is over all parameters but hmac and signature, sorted; the
    official libraries disagree on how values are written and on lists, so each of their forms is tried.
    """
    pairs = [pair.partition("=")[::2] for pair in raw.split("&") if pair]
    names = [unquote_plus(name) for name, _ in pairs]
    for name in _ONCE:
        if names.count(name) > 1:
            raise Refused(INSTALL_NOT_VERIFIED, f"{name} stands twice", why=f"{name} stands twice")
    given = {name: unquote_plus(value) for name, (_, value) in zip(names, pairs, strict=True)}
    signature = given.get("hmac", "").encode()
    messages = _signed_forms(pairs)
    good = False
    for secret in secrets:
        for message in messages:
            expected = hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest().encode()
            good |= hmac.compare_digest(expected, signature)
    if not good:
        raise Refused(INSTALL_NOT_VERIFIED, "signature", why="its signature is not Shopify's")
    if not SHOP.match(given.get("shop", "").lower()):
        raise Refused(INSTALL_NOT_VERIFIED, "shop", why="it names no Shopify shop")
    stamp = given.get("timestamp", "")
    if not (stamp.isascii() and stamp.isdecimal() and len(stamp) < 12):
        raise Refused(INSTALL_NOT_VERIFIED, "timestamp", why="it has no time")
    if abs(now - datetime.fromtimestamp(int(stamp), UTC)) > FRESH_FOR:
        raise Refused(INSTALL_NOT_VERIFIED, "expired", why="it is too old, or one of the clocks is wrong")
    return {**given, "shop": given["shop"].lower()}


def _signed_forms(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """What may have been signed: the raw pairs; the same decoded; lists written as JSON, as Ruby and Python do."""
    kept = [(name, value) for name, value in pairs if unquote_plus(name) not in ("hmac", "signature")]
    raw = sorted(f"{name}={value}" for name, value in kept)
    spaced = sorted(f"{name}={value.replace('+', '%20')}" for name, value in kept)
    decoded = [(unquote_plus(name), unquote_plus(value)) for name, value in kept]
    lists: dict[str, list[str]] = {}
    for name, value in decoded:
        lists.setdefault(name, []).append(value)
    ruby = sorted(
        f"{name.removesuffix('[]')}={json.dumps(values)}" if name.endswith("[]") else f"{name}={values[0]}"
        for name, values in lists.items()
    )
    plain = sorted(f"{name}={value}" for name, value in decoded)
    escaped = sorted(
        f"{_escaped(name).replace('=', '%3D')}={_escaped(value)}" for name, value in decoded
    )  # shopify_python_api, session.py
    kept_plus = sorted(f"{unquote(name)}={unquote(value)}" for name, value in kept)
    return list(dict.fromkeys("&".join(form) for form in (raw, spaced, plain, ruby, escaped, kept_plus)))


def _escaped(value: str) -> str:
    return value.replace("%", "%25").replace("&", "%26")


def consent_address(app: App, shop: str, *, state: str, redirect_uri: str) -> str:
    """Where the merchant grants the scopes; Shopify comes straight back when they are granted already."""
    query = {
        "client_id": app.shopify_client_id, "scope": ",".join(SCOPES), "redirect_uri": redirect_uri, "state": state,
    }  # fmt: skip
    return f"{base_url(app, shop)}/oauth/authorize?{urlencode(query)}"


# --- tokens ----------------------------------------------------------------------------------------------------
def exchange(access: StoreAccess, code: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """A code for both tokens, and the scopes that were granted. Raises NeedsMerchant when the code is refused.

    expiring=1: new public apps may not use tokens that never expire, and without it the answer holds such a one.
    """
    answer = _ask(access, {"code": code, "expiring": "1"})
    if answer.status in (400, 401, 403, 404):
        raise NeedsMerchant(CONNECT_CODE_REFUSED, _error(answer), why=_error(answer) or f"status {answer.status}")
    return _tokens(answer)


def lacking(granted: Sequence[str]) -> list[str]:
    """The scopes that we need and were not granted: a merchant can take them out of the address; writing implies
    reading."""
    has = {*granted, *(f"read_{scope[6:]}" for scope in granted if scope.startswith("write_"))}
    return [scope for scope in SCOPES if scope not in has]


def refresh(access: StoreAccess) -> Tokens | None:
    """Both tokens anew; only the platform's own 400 or 401 means that the merchant must reconnect.

    When an answer is lost the old refresh token still works (until a newer one is used), so asking again is right.
    """
    token = access.credentials.get("refresh_token")
    if not token:
        return None
    answer = _ask(access, {"grant_type": "refresh_token", "refresh_token": token})
    if answer.status in (400, 401, 403):
        raise NeedsMerchant(TOKEN_REVOKED, f"refresh: status {answer.status}")
    credentials, _ = _tokens(answer)
    return Tokens({**access.credentials, **credentials})


def _ask(access: StoreAccess, form: Mapping[str, str]) -> Answer:
    ours = {"client_id": access.app.shopify_client_id, "client_secret": access.app.shopify_client_secret}
    return access.http.call("POST", f"{base_url(access.app, access.domain)}/oauth/access_token", form={**ours, **form})


def _error(answer: Answer) -> str:
    try:
        value = answer.json()
    except Retry:
        return ""
    word = value.get("error") if isinstance(value, dict) else None
    return word[:60] if isinstance(word, str) else ""


def _tokens(answer: Answer) -> tuple[dict[str, str], tuple[str, ...]]:
    if answer.status == 429:
        raise Retry(STORE_THROTTLED, "tokens", after_seconds=10)
    if answer.status != 200:
        raise Retry(STORE_ERROR, "tokens", after_seconds=10, status=answer.status)
    value: Any = answer.json()
    try:
        access_token, refresh_token = value["access_token"], value["refresh_token"]
        lifetime, scope = float(value["expires_in"]), str(value.get("scope") or "")
    except (KeyError, TypeError, ValueError):
        raise answer.not_json("it holds no expiring tokens") from None
    if not (isinstance(access_token, str) and isinstance(refresh_token, str) and access_token and refresh_token):
        raise answer.not_json("it holds no expiring tokens")
    expires_at = datetime.now(UTC) + timedelta(seconds=min(max(lifetime, 0.0), 86_400.0))
    return (
        {"access_token": access_token, "refresh_token": refresh_token, "expires_at": expires_at.isoformat()},
        tuple(word for word in scope.split(",") if word),
    )
