"""Shopify's GraphQL: queries are validated and executed by graphql-core against the pruned real schema 2026-10."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    VariableNode,
    Visitor,
    build_schema,
    execute_sync,
    parse,
    validate,
    visit,
)
from graphql.execution.execute import Executor

from gateway.sandbox import shopify_bulk as bulk
from gateway.sandbox import shopify_search as search
from gateway.sandbox import shopify_subscriptions as subscriptions
from gateway.sandbox.shopify_cost import Cost

if TYPE_CHECKING:
    from gateway.sandbox.shopify import ShopifyStore

MAX_QUERY_COST = 1000
API_VERSION = "2026-10"


@functools.cache
def schema() -> GraphQLSchema:
    """The pruned Admin schema; assume_valid because graphql-core refuses Shopify's own (sheet section 6)."""
    text = (Path(__file__).with_name("data") / f"shopify_admin_{API_VERSION}.graphql").read_text()
    return build_schema(text, assume_valid=True)


@functools.lru_cache(maxsize=64)
def _checked(text: str) -> tuple[DocumentNode | None, tuple[dict[str, Any], ...]]:
    try:
        document = parse(text)
    except GraphQLError as error:
        return None, (dict(error.formatted),)
    return document, tuple(dict(error.formatted) for error in validate(schema(), document))


@dataclass(slots=True)
class _Call:
    """What resolvers need of the running query."""

    store: ShopifyStore
    variables: dict[str, Any]
    warnings: list[dict[str, Any]] = field(default_factory=list)
    whole: bool = False
    """Connections are not paged: a bulk operation runs."""


def run(store: ShopifyStore, text: str, variables: dict[str, Any], operation_name: str | None) -> dict[str, Any]:
    """The JSON answer, always for HTTP 200: data, errors, and what it cost."""
    document, faults = _checked(text)
    if document is None or faults:
        return {"errors": list(faults)}
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    chosen = next((node for node in operations if node.name and node.name.value == operation_name), operations[0])
    fragments = {
        node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)
    }  # fmt: skip
    requested = Cost(schema(), fragments, _with_defaults(chosen, variables)).of(chosen)
    if requested > MAX_QUERY_COST:
        return {"errors": [_too_dear(requested)]}
    now = store.now().timestamp()
    if store.faults.take("throttle") or not store.bucket.take(now, requested):
        error = {"message": "Throttled", "extensions": {"code": "THROTTLED"}}
        return {"errors": [error], "extensions": {"cost": _cost(store, requested, None)}}
    call = _Call(store, variables)
    result = execute_sync(
        schema(), document, _ROOT, call, variables, operation_name, executor_class=_KeepingExecutor,
    )  # fmt: skip
    answer: dict[str, Any] = {"data": result.data}
    if result.errors:
        answer["errors"] = [dict(error.formatted) for error in result.errors]
    actual = _actual(requested, result.data)
    store.bucket.give_back(requested - actual)
    answer["extensions"] = {"cost": _cost(store, requested, actual)}
    if call.warnings:
        answer["extensions"]["search"] = [
            {"path": ["orders"], "query": str(variables.get("query", "")), "warnings": call.warnings}
        ]
    return answer


def _execute_whole(store: ShopifyStore, document: DocumentNode) -> ExecutionResult:
    """A bulk operation's query, which was validated before: whatever pages it asks for, all rows."""
    return execute_sync(
        schema(), document, _ROOT, _Call(store, {}, whole=True), {}, executor_class=_KeepingExecutor,
    )  # fmt: skip


class _KeepingExecutor(Executor[Any]):
    """Executes as usual, but keeps what one order answered to one selection until that order changes.

    A page of 50 whole orders resolves some 15,000 fields; a benchmark should measure the gateway and not that. The
    answer is kept in the order's own dictionary, which is made anew whenever the order changes.
    """

    def complete_object_value(
        self,
        return_type: Any,
        field_details_list: Any,
        info: Any,
        path: Any,
        result: Any,
        position_context: Any,
    ) -> Any:
        def complete() -> Any:
            return super(_KeepingExecutor, self).complete_object_value(
                return_type, field_details_list, info, path, result, position_context
            )

        if return_type.name != "Order" or len(field_details_list) != 1:
            return complete()
        node = field_details_list[0].node
        variables = info.context.variables
        key = (id(node), *(f"{name}={variables.get(name)!r}" for name in _variables_in(node, info.fragments)))
        kept = result.setdefault(_KEPT, {})
        if key in kept:
            return kept[key][1]
        errors_before = len(self.collected_errors.errors)
        answer = complete()
        if len(self.collected_errors.errors) == errors_before:  # errors carry the path of this very query
            if len(kept) >= 4:
                kept.clear()
            kept[key] = (node, answer)  # the node too: its id may not be given to another meanwhile
        return answer


_KEPT = "(kept answers)"
_SPREAD_VARIABLES: dict[int, tuple[Any, tuple[str, ...]]] = {}


