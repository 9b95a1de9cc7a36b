"""The GraphQL that we send, Admin API 2026-10. A test validates each against the pruned real schema."""

API_VERSION = "2026-10"

_ADDRESS = "name company address1 address2 city province provinceCode country countryCodeV2 zip phone"
_LINE = """
id title variantTitle sku quantity currentQuantity requiresShipping
customAttributes { key value }
originalUnitPriceSet { shopMoney { amount } }
totalDiscountSet { shopMoney { amount } }
"""
_WITHOUT_LINES = f"""
id name createdAt updatedAt cancelledAt closedAt cancelReason test
displayFinancialStatus displayFulfillmentStatus currencyCode presentmentCurrencyCode taxesIncluded
sourceName tags note email phone paymentGatewayNames discountCodes
customAttributes {{ key value }}
subtotalPriceSet {{ shopMoney {{ amount }} }}
totalPriceSet {{ shopMoney {{ amount }} }}
totalTaxSet {{ shopMoney {{ amount }} }}
totalDiscountsSet {{ shopMoney {{ amount }} }}
totalShippingPriceSet {{ shopMoney {{ amount }} }}
totalRefundedSet {{ shopMoney {{ amount }} }}
currentTotalPriceSet {{ shopMoney {{ amount }} }}
billingAddress {{ {_ADDRESS} }}
shippingAddress {{ {_ADDRESS} }}
fulfillments(first: 10) {{ legacyResourceId status trackingInfo(first: 1) {{ company number }} }}
"""
_ORDER = f"""{_WITHOUT_LINES}
lineItems(first: $lines) {{ pageInfo {{ hasNextPage endCursor }} nodes {{ {_LINE} }} }}
"""

ORDERS = f"""query Orders($first: Int!, $after: String, $query: String!, $lines: Int!) {{
  orders(first: $first, after: $after, query: $query, sortKey: UPDATED_AT) {{
    pageInfo {{ hasNextPage endCursor }}
    nodes {{ {_ORDER} }}
  }}
}}"""

HEADS = """query Heads($first: Int!, $after: String, $query: String!) {
  orders(first: $first, after: $after, query: $query, sortKey: UPDATED_AT) {
    pageInfo { hasNextPage endCursor }
    nodes { id updatedAt displayFinancialStatus displayFulfillmentStatus cancelledAt closedAt }
  }
}"""

ORDERS_BY_ID = f"""query OrdersById($ids: [ID!]!, $lines: Int!) {{
  nodes(ids: $ids) {{ ... on Order {{ {_ORDER} }} }}
}}"""

MORE_LINES = f"""query MoreLines($id: ID!, $first: Int!, $after: String) {{
  order(id: $id) {{
    lineItems(first: $first, after: $after) {{ pageInfo {{ hasNextPage endCursor }} nodes {{ {_LINE} }} }}
  }}
}}"""

BULK_BEGIN = """mutation BulkBegin($query: String!) {
  bulkOperationRunQuery(query: $query, groupObjects: true) { bulkOperation { id } userErrors { code message } }
}"""

BULK_LOOK = """query BulkLook($id: ID!) {
  bulkOperation(id: $id) { status errorCode createdAt fileSize url partialDataUrl }
}"""


def everything(search: str) -> str:
    """The orders of a search for a bulk operation, which takes no variables and pages nothing."""
    return f"""{{
  orders(query: "{search}", sortKey: UPDATED_AT) {{
    edges {{ node {{ {_WITHOUT_LINES} lineItems {{ edges {{ node {{ {_LINE} }} }} }} }} }}
  }}
}}"""


COUNT = """query Count($query: String!) { ordersCount(query: $query, limit: null) { count precision } }"""

SHOP = """query Shop { shop { id name myshopifyDomain currencyCode ianaTimezone } }"""

SCOPES = """query Scopes { currentAppInstallation { accessScopes { handle } } }"""

SUBSCRIPTIONS = """query Subscriptions($after: String) {
  webhookSubscriptions(first: 100, after: $after) { pageInfo { hasNextPage endCursor } nodes { id topic uri } }
}"""

SUBSCRIBE = """mutation Subscribe($topic: WebhookSubscriptionTopic!, $wish: WebhookSubscriptionInput!) {
  webhookSubscriptionCreate(topic: $topic, webhookSubscription: $wish) {
    webhookSubscription { id topic uri } userErrors { field message }
  }
}"""

RESUBSCRIBE = """mutation Resubscribe($id: ID!, $wish: WebhookSubscriptionInput!) {
  webhookSubscriptionUpdate(id: $id, webhookSubscription: $wish) {
    webhookSubscription { id topic uri } userErrors { field message }
  }
}"""

UNSUBSCRIBE = """mutation Unsubscribe($id: ID!) {
  webhookSubscriptionDelete(id: $id) { deletedWebhookSubscriptionId userErrors { field message } }
}"""

ALL = {
    "orders": ORDERS,
    "heads": HEADS,
    "orders by id": ORDERS_BY_ID,
    "more lines": MORE_LINES,
    "count": COUNT,
    "shop": SHOP,
    "bulk begin": BULK_BEGIN,
    "bulk look": BULK_LOOK,
    "everything": everything("updated_at:>='2026-11-01T00:00:00Z'"),
    "scopes": SCOPES,
    "subscriptions": SUBSCRIPTIONS,
    "subscribe": SUBSCRIBE,
    "resubscribe": RESUBSCRIBE,
    "unsubscribe": UNSUBSCRIBE,
}
