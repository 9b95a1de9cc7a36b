"""A WooCommerce shop becomes connected: by its own consent page, or by keys that the merchant pastes.

Either way the keys read an order list before anything is stored, the four webhooks stand before the store counts as
connected, and a failure at any step takes back what the step before it made.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection as Transaction
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from gateway.connections import attempts, model, subscriptions
from gateway.connections.access import PAGE_SECONDS, Access
from gateway.connections.install import hook_secret
from gateway.connections.model import Connection
from gateway.domain.problems import (
    CONNECT_INTERRUPTED,
    CONNECT_NEEDS_HTTPS,
    CONNECT_NO_KEYS,
    CONNECT_PLAIN_PERMALINKS,
    CONNECT_STATE,
    KEYS_READ_ONLY,
    STORE_TAKEN,
    TOKEN_REVOKED,
    GatewayError,
    NeedsMerchant,
    NeedsOperator,
    Refused,
    Retry,
)
from gateway.domain.scope import AccountScope
from gateway.platforms import REGISTRY
from gateway.platforms.base import StoreAccess
from gateway.platforms.woocommerce import find as sites
from gateway.platforms.woocommerce import keys
from gateway.platforms.woocommerce.client import call
from gateway.platforms.woocommerce.find import Site
from gateway.platforms.woocommerce.install import consent_address, list_subscriptions

WOOCOMMERCE = REGISTRY["woocommerce"]
RETURN_PATH = "/stores/connect/woocommerce/return"
CALLBACK_PATH = "/install/woocommerce/callback"


# --- by the shop's own consent page ------------------------------------------------------------------------------
def begin(access: Access, scope: AccountScope, typed: str) -> str:
    """Where to send the owner of the shop behind what was typed. Raises why that can't be (find.py, https)."""
    if not access.public_url.startswith("https://") and not access.allow_private:
        # capture woocommerce-pairs/18-wc-auth/6: "The callback_url needs to be over SSL".
        raise NeedsOperator(CONNECT_NEEDS_HTTPS, access.public_url, address=access.public_url)
    site = sites.find(access.stranger(), typed, allow_http=access.allow_private)
    if not access.public_url.startswith("https://") and site.home.startswith("https://"):
        raise NeedsOperator(CONNECT_NEEDS_HTTPS, access.public_url, address=access.public_url)
    if site.has_plain_permalinks:
        raise NeedsMerchant(CONNECT_PLAIN_PERMALINKS, site.home)
    with access.database.transaction() as tx:
        state = attempts.begin(
            tx, access.vault, scope, "woocommerce", dataclasses.asdict(site), now=datetime.now(UTC)
        )  # fmt: skip
    return consent_address(
        site.home, state=state, return_url=access.public_url + RETURN_PATH,
        callback_url=access.public_url + CALLBACK_PATH,
    )  # fmt: skip


def take_keys(access: Access, given: Mapping[str, Any]) -> bool:
    """Keep what a shop's server handed over, if a flow waits for it; False for anything else.

    Nothing is asked of the shop now: it waits for our answer, and one with a single PHP worker could not give its own.
    """
    state = given.get("user_id")
    if not isinstance(state, str) or not 20 <= len(state) <= 100:
        return False
    try:
        pair = keys.checked(str(given.get("consumer_key") or ""), str(given.get("consumer_secret") or ""))
    except Refused:
        return False
    with access.database.transaction() as tx:
        return attempts.hand_over(tx, access.vault, "woocommerce", state, pair, now=datetime.now(UTC))


def finish(access: Access, scope: AccountScope, state: str) -> int:
    """Connect the shop whose keys arrived, once its owner is back in the browser that began; gives the store's id.

    Raises NeedsMerchant: no such flow of this user, or its keys have not arrived (the flow stays open then).
    """
    now = datetime.now(UTC)
    with access.database.transaction() as tx:
        attempt = attempts.find(tx, access.vault, scope, "woocommerce", state, now=now)
        if attempt is None:
            raise NeedsMerchant(CONNECT_STATE)
        if attempt.keys is None:
            address = access.public_url + CALLBACK_PATH
            raise Retry(CONNECT_NO_KEYS, address, after_seconds=5, address=address)
        if not attempts.finish(tx, scope, attempt.id, now=now):
            raise NeedsMerchant(CONNECT_STATE)
    return connect(access, scope, Site(**attempt.about), attempt.keys)