def _variables_in(node: FieldNode, fragments: Any) -> tuple[str, ...]:
    """The names of all variables below a field, those of every fragment of the document included."""
    known = _SPREAD_VARIABLES.get(id(node))
    if known is not None and known[0] is node:
        return known[1]
    names: set[str] = set()

    class Names(Visitor):
        def enter_variable(self, variable: VariableNode, *_: Any) -> None:
            names.add(variable.name.value)

    visit(node, Names())
    for fragment in fragments.values():
        visit(getattr(fragment, "definition", fragment), Names())
    if len(_SPREAD_VARIABLES) > 500:
        _SPREAD_VARIABLES.clear()
    _SPREAD_VARIABLES[id(node)] = (node, tuple(sorted(names)))
    return tuple(sorted(names))


def _with_defaults(operation: OperationDefinitionNode, variables: dict[str, Any]) -> dict[str, Any]:
    values = {}
    for each in operation.variable_definitions or ():
        if each.default_value is not None and hasattr(each.default_value, "value"):
            values[each.variable.name.value] = each.default_value.value
    return {**values, **variables}


def _too_dear(requested: int) -> dict[str, Any]:
    message = f"Query cost is {requested}, which exceeds the single query max cost limit ({MAX_QUERY_COST})."
    return {
        "message": message,
        "extensions": {"code": "MAX_COST_EXCEEDED", "cost": requested, "maxCost": MAX_QUERY_COST},
    }


def _cost(store: ShopifyStore, requested: int, actual: int | None) -> dict[str, Any]:
    status = store.bucket.status(store.now().timestamp())
    return {"requestedQueryCost": requested, "actualQueryCost": actual, "throttleStatus": status}


def _actual(requested: int, data: Any) -> int:
    """Less than requested when a page came back short; how much less is not documented, so a plain share."""
    connection = (data or {}).get("orders") if isinstance(data, dict) else None
    if not isinstance(connection, dict):
        return requested
    rows = connection.get("nodes", connection.get("edges")) or []
    return requested if len(rows) >= 10 else max(2, requested * (len(rows) + 1) // 11)


def _number(identifier: str) -> int | None:
    """The number in gid://shopify/Order/123; None for other kinds of thing."""
    head, _, tail = identifier.partition("?")[0].rpartition("/")
    return int(tail) if head == "gid://shopify/Order" and tail.isdigit() else None


def _node(store: ShopifyStore, identifier: str) -> dict[str, Any] | None:
    if not identifier.startswith("gid://shopify/"):
        raise GraphQLError(f"Invalid global id '{identifier}'", extensions={"code": "INVALID_ID"})
    number = _number(identifier)
    if number is None:
        return subscriptions.node(store, identifier)
    order = store.orders.get(number)
    return store.node_of(order) if order is not None and search.visible(store, order) else None


def _shop(store: ShopifyStore) -> dict[str, Any]:
    return {
        "id": f"gid://shopify/Shop/{store.shop_id}",
        "name": store.name,
        "myshopifyDomain": store.key,
        "primaryDomain": {"host": store.key, "url": f"https://{store.key}"},
        "email": "owner@customer.example",
        "contactEmail": "owner@customer.example",
        "currencyCode": store.currency,
        "ianaTimezone": store.time_zone,
        "timezoneOffset": store.now().astimezone(store.zone).strftime("%z"),
        "plan": {"publicDisplayName": "Basic", "partnerDevelopment": False, "shopifyPlus": False},
        "url": f"https://{store.key}",
        "createdAt": "2021-03-01T09:00:00Z",
    }


def _installation(store: ShopifyStore) -> dict[str, Any]:
    scopes = [{"handle": scope, "description": scope} for scope in store.scopes]
    return {"id": f"gid://shopify/AppInstallation/{store.shop_id % 10**9}", "accessScopes": scopes}


# Resolvers of the two root types; below them the shapes' dictionaries answer for themselves.
_ROOT: dict[str, Any] = {
    "orders": lambda info, **arguments: search.page(
        info.context.store, arguments, info.context.warnings, whole=info.context.whole
    ),
    "ordersCount": lambda info, query=None, limit=10000, **_rest: search.count(
        info.context.store, query, limit, info.context.warnings
    ),
    "order": lambda info, id: _node(info.context.store, id) if _number(id) else None,
    "node": lambda info, id: _node(info.context.store, id),
    "nodes": lambda info, ids: [_node(info.context.store, each) for each in ids],
    "shop": lambda info: _shop(info.context.store),
    "currentAppInstallation": lambda info: _installation(info.context.store),
    "webhookSubscriptions": lambda info, **arguments: subscriptions.listed(info, info.context.store, arguments),
    "webhookSubscription": lambda info, id: subscriptions.node(info.context.store, id),
    "bulkOperation": lambda info, id: bulk.node(info.context.store, info.schema, id, _execute_whole),
    "bulkOperationRunQuery": lambda info, **arguments: bulk.run(info.context.store, info.schema, **arguments),
    "webhookSubscriptionCreate": lambda info, **arguments: subscriptions.create(info.context.store, **arguments),
    "webhookSubscriptionUpdate": lambda info, **arguments: subscriptions.update(info.context.store, **arguments),
    "webhookSubscriptionDelete": lambda info, **arguments: subscriptions.delete(info.context.store, **arguments),
}
