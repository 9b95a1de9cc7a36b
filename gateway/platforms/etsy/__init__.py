"""Etsy: one app for all shops, thin notices of four events, receipts by Open API v3."""

from datetime import timedelta

from gateway.platforms.base import Capabilities, Platform
from gateway.platforms.etsy import client, hooks, install, orders

PLATFORM = Platform(
    key="etsy",
    capabilities=Capabilities(
        name="Etsy",
        thin_hooks=True,
        built_at_delivery=False,
        settled_after=timedelta(seconds=2),
        retries_hooks=True,
        look_back=None,
        page_size=client.PAGE_SIZE,
        calls_capacity=10,
        calls_per_second=7,
        by_id_share=1.0,
        denies_parts=False,
        relist_deletes=False,
        # Sheet section 4: the older default, believed until the headers name another.
        calls_per_day=10_000,
        # Sheet section 6: refunds may move no time, and what is shown is at most 24 hours old.
        deep_every=timedelta(days=1),
        # API Terms of Use, updated 2025-06-16: all but listings at most 24 hours older than at Etsy when displayed.
        shown_for=timedelta(hours=24),
        # The same: on termination the data may not be used any more.
        tokens_live=timedelta(days=90),
        purged_on_disconnect=True,
    ),
    address=hooks.address,
    verify=hooks.verify,
    read=hooks.read,
    normalise=orders.normalise,
    list_page=client.list_page,
    list_heads=None,
    relist=client.relist,
    bulk=None,
    fetch_orders=client.fetch_orders,
    count=client.count,
    shop=client.shop,
    refresh=install.refresh,
    subscribe=install.subscribe,
    list_subscriptions=install.list_subscriptions,
    unsubscribe=install.unsubscribe,
    classify=client.classify,
    bucket=lambda connection_id, app: f"etsy:{app.etsy_keystring}",
    budget=client.budget,
    deliveries_address=lambda public_url, key: f"{public_url}/webhooks/etsy",
)
