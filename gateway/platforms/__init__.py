"""The platforms: one folder each behind one contract (base.py)."""

from gateway.platforms import etsy, shopify, woocommerce
from gateway.platforms.base import Platform

REGISTRY: dict[str, Platform] = {
    platform.key: platform
    for platform in (
        shopify.PLATFORM,
        woocommerce.PLATFORM,
        etsy.PLATFORM,
    )
}
