"""WooCommerce: any shop, its own URL, full payloads, no retries."""

from datetime import timedelta

from gateway.platforms.base import Capabilities, Platform
from gateway.platforms.woocommerce import client, hooks, install, orders

PLATFORM = Platform(
    key="woocommerce",
    capabilities=Capabilities(
        name="WooCommerce",
        thin_hooks=False,
        built_at_delivery=True,
        # Its Date may be a proxy's clock.
        settled_after=timedelta(seconds=60),
        retries_hooks=False,
        look_back=None,
        page_size=client.PAGE_SIZE,
        calls_capacity=0,
        calls_per_second=0,
        by_id_share=1.0,
        denies_parts=False,
        relist_deletes=True,
    ),
    address=hooks.address,
    verify=hooks.verify,
    read=hooks.read,
    normalise=orders.normalise,
    list_page=client.list_page,
    list_heads=client.list_heads,
    relist=None,
    bulk=None,
    fetch_orders=client.fetch_orders,
    count=client.count,
    shop=client.shop,
    refresh=install.refresh,
    subscribe=install.subscribe,
    list_subscriptions=install.list_subscriptions,
    unsubscribe=install.unsubscribe,
    classify=client.classify,
    bucket=lambda connection_id, app: f"woocommerce:{connection_id}",
    budget=lambda answer: None,
    deliveries_address=lambda public_url, key: f"{public_url}/webhooks/woocommerce/{key}",
)
