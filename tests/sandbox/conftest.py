"""A world with a clock that only tests move, and clients for its HTTP interfaces without sockets."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from gateway.sandbox.etsy import EtsyStore
from gateway.sandbox.server import create_app
from gateway.sandbox.shopify import ShopifyStore
from gateway.sandbox.woocommerce import WooStore
from gateway.sandbox.world import World

FIXTURES = Path(__file__).with_name("fixtures")


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def move(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


def captured(name: str) -> tuple[dict[str, Any], bytes]:
    """Head and raw body of a capture of a real WooCommerce store."""
    folder = FIXTURES / "woocommerce"
    return json.loads((folder / f"{name}.json").read_text()), (folder / f"{name}.body").read_bytes()


class Woo:
    """Calls a simulated WooCommerce store."""

    def __init__(self, client: Client, store: WooStore) -> None:
        self.client, self.store = client, store

    def call(self, method: str, path: str, *, key: str = "", secret: str = "", **options: Any) -> TestResponse:
        pair = f"{key or self.store.consumer_key}:{secret or self.store.consumer_secret}"
        headers = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
        address = f"/woocommerce/{self.store.key}/wp-json/wc/v3{path}"
        return self.client.open(address, method=method, headers=headers, **options)

    def get(self, path: str, **query: Any) -> TestResponse:
        return self.call("GET", path, query_string=query)

    def subscribe(self, topic: str = "order.updated", secret: str = "s3cret") -> int:
        given = {"name": topic, "topic": topic, "delivery_url": "http://gateway.test/hook", "secret": secret}
        return self.call("POST", "/webhooks", json=given).json["id"]


class Shopify:
    """Calls a simulated shop's GraphQL."""

    def __init__(self, client: Client, store: ShopifyStore) -> None:
        self.client, self.store = client, store

    def call(self, text: str, /, *, token: str | None = None, **variables: Any) -> TestResponse:
        headers = {"X-Shopify-Access-Token": token or self.store.access_tokens[-1].value}
        body = {"query": text, "variables": variables}
        address = f"/shopify/{self.store.key}/admin/api/2026-10/graphql.json"
        return self.client.post(address, json=body, headers=headers)

    def data(self, text: str, /, **variables: Any) -> dict[str, Any]:
        answer = self.call(text, **variables).json
        assert "errors" not in answer, answer["errors"]
        return answer["data"]


class Etsy:
    """Calls a simulated Etsy shop."""

    def __init__(self, client: Client, store: EtsyStore) -> None:
        self.client, self.store = client, store

    def headers(self) -> dict[str, str]:
        app = self.store.world.etsy_app
        return {
            "x-api-key": f"{app.keystring}:{app.shared_secret}",
            "Authorization": f"Bearer {self.store.access_token}",
        }

    def get(self, path: str, headers: dict[str, str] | None = None, **query: Any) -> TestResponse:
        headers = self.headers() if headers is None else headers
        return self.client.get(f"/etsy/v3/application{path}", headers=headers, query_string=query)

    def receipts(self, **query: Any) -> dict[str, Any]:
        return self.get(f"/shops/{self.store.shop_id}/receipts", **query).json


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(clock: Clock) -> World:
    made = World(seed=7, now=clock, gateway_url="http://gateway.test", base_url="http://sandbox.test")
    made.etsy_app.per_second = None
    return made


@pytest.fixture
def client(world: World) -> Client:
    return Client(create_app(world))


@pytest.fixture
def woo(world: World, client: Client) -> Woo:
    store = world.add_store("woocommerce", time_zone="America/New_York", currency="EUR", tax_percent="19")
    assert isinstance(store, WooStore)
    return Woo(client, store)


@pytest.fixture
def shopify(world: World, client: Client) -> Shopify:
    store = world.add_store("shopify", time_zone="Europe/London", currency="GBP", bucket_maximum=None)
    assert isinstance(store, ShopifyStore)
    return Shopify(client, store)


@pytest.fixture
def etsy(world: World, client: Client) -> Etsy:
    store = world.add_store("etsy", time_zone="Europe/Berlin", currency="EUR", tax_percent="19")
    assert isinstance(store, EtsyStore)
    return Etsy(client, store)
