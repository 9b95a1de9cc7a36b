"""Etsy's tokens. Its webhooks are set up by hand in Etsy's portal: the API has no way to subscribe."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from gateway.domain.problems import STORE_ERROR, TOKEN_REVOKED, NeedsMerchant, Retry
from gateway.platforms.base import StoreAccess, Subscription, Tokens


def refresh(access: StoreAccess) -> Tokens | None:
    """Both tokens anew, each refresh brings another refresh token. Only invalid_grant means reconnect; a 5xx is
    sporadic there (sheet section 2)."""
    token = access.credentials.get("refresh_token")
    if not token:
        return None
    answer = access.http.call(
        "POST",
        f"{access.app.etsy_api_url}/public/oauth/token",
        form={"grant_type": "refresh_token", "client_id": access.app.etsy_keystring, "refresh_token": token},
    )
    if answer.status == 400 and answer.json().get("error") == "invalid_grant":
        raise NeedsMerchant(TOKEN_REVOKED, "invalid_grant")
    if answer.status != 200:
        raise Retry(STORE_ERROR, "refresh", after_seconds=10, status=answer.status)
    value = answer.json()
    expires_at = datetime.now(UTC) + timedelta(seconds=float(value["expires_in"]))
    return Tokens(
        {
            **access.credentials,
            "access_token": value["access_token"],
            "refresh_token": value["refresh_token"],
            "expires_at": expires_at.isoformat(),
        }
    )


def subscribe(access: StoreAccess, address: str, secret: str) -> Sequence[Subscription]:
    return ()


def list_subscriptions(access: StoreAccess) -> Sequence[Subscription]:
    return ()


def unsubscribe(access: StoreAccess, ids: Sequence[str]) -> None:
    return None
