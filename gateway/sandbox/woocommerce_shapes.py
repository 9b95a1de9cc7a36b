"""An order as WooCommerce shows it: one shape for REST and webhooks, key for key as captured.

Shape: captures woocommerce-pairs 01, 03, 04, 06, 09, 10 (WooCommerce 11.0.1, 2026-11-24). The webhook's body and the
REST answer of one state are the same bytes (64 of 68 pairs), so both come from here.
"""

from __future__ import annotations

import html
import json
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from gateway.sandbox.orders import Address, Line, Order, Refund, decimal_amount, totals

if TYPE_CHECKING:
    from gateway.sandbox.woocommerce import Webhook, WooStore

SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "KWD": "د.ك", "NOK": "kr"}
INVALID_ID: dict[str, Any] = {
    "code": "woocommerce_rest_shop_order_invalid_id",
    "message": "Invalid ID.",
    "data": {"status": 404},
}
LIGHT_FIELDS = frozenset(
    {
        "id",
        "status",
        "number",
        "currency",
        "total",
        "date_created",
        "date_created_gmt",
        "date_modified",
        "date_modified_gmt",
    }
)


def encode(value: Any) -> bytes:
    """JSON as PHP writes it: ASCII, no spaces, slashes escaped."""
    return json.dumps(value, separators=(",", ":")).replace("/", "\\/").encode("ascii")


def light(store: WooStore, order: Order) -> dict[str, Any]:
    """The few fields that a list of heads asks for, without making the rest."""
    return {
        "id": order.id,
        "status": order.status,
        "currency": order.currency,
        "date_created": local_time(store, order.created),
        "date_modified": local_time(store, order.updated),
        "total": _amount(store, order, totals(order, "ordered").total),
        "number": str(order.id),
        "date_created_gmt": gmt_time(store, order.created),
        "date_modified_gmt": gmt_time(store, order.updated),
    }


def order_json(store: WooStore, order: Order) -> dict[str, Any]:
    """The whole order, keys in WooCommerce's order."""
    sums = totals(order, "ordered")
    live = [line for line in order.lines if line.ordered > 0]

    def money(minor: int) -> str:
        return _amount(store, order, minor)

    discount = sum(line.unit * line.ordered - line.net(line.ordered) for line in live)
    rate = Decimal(order.tax_percent)
    return {
        "id": order.id,
        "parent_id": 0,
        "status": order.status,
        "currency": order.currency,
        "version": "11.0.1",
        "prices_include_tax": False,
        "date_created": local_time(store, order.created),
        "date_modified": local_time(store, order.updated),
        "discount_total": money(discount),
        "discount_tax": money(order.tax_on(discount)),
        "shipping_total": money(sums.shipping),
        "shipping_tax": money(sums.shipping_tax),
        "cart_tax": money(sums.item_tax),
        "total": money(sums.total),
        "total_tax": money(sums.tax),
        "customer_id": order.customer_id or 0,
        "order_key": f"wc_order_{order.key}",
        "billing": {**_address(order.billing), "email": order.email, "phone": order.billing.phone},
        "shipping": {**_address(order.shipping), "phone": order.shipping.phone},
        "payment_method": order.gateway,
        "payment_method_title": order.gateway_title,
        "transaction_id": f"txn_{order.key}" if order.paid else "",
        "customer_ip_address": "",
        "customer_user_agent": "",
        "created_via": "checkout" if order.source == "web" else "pos-rest-api",
        "customer_note": order.note,
        "date_completed": local_time(store, order.completed),
        "date_paid": local_time(store, order.paid),
        "cart_hash": "",
        "number": str(order.id),
        "meta_data": [
            {"id": order.id * 10 + index, "key": key, "value": value}
            for index, (key, value) in enumerate(order.attributes)
        ],
        "line_items": [_line(store, order, line) for line in live],
        "tax_lines": _tax_lines(order, rate, money(sums.item_tax), money(sums.shipping_tax)),
        "shipping_lines": _shipping_lines(order, rate, money(sums.shipping), money(sums.shipping_tax)),
        "fee_lines": _fee_lines(order, rate, money(order.fee), money(order.tax_on(order.fee))),
        "coupon_lines": _coupon_lines(order, money(discount), money(order.tax_on(discount))),
        "refunds": [
            {"id": refund.id, "reason": refund.reason, "total": money(-refund.amount), "total_tax": money(0)}
            for refund in reversed(order.refunds)
        ],
        "payment_url": f"{store.url}/checkout/order-pay/{order.id}/?pay_for_order=true&key=wc_order_{order.key}",
        "is_editable": order.status in ("pending", "on-hold", "auto-draft"),
        "needs_payment": order.status in ("pending", "failed") and sums.total > 0,
        "needs_processing": bool(live),
        "date_created_gmt": gmt_time(store, order.created),
        "date_modified_gmt": gmt_time(store, order.updated),
        "date_completed_gmt": gmt_time(store, order.completed),
        "date_paid_gmt": gmt_time(store, order.paid),
        "currency_symbol": SYMBOLS.get(order.currency, order.currency),
        "_links": {
            "self": [_link(f"{store.api}/orders/{order.id}", "GET POST PUT PATCH DELETE")],
            "collection": [{"href": f"{store.api}/orders"}],
            "email_templates": [{"embeddable": True, "href": f"{store.api}/orders/{order.id}/actions/email_templates"}],
        },
    }


