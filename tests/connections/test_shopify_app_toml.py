"""shopify.app.toml says what this gateway really serves and asks for."""

from __future__ import annotations

import dataclasses
import re
import tomllib

import pytest

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
    """No query names an object that another scope guards (sheet section 5: customers, products, variants)."""
    asked = " ".join(queries.ALL.values())

    assert told["access_scopes"]["scopes"].split(",") == ["read_orders"]
    for guarded in ("customer ", "customer{", "defaultEmailAddress", "product ", "product{", "variant ", "variant{"):
        assert guarded not in re.sub(r"\s+", " ", asked)
