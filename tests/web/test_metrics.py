"""Figures for whoever runs the gateway, and for nobody else."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

TOKEN = "m" * 32


@pytest.fixture
def scrape(application, anonymous, monkeypatch):
    def scrape(token=TOKEN):
        monkeypatch.setitem(application.config, "METRICS_TOKEN", TOKEN)
        return anonymous.get("/metrics", headers={"Authorization": f"Bearer {token}"})

    return scrape


def _figures(answer):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_what_webhooks_did_not_bring_is_told_by_store(scrape, world, maya):
    store = world.store(maya, platform="woocommerce")
    for day, missed, contradicted in (("2026-11-20", 3, 0), ("2026-11-21", 4, 2)):
        world.sql(
            "INSERT INTO misses (account_id, connection_id, day, missed, contradicted)"
            " VALUES (:account, :store, :day, :missed, :contradicted) RETURNING 1",
            account=maya.account_id, store=store, day=day, missed=missed, contradicted=contradicted,
        )  # fmt: skip

    figures = _figures(scrape())

    labels = (("platform", "woocommerce"), ("store", str(store)))
    assert figures["gateway_missed_changes_total", labels] == 7
    assert figures["gateway_contradicted_webhooks_total", labels] == 2


def test_what_waits_is_told(scrape, world, maya):
    store = world.store(maya, platform="shopify")
    world.delivery(maya, store, state="waiting")
    world.run(maya, store)

    figures = _figures(scrape())

    assert figures["gateway_waiting_deliveries", (("platform", "shopify"),)] == 1
    assert figures["gateway_open_runs", (("kind", "manual"), ("state", "queued"))] == 1
    assert figures["gateway_connections", (("platform", "shopify"), ("state", "connected"))] == 1
    assert figures["gateway_waiting_rereads", ()] == 0
    assert figures["gateway_oldest_waiting_seconds", ()] > 0


def test_an_empty_installation_tells_figures_too(scrape):
    answer = scrape()

    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    assert _figures(answer)["gateway_oldest_waiting_seconds", ()] == 0


def test_no_name_stands_among_the_figures(scrape, world, maya):
    store = world.store(maya, "Maya's Shop")
    world.order(maya, store, "#1001", name="Secretive Sam")

    told = scrape().text

    assert "Maya" not in told
    assert "Sam" not in told


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "m"])
def test_whoever_does_not_bring_the_token_is_told_nothing(scrape, token):
    answer = scrape(token)

    assert answer.status_code == 401
    assert "gateway_" not in answer.text


def test_without_a_token_in_the_settings_there_are_no_figures(anonymous, application):
    assert application.config["METRICS_TOKEN"] == ""

    for header in ("", "Bearer ", "Bearer x"):
        assert anonymous.get("/metrics", headers={"Authorization": header}).status_code == 404
