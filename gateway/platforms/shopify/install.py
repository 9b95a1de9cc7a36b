"""Shopify's tokens. Its webhooks are declared with the app (shopify.app.toml), so none is made here:
the same topic in both places is delivered twice (sheet section 1.4)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from gateway.domain.problems import STORE_ERROR, TOKEN_REVOKED, NeedsMerchant, Retry
from gateway.platforms.base import StoreAccess, Subscription, Tokens
from gateway.platforms.shopify.client import base_url


def refresh(access: StoreAccess) -> Tokens | None:
    """Both tokens anew; only the platform's own 400 or 401 means that the merchant must reconnect."""
    token = access.credentials.get("refresh_token")
    if not token:
        return None
    answer = access.http.call(
        "POST",
        f"{base_url(access.app, access.domain)}/oauth/access_token",
        form={
            "grant_type": "refresh_token",
            "refresh_token": token,
            "client_id": access.app.shopify_client_id,
            "client_secret": access.app.shopify_client_secret,
        },
    )
    if answer.status in (400, 401, 403):
        raise NeedsMerchant(TOKEN_REVOKED, f"refresh: status {answer.status}")
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
