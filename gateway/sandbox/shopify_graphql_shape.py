"""An order as Shopify's GraphQL shows it: dictionaries whose callables take the field's arguments.

The spelling differs from the webhook's on purpose (sheet section 5.5): times in UTC with Z, "9.0" for "9.00", capitals
for statuses, null for "", a list of tags.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from graphql import GraphQLError

from gateway.sandbox import shopify_facts as facts
from gateway.sandbox.orders import Address, Line, Order, Refund, Shipment, totals

if TYPE_CHECKING:
    from gateway.sandbox.shopify import ShopifyStore

Node = dict[str, Any]
_PERSONAL = ("firstName", "lastName", "name", "company", "address1", "address2", "city", "zip", "phone")


def iso(store: ShopifyStore, second: int | None) -> str | None:
    return None if second is None else store.utc(second).strftime("%Y-%m-%dT%H:%M:%SZ")


def denied(message: str, **extensions: Any) -> Callable[..., Any]:
    """A field that answers null with an ACCESS_DENIED error beside the data, at HTTP 200 (sheet section 5)."""

    def resolve(_info: Any, **_arguments: Any) -> Any:
        raise GraphQLError(message, extensions={"code": "ACCESS_DENIED", **extensions})

    return resolve


def connection(rows: list[Node], cursors: list[str]) -> Callable[..., Node]:
    """A connection over rows that all are at hand; cursors are those of the rows."""

    def resolve(info: Any, *, first: int | None = None, after: str | None = None, last: int | None = None,
                before: str | None = None, reverse: bool = False, **_ignored: Any) -> Node:  # fmt: skip
        if info.context.whole:
            return page_of(list(zip(rows, cursors, strict=True)), more=False, earlier=False)
        paired = list(zip(rows, cursors, strict=True))[:: -1 if reverse else 1]
        places = {cursor: index for index, (_, cursor) in enumerate(paired)}
        low = places.get(after, -1) + 1 if after else 0
        high = places.get(before, len(paired)) if before else len(paired)
        size = one_of_both(first, last)
        shown = paired[low:high][:size] if first is not None else paired[low:high][-size:]
        start = low if first is not None else max(low, high - size)
        return page_of(shown, more=start + len(shown) < len(paired), earlier=start > 0)

    return resolve


def page_of(shown: list[tuple[Node, str]], *, more: bool, earlier: bool) -> Node:
    """The connection object for the rows of one page."""
    return {
        "edges": [{"cursor": cursor, "node": row} for row, cursor in shown],
        "nodes": [row for row, _ in shown],
        "pageInfo": {
            "hasNextPage": more,
            "hasPreviousPage": earlier,
            "startCursor": shown[0][1] if shown else None,
            "endCursor": shown[-1][1] if shown else None,
        },
    }


def one_of_both(first: int | None, last: int | None) -> int:
    """The wanted size; GraphQL errors as Shopify's when none or too much is asked (at most 250)."""
    if first is None and last is None:
        raise GraphQLError("you must provide one of first or last", extensions={"code": "BAD_REQUEST"})
    size = first if first is not None else last or 0
    if not 0 <= size <= 250:
        raise GraphQLError(f"the size of a page must be 0 to 250, not {size}", extensions={"code": "BAD_REQUEST"})
    return size


def cursor_of(last_id: int, last_value: str) -> str:
    """Base64 JSON, as real cursors are (sheet section 5, Window)."""
    text = json.dumps({"last_id": last_id, "last_value": last_value}, separators=(",", ":"))
    return base64.b64encode(text.encode()).decode()


