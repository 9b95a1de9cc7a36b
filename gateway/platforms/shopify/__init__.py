"""Shopify: one app for all shops, full payloads, GraphQL Admin API 2026-10."""

from datetime import timedelta

from gateway.platforms.base import BulkImport, Capabilities, Platform
from gateway.platforms.shopify import bulk, client, hooks, install, orders, subscriptions

PLATFORM = Platform(
    key="shopify",
    capabilities=Capabilities(
        name="Shopify",
        thin_hooks=False,
        built_at_delivery=False,
        settled_after=timedelta(seconds=2),
        retries_hooks=True,
        look_back=timedelta(days=60),
        looks_back_with="read_all_orders",
        page_size=client.PAGE_SIZE,
        calls_capacity=2000,
        calls_per_second=100,
        # By id an order of ten lines costs six times its share of a page of fifty (sheet section 5.2, model B).
        by_id_share=0.16,
        denies_parts=True,
        relist_deletes=True,
        tokens_live=timedelta(days=90),
    ),
    address=hooks.address,
    verify=hooks.verify,
    read=hooks.read,
    normalise=orders.normalise,
    list_page=client.list_page,
    list_heads=client.list_heads,
    relist=None,
    bulk=BulkImport(begin=bulk.begin, look=bulk.look, rows=bulk.rows, in_pages=bulk.in_pages),
    fetch_orders=client.fetch_orders,
    count=client.count,
    shop=client.shop,
    refresh=install.refresh,
    subscribe=subscriptions.subscribe,
    list_subscriptions=subscriptions.list_subscriptions,
    unsubscribe=subscriptions.unsubscribe,
    classify=client.classify,
    bucket=lambda connection_id, app: f"shopify:{connection_id}",
    budget=client.budget,
    deliveries_address=lambda public_url, key: f"{public_url}/webhooks/shopify",
)