def refund_json(store: WooStore, order: Order, refund: Refund) -> dict[str, Any]:
    """One element of orders/{id}/refunds, as in capture pairs 03."""

    def money(minor: int) -> str:
        return _amount(store, order, minor)

    lines = []
    for line_id, quantity, amount, refund_line in refund.pieces:
        line = order.line(line_id)
        meta = {"id": refund_line * 10, "key": "_refunded_item_id", "value": str(line_id)}
        lines.append(
            {
                "id": refund_line, "name": _name(line), "product_id": line.product_id,
                "variation_id": line.variant_id, "quantity": -quantity, "tax_class": "",
                "subtotal": money(-amount), "subtotal_tax": money(0), "total": money(-amount),
                "total_tax": money(0), "taxes": [],
                "meta_data": [{**meta, "display_key": meta["key"], "display_value": meta["value"]}],
                "sku": line.sku, "global_unique_id": "", "price": _price(order, amount, quantity),
                "image": {"id": "", "src": ""}, "parent_name": _parent(line),
            }
        )  # fmt: skip
    at = f"{store.api}/orders/{order.id}"
    kind = "partial" if refund.pieces else "full"
    return {
        "id": refund.id,
        "date_created": local_time(store, refund.created),
        "date_created_gmt": gmt_time(store, refund.created),
        "amount": money(refund.amount),
        "reason": refund.reason,
        "refunded_by": 1,
        "refunded_payment": False,
        "meta_data": [{"id": refund.id * 10, "key": "_refund_type", "value": kind}],
        "line_items": lines,
        "shipping_lines": [],
        "tax_lines": [],
        "fee_lines": [],
        "_links": {
            "self": [_link(f"{at}/refunds/{refund.id}", "GET DELETE")],
            "collection": [{"href": f"{at}/refunds"}],
            "up": [{"href": at}],
        },
    }


def webhook_json(store: WooStore, hook: Webhook, *, just_made: bool = False) -> dict[str, Any]:
    """A subscription; the secret is never shown (WooCommerce sheet fact 11), date_modified is null in the 201."""
    modified = None if just_made else hook.modified
    return {
        "id": hook.id,
        "name": hook.name,
        "status": hook.status,
        "topic": hook.topic,
        "resource": hook.topic.partition(".")[0],
        "event": hook.topic.partition(".")[2],
        "hooks": {
            "order.created": ["woocommerce_new_order"],
            "order.updated": ["woocommerce_update_order", "woocommerce_order_refunded"],
            "order.deleted": ["wp_trash_post", "woocommerce_trash_order"],
            "order.restored": ["untrashed_post", "woocommerce_untrash_order"],
        }.get(hook.topic, []),
        "delivery_url": hook.delivery_url,
        "date_created": local_time(store, hook.created),
        "date_created_gmt": gmt_time(store, hook.created),
        "date_modified": local_time(store, modified),
        "date_modified_gmt": gmt_time(store, modified),
        "_links": {
            "self": [_link(f"{store.api}/webhooks/{hook.id}", "GET POST PUT PATCH DELETE")],
            "collection": [{"href": f"{store.api}/webhooks"}],
        },
    }


def local_time(store: WooStore, second: int | None) -> str | None:
    """Naive, in the store's time zone."""
    return None if second is None else store.local(second).strftime("%Y-%m-%dT%H:%M:%S")


def gmt_time(store: WooStore, second: int | None) -> str | None:
    """Naive, in UTC."""
    return None if second is None else store.utc(second).strftime("%Y-%m-%dT%H:%M:%S")


def _amount(store: WooStore, order: Order, minor: int) -> str:
    # capture pairs 07: decimals follow the store's setting, not the currency.
    step = Decimal(1).scaleb(-store.decimals)
    return str(decimal_amount(minor, order.currency).quantize(step, rounding=ROUND_HALF_UP) + 0)