def order_node(store: ShopifyStore, order: Order) -> Node:
    """The order with all fields of the pruned schema."""
    placed, current = totals(order, "placed"), totals(order, "current")
    ordered = totals(order, "ordered")
    shipping = [_shipping_line(order)] if order.shipping_title else []
    live_shipping = [] if order.shipping_removed else shipping
    lines = [_line(store, order, line) for line in order.lines]
    fulfillments = [_fulfillment(store, order, each, index) for index, each in enumerate(order.shipments, 1)]
    node: Node = {
        "__typename": "Order",
        "id": facts.gid("Order", order.id),
        "legacyResourceId": str(order.id),
        "name": facts.order_name(order),
        "number": order.number,
        "confirmationNumber": order.key[:9].upper(),
        "poNumber": None,
        "createdAt": iso(store, order.created),
        "processedAt": iso(store, order.created),
        "updatedAt": iso(store, order.updated),
        "cancelledAt": iso(store, order.cancelled),
        "closedAt": iso(store, order.closed),
        "cancelReason": order.cancel_reason.upper() or None,
        "closed": order.closed is not None,
        "confirmed": True,
        "test": order.test,
        "edited": order.edited,
        "displayFinancialStatus": facts.financial_status(order).upper(),
        "displayFulfillmentStatus": {None: "UNFULFILLED", "partial": "PARTIALLY_FULFILLED"}.get(
            facts.fulfillment_status(order), "FULFILLED"
        ),
        "returnStatus": "NO_RETURN",
        "currencyCode": order.currency,
        "presentmentCurrencyCode": order.presentment_currency or order.currency,
        "taxesIncluded": order.taxes_included,
        "taxExempt": False,
        "dutiesIncluded": False,
        "estimatedTaxes": False,
        "sourceName": order.source,
        "sourceIdentifier": None,
        "registeredSourceUrl": None,
        "cartToken": None,
        "checkoutToken": None,
        "customerLocale": order.locale,
        "tags": facts.tags(order),
        "note": order.note or None,
        "email": order.email or None,
        "phone": order.phone or None,
        "paymentGatewayNames": [order.gateway] if order.paid else [],
        "discountCode": order.coupon or None,
        "discountCodes": [order.coupon] if order.coupon else [],
        "totalWeight": str(sum(350 * line.quantity for line in order.lines)),
        "app": {"id": facts.gid("App", 580111), "name": "Online Store"},
        "customAttributes": _attributes(order.attributes),
        "subtotalPriceSet": _bag(order, placed.subtotal),
        "totalPriceSet": _bag(order, placed.total),
        "originalTotalPriceSet": _bag(order, placed.total),
        "totalTaxSet": _bag(order, placed.tax),
        "totalDiscountsSet": _bag(order, placed.discounts),
        "totalShippingPriceSet": _bag(order, placed.shipping),
        "totalTipReceivedSet": _bag(order, 0),
        "totalOutstandingSet": _bag(order, facts.outstanding(order)),
        "totalRefundedSet": _bag(order, order.refunded_total),
        "totalReceivedSet": _bag(order, placed.total if order.paid else 0),
        "netPaymentSet": _bag(order, facts.received(order)),
        "currentSubtotalPriceSet": _bag(order, current.subtotal),
        "currentTotalPriceSet": _bag(order, current.total),
        "currentTotalTaxSet": _bag(order, current.tax),
        "currentTotalDiscountsSet": _bag(order, current.discounts),
        "currentShippingPriceSet": _bag(order, ordered.shipping),
        "taxLines": _tax_lines(order, placed.tax),
        "billingAddress": _address(store, order.billing),
        "shippingAddress": _address(store, order.shipping),
        "customer": _customer(store, order),
        "discountApplications": connection(
            _discount_applications(order), [cursor_of(index, "") for index in range(1 if order.coupon else 0)]
        ),
        "shippingLine": live_shipping[0] if live_shipping else None,
        "shippingLines": lambda info, includeRemovals=False, **arguments: connection(
            shipping if includeRemovals else live_shipping,
            [cursor_of(order.shipping_line_id, "") for _ in (shipping if includeRemovals else live_shipping)],
        )(info, **arguments),
        "lineItems": connection(lines, [cursor_of(line.id, str(line.id)) for line in order.lines]),
        "fulfillments": lambda _info, first=None, **_ignored: fulfillments[:first],
        "refunds": lambda _info, first=None: [_refund(store, order, refund) for refund in order.refunds][:first],
        "statusPageUrl": lambda _info, **_ignored: f"https://{store.key}/{store.shop_id}/orders/{order.key}",
        "fullyPaid": order.paid is not None,
        "unpaid": order.paid is None,
        "subtotalLineItemsQuantity": sum(line.ordered for line in order.lines),
        "currentSubtotalLineItemsQuantity": sum(line.current for line in order.lines),
    }
    _protect(store, node)
    return node


