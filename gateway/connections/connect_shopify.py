"""A Shopify shop becomes connected: installed from Shopify's side, granted by OAuth, then claimed by an account.

OAuth comes before any page or log-in of ours (App Store requirement 2.3.2), so the tokens wait, encrypted, until
somebody logs in or signs up in that very browser. A shop that has an account already is only reconnected.
Facts: Shopify sheet, section 4.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import structlog
from sqlalchemy import Connection as Transaction
from sqlalchemy import RowMapping, text

from gateway.connections import model
from gateway.connections.access import Access
from gateway.domain.problems import (
    CLAIM_OVER,
    CONNECT_STATE,
    PERMISSION_MISSING,
    SHOPIFY_NOT_SET_UP,
    STORE_TAKEN,
    NeedsMerchant,
    NeedsOperator,
)
from gateway.domain.scope import AccountScope
from gateway.platforms.base import Shop, StoreAccess
from gateway.platforms.shopify import client, install
from gateway.platforms.shopify.hooks import SHOP

log = structlog.get_logger("gateway.connect")

STATE_LIFETIME = timedelta(minutes=10)
CLAIM_LIFETIME = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Finished:
    """`store_id`: the shop was connected before, and is again. Else `claim` is the proof with which the browser that
    did the OAuth may claim it."""

    store_id: int | None
    claim: str


def begin(access: Access, raw_query: str) -> tuple[str, str]:
    """Where to send the merchant who opened the app at Shopify, and the state that their browser keeps meanwhile.

    Raises Refused when the query is not one that Shopify signed just now.
    """
    app = access.app
    if not app.shopify_client_id or not app.shopify_client_secret:
        raise NeedsOperator(SHOPIFY_NOT_SET_UP)
    given = install.verified_query(raw_query, _secrets(access), now=datetime.now(UTC))
    return _leave_for(access, given["shop"])


def begin_again(access: Access, domain: str) -> tuple[str, str]:
    """The same for a store that is known here, whose owner reconnects it or grants more from our own page."""
    if not access.app.shopify_client_id or not access.app.shopify_client_secret:
        raise NeedsOperator(SHOPIFY_NOT_SET_UP)
    if not SHOP.match(domain):
        raise NeedsMerchant(CONNECT_STATE, domain)
    return _leave_for(access, domain)


def _leave_for(access: Access, shop: str) -> tuple[str, str]:
    now = datetime.now(UTC)
    state = secrets.token_urlsafe(32)
    with access.database.transaction() as tx:
        tx.execute(text("DELETE FROM shopify_installs WHERE expires_at < :now"), {"now": now})
        tx.execute(
            text("INSERT INTO shopify_installs (state_hash, shop, expires_at) VALUES (:hash, :shop, :expires)"),
            {"hash": _hash(state), "shop": shop, "expires": now + STATE_LIFETIME},
        )
    return install.consent_address(access.app, shop, state=state, redirect_uri=_redirect_uri(access)), state


def finish(access: Access, raw_query: str, *, kept_state: str) -> Finished:
    """Take the code that Shopify sent the browser back with. Nothing is connected when this raises.

    The checks are in the sheet's order: state against the browser's, the signature, the shop; then the state is used
    up. Both tokens are stored before either is used.
    """
    now = datetime.now(UTC)
    state = parse_qs(raw_query).get("state", [""])[0]
    if not state or not hmac.compare_digest(state.encode(), kept_state.encode()):
        raise NeedsMerchant(CONNECT_STATE)
    given = install.verified_query(raw_query, _secrets(access), now=now)
    install_id = _use(access, state, given["shop"], now=now)
    plain = StoreAccess(
        shop_id="", domain=given["shop"], base_url="", currency="", time_zone="UTC", credentials={}, app=access.app,
        http=access.stranger(),
    )  # fmt: skip
    tokens, granted = install.exchange(plain, given.get("code", ""))
    with access.database.transaction() as tx:
        tx.execute(
            text("UPDATE shopify_installs SET tokens = :tokens, scopes = :scopes WHERE id = :id"),
            {"tokens": access.vault.close(tokens), "scopes": list(granted), "id": install_id},
        )
    if missing := install.lacking(granted):
        raise NeedsMerchant(PERMISSION_MISSING, ", ".join(missing), why=f"{', '.join(missing)} was not granted")
    shop = client.shop(replace(plain, credentials=tokens))
    with access.database.transaction() as tx:
        there = model.find_shop(tx, "shopify", shop.shop_id)
        if there is not None and there.state != "disconnected":
            _connect(tx, access, there.account_id, shop, tokens, granted)
            tx.execute(text("DELETE FROM shopify_installs WHERE id = :id"), {"id": install_id})
            log.info("store.reinstalled", connection=there.id)
            return Finished(there.id, "")
        claim = secrets.token_urlsafe(32)
        tx.execute(
            text(
                "UPDATE shopify_installs SET claim_hash = :hash, shop_id = :shop, name = :name, domain = :domain,"
                " currency = :currency, time_zone = :zone, expires_at = :expires WHERE id = :id"
            ),
            {"hash": _hash(claim), "shop": shop.shop_id, "name": shop.name, "domain": shop.domain,
             "currency": shop.currency, "zone": shop.time_zone, "expires": now + CLAIM_LIFETIME, "id": install_id},
        )  # fmt: skip
    return Finished(None, claim)


def to_claim(access: Access, claim: str) -> RowMapping | None:
    """The shop (name, domain) that this browser may claim; None when there is none (any more)."""
    with access.database.transaction() as tx:
        return tx.execute(
            text("SELECT name, domain FROM shopify_installs WHERE claim_hash = :hash AND expires_at > :now"),
            {"hash": _hash(claim), "now": datetime.now(UTC)},
        ).mappings().first()  # fmt: skip


def claim_store(access: Access, scope: AccountScope, claim: str) -> int:
    """Connect the shop that was granted in this browser to the account that is logged in here; the store's id."""
    with access.database.transaction() as tx:
        row = tx.execute(
            text("DELETE FROM shopify_installs WHERE claim_hash = :hash AND expires_at > :now RETURNING *"),
            {"hash": _hash(claim), "now": datetime.now(UTC)},
        ).mappings().first()  # fmt: skip
        if row is None:
            raise NeedsMerchant(CLAIM_OVER)
        shop = Shop(row["shop_id"], row["name"], row["domain"], row["currency"], row["time_zone"])
        tokens = access.vault.open_mapping(bytes(row["tokens"]))
        store_id = _connect(tx, access, scope.account_id, shop, tokens, tuple(row["scopes"]))
        if store_id is None:
            raise NeedsMerchant(STORE_TAKEN, shop.domain)
    log.info("store.claimed", connection=store_id, user=scope.user_id)
    return store_id


