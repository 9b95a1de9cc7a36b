"""Etsy's OAuth 2 with PKCE, and its tokens. Its webhooks are set up by hand in Etsy's portal: no API subscribes.

Facts: the Etsy sheet, section 2 (Etsy's pages "Authentication" and "OAuth 2", its OpenAPI description).
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from gateway.domain.problems import (
    CONNECT_CODE_REFUSED,
    ETSY_WITHOUT_SHOP,
    STORE_ERROR,
    STORE_THROTTLED,
    TOKEN_REVOKED,
    NeedsMerchant,
    Retry,
)
from gateway.http import Answer
from gateway.platforms.base import App, StoreAccess, Subscription, Tokens
from gateway.platforms.etsy.client import call

SCOPES = ("transactions_r", "shops_r")
"""Orders, and which shop is the caller's. The seller's own e-mail (email_r) and writing are never asked for."""


def new_verifier() -> str:
    """A PKCE verifier: 86 characters of [A-Za-z0-9_-], where 43 to 128 are allowed."""
    return secrets.token_urlsafe(64)


def challenge(verifier: str) -> str:
    """S256: base64url of the verifier's sha256, without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def consent_address(app: App, *, state: str, verifier: str, redirect_uri: str) -> str:
    """Where the seller approves. Scopes are separated by %20; client_id is the bare keystring."""
    query = {
        "response_type": "code", "client_id": app.etsy_keystring, "redirect_uri": redirect_uri,
        "scope": " ".join(SCOPES), "state": state, "code_challenge": challenge(verifier),
        "code_challenge_method": "S256",
    }  # fmt: skip
    return f"{app.etsy_connect_url}?{urlencode(query, quote_via=quote)}"


def exchange(access: StoreAccess, *, code: str, verifier: str, redirect_uri: str) -> dict[str, str]:
    """A code for both tokens. Raises NeedsMerchant when Etsy refuses the code, Retry when Etsy has a bad moment.

    No secret goes along: the verifier is the proof.
    """
    answer = _ask_for_tokens(
        access, grant_type="authorization_code", redirect_uri=redirect_uri, code=code, code_verifier=verifier
    )
    if answer.status in (400, 401, 403):
        raise NeedsMerchant(CONNECT_CODE_REFUSED, _error(answer), why=_error(answer))
    return _tokens(answer)


def shop_of(access: StoreAccess) -> str:
    """The id of the shop whose seller gave this token. Raises NeedsMerchant for a buyer's account without one."""
    me = call(access, "users/me").json()
    shop_id = me.get("shop_id") if isinstance(me, dict) else None
    user_id = access.credentials["access_token"].partition(".")[0]
    if not shop_id and user_id.isdecimal():
        # The token begins with its user's id; the shop can be asked for by that too.
        row = call(access, f"users/{user_id}/shops", missing_ok=True).json()
        shop_id = row.get("shop_id") if isinstance(row, dict) else None
    if not shop_id or not str(shop_id).isdecimal():
        raise NeedsMerchant(ETSY_WITHOUT_SHOP)
    return str(shop_id)


def refresh(access: StoreAccess) -> Tokens | None:
    """Both tokens anew: each refresh brings another refresh token. Only invalid_grant means reconnect; a 5xx is
    sporadic there (sheet section 2)."""
    token = access.credentials.get("refresh_token")
    if not token:
        return None
    answer = _ask_for_tokens(access, grant_type="refresh_token", refresh_token=token)
    if answer.status in (400, 401) and _error(answer) == "invalid_grant":
        raise NeedsMerchant(TOKEN_REVOKED, "invalid_grant")
    return Tokens({**access.credentials, **_tokens(answer)})


def _ask_for_tokens(access: StoreAccess, **form: str) -> Answer:
    given = {"client_id": access.app.etsy_keystring, **form}
    return access.http.call("POST", f"{access.app.etsy_api_url}/public/oauth/token", form=given)


def _error(answer: Answer) -> str:
    """The error's word in an OAuth answer, "" when there is none."""
    try:
        value = answer.json()
    except Retry:
        return ""
    word = value.get("error") if isinstance(value, dict) else None
    return word[:60] if isinstance(word, str) else ""


def _tokens(answer: Answer) -> dict[str, str]:
    if answer.status == 429:
        raise Retry(STORE_THROTTLED, "tokens", after_seconds=10)
    if answer.status != 200:
        raise Retry(STORE_ERROR, f"tokens: {_error(answer)}", after_seconds=10, status=answer.status)
    value: Mapping[str, Any] = answer.json()
    try:
        access_token, refresh_token = value["access_token"], value["refresh_token"]
        lifetime = float(value["expires_in"])
    except (KeyError, TypeError, ValueError):
        raise answer.not_json("it holds no tokens") from None
    if not isinstance(access_token, str) or not isinstance(refresh_token, str) or not access_token or not refresh_token:
        raise answer.not_json("it holds no tokens")
    expires_at = datetime.now(UTC) + timedelta(seconds=min(max(lifetime, 0.0), 86_400.0))
    return {"access_token": access_token, "refresh_token": refresh_token, "expires_at": expires_at.isoformat()}


def subscribe(access: StoreAccess, address: str, secret: str) -> Sequence[Subscription]:
    return ()


def list_subscriptions(access: StoreAccess) -> Sequence[Subscription]:
    return ()


def unsubscribe(access: StoreAccess, ids: Sequence[str]) -> None:
    return None