def _protect(store: ShopifyStore, node: Node) -> None:
    """Level 1 hides names, addresses, phones and e-mails; level 0 the whole customer (sheet section 5)."""
    refusal = "This app is not approved to access the {} object. See protected customer data."
    if store.protected_data < 2:
        for name in ("email", "phone", "statusPageUrl"):
            node[name] = denied(f"This app is not approved to use the {name} field. See protected customer data.")
        for holder in (node["billingAddress"], node["shippingAddress"]):
            if holder is not None:
                for name in _PERSONAL:
                    holder[name] = denied(refusal.format("MailingAddress"))
        if node["customer"] is not None:
            for name in ("firstName", "lastName", "defaultEmailAddress", "defaultPhoneNumber"):
                node["customer"][name] = denied(refusal.format("Customer"))
    if store.protected_data < 1:
        node["customer"] = denied(refusal.format("Customer"))
    scopes = store.scopes
    if "read_customers" not in scopes:
        needed = "`read_customers` access scope."
        message = f"Access denied for customer field. Required access: {needed}"
        node["customer"] = denied(message, requiredAccess=needed)


def _bag(order: Order, minor: int) -> Node:
    shop, shop_currency, seen, seen_in = facts.in_both_currencies(order, minor)
    return {"shopMoney": _money(shop, shop_currency), "presentmentMoney": _money(seen, seen_in)}


def _money(amount: Decimal, currency: str) -> Node:
    """Decimals without trailing zeros, but always one: "9.0", "12.55"."""
    text = f"{amount.normalize():f}"
    return {"__typename": "MoneyV2", "amount": text if "." in text else f"{text}.0", "currencyCode": currency}


def _attributes(pairs: list[list[str]]) -> list[Node]:
    return [{"key": key, "value": value} for key, value in pairs]


def _tax_lines(order: Order, tax: int) -> list[Node]:
    rate = Decimal(order.tax_percent)
    if not rate:
        return []
    return [
        {
            "title": order.tax_title, "rate": float(rate / 100), "ratePercentage": float(rate),
            "channelLiable": False, "source": "Shopify", "priceSet": _bag(order, tax),
        }
    ]  # fmt: skip


def _address(store: ShopifyStore, address: Address) -> Node | None:
    if not address.full_name and not address.address_1:
        return None
    return {
        "firstName": address.first_name or None,
        "lastName": address.last_name or None,
        "name": address.full_name or None,
        "company": address.company or None,
        "address1": address.address_1 or None,
        "address2": address.address_2 or None,
        "city": address.city or None,
        "province": address.province or None,
        "provinceCode": address.province_code or None,
        "country": address.country or None,
        "countryCodeV2": address.country_code or None,
        "zip": address.postcode or None,
        "phone": address.phone or None,
        "latitude": None,
        "longitude": None,
    }


def _customer(store: ShopifyStore, order: Order) -> Node | None:
    if not order.customer_id:
        return None
    since = iso(store, store.customer_since(order))
    return {
        "__typename": "Customer",
        "id": facts.gid("Customer", order.customer_id),
        "legacyResourceId": str(order.customer_id),
        "firstName": order.billing.first_name or None,
        "lastName": order.billing.last_name or None,
        "displayName": order.billing.full_name or order.email,
        "defaultEmailAddress": {"emailAddress": order.email} if order.email else None,
        "defaultPhoneNumber": None,
        "locale": order.locale,
        "taxExempt": False,
        "tags": [],
        "createdAt": since,
        "updatedAt": since,
    }


def _discount_applications(order: Order) -> list[Node]:
    if not order.coupon:
        return []
    return [
        {
            "__typename": "DiscountCodeApplication", "index": 0, "allocationMethod": "ACROSS",
            "targetSelection": "ALL", "targetType": "LINE_ITEM", "code": order.coupon,
            "value": {"__typename": "PricingPercentageValue", "percentage": float(order.coupon_percent)},
        }
    ]  # fmt: skip