def _connect(
    tx: Transaction, access: Access, account_id: int, shop: Shop, tokens: Mapping[str, str], scopes: tuple[str, ...]
) -> int | None:
    """Insert the connection, or give it new tokens and a new generation; None when another account has the shop.

    What came for the shop before it was known is handed to it by the drain loop; a catch-up finds the rest.
    """
    there = model.find_shop(tx, "shopify", shop.shop_id)
    if there is not None:
        access.lock_credentials(tx, there.id)  # a refresh that runs just now must not put back older tokens
    store_id: int | None = tx.execute(
        text(
            "INSERT INTO connections AS c (account_id, platform, shop_id, key, name, domain, base_url, currency,"
            " time_zone, credentials, hook_secrets, scopes, watermark, installed_at, catch_up_wanted_at,"
            " audit_wanted_at, tokens_at)"
            " VALUES (:account, 'shopify', :shop, :key, :name, :domain, '', :currency, :zone, :credentials, :secrets,"
            " :scopes, NULL, :now, now(), now(), now())"
            " ON CONFLICT (platform, shop_id) DO UPDATE SET credentials = excluded.credentials,"
            " name = excluded.name, domain = excluded.domain, currency = excluded.currency,"
            " time_zone = excluded.time_zone, scopes = excluded.scopes, state = 'connected', state_problem = NULL,"
            " state_detail = '', installed_at = excluded.installed_at, generation = c.generation + 1,"
            " tokens_at = now(), catch_up_wanted_at = now(), audit_wanted_at = now(), audited_at = NULL,"
            " aliases = CASE WHEN c.domain = excluded.domain OR c.domain = ANY(c.aliases) THEN c.aliases"
            " ELSE c.aliases || c.domain END"
            " WHERE c.account_id = excluded.account_id RETURNING id"
        ),
        {
            "account": account_id, "shop": shop.shop_id, "key": secrets.token_urlsafe(24), "name": shop.name,
            "domain": shop.domain, "currency": shop.currency, "zone": shop.time_zone,
            "credentials": access.vault.close(tokens), "secrets": access.vault.close([]), "scopes": list(scopes),
            "now": datetime.now(UTC),
        },
    ).scalar()  # fmt: skip
    return store_id


def _use(access: Access, state: str, shop: str, *, now: datetime) -> int:
    """Use up the state: a second callback with it finds nothing."""
    with access.database.transaction() as tx:
        found: int | None = tx.execute(
            text(
                "UPDATE shopify_installs SET used_at = :now WHERE state_hash = :hash AND shop = :shop"
                " AND used_at IS NULL AND expires_at > :now RETURNING id"
            ),
            {"now": now, "hash": _hash(state), "shop": shop},
        ).scalar()
    if found is None:
        raise NeedsMerchant(CONNECT_STATE)
    return found


def _secrets(access: Access) -> list[str]:
    """The client secret, and the one before it while it is being rotated."""
    return [one for one in (access.app.shopify_client_secret, access.app.shopify_client_secret_previous) if one]


def _redirect_uri(access: Access) -> str:
    return access.public_url + install.CALLBACK_PATH


def _hash(value: str) -> bytes:
    return hashlib.sha256(value.encode(errors="replace")).digest()