def _price(order: Order, net: int, quantity: int) -> float | int:
    """A PHP float: 3.3333333333333335 for 3 pieces of 10.00, and 600 without a point (captures 07, 08)."""
    price = float(decimal_amount(net, order.currency)) / max(quantity, 1)
    return int(price) if price == int(price) else price


def _percent(rate: Decimal) -> float | int:
    return int(rate) if rate == int(rate) else float(rate)


def _link(href: str, methods: str) -> dict[str, Any]:
    return {"href": href, "targetHints": {"allow": methods.split()}}


def _address(address: Address) -> dict[str, str]:
    return {
        "first_name": address.first_name,
        "last_name": address.last_name,
        "company": address.company,
        "address_1": address.address_1,
        "address_2": address.address_2,
        "city": address.city,
        "state": address.province_code,
        "postcode": address.postcode,
        "country": address.country_code,
    }


def _name(line: Line) -> str:
    return f"{line.title} - {line.variant_title}" if line.variant_title else line.title


def _parent(line: Line) -> str | None:
    return line.title if line.variant_title else None


def _taxes(order: Order, total: str, subtotal: str) -> list[dict[str, Any]]:
    return [{"id": 1, "total": total, "subtotal": subtotal}] if Decimal(order.tax_percent) else []


def _line(store: WooStore, order: Order, line: Line) -> dict[str, Any]:
    quantity, net, gross = line.ordered, line.net(line.ordered), line.unit * line.ordered
    tax, full_tax = (_amount(store, order, order.tax_on(each)) for each in (net, gross))
    return {
        "id": line.id,
        "name": _name(line),
        "product_id": line.product_id,
        "variation_id": line.variant_id if line.variant_title else 0,
        "quantity": quantity,
        "tax_class": "",
        "subtotal": _amount(store, order, gross),
        "subtotal_tax": full_tax,
        "total": _amount(store, order, net),
        "total_tax": tax,
        "taxes": _taxes(order, tax, full_tax),
        "meta_data": [
            {
                "id": line.id * 10 + index,
                "key": key,
                "value": value,
                "display_key": key,
                "display_value": html.escape(value, quote=False),
            }
            for index, (key, value) in enumerate(line.properties)
        ],
        "sku": line.sku,
        "global_unique_id": "",
        "price": _price(order, net, quantity),
        "image": {"id": "", "src": ""},
        "parent_name": _parent(line),
    }


def _tax_lines(order: Order, rate: Decimal, item_tax: str, shipping_tax: str) -> list[dict[str, Any]]:
    if not rate or not any(line.ordered > 0 for line in order.lines):
        return []
    return [
        {
            "id": order.tax_line_id, "rate_code": f"{order.tax_title.upper()}-1", "rate_id": 1,
            "label": order.tax_title, "compound": False, "tax_total": item_tax,
            "shipping_tax_total": shipping_tax, "rate_percent": _percent(rate), "meta_data": [],
        }
    ]  # fmt: skip


def _shipping_lines(order: Order, rate: Decimal, total: str, tax: str) -> list[dict[str, Any]]:
    if not order.shipping_title or order.shipping_removed:
        return []
    return [
        {
            "id": order.shipping_line_id, "method_title": order.shipping_title, "method_id": "flat_rate",
            "instance_id": "1", "total": total, "total_tax": tax,
            "taxes": [{"id": 1, "total": tax, "subtotal": ""}] if rate else [],
            "tax_status": "taxable", "meta_data": [],
        }
    ]  # fmt: skip


def _fee_lines(order: Order, rate: Decimal, total: str, tax: str) -> list[dict[str, Any]]:
    if not order.fee:
        return []
    return [
        {
            "id": order.fee_id, "name": order.fee_title, "tax_class": "", "tax_status": "taxable", "amount": "",
            "total": total, "total_tax": tax,
            "taxes": [{"id": 1, "total": tax, "subtotal": ""}] if rate else [], "meta_data": [],
        }
    ]  # fmt: skip


def _coupon_lines(order: Order, discount: str, tax: str) -> list[dict[str, Any]]:
    if not order.coupon:
        return []
    info = json.dumps([20, order.coupon, "percent", order.coupon_percent], separators=(",", ":"))
    key = "coupon_info"
    return [
        {
            "id": order.coupon_id, "code": order.coupon, "discount": discount, "discount_tax": tax,
            "meta_data": [
                {"id": order.coupon_id * 10, "key": key, "value": info, "display_key": key, "display_value": info}
            ],
            "discount_type": "percent", "nominal_amount": order.coupon_percent, "free_shipping": False,
        }
    ]  # fmt: skip
