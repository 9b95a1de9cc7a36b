"""Connecting in a real browser: through the shop's and Etsy's own pages, under our own content security policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from gateway.sandbox.etsy import EtsyStore
from gateway.sandbox.shopify import ShopifyStore
from tests.connections.conftest import (  # noqa: F401 - fixtures
    _cheap_passwords,
    _gateway,
    access,
    application,
    gateway,
    people,
    sandbox,
    shop,
)
from tests.web.world import PASSWORD

pytestmark = [
    pytest.mark.browser,
    # Playwright leaves its pipes to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def page(chrome: Browser, gateway: str, people) -> Iterator[Page]:  # noqa: F811
    """Maya's browser, logged in."""
    people.user()
    context = chrome.new_context(base_url=gateway)
    made = context.new_page()
    made.goto("/login")
    made.get_by_label("E-mail").fill("maya@example.com")
    made.get_by_label("Password").fill(PASSWORD)
    made.get_by_role("button", name="Log in").click()
    yield made
    context.close()


def clean(page: Page) -> None:
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa"]})
    assert found.violations_count == 0, found.generate_report()


def test_a_woocommerce_shop_is_connected_by_its_owner(page, shop, people):  # noqa: F811
    page.goto("/stores")
    clean(page)
    page.get_by_role("link", name="Connect a store").click()
    clean(page)
    page.get_by_role("link", name="WooCommerce").click()
    clean(page)
    page.get_by_label("Address of your shop").first.fill(shop.url)
    page.get_by_role("button", name="Go to your shop").click()
    page.get_by_role("button", name="Login").click()
    expect(page.get_by_role("heading", name="Order Gateway would like to connect to your store")).to_be_visible()
    page.get_by_role("link", name="Approve").click()

    expect(page.get_by_text("is connected.")).to_be_visible()
    clean(page)
    assert len(shop.webhooks) == 4
    page.get_by_role("link", name="Test connection").click()
    page.get_by_role("button", name="Test connection").click()
    expect(page.get_by_text("Everything holds.")).to_be_visible()
    clean(page)
    assert people.sql("SELECT state FROM connections") == [{"state": "connected"}]


def test_a_woocommerce_owner_denies(page, shop, people):  # noqa: F811
    page.goto("/stores/connect/woocommerce")
    page.get_by_label("Address of your shop").first.fill(shop.url)
    page.get_by_role("button", name="Go to your shop").click()
    page.get_by_role("button", name="Login").click()
    page.get_by_role("link", name="Deny").click()

    expect(page.get_by_role("heading", name="The access was not approved")).to_be_visible()
    clean(page)
    assert people.sql("SELECT id FROM connections") == []
    assert shop.webhooks == {}


def test_keys_are_pasted_and_a_slip_is_told(page, shop, people):  # noqa: F811
    page.goto("/stores/connect/woocommerce")
    page.get_by_text("Or paste keys").click()
    for secret in ("cs_" + "0" * 40, shop.consumer_secret):
        page.locator("#keys-url").fill(shop.url)
        page.get_by_label("Consumer key").fill(shop.consumer_key)
        page.get_by_label("Consumer secret").fill(secret)
        page.get_by_role("button", name="Check and connect").click()
        if secret != shop.consumer_secret:
            expect(page.get_by_text("The shop does not accept these keys")).to_be_visible()
            clean(page)

    expect(page.get_by_text("is connected.")).to_be_visible()
    assert people.sql("SELECT state FROM connections") == [{"state": "connected"}]


def test_an_etsy_shop_is_connected_by_its_seller(page, sandbox, access, people, monkeypatch):  # noqa: F811
    seller = sandbox.add_store("etsy", "18234567", currency="EUR")
    assert isinstance(seller, EtsyStore)
    app = dataclasses.replace(
        access.app, etsy_keystring=sandbox.etsy_app.keystring, etsy_shared_secret=sandbox.etsy_app.shared_secret,
        etsy_api_url=f"{sandbox.base_url}/etsy/v3", etsy_connect_url=f"{sandbox.base_url}/etsy/oauth/connect",
    )  # fmt: skip
    monkeypatch.setattr(access, "app", app)
    page.goto("/stores/connect")
    page.get_by_role("link", name="Etsy").click()
    clean(page)
    page.get_by_role("link", name="Go to Etsy").click()
    page.get_by_role("button", name="Grant access").click()

    expect(page.get_by_text("is connected.")).to_be_visible()
    expect(page.get_by_text("is not endorsed or certified by Etsy")).to_be_visible()
    assert people.sql("SELECT platform, state FROM connections") == [{"platform": "etsy", "state": "connected"}]


def test_a_shopify_shop_is_installed_from_shopifys_side_and_claimed(chrome, gateway, people, sandbox, access,  # noqa: F811
                                                                    monkeypatch):  # fmt: skip
    store = sandbox.add_store("shopify", "fern-and-clay.myshopify.com")
    assert isinstance(store, ShopifyStore)
    store.installed = False
    app = dataclasses.replace(
        access.app, shopify_client_id=sandbox.shopify_app.client_id,
        shopify_client_secret=sandbox.shopify_app.client_secret,
        shopify_admin_url=sandbox.base_url + "/shopify/{shop}/admin",
    )  # fmt: skip
    monkeypatch.setattr(access, "app", app)
    people.user()
    context = chrome.new_context()
    page = context.new_page()

    page.goto(f"{sandbox.base_url}/sandbox")
    page.get_by_role("link", name="Open the app, as in the Shopify admin").click()
    page.get_by_role("button", name="Install app").click()
    page.get_by_label("E-mail").fill("maya@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Connect your Shopify store")).to_be_visible()
    clean(page)
    page.get_by_role("button", name="Connect this store").click()

    expect(page.get_by_role("heading", name=store.name)).to_be_visible()
    expect(page.get_by_text("Connected", exact=True)).to_be_visible()

    people.sql("UPDATE connections SET state = 'action_needed', state_problem = 'connection.permission_missing'")
    page.goto(f"{gateway}/orders")
    page.locator(".note").get_by_role("link", name="Store → Integrations").click()
    expect(page.get_by_text("The store does not let us read orders.")).to_be_visible()
    clean(page)
    page.get_by_role("link", name="Grant permission").click()  # granted already: Shopify comes straight back
    expect(page.get_by_text("Connected", exact=True)).to_be_visible()
    context.close()
