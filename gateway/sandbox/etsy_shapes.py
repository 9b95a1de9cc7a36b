"""A receipt as Etsy's Open API v3 shows it; tests hold it against the pruned OAS in data/."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.sandbox.orders import Line, Order, Refund, Shipment, digits, totals

if TYPE_CHECKING:
    from gateway.sandbox.etsy import EtsyStore


def status(order: Order) -> str:
    """One string holds pay, ship and refund state (sheet section 3)."""
    if order.cancelled is not None:
        return "canceled"
    if order.refunds:
        full = order.refunded_total >= totals(order, "ordered").total
        return "fully refunded" if full else "partially refunded"
    if order.completed is not None:
        return "completed"
    return "paid" if order.paid is not None else "payment processing"


def money(order: Order, minor: int) -> dict[str, Any]:
    """Amount, divisor and currency (divisor usually 100, sheet section 3)."""
    return {"amount": minor, "divisor": 10 ** digits(order.currency), "currency_code": order.currency}


def receipt(store: EtsyStore, order: Order) -> dict[str, Any]:
    """The 40 properties of ShopReceipt."""
    sums = totals(order, "ordered")
    buyer = order.customer_id or 1
    address = order.shipping if order.shipping.address_1 else order.billing
    formatted = "\n".join(
        part
        for part in (
            address.full_name, address.address_1, address.address_2, f"{address.postcode} {address.city}".strip(),
            address.country,
        )
        if part
    )  # fmt: skip
    return {
        "receipt_id": order.id,
        "receipt_type": 0,
        "seller_user_id": store.user_id,
        "seller_email": "owner@customer.example",
        "buyer_user_id": buyer,
        "buyer_email": order.email or None if store.buyer_email_granted else None,
        "name": address.full_name,
        "first_line": address.address_1 or None,
        "second_line": address.address_2 or None,
        "city": address.city or None,
        "state": address.province_code or None,
        "zip": address.postcode or None,
        "status": status(order),
        "formatted_address": formatted or None,
        "country_iso": address.country_code or None,
        "payment_method": "cc",
        "payment_email": None,
        "message_from_seller": None,
        "message_from_buyer": order.note or None,
        "message_from_payment": None,
        "is_paid": order.paid is not None,
        "is_shipped": order.completed is not None,
        "create_timestamp": order.created,
        "created_timestamp": order.created,
        "update_timestamp": order.updated,
        "updated_timestamp": order.updated,
        "is_gift": bool(order.gift_message),
        "gift_message": order.gift_message,
        "gift_sender": "",
        "grandtotal": money(order, sums.total),
        "subtotal": money(order, sums.subtotal),
        "total_price": money(order, sums.subtotal + sums.discounts),
        "total_shipping_cost": money(order, sums.shipping),
        "total_tax_cost": money(order, 0 if order.taxes_included else sums.tax),
        "total_vat_cost": money(order, sums.tax if order.taxes_included else 0),
        "discount_amt": money(order, sums.discounts),
        "gift_wrap_price": money(order, 0),
        "shipments": [_shipment(each) for each in order.shipments],
        "transactions": [_transaction(store, order, line, buyer) for line in order.lines],
        "refunds": [_refund(order, each) for each in order.refunds],
    }


def _shipment(shipment: Shipment) -> dict[str, Any]:
    return {
        "receipt_shipping_id": shipment.id,
        "shipment_notification_timestamp": shipment.created,
        "carrier_name": shipment.carrier.lower().replace(" ", "-"),
        "tracking_code": shipment.tracking,
    }


def _refund(order: Order, refund: Refund) -> dict[str, Any]:
    return {
        "amount": money(order, refund.amount),
        "created_timestamp": refund.created,
        "reason": refund.reason,
        "note_from_issuer": None,
        "status": "complete",
    }


def _transaction(store: EtsyStore, order: Order, line: Line, buyer: int) -> dict[str, Any]:
    variations = []
    if line.variant_title:
        variations.append(
            {"property_id": 200, "value_id": line.variant_id, "formatted_name": "Style",
             "formatted_value": line.variant_title}
        )  # fmt: skip
    for name, value in line.properties:
        text = {"formatted_name": name, "formatted_value": value}
        variations.append({"property_id": 54, "value_id": None, **text})
    return {
        "transaction_id": line.id,
        "title": line.title,
        "description": f"{line.title}, made by hand.",
        "seller_user_id": store.user_id,
        "buyer_user_id": buyer,
        "create_timestamp": order.created,
        "created_timestamp": order.created,
        "paid_timestamp": order.paid,
        "shipped_timestamp": order.completed,
        "quantity": line.ordered,
        "listing_image_id": None,
        "receipt_id": order.id,
        "is_digital": False,
        "file_data": "",
        "listing_id": line.product_id,
        "transaction_type": "listing",
        "product_id": line.variant_id,
        "sku": line.sku,
        "price": money(order, line.unit),
        "shipping_cost": money(order, 0),
        "variations": variations,
        "product_data": [],
        "shipping_profile_id": None,
        "min_processing_days": 1,
        "max_processing_days": 3,
        "shipping_method": None,
        "shipping_upgrade": None,
        "expected_ship_date": order.created + 3 * 86400,
        "buyer_coupon": 0,
        "shop_coupon": 0,
    }


def shop(store: EtsyStore) -> dict[str, Any]:
    """GET shops/{id}, the properties that matter to a gateway."""
    return {
        "shop_id": store.shop_id,
        "user_id": store.user_id,
        "shop_name": store.name.replace(" ", "").replace("&", "And"),
        "create_date": 1614589200,
        "created_timestamp": 1614589200,
        "title": store.name,
        "currency_code": store.currency,
        "is_vacation": False,
        "update_date": 1614589200,
        "updated_timestamp": 1614589200,
        "listing_active_count": 12,
        "login_name": "fernandclay",
        "url": f"https://www.etsy.com/shop/{store.shop_id}",
        "languages": ["en-US"],
        "transaction_sold_count": len(store.orders),
        "shop_location_country_iso": "DE",
    }
