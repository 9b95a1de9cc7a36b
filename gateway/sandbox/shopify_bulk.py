"""Bulk operations: a query over everything, run in the store's own time and left as JSON lines at a link.

Facts: platform sheet shopify.md, section 5.3, and the schema's own descriptions. How fast Shopify works is not
published: `bulk_orders_per_second` of the store is made up. Content is read when an operation ends, the latest moment
that is possible, so whoever dates it by that moment's beginning is right and by its end may be wrong.
A sandbox that is started again has forgotten its operations.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    get_named_type,
    parse,
    validate,
)

from gateway.sandbox import shopify_graphql_shape as shape

if TYPE_CHECKING:
    from gateway.sandbox.shopify import ShopifyStore

PREFIX = "gid://shopify/BulkOperation/"
FILES = "/bulk/"
MOST_AT_ONCE = 5  # for each app and shop, since 2026-01
MOST_CONNECTIONS = 5
MOST_LEVELS = 2
CREATED_SECONDS = 1.0
KEPT_SECONDS = 7 * 86_400

Fate = Literal["COMPLETED", "FAILED", "CANCELED", "EXPIRED"]
Execute = Callable[["ShopifyStore", DocumentNode], ExecutionResult]


@dataclass(slots=True)
class Operation:
    """One bulk query; `created` and `ends` by the store's clock, in epoch seconds."""

    id: int
    query: str
    grouped: bool
    created: float
    ends: float
    fate: Fate
    token: str
    error: str | None = None
    file: bytes | None = None
    objects: int = 0
    roots: int = 0

    def status(self, now: float) -> str:
        if now < self.created + CREATED_SECONDS:
            return "CREATED"
        if now < self.ends:
            return "RUNNING"
        return "EXPIRED" if now >= self.ends + KEPT_SECONDS else self.fate


def run(store: ShopifyStore, schema: GraphQLSchema, *, query: str, groupObjects: bool) -> dict[str, Any]:
    """bulkOperationRunQuery: userErrors for what Shopify does not take, else an operation that runs."""
    if store.faults.take("bulk_refuse"):
        return _refused("INVALID", "Bulk operations are not available for this shop.")
    reason = refusal(schema, query)
    if reason is not None:
        return _refused("INVALID", reason)
    now = store.now().timestamp()
    if sum(each.status(now) in ("CREATED", "RUNNING") for each in store.bulk.values()) >= MOST_AT_ONCE:
        return _refused("LIMIT_REACHED", "Bulk operations limit reached. Please try again later.")
    seconds = CREATED_SECONDS + len(store.orders) / store.bulk_orders_per_second
    fate: Fate = "COMPLETED"
    for fault, other in _FATES.items():
        if store.faults.take(fault):
            fate = other
    if fate in ("FAILED", "CANCELED"):
        seconds /= 2
    each = Operation(
        7_000_000_000_000 + store.next_item_id(), query, groupObjects, now, now + seconds, fate, store.token(40)
    )
    store.bulk[each.id] = each
    store.world.revision += 1
    return {"bulkOperation": _as_node(store, each), "userErrors": []}


_FATES: dict[str, Fate] = {"bulk_fail": "FAILED", "bulk_cancel": "CANCELED", "bulk_expire": "EXPIRED"}


def node(store: ShopifyStore, schema: GraphQLSchema, identifier: str, execute: Execute) -> dict[str, Any] | None:
    """bulkOperation: how far it is; the first look after its end is when its file is written."""
    number = identifier.removeprefix(PREFIX)
    each = store.bulk.get(int(number)) if number.isdigit() else None
    if each is None:
        return None
    if each.file is None and store.now().timestamp() >= each.ends and each.fate in ("COMPLETED", "FAILED"):
        _write(store, schema, each, execute)
    return _as_node(store, each)


def file_at(store: ShopifyStore, path: str) -> bytes | None:
    """What lies at a link; None when nothing does any more."""
    token = path.removeprefix(FILES).removesuffix(".jsonl")
    now = store.now().timestamp()
    for each in store.bulk.values():
        if each.token == token and each.file is not None and now < each.ends + KEPT_SECONDS:
            return None if store.faults.take("bulk_gone") else each.file
    return None


def _as_node(store: ShopifyStore, each: Operation) -> dict[str, Any]:
    now = store.now().timestamp()
    status = each.status(now)
    url = f"{store.world.base_url}/shopify/{store.key}{FILES}{each.token}.jsonl" if each.file else None
    done = status not in ("CREATED", "RUNNING")
    return {
        "__typename": "BulkOperation",
        "id": f"{PREFIX}{each.id}",
        "status": status,
        "errorCode": each.error if done else None,
        "createdAt": shape.iso(store, int(each.created)),
        "completedAt": shape.iso(store, int(each.ends)) if status == "COMPLETED" else None,
        # UnsignedInt64 is written as a string.
        "objectCount": str(each.objects),
        "rootObjectCount": str(each.roots),
        "fileSize": str(len(each.file)) if each.file and status == "COMPLETED" else None,
        "url": url if status == "COMPLETED" else None,
        "partialDataUrl": url if status == "FAILED" else None,
        "query": each.query,
        "type": "QUERY",
    }


def _refused(code: str, message: str) -> dict[str, Any]:
    return {"bulkOperation": None, "userErrors": [{"field": ["query"], "message": message, "code": code}]}


