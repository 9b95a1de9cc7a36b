"""An Etsy shop becomes connected by its seller's consent: OAuth 2 with PKCE, and a state that works once."""

from __future__ import annotations

import hmac
import secrets
from datetime import UTC, datetime

from sqlalchemy import text

from gateway.connections import attempts
from gateway.connections.access import Access
from gateway.domain.problems import (
    CONNECT_DENIED,
    CONNECT_STATE,
    ETSY_NOT_SET_UP,
    STORE_TAKEN,
    NeedsMerchant,
    NeedsOperator,
)
from gateway.domain.scope import AccountScope
from gateway.platforms.base import Shop, StoreAccess
from gateway.platforms.etsy import client, install

CALLBACK_PATH = "/install/etsy/callback"


def begin(access: Access, scope: AccountScope) -> tuple[str, str]:
    """Where to send the seller, and the state that their browser keeps meanwhile."""
    if not access.app.etsy_keystring or not access.app.etsy_shared_secret:
        raise NeedsOperator(ETSY_NOT_SET_UP)
    verifier = install.new_verifier()
    with access.database.transaction() as tx:
        state = attempts.begin(tx, access.vault, scope, "etsy", {"verifier": verifier}, now=datetime.now(UTC))
    return install.consent_address(
        access.app, state=state, verifier=verifier, redirect_uri=redirect_uri(access)
    ), state  # fmt: skip


def redirect_uri(access: Access) -> str:
    """Registered at Etsy letter by letter: exact, and with upper and lower case."""
    return access.public_url + CALLBACK_PATH


def finish(access: Access, scope: AccountScope, *, state: str, kept_state: str, code: str, error: str) -> int:
    """Connect the shop whose seller came back with a code; gives the store's id.

    Raises NeedsMerchant: the state is not this browser's and user's, was used, or the seller said no. Nothing is stored
    before the tokens have named their shop.
    """
    now = datetime.now(UTC)
    if not state or not hmac.compare_digest(state.encode(), kept_state.encode()):
        raise NeedsMerchant(CONNECT_STATE)
    with access.database.transaction() as tx:
        attempt = attempts.find(tx, access.vault, scope, "etsy", state, now=now)
        if attempt is None or not attempts.finish(tx, scope, attempt.id, now=now):
            raise NeedsMerchant(CONNECT_STATE)
    if error or not code:
        raise NeedsMerchant(CONNECT_DENIED, error[:60])
    trial = StoreAccess(
        shop_id="", domain="", base_url="", currency="", time_zone="UTC", credentials={}, app=access.app,
        http=access.stranger(),
    )  # fmt: skip
    tokens = install.exchange(
        trial, code=code, verifier=attempt.about["verifier"], redirect_uri=redirect_uri(access)
    )  # fmt: skip
    with_tokens = _with(trial, tokens, "")
    shop_id = install.shop_of(with_tokens)
    shop = client.shop(_with(trial, tokens, shop_id))
    return _store(access, scope, shop, tokens, now)


def _with(trial: StoreAccess, tokens: dict[str, str], shop_id: str) -> StoreAccess:
    return StoreAccess(
        shop_id=shop_id, domain="", base_url="", currency="", time_zone="UTC", credentials=tokens, app=trial.app,
        http=trial.http,
    )  # fmt: skip


def _store(access: Access, scope: AccountScope, shop: Shop, tokens: dict[str, str], now: datetime) -> int:
    """The connection's row, new or renewed, with a first catch-up asked for."""
    with access.database.transaction() as tx:
        there = tx.execute(
            text("SELECT id FROM connections WHERE platform = 'etsy' AND shop_id = :shop"), {"shop": shop.shop_id}
        ).scalar()
        if there is not None:
            # A refresh under way would otherwise write the old grant's tokens over the new ones.
            access.lock_credentials(tx, there)
        store_id = tx.execute(
            text(
                "INSERT INTO connections (account_id, platform, shop_id, key, name, domain, base_url, currency,"
                " time_zone, credentials, hook_secrets, scopes, installed_at, catch_up_wanted_at,"
                " tokens_at)"
                " VALUES (:account, 'etsy', :shop, :key, :name, :domain, '', :currency, 'UTC', :credentials,"
                " :secrets, :scopes, :now, :now, :now)"
                " ON CONFLICT (platform, shop_id) DO UPDATE SET credentials = excluded.credentials,"
                " tokens_at = excluded.tokens_at, name = excluded.name, currency = excluded.currency,"
                " scopes = excluded.scopes, state = 'connected',"
                " state_problem = NULL, state_detail = '', generation = connections.generation + 1,"
                " catch_up_wanted_at = excluded.catch_up_wanted_at, installed_at = CASE WHEN connections.state ="
                " 'disconnected' THEN excluded.installed_at ELSE connections.installed_at END"
                " WHERE connections.account_id = excluded.account_id RETURNING id"
            ),
            {
                "account": scope.account_id, "shop": shop.shop_id, "key": secrets.token_urlsafe(24),
                "name": shop.name, "domain": shop.domain, "currency": shop.currency,
                "credentials": access.vault.close(tokens), "secrets": access.vault.close([]),
                "scopes": list(install.SCOPES), "now": now,
            },
        ).scalar()  # fmt: skip
        if store_id is None:
            raise NeedsMerchant(STORE_TAKEN, shop.shop_id)
    return int(store_id)