def give_up(access: Access, scope: AccountScope, state: str) -> None:
    """The owner denied it: the flow is over."""
    now = datetime.now(UTC)
    with access.database.transaction() as tx:
        attempt = attempts.find(tx, access.vault, scope, "woocommerce", state, now=now)
        if attempt is not None:
            attempts.finish(tx, scope, attempt.id, now=now)


# --- by keys -----------------------------------------------------------------------------------------------------
def connect_with_keys(access: Access, scope: AccountScope, typed: str, key: str, secret: str) -> int:
    """Connect the shop behind what was typed with keys that the merchant made there; gives the store's id."""
    pair = keys.checked(key, secret)
    site = sites.find(access.stranger(), typed, allow_http=access.allow_private)
    return connect(access, scope, site, pair)


def connect(access: Access, scope: AccountScope, site: Site, pair: Mapping[str, str]) -> int:
    """Prove the keys, recognise the shop, register its webhooks; the store counts as connected when this returns.

    A shop that is connected already keeps its orders, its webhooks' address and secret, and gets the new keys.
    """
    trial = StoreAccess(
        shop_id=site.identity, domain=_host(site.home), base_url=site.api, currency="", time_zone=site.time_zone,
        credentials=pair, app=access.app, http=access.stranger(),
    )  # fmt: skip
    proof = keys.prove(trial, call)
    trial = dataclasses.replace(trial, credentials=proof.credentials)
    known = _recognise(access, scope, site, trial)
    shop = _Shop(site, proof.credentials, _currency(trial))
    with access.database.transaction() as tx:
        before = None if known is None else _row(tx, known.id)
        connection = _reserve(tx, access, scope, shop) if known is None else _renew(tx, access, known, shop)
    try:
        subscriptions.register(access, connection)
    except GatewayError as error:
        with access.database.transaction() as tx:
            _take_back(tx, connection.id, before)
        if error.problem is TOKEN_REVOKED:
            raise NeedsMerchant(KEYS_READ_ONLY, error.detail, **error.facts) from None
        raise
    with access.database.transaction() as tx:
        model.set_state(tx, connection.id, "connected")
    return connection.id


@dataclass(frozen=True, slots=True)
class _Shop:
    site: Site
    credentials: Mapping[str, str]
    currency: str


def _host(home: str) -> str:
    return home.split("://", 1)[-1]


def _currency(trial: StoreAccess) -> str:
    """The shop's currency, where the keys' user may see the settings; each order tells its own anyway."""
    try:
        answer = call(trial, "GET", "settings/general/woocommerce_currency")
        value = msgspec.json.decode(answer.body).get("value")
    except (GatewayError, msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError):
        return ""
    return value if isinstance(value, str) and len(value) == 3 else ""


# --- the same shop twice -----------------------------------------------------------------------------------------
def _recognise(access: Access, scope: AccountScope, site: Site, trial: StoreAccess) -> Connection | None:
    """The connection that this shop has already: under this address in any spelling, or moved here from another.

    Raises NeedsMerchant when it is another account's.
    """
    with access.database.transaction() as tx:
        rows = tx.execute(
            text("SELECT * FROM connections WHERE platform = 'woocommerce' AND (shop_id = :identity"
                 " OR base_url ILIKE '%' || :host || '%') ORDER BY id"),
            {"identity": site.identity, "host": _like(site.identity.partition("/")[0])},
        ).mappings().all()  # fmt: skip
    same = [
        Connection.of(row)
        for row in rows
        if row["shop_id"] == site.identity or (row["base_url"] and _identity_of(row["base_url"]) == site.identity)
    ]
    if any(connection.account_id != scope.account_id for connection in same):
        raise NeedsMerchant(STORE_TAKEN, site.identity)
    return same[0] if same else _moved(access, scope, trial)


def _like(text_: str) -> str:
    return text_.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _identity_of(base_url: str) -> str:
    return sites.identity(base_url.split("?", 1)[0])


def _moved(access: Access, scope: AccountScope, trial: StoreAccess) -> Connection | None:
    """A shop that moved has brought its webhooks along, and their address holds one of our keys.

    So has a copy of a shop (staging); it is one when the shop still answers at its old address, and is a shop of its
    own then.
    """
    given = {row.address.rstrip("/").rsplit("/", 1)[-1] for row in list_subscriptions(trial)}
    with access.database.transaction() as tx:
        rows = tx.execute(
            text("SELECT * FROM connections WHERE platform = 'woocommerce' AND account_id = :account"
                 " AND key = ANY(:keys) ORDER BY id"),
            {"account": scope.account_id, "keys": sorted(given)},
        ).mappings().all()  # fmt: skip
    for row in rows:
        connection = Connection.of(row)
        try:
            WOOCOMMERCE.shop(access.store(connection, read_seconds=PAGE_SECONDS))
        except GatewayError:
            return connection
    return None


