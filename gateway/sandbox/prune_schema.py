"""Make data/ from the published descriptions: run once by hand when the pinned API version changes.

    npm pack @shopify/dev-mcp@1.16.0        # in an empty folder, then unpack it
    python -m gateway.sandbox.prune_schema package/dist/data/admin_2026-10.json.gz etsy-oas.json

Nothing is added or reworded: types, fields, arguments and nullability are Shopify's and Etsy's own, most are left out.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

from graphql import build_client_schema, print_schema

DATA = Path(__file__).with_name("data")
_MONEY = "shopMoney presentmentMoney"
KEEP = {
    "QueryRoot": "orders ordersCount order node nodes shop currentAppInstallation webhookSubscriptions"
    " webhookSubscription bulkOperation",
    "Mutation": "webhookSubscriptionCreate webhookSubscriptionUpdate webhookSubscriptionDelete bulkOperationRunQuery",
    "Order": "id legacyResourceId name number confirmationNumber poNumber createdAt processedAt updatedAt cancelledAt"
    " closedAt cancelReason closed confirmed test edited displayFinancialStatus displayFulfillmentStatus returnStatus"
    " currencyCode presentmentCurrencyCode taxesIncluded taxExempt dutiesIncluded estimatedTaxes sourceName"
    " sourceIdentifier registeredSourceUrl cartToken checkoutToken customerLocale tags note email phone"
    " paymentGatewayNames discountCode discountCodes totalWeight app customAttributes subtotalPriceSet totalPriceSet"
    " totalTaxSet totalDiscountsSet totalShippingPriceSet totalTipReceivedSet totalOutstandingSet totalRefundedSet"
    " totalReceivedSet netPaymentSet originalTotalPriceSet currentSubtotalPriceSet currentTotalPriceSet"
    " currentTotalTaxSet currentTotalDiscountsSet currentShippingPriceSet taxLines billingAddress shippingAddress"
    " customer discountApplications shippingLine shippingLines lineItems fulfillments refunds statusPageUrl"
    " fullyPaid unpaid subtotalLineItemsQuantity currentSubtotalLineItemsQuantity",
    "LineItem": "id title variantTitle name sku vendor quantity currentQuantity unfulfilledQuantity refundableQuantity"
    " nonFulfillableQuantity requiresShipping taxable isGiftCard variant product customAttributes"
    " originalUnitPriceSet originalTotalSet discountedTotalSet totalDiscountSet discountAllocations taxLines",
    "Customer": "id legacyResourceId firstName lastName displayName defaultEmailAddress defaultPhoneNumber locale"
    " taxExempt tags createdAt updatedAt",
    "MailingAddress": "firstName lastName name company address1 address2 city province provinceCode country"
    " countryCodeV2 zip phone latitude longitude",
    "Fulfillment": "id legacyResourceId name status displayStatus createdAt updatedAt totalQuantity trackingInfo",
    "FulfillmentTrackingInfo": "company number url",
    "Refund": "id legacyResourceId createdAt processedAt updatedAt note totalRefundedSet refundLineItems",
    "RefundLineItemConnection": "edges nodes pageInfo", "RefundLineItemEdge": "cursor node",
    "RefundLineItem": "id quantity restockType restocked lineItem subtotalSet totalTaxSet",
    "ShippingLine": "id title code source carrierIdentifier custom isRemoved phone originalPriceSet"
    " discountedPriceSet taxLines discountAllocations",
    "TaxLine": "title rate ratePercentage channelLiable source priceSet",
    "DiscountAllocation": "allocatedAmountSet discountApplication",
    "DiscountApplication": "index allocationMethod targetSelection targetType value",
    "DiscountCodeApplication": "index allocationMethod targetSelection targetType value code",
    "ManualDiscountApplication": "index allocationMethod targetSelection targetType value title description",
    "AutomaticDiscountApplication": "index allocationMethod targetSelection targetType value title",
    "ScriptDiscountApplication": "index allocationMethod targetSelection targetType value title",
    "PricingValue": "", "PricingPercentageValue": "percentage", "MoneyV2": "amount currencyCode", "MoneyBag": _MONEY,
    "Attribute": "key value", "OrderApp": "id name", "Product": "id legacyResourceId",
    "ProductVariant": "id legacyResourceId", "CustomerEmailAddress": "emailAddress",
    "CustomerPhoneNumber": "phoneNumber", "PageInfo": "hasNextPage hasPreviousPage startCursor endCursor",
    "OrderConnection": "edges nodes pageInfo", "OrderEdge": "cursor node",
    "LineItemConnection": "edges nodes pageInfo", "LineItemEdge": "cursor node",
    "ShippingLineConnection": "edges nodes pageInfo", "ShippingLineEdge": "cursor node",
    "DiscountApplicationConnection": "edges nodes pageInfo", "DiscountApplicationEdge": "cursor node",
    "WebhookSubscriptionConnection": "edges nodes pageInfo", "WebhookSubscriptionEdge": "cursor node",
    "WebhookSubscription": "id legacyResourceId topic uri format name filter includeFields metafieldNamespaces"
    " apiVersion createdAt updatedAt",
    "ApiVersion": "handle displayName supported", "Count": "count precision", "UserError": "field message",
    "WebhookSubscriptionCreatePayload": "webhookSubscription userErrors",
    "WebhookSubscriptionUpdatePayload": "webhookSubscription userErrors",
    "WebhookSubscriptionDeletePayload": "deletedWebhookSubscriptionId userErrors",
    "DisplayableError": "field message",
    "BulkOperation": "id status errorCode createdAt completedAt objectCount rootObjectCount fileSize url partialDataUrl"
    " query type",
    "BulkOperationRunQueryPayload": "bulkOperation userErrors", "BulkOperationUserError": "code field message",
    "Shop": "id name myshopifyDomain primaryDomain email contactEmail currencyCode ianaTimezone timezoneOffset plan url"
    " createdAt",
    "Domain": "host url", "ShopPlan": "publicDisplayName partnerDevelopment shopifyPlus",
    "AppInstallation": "id accessScopes", "AccessScope": "handle description", "Node": "id",
    "LegacyInteroperability": "legacyResourceId",
}  # fmt: skip


def prune_shopify(source: Path) -> str:
    """The kept types as SDL; raises KeyError when a kept field needs a type that is not kept."""
    schema = json.loads(gzip.decompress(source.read_bytes()))["data"]["__schema"]
    types = {each["name"]: each for each in schema["types"]}
    kept: dict[str, Any] = {}

    def keep(reference: dict[str, Any] | None) -> None:
        while reference and reference.get("ofType"):
            reference = reference["ofType"]
        name = reference["name"] if reference else ""
        if not name or name in kept:
            return
        made = kept[name] = _bare(types[name])
        if made["kind"] in ("OBJECT", "INTERFACE"):
            wanted = KEEP[name].split()
            made["fields"] = [field for field in made["fields"] if field["name"] in wanted]
            missing = set(wanted) - {field["name"] for field in made["fields"]}
            if missing:
                raise KeyError(f"{name} has no {missing}")
            made["interfaces"] = [each for each in made["interfaces"] if each["name"] in KEEP]
            for each in made["interfaces"]:
                keep(each)
            for field in made["fields"]:
                keep(field["type"])
                for argument in field["args"]:
                    keep(argument["type"])
        for field in made.get("inputFields") or []:
            keep(field["type"])
        made["possibleTypes"] = [each for each in made.get("possibleTypes") or [] if each["name"] in KEEP]
        for each in made["possibleTypes"]:
            keep(each)

    for name in ("QueryRoot", "Mutation", "String", "Boolean", "Int", "Float", "ID"):
        keep({"name": name})
    schema["types"] = list(kept.values())
    schema["subscriptionType"] = None
    standard = ("include", "skip", "deprecated", "specifiedBy")
    schema["directives"] = [_bare(each) for each in schema["directives"] if each["name"] in standard]
    return print_schema(build_client_schema({"__schema": schema}, assume_valid=True)) + "\n"


def _bare(described: dict[str, Any]) -> dict[str, Any]:
    """A deep copy without the prose."""
    copy: dict[str, Any] = json.loads(json.dumps(described))

    def strip(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("description"), str):  # a property may be called description too
                del value["description"]
            for each in value.values():
                strip(each)
        elif isinstance(value, list):
            for each in value:
                strip(each)

    strip(copy)
    return copy


def prune_etsy(source: Path) -> dict[str, Any]:
    """The schemas that the simulated answers use, and all that they refer to."""
    described = json.loads(source.read_text())
    schemas = described["components"]["schemas"]
    kept: dict[str, Any] = {}
    waiting = ["ShopReceipt", "ShopReceipts", "Self", "Shop", "Pong", "ErrorSchema"]
    while waiting:
        name = waiting.pop()
        if name in kept:
            continue
        kept[name] = _bare(schemas[name])
        text = json.dumps(kept[name])
        waiting += [part.split('"')[0] for part in text.split("#/components/schemas/")[1:]]
    return {
        "openapi": described["openapi"],
        "info": {"title": described["info"]["title"], "version": described["info"]["version"]},
        "components": {"schemas": dict(sorted(kept.items()))},
    }


def prune_scopes(source: Path) -> dict[str, list[str]]:
    """Type or Type.field of what is kept → the access scopes of which one is needed to read it."""
    items = json.loads(gzip.decompress(source.read_bytes()))["offline_scopes"]["items"]
    kept = {}
    for each in items:
        fields = KEEP.get(each["typeName"], "").split()
        if each["offlineScopes"] and fields and each.get("fieldName", fields[0]) in fields:
            kept[".".join([each["typeName"], *([each["fieldName"]] if "fieldName" in each else [])])] = each[
                "offlineScopes"
            ]
    return dict(sorted(kept.items()))


def main() -> None:
    """Write the three files."""
    (DATA / "shopify_admin_2026-10.graphql").write_text(prune_shopify(Path(sys.argv[1])))
    (DATA / "shopify_scopes_2026-10.json").write_text(json.dumps(prune_scopes(Path(sys.argv[1])), indent=1) + "\n")
    (DATA / "etsy_receipts_oas.json").write_text(json.dumps(prune_etsy(Path(sys.argv[2])), indent=1) + "\n")


if __name__ == "__main__":
    main()
