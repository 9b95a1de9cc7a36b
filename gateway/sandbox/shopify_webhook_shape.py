"""An order as Shopify's webhooks carry it: REST-style JSON with shop-local times and two-decimal strings.

Keys: shopify/samples/webhook_orders_sample_820982911946154508.json (93 keys); refunds and fulfilments:
shopify/samples/rest_order_450789469_2026-07.json. Without access to protected customer data the person's fields are
null (sheet section 5: "webhook fields arrive null/redacted").
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from gateway.sandbox import shopify_facts as facts
from gateway.sandbox.orders import Address, Line, Order, Refund, Shipment, digits, totals

if TYPE_CHECKING:
    from gateway.sandbox.shopify import ShopifyStore


def order_json(store: ShopifyStore, order: Order) -> dict[str, Any]:
    """The whole order."""
    placed, current = totals(order, "placed"), totals(order, "current")
    times = {
        name: _time(store, second)
        for name, second in (
            ("cancelled_at", order.cancelled), ("closed_at", order.closed), ("created_at", order.created),
            ("processed_at", order.created), ("updated_at", order.updated),
        )
    }  # fmt: skip
    sums = {
        "current_subtotal_price": current.subtotal, "current_total_discounts": current.discounts,
        "current_total_price": current.total, "current_total_tax": current.tax,
        "subtotal_price": placed.subtotal, "total_discounts": placed.discounts,
        "total_line_items_price": placed.subtotal + placed.discounts, "total_price": placed.total,
        "total_tax": placed.tax,
    }  # fmt: skip
    person = store.protected_data >= 2
    shape: dict[str, Any] = {
        "id": order.id,
        "admin_graphql_api_id": facts.gid("Order", order.id),
        "app_id": 580111,
        "browser_ip": None,
        "buyer_accepts_marketing": False,
        "cancel_reason": order.cancel_reason or None,
        "cart_token": None,
        "checkout_token": None,
        "client_details": None,
        "confirmation_number": order.key[:9].upper(),
        "confirmed": True,
        "contact_email": (order.email or None) if person else None,
        "currency": order.currency,
        "customer_locale": order.locale,
        "device_id": None,
        "discount_codes": _discount_codes(order, placed.discounts),
        "duties_included": False,
        # Sheet section 3: "" is observed for e-mail as well as null.
        "email": order.email if person else None,
        "estimated_taxes": False,
        "financial_status": facts.financial_status(order),
        "fulfillment_status": facts.fulfillment_status(order),
        "landing_site": None,
        "landing_site_ref": None,
        "location_id": None,
        "merchant_business_entity_id": "MTU0ODM4MDAwOQ",
        "merchant_of_record_app_id": None,
        "name": facts.order_name(order),
        "note": order.note or None,
        "note_attributes": [{"name": name, "value": value} for name, value in order.attributes],
        "number": order.number - 1000,
        "order_number": order.number,
        "order_status_url": f"https://{store.key}/{store.shop_id}/orders/{order.key}/authenticate?key={order.key}",
        "payment_gateway_names": [order.gateway] if order.paid else [],
        "phone": (order.phone or None) if person else None,
        "po_number": None,
        "presentment_currency": order.presentment_currency or order.currency,
        "reference": None,
        "referring_site": None,
        "source_identifier": None,
        "source_name": order.source,
        "source_url": None,
        "tags": ", ".join(facts.tags(order)),
        "tax_exempt": False,
        "tax_lines": _tax_lines(order, placed.tax),
        "taxes_included": order.taxes_included,
        "test": order.test,
        "token": order.key,
        "total_outstanding": _amount(order, facts.outstanding(order)),
        "total_tip_received": _amount(order, 0),
        "total_weight": sum(350 * line.quantity for line in order.lines),
        "user_id": None,
        "billing_address": _address(order.billing) if person else None,
        "customer": _customer(store, order),
        "discount_applications": _discount_applications(order),
        "fulfillments": [_fulfillment(store, order, each, index) for index, each in enumerate(order.shipments, 1)],
        "line_items": [_line(order, line) for line in order.lines],
        "payment_terms": None,
        "refunds": [_refund(store, order, refund) for refund in order.refunds],
        "returns": [],
        "shipping_address": _address(order.shipping) if person else None,
        "shipping_lines": _shipping_lines(order),
        "current_shipping_price_set": _set(order, current.shipping),
        "total_shipping_price_set": _set(order, placed.shipping),
        "current_total_additional_fees_set": None,
        "current_total_duties_set": None,
        "original_total_additional_fees_set": None,
        "original_total_duties_set": None,
        "total_cash_rounding_payment_adjustment_set": _set(order, 0),
        "total_cash_rounding_refund_adjustment_set": _set(order, 0),
    }
    shape.update(times)
    for name, minor in sums.items():
        shape[name] = _amount(order, minor)
        shape[f"{name}_set"] = _set(order, minor)
    head = ("id", "admin_graphql_api_id")
    return {name: shape[name] for name in (*head, *sorted(shape.keys() - set(head)))}


def shop_json(store: ShopifyStore) -> dict[str, Any]:
    """The shop object of app/uninstalled, as far as anybody reads it."""
    return {
        "id": store.shop_id, "name": store.name, "email": "owner@customer.example", "domain": store.key,
        "myshopify_domain": store.key, "currency": store.currency, "iana_timezone": store.time_zone,
    }  # fmt: skip


def _time(store: ShopifyStore, second: int | None) -> str | None:
    return None if second is None else store.local(second).isoformat()


def _text(amount: Decimal, currency: str) -> str:
    return str(amount.quantize(Decimal(1).scaleb(-digits(currency))))


def _amount(order: Order, minor: int) -> str:
    return _text(facts.in_both_currencies(order, minor)[0], order.currency)


def _set(order: Order, minor: int) -> dict[str, Any]:
    shop, shop_currency, seen, seen_in = facts.in_both_currencies(order, minor)
    return {
        "shop_money": {"amount": _text(shop, shop_currency), "currency_code": shop_currency},
        "presentment_money": {"amount": _text(seen, seen_in), "currency_code": seen_in},
    }


def _address(address: Address) -> dict[str, Any] | None:
    if not address.full_name and not address.address_1:
        return None
    return {
        "first_name": address.first_name,
        "address1": address.address_1,
        "phone": address.phone or None,
        "city": address.city,
        "zip": address.postcode,
        "province": address.province or None,
        "country": address.country,
        "last_name": address.last_name,
        "address2": address.address_2,  # "" here, null in GraphQL
        "company": address.company or None,
        "latitude": None,
        "longitude": None,
        "name": address.full_name,
        "country_code": address.country_code,
        "province_code": address.province_code or None,
    }


def _customer(store: ShopifyStore, order: Order) -> dict[str, Any] | None:
    if not order.customer_id or store.protected_data < 1:
        return None
    person = store.protected_data >= 2
    return {
        "id": order.customer_id,
        "email": (order.email or None) if person else None,
        "created_at": _time(store, store.customer_since(order)),
        "updated_at": _time(store, store.customer_since(order)),
        "first_name": order.billing.first_name if person else None,
        "last_name": order.billing.last_name if person else None,
        "state": "disabled",
        "note": None,
        "verified_email": True,
        "multipass_identifier": None,
        "tax_exempt": False,
        "phone": None,
        "currency": order.currency,
        "tax_exemptions": [],
        "admin_graphql_api_id": facts.gid("Customer", order.customer_id),
    }


def _tax_lines(order: Order, tax: int) -> list[dict[str, Any]]:
    if not Decimal(order.tax_percent):
        return []
    return [
        {
            "price": _amount(order, tax), "rate": float(Decimal(order.tax_percent) / 100), "title": order.tax_title,
            "price_set": _set(order, tax), "channel_liable": False,
        }
    ]  # fmt: skip


def _discount_codes(order: Order, discounts: int) -> list[dict[str, Any]]:
    return [{"code": order.coupon, "amount": _amount(order, discounts), "type": "percentage"}] if order.coupon else []


def _discount_applications(order: Order) -> list[dict[str, Any]]:
    if not order.coupon:
        return []
    return [
        {
            "target_type": "line_item", "type": "discount_code", "value": f"{order.coupon_percent}.0",
            "value_type": "percentage", "allocation_method": "across", "target_selection": "all", "code": order.coupon,
        }
    ]  # fmt: skip


def _line_status(line: Line) -> str | None:
    if not line.shipped:
        return None
    return "fulfilled" if line.shipped >= line.current else "partial"


def _line(order: Order, line: Line) -> dict[str, Any]:
    name = f"{line.title} - {line.variant_title}" if line.variant_title else line.title
    allocations = []
    if line.discount:
        amount, both = _amount(order, line.discount), _set(order, line.discount)
        allocations = [{"amount": amount, "amount_set": both, "discount_application_index": 0}]
    return {
        "id": line.id,
        "admin_graphql_api_id": facts.gid("LineItem", line.id),
        "attributed_staffs": [],
        "current_quantity": line.current,
        "fulfillable_quantity": max(line.current - line.shipped, 0),
        "fulfillment_service": "manual",
        "fulfillment_status": _line_status(line),
        "gift_card": False,
        "grams": 350,
        "name": name,
        "price": _amount(order, line.unit),
        "price_set": _set(order, line.unit),
        "product_exists": True,
        "product_id": line.product_id,
        "properties": [{"name": key, "value": value} for key, value in line.properties],
        "quantity": line.quantity,
        "requires_shipping": True,
        "sales_line_item_group_id": None,
        "selling_plan_id": None,
        "sku": line.sku,
        "taxable": True,
        "title": line.title,
        # Discounts by code are allocations; total_discount counts what was set on the line itself.
        "total_discount": _amount(order, 0),
        "total_discount_set": _set(order, 0),
        "variant_id": line.variant_id,
        "variant_inventory_management": "shopify",
        "variant_title": line.variant_title or None,
        "vendor": "Fern & Clay",
        "tax_lines": _tax_lines(order, order.tax_on(line.net(line.quantity))),
        "duties": [],
        "discount_allocations": allocations,
    }


def _shipping_lines(order: Order) -> list[dict[str, Any]]:
    """Removed lines stay, with is_removed (sheet section 3)."""
    if not order.shipping_title:
        return []
    price = order.shipping_price
    now = 0 if order.shipping_removed else price
    return [
        {
            "id": order.shipping_line_id, "carrier_identifier": None, "code": order.shipping_title,
            "current_discounted_price_set": _set(order, now), "discounted_price": _amount(order, price),
            "discounted_price_set": _set(order, price), "is_removed": order.shipping_removed, "phone": None,
            "price": _amount(order, price), "price_set": _set(order, price),
            "requested_fulfillment_service_id": None, "source": "shopify", "title": order.shipping_title,
            "tax_lines": _tax_lines(order, order.tax_on(price)), "discount_allocations": [],
        }
    ]  # fmt: skip


def _fulfillment(store: ShopifyStore, order: Order, shipment: Shipment, index: int) -> dict[str, Any]:
    items = []
    for line_id, quantity in shipment.pieces:
        items.append({**_line(order, order.line(line_id)), "quantity": quantity})
    return {
        "id": shipment.id,
        "admin_graphql_api_id": facts.gid("Fulfillment", shipment.id),
        "created_at": _time(store, shipment.created),
        "location_id": 655441491,
        "name": f"{facts.order_name(order)}.{index}",
        "order_id": order.id,
        "origin_address": {},
        "receipt": {},
        "service": "manual",
        "shipment_status": None,
        "status": "success",
        "tracking_company": shipment.carrier,
        "tracking_number": shipment.tracking,
        "tracking_numbers": [shipment.tracking],
        "tracking_url": shipment.url,
        "tracking_urls": [shipment.url],
        "updated_at": _time(store, shipment.created),
        "line_items": items,
    }


def _refund(store: ShopifyStore, order: Order, refund: Refund) -> dict[str, Any]:
    at = _time(store, refund.created)
    pieces = []
    for line_id, quantity, amount, refund_line in refund.pieces:
        tax = order.tax_on(amount)
        pieces.append(
            {
                "id": refund_line, "line_item_id": line_id, "location_id": 487838322, "quantity": quantity,
                "restock_type": "return", "subtotal": float(_amount(order, amount)),
                "subtotal_set": _set(order, amount), "total_tax": float(_amount(order, tax)),
                "total_tax_set": _set(order, tax), "line_item": _line(order, order.line(line_id)),
            }
        )  # fmt: skip
    return {
        "id": refund.id,
        "admin_graphql_api_id": facts.gid("Refund", refund.id),
        "created_at": at,
        "note": refund.reason,
        "order_id": order.id,
        "processed_at": at,
        "restock": bool(refund.pieces),
        "total_additional_fees_set": _set(order, 0),
        "total_duties_set": _set(order, 0),
        "user_id": 548380009,
        "order_adjustments": [],
        "transactions": [
            {
                "id": refund.transaction_id,
                "admin_graphql_api_id": facts.gid("OrderTransaction", refund.transaction_id),
                "amount": _amount(order, refund.amount),
                "created_at": at,
                "currency": order.currency,
                "gateway": order.gateway,
                "kind": "refund",
                "order_id": order.id,
                "status": "success",
                "test": order.test,
            }
        ],
        "refund_line_items": pieces,
        "duties": [],
        "additional_fees": [],
    }