# --- rows --------------------------------------------------------------------------------------------------------
def _reserve(tx: Transaction, access: Access, scope: AccountScope, shop: _Shop) -> Connection:
    """A row that pings find while webhooks are registered, and that counts as disconnected until they are."""
    row = tx.execute(
        text(
            "INSERT INTO connections (account_id, platform, shop_id, key, name, domain, base_url, currency, time_zone,"
            " credentials, hook_secrets, state, state_problem, installed_at)"
            " VALUES (:account, 'woocommerce', :shop, :key, :name, :domain, :base_url, :currency, :zone, :credentials,"
            " :secrets, 'disconnected', :problem, :now) ON CONFLICT (platform, shop_id) DO NOTHING RETURNING *"
        ),
        {
            "account": scope.account_id, "shop": shop.site.identity, "key": secrets.token_urlsafe(24),
            "name": shop.site.name, "domain": _host(shop.site.home), "base_url": shop.site.api,
            "currency": shop.currency, "zone": shop.site.time_zone,
            "credentials": access.vault.close(shop.credentials), "secrets": access.vault.close([hook_secret()]),
            "problem": CONNECT_INTERRUPTED.code, "now": datetime.now(UTC),
        },
    ).mappings().first()  # fmt: skip
    if row is None:
        # Somebody else connects the same shop at this very moment.
        raise NeedsMerchant(STORE_TAKEN, shop.site.identity)
    return Connection.of(row)


def _renew(tx: Transaction, access: Access, known: Connection, shop: _Shop) -> Connection:
    """New keys and the address of now for a shop that we know; its orders, webhook address and secret stay."""
    row = tx.execute(
        text(
            "UPDATE connections SET shop_id = CASE WHEN :moved THEN :shop ELSE shop_id END, name = :name,"
            " aliases = CASE WHEN domain = :domain THEN aliases ELSE array_append(array_remove(aliases, :domain),"
            " domain) END, domain = :domain, base_url = :base_url, time_zone = :zone,"
            " hook_secrets = CASE WHEN state = 'disconnected' THEN :secrets ELSE hook_secrets END,"
            " currency = coalesce(nullif(:currency, ''), currency), credentials = :credentials,"
            " generation = generation + 1, installed_at = CASE WHEN state = 'disconnected' THEN :now"
            " ELSE installed_at END WHERE id = :id RETURNING *"
        ),
        {
            "id": known.id, "shop": shop.site.identity, "moved": _identity_of(known.base_url) != shop.site.identity,
            "name": shop.site.name, "domain": _host(shop.site.home), "base_url": shop.site.api,
            "zone": shop.site.time_zone, "currency": shop.currency,
            "secrets": access.vault.close([hook_secret()]),
            "credentials": access.vault.close(shop.credentials), "now": datetime.now(UTC),
        },
    ).mappings().one()  # fmt: skip
    return Connection.of(row)


_RESTORED = ("shop_id", "name", "aliases", "domain", "base_url", "time_zone", "currency", "credentials", "generation",
             "installed_at", "hook_secrets")  # fmt: skip


def _row(tx: Transaction, connection_id: int) -> dict[str, Any]:
    row = tx.execute(text("SELECT * FROM connections WHERE id = :id"), {"id": connection_id}).mappings().one()
    return {name: row[name] for name in _RESTORED}


def _take_back(tx: Transaction, connection_id: int, before: Mapping[str, Any] | None) -> None:
    """Leave things as they were before the attempt."""
    if before is None:
        savepoint = tx.begin_nested()
        try:
            tx.execute(
                text("DELETE FROM connections WHERE id = :id AND state_problem = :problem"),
                {"id": connection_id, "problem": CONNECT_INTERRUPTED.code},
            )
        except IntegrityError:
            # A webhook of an order came within that second: it stays, with its store as one that was interrupted.
            savepoint.rollback()
        else:
            savepoint.commit()
        return
    assigned = ", ".join(f"{name} = :{name}" for name in _RESTORED)
    tx.execute(
        text(f"UPDATE connections SET {assigned} WHERE id = :id"),  # noqa: S608 - names of ours only
        {**before, "id": connection_id},
    )
