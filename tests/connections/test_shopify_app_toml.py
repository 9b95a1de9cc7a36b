"""shopify.app.toml says what this gateway really serves and asks for."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from importlib.resources import files

import pytest
from graphql import TypeInfo, TypeInfoVisitor, Visitor, build_schema, get_named_type, parse, visit

from gateway.connections.shopify_commands import made
from gateway.platforms import REGISTRY
from gateway.platforms.base import Ignored
from gateway.platforms.shopify import hooks, install, queries


@pytest.fixture
def told(access, monkeypatch):
    monkeypatch.setattr(access, "app", dataclasses.replace(access.app, shopify_client_id="a" * 32))
    return tomllib.loads(made(access, 'Clay & "Fern"'))


def test_its_addresses_are_routes_of_ours(told, application):
    paths = {rule.rule for rule in application.url_map.iter_rules()}
    public = application.extensions["address"]

    assert told["name"] == 'Clay & "Fern"'
    assert told["application_url"].removeprefix(public) in paths
    assert [one.removeprefix(public) for one in told["auth"]["redirect_urls"]] == [install.CALLBACK_PATH]
    assert install.CALLBACK_PATH in paths
    assert {one["uri"] for one in told["webhooks"]["subscriptions"]} == {f"{public}/webhooks/shopify"}
    assert told["webhooks"]["api_version"] == queries.API_VERSION


def test_every_topic_in_it_is_one_that_we_use(told):
    topics, compliance = told["webhooks"]["subscriptions"]

    assert compliance["compliance_topics"] == ["customers/data_request", "customers/redact", "shop/redact"]
    for topic in [*topics["topics"], *compliance["compliance_topics"]]:
        body = b'{"id": 7, "shop_domain": "a.myshopify.com", "myshopify_domain": "a.myshopify.com"}'
        assert not isinstance(REGISTRY["shopify"].read(topic, body), Ignored), topic
    assert set(topics["topics"]) == set(hooks.TOPICS)


def test_the_scopes_are_those_that_our_queries_need(told):
    """By Shopify's own list of what each type and field needs, beside its schema."""
    data = files("gateway.sandbox").joinpath("data")
    schema = build_schema(data.joinpath("shopify_admin_2026-10.graphql").read_text("utf-8"), assume_valid=True)
    guards = json.loads(data.joinpath("shopify_scopes_2026-10.json").read_text("utf-8"))
    asked = set(told["access_scopes"]["scopes"].split(","))

    needed = [guards[place] for query in queries.ALL.values() for place in places(schema, query) if place in guards]

    assert [scopes for scopes in needed if not asked & set(scopes)] == []
    assert {scope for scope in asked if not any(scope in scopes for scopes in needed)} == set(), "asked for in vain"


def test_a_query_that_needs_another_scope_would_be_found():
    data = files("gateway.sandbox").joinpath("data")
    schema = build_schema(data.joinpath("shopify_admin_2026-10.graphql").read_text("utf-8"), assume_valid=True)
    guards = json.loads(data.joinpath("shopify_scopes_2026-10.json").read_text("utf-8"))

    found = places(schema, "{ orders(first: 1) { nodes { customer { id } lineItems(first: 1) { nodes { id } } } } }")

    assert {place for place in found if place in guards} == {"Order", "Customer", "LineItem"}


def places(schema, query):
    """Every type that a query reads and every field of it, as the list of scopes names them."""
    found = set()
    types = TypeInfo(schema)

    class Reader(Visitor):
        def enter_field(self, node, *_):
            parent, named = types.get_parent_type(), get_named_type(types.get_type())
            found.update({parent.name, f"{parent.name}.{node.name.value}", named.name})

    visit(parse(query), TypeInfoVisitor(types, Reader()))
    return found
