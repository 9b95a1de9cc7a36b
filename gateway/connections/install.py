"""A store becomes connected: its keys are proven by a call first, and nothing half-connected remains."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from gateway.connections import model, subscriptions
from gateway.connections.access import Access
from gateway.connections.model import Connection
from gateway.platforms import REGISTRY

_ALPHANUMERIC = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class NewStore:
    """What is known of a store before it is asked: where it answers, and the keys it gave us."""

    platform: str
    shop_id: str
    name: str
    domain: str
    base_url: str
    currency: str
    time_zone: str
    credentials: Mapping[str, str]
    scopes: tuple[str, ...] = ()


def hook_secret() -> str:
    """50 letters and digits: WooCommerce decodes HTML entities in a secret before it signs (sheet fact 1)."""
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(50))


def add_store(access: Access, account_id: int, new: NewStore) -> int:
    """Connect a store and return its id; one that is connected already keeps the tokens it has.

    Raises what the platform's answer means (NeedsMerchant, Retry, Refused); nothing is stored then.
    """
    platform = REGISTRY[new.platform]
    with access.database.transaction() as tx:
        there = tx.execute(
            text("SELECT id FROM connections WHERE platform = :platform AND shop_id = :shop AND account_id = :account"
                 " AND state <> 'disconnected'"),
            {"platform": new.platform, "shop": new.shop_id, "account": account_id},
        ).scalar()  # fmt: skip
    if there is not None:
        return int(there)
    trial = _unsaved(access, account_id, new)
    shop = platform.shop(access.store(trial))
    now = datetime.now(UTC)
    with access.database.transaction() as tx:
        connection_id = tx.execute(
            text(
                "INSERT INTO connections (account_id, platform, shop_id, key, name, domain, base_url, currency,"
                " time_zone, credentials, hook_secrets, scopes, watermark, installed_at)"
                " VALUES (:account, :platform, :shop, :key, :name, :domain, :base_url, :currency, :zone,"
                " :credentials, :secrets, :scopes, NULL, :now)"
                " ON CONFLICT (platform, shop_id) DO UPDATE SET credentials = excluded.credentials,"
                " state = 'connected', state_problem = NULL, state_detail = '', installed_at = excluded.installed_at,"
                " generation = connections.generation + 1"
                " WHERE connections.account_id = excluded.account_id RETURNING id"
            ),
            {
                "account": account_id, "platform": new.platform, "shop": new.shop_id, "key": trial.key,
                "name": shop.name or new.name, "domain": new.domain, "base_url": new.base_url,
                "currency": shop.currency or new.currency, "zone": shop.time_zone or new.time_zone,
                "credentials": trial.credentials, "secrets": trial.hook_secrets, "scopes": list(new.scopes),
                "now": now,
            },
        ).scalar_one()  # fmt: skip
    return int(connection_id)


def _unsaved(access: Access, account_id: int, new: NewStore) -> Connection:
    own_secret = [hook_secret()] if new.platform == "woocommerce" else []
    credentials = dict(new.credentials)
    if lifetime := credentials.pop("expires_in", None):
        credentials["expires_at"] = (datetime.now(UTC) + timedelta(seconds=float(lifetime))).isoformat()
    return Connection(
        id=0, account_id=account_id, platform=new.platform, shop_id=new.shop_id,
        key=secrets.token_urlsafe(24), name=new.name, domain=new.domain, base_url=new.base_url,
        currency=new.currency, time_zone=new.time_zone, generation=1, state="connected",
        granted_parts=("core", "person"), skew=timedelta(0), watermark=None, watermark_skew=timedelta(0),
        installed_at=datetime.now(UTC),
        credentials=access.vault.close(credentials), hook_secrets=access.vault.close(own_secret),
    )  # fmt: skip


def subscribe(access: Access, connection_id: int) -> int:
    """Register our webhooks at the platform, or mend them; how many there are. Some platforms need none (0)."""
    with access.database.transaction() as tx:
        connection = model.get(tx, connection_id)
    assert connection is not None
    return len(subscriptions.register(access, connection))