def _line(store: ShopifyStore, order: Order, line: Line) -> Node:
    name = f"{line.title} - {line.variant_title}" if line.variant_title else line.title
    taxes = _tax_lines(order, order.tax_on(line.net(line.quantity)))
    allocations = []
    if line.discount:
        application = _discount_applications(order)[0]
        allocations = [{"allocatedAmountSet": _bag(order, line.discount), "discountApplication": application}]
    node: Node = {
        "__typename": "LineItem",
        "id": facts.gid("LineItem", line.id),
        "title": line.title,
        "variantTitle": line.variant_title or None,
        "name": name,
        "sku": line.sku or None,
        "vendor": "Fern & Clay",
        "quantity": line.quantity,
        "currentQuantity": line.current,
        "unfulfilledQuantity": max(line.current - line.shipped, 0),
        "refundableQuantity": line.current,
        "nonFulfillableQuantity": 0,
        "requiresShipping": True,
        "taxable": True,
        "isGiftCard": False,
        "variant": _numbered("ProductVariant", line.variant_id),
        "product": _numbered("Product", line.product_id),
        "customAttributes": _attributes(line.properties),
        "originalUnitPriceSet": _bag(order, line.unit),
        "originalTotalSet": _bag(order, line.unit * line.quantity),
        "discountedTotalSet": lambda _info, **_ignored: _bag(order, line.net(line.quantity)),
        "totalDiscountSet": _bag(order, 0),
        "discountAllocations": allocations,
        "taxLines": lambda _info, first=None: taxes[:first],
    }
    if "read_products" not in store.scopes:
        for field in ("variant", "product"):
            needed = "`read_products` access scope."
            message = f"Access denied for {field} field. Required access: {needed}"
            node[field] = denied(message, requiredAccess=needed)
    return node


def _numbered(kind: str, number: int) -> Node:
    return {"__typename": kind, "id": facts.gid(kind, number), "legacyResourceId": str(number)}


def _shipping_line(order: Order) -> Node:
    price = order.shipping_price
    return {
        "id": facts.gid("ShippingLine", order.shipping_line_id),
        "title": order.shipping_title,
        "code": order.shipping_title,
        "source": "shopify",
        "carrierIdentifier": None,
        "custom": False,
        "isRemoved": order.shipping_removed,
        "phone": None,
        "originalPriceSet": _bag(order, price),
        "discountedPriceSet": _bag(order, price),
        "taxLines": _tax_lines(order, order.tax_on(price)),
        "discountAllocations": [],
    }


def _fulfillment(store: ShopifyStore, order: Order, shipment: Shipment, index: int) -> Node:
    tracking = [{"company": shipment.carrier, "number": shipment.tracking, "url": shipment.url}]
    return {
        "__typename": "Fulfillment",
        "id": facts.gid("Fulfillment", shipment.id),
        "legacyResourceId": str(shipment.id),
        "name": f"{facts.order_name(order)}.{index}",
        "status": "SUCCESS",
        "displayStatus": "FULFILLED",
        "createdAt": iso(store, shipment.created),
        "updatedAt": iso(store, shipment.created),
        "totalQuantity": sum(quantity for _, quantity in shipment.pieces),
        "trackingInfo": lambda _info, first=None: tracking[:first],
    }


def _refund(store: ShopifyStore, order: Order, refund: Refund) -> Node:
    rows = [
        {
            "id": facts.gid("RefundLineItem", refund_line),
            "quantity": quantity,
            "restockType": "RETURN",
            "restocked": True,
            "lineItem": _line(store, order, order.line(line_id)),
            "subtotalSet": _bag(order, amount),
            "totalTaxSet": _bag(order, order.tax_on(amount)),
        }
        for line_id, quantity, amount, refund_line in refund.pieces
    ]
    at = iso(store, refund.created)
    return {
        "__typename": "Refund",
        "id": facts.gid("Refund", refund.id),
        "legacyResourceId": str(refund.id),
        "createdAt": at,
        "processedAt": at,
        "updatedAt": at,
        "note": refund.reason,
        "totalRefundedSet": _bag(order, refund.amount),
        "refundLineItems": connection(rows, [cursor_of(piece[3], str(piece[3])) for piece in refund.pieces]),
    }
