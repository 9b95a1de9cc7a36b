"""What a query costs, by the sheet's model B (section 5.2), and the bucket that it is paid from.

Scalars 0, objects 1, connections 2 + round(2 ln n) x node, lists with `first` n x item, mutations 10, interfaces and
unions the dearest of their types. Model B was inferred from two observed costs; it is not documented by Shopify.
"""

from __future__ import annotations

import math
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    InlineFragmentNode,
    ListValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    value_from_ast_untyped,
)

MUTATION_COST = 10


class Cost:
    """Prices one operation before it is executed."""

    def __init__(
        self, schema: GraphQLSchema, fragments: dict[str, FragmentDefinitionNode], variables: dict[str, Any]
    ) -> None:
        self._schema = schema
        self._fragments = fragments
        self._variables = variables

    def of(self, operation: OperationDefinitionNode) -> int:
        """requestedQueryCost."""
        root = self._schema.get_root_type(operation.operation)
        assert root is not None
        return self._selections(root, [operation.selection_set])

    def _selections(self, kind: Any, sets: list[SelectionSetNode]) -> int:
        if isinstance(kind, GraphQLInterfaceType | GraphQLUnionType):
            possible = self._schema.get_possible_types(kind)
            return max((self._selections(each, sets) for each in possible), default=0)
        fields: dict[str, list[FieldNode]] = {}
        for each in sets:
            self._collect(kind, each, fields)
        return sum(self._field(kind, nodes) for nodes in fields.values())

    def _collect(self, kind: GraphQLObjectType, chosen: SelectionSetNode, into: dict[str, list[FieldNode]]) -> None:
        for node in chosen.selections:
            if isinstance(node, FieldNode):
                into.setdefault(node.alias.value if node.alias else node.name.value, []).append(node)
                continue
            if isinstance(node, FragmentSpreadNode):
                fragment = self._fragments[node.name.value]
                condition, inner = fragment.type_condition.name.value, fragment.selection_set
            else:
                assert isinstance(node, InlineFragmentNode)
                condition = node.type_condition.name.value if node.type_condition else kind.name
                inner = node.selection_set
            if self._applies(kind, condition):
                self._collect(kind, inner, into)

    def _applies(self, kind: GraphQLObjectType, name: str) -> bool:
        condition = self._schema.type_map[name]
        if isinstance(condition, GraphQLInterfaceType | GraphQLUnionType):
            return self._schema.is_sub_type(condition, kind)
        return condition is kind

    def _field(self, kind: GraphQLObjectType, nodes: list[FieldNode]) -> int:
        node = nodes[0]
        name = node.name.value
        if name.startswith("__") or name not in kind.fields:
            return 0
        inner = get_named_type(kind.fields[name].type)
        sets = [each.selection_set for each in nodes if each.selection_set]
        if not sets:
            return MUTATION_COST if kind is self._schema.mutation_type else 0
        arguments = {each.name.value: each.value for each in node.arguments or ()}
        if inner.name.endswith("Connection"):
            size = self._size(arguments)
            return 2 + round(2 * math.log(max(size, 1))) * self._nodes(inner, sets)
        child = self._selections(inner, sets)
        if kind is self._schema.mutation_type:
            return MUTATION_COST  # a mutation costs 10, whatever it gives back
        if name == "nodes" and kind is self._schema.query_type:
            ids = arguments.get("ids")
            given = self._value(ids) if ids is not None else []
            return len(given or []) * (1 + child)
        if "first" in arguments:
            return self._size(arguments) * (1 + child)
        # An edge or the list of nodes is counted by its connection; an interface costs what its type does.
        return 1 + child

    def _nodes(self, connection: Any, sets: list[SelectionSetNode]) -> int:
        """What one row of a connection costs; pageInfo and cursors are free (heads.graphql, 250: 13)."""
        fields: dict[str, list[FieldNode]] = {}
        for each in sets:
            self._collect(connection, each, fields)
        cost = 0
        for nodes in fields.values():
            inner_sets = [each.selection_set for each in nodes if each.selection_set]
            if nodes[0].name.value == "nodes":
                cost += 1 + self._selections(get_named_type(connection.fields["nodes"].type), inner_sets)
            elif nodes[0].name.value == "edges":
                edge = get_named_type(connection.fields["edges"].type)
                cost += self._selections(edge, inner_sets)
        return cost

    def _size(self, arguments: dict[str, ValueNode]) -> int:
        for name in ("first", "last"):
            if name in arguments:
                return int(self._value(arguments[name]) or 0)
        return 1

    def _value(self, node: ValueNode) -> Any:
        if isinstance(node, VariableNode):
            return self._variables.get(node.name.value)
        if isinstance(node, ListValueNode):
            return [self._value(each) for each in node.values]
        return value_from_ast_untyped(node, self._variables)


class Bucket:
    """The leaky bucket of one app on one store; `maximum=None` switches it off."""

    def __init__(self, maximum: float | None = 2000.0, restore_per_second: float = 100.0) -> None:
        self.maximum = maximum
        self.restore_per_second = restore_per_second
        self._level = maximum or 0.0
        self._at: float | None = None

    def available(self, now: float) -> int:
        """Points in the bucket at that time."""
        if self.maximum is None:
            return 10**9
        if self._at is not None and now > self._at:
            self._level = min(self.maximum, self._level + (now - self._at) * self.restore_per_second)
        self._at = now
        return int(self._level)

    def take(self, now: float, requested: int) -> bool:
        """Reserve the requested cost; False (and nothing taken) when there is not as much."""
        if self.available(now) < requested:
            return False
        self._level -= requested if self.maximum is not None else 0
        return True

    def give_back(self, points: int) -> None:
        """Refund what a query did not use."""
        if self.maximum is not None:
            self._level = min(self.maximum, self._level + points)

    def status(self, now: float) -> dict[str, float]:
        """throttleStatus."""
        maximum = self.maximum if self.maximum is not None else float(10**9)
        return {
            "maximumAvailable": maximum,
            "currentlyAvailable": self.available(now),
            "restoreRate": self.restore_per_second,
        }