# --- what may be asked -----------------------------------------------------------------------------------------
def refusal(schema: GraphQLSchema, query: str) -> str | None:
    """Why Shopify does not run this query in bulk; None when it does."""
    try:
        document = parse(query)
    except GraphQLError as error:
        return f"Invalid bulk query: {error.message}"
    faults = validate(schema, document)
    if faults:
        return f"Invalid bulk query: {faults[0].message}"
    root, selection = _operation(schema, document)
    if root is None:
        return "Bulk queries must be a query operation"
    if any(_name(field) in ("node", "nodes") for fields in _fields(document, [selection]).values() for field in fields):
        return "Bulk queries cannot contain a top level `node` or `nodes` field."
    levels = list(_levels(schema, document, root, [selection], 0))
    if not levels:
        return "Bulk queries must contain at least one connection."
    if len(levels) > MOST_CONNECTIONS:
        return f"Bulk queries cannot contain more than {MOST_CONNECTIONS} connections."
    if max(levels) > MOST_LEVELS:
        return f"Bulk queries cannot contain connections with a nesting depth greater than {MOST_LEVELS}."
    return None


def _operation(schema: GraphQLSchema, document: DocumentNode) -> tuple[GraphQLObjectType | None, SelectionSetNode]:
    operation = next(each for each in document.definitions if isinstance(each, OperationDefinitionNode))
    root = schema.query_type if operation.operation is OperationType.QUERY else None
    return root, operation.selection_set


def _levels(
    schema: GraphQLSchema, document: DocumentNode, kind: Any, sets: list[SelectionSetNode], level: int
) -> Iterator[int]:
    """How deep each connection lies below other ones: 0 at the root."""
    for fields in _fields(document, sets).values():
        inner = [field.selection_set for field in fields if field.selection_set]
        if not inner:
            continue
        type_ = get_named_type(kind.fields[_name(fields[0])].type)
        if not type_.name.endswith("Connection"):
            yield from _levels(schema, document, type_, inner, level)
            continue
        yield level
        row, rows = _row(document, type_, inner)
        yield from _levels(schema, document, row, rows, level + 1)


def _fields(document: DocumentNode, sets: list[SelectionSetNode]) -> dict[str, list[FieldNode]]:
    """The selected fields by their name in the answer, fragments opened."""
    fragments = {each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)}
    found: dict[str, list[FieldNode]] = {}
    for chosen in sets:
        for each in chosen.selections:
            if isinstance(each, FieldNode):
                found.setdefault(each.alias.value if each.alias else each.name.value, []).append(each)
                continue
            spread: Any = fragments[each.name.value] if isinstance(each, FragmentSpreadNode) else each
            for name, fields in _fields(document, [spread.selection_set]).items():
                found.setdefault(name, []).extend(fields)
    return found


def _name(field: FieldNode) -> str:
    return field.name.value


def _row(document: DocumentNode, connection: Any, sets: list[SelectionSetNode]) -> tuple[Any, list[SelectionSetNode]]:
    """The type of a connection's rows, and what is selected of them, by edges or nodes."""
    chosen: list[SelectionSetNode] = []
    for fields in _fields(document, sets).values():
        inner = [field.selection_set for field in fields if field.selection_set]
        if _name(fields[0]) == "nodes":
            chosen += inner
        elif _name(fields[0]) == "edges":
            for nodes in _fields(document, inner).values():
                if _name(nodes[0]) == "node":
                    chosen += [node.selection_set for node in nodes if node.selection_set]
    return get_named_type(connection.fields["nodes"].type), chosen


# --- the file --------------------------------------------------------------------------------------------------
def _write(store: ShopifyStore, schema: GraphQLSchema, each: Operation, execute: Execute) -> None:
    document = parse(each.query)
    result = execute(store, document)
    if result.errors:
        # One field that is denied fails the whole: there are no errors beside the lines.
        code = (result.errors[0].extensions or {}).get("code")
        each.fate, each.error = "FAILED", "ACCESS_DENIED" if code == "ACCESS_DENIED" else "INTERNAL_SERVER_ERROR"
        return
    root, selection = _operation(schema, document)
    found = list(_rows(document, root, [selection], result.data or {}))
    if not each.grouped:
        found.sort(key=lambda row: row[0])  # children stand anywhere after their parents: here after all of them
    lines = [line for _, line in found]
    if each.fate == "FAILED":
        lines = lines[: len(lines) // 2]
        each.error = "INTERNAL_SERVER_ERROR"
    each.objects, each.roots = len(lines), sum("__parentId" not in line for line in lines)
    each.file = b"".join(_line(line) for line in lines) or None  # no link at all where nothing was found


def _line(value: dict[str, Any]) -> bytes:
    """One line; slashes are escaped, as in Shopify's own examples."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("/", "\\/").encode() + b"\n"


def _rows(
    document: DocumentNode, kind: Any, sets: list[SelectionSetNode], value: dict[str, Any], level: int = 0,
    parent: str | None = None,
) -> Iterator[tuple[int, dict[str, Any]]]:  # fmt: skip
    """An object without its connections, and below it their rows, each as a line with its level."""
    own: dict[str, Any] = {}
    below: list[tuple[Any, list[SelectionSetNode], dict[str, Any]]] = []
    for name, fields in _fields(document, sets).items():
        inner = [field.selection_set for field in fields if field.selection_set]
        type_ = get_named_type(kind.fields[_name(fields[0])].type) if inner else None
        if type_ is None or not type_.name.endswith("Connection"):
            own[name] = value.get(name)
            continue
        row, rows = _row(document, type_, inner)
        shown = value.get(name) or {}
        found = shown.get("nodes") or [edge["node"] for edge in shown.get("edges") or ()]
        below += [(row, rows, each) for each in found]
    if level:
        yield level, own if parent is None else {**own, "__parentId": parent}
    for row, rows, each in below:
        yield from _rows(document, row, rows, each, level + 1, own["id"] if level else None)
