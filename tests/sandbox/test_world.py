"""The world itself: deterministic, independent of our adapters, kept over a restart, and as faulty as asked."""

from __future__ import annotations

import ast
import json
import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import gateway.sandbox
from gateway.sandbox import life, state
from gateway.sandbox.changes import KINDS, ChangeRefused
from gateway.sandbox.stores import Store
from gateway.sandbox.woocommerce import WooStore
from gateway.sandbox.world import PLATFORMS, World
from tests.sandbox.conftest import Clock, Shopify, Woo


def test_the_simulator_imports_nothing_of_ours() -> None:
    """Else it would check the adapters against themselves."""
    foreign = []
    for path in Path(gateway.sandbox.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [each.name for each in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                top = name.partition(".")[0]
                ours = top in ("app", "config", "webhooks", "backfill", "gateway", "tests")
                if ours and not name.startswith("gateway.sandbox"):
                    foreign.append((path.name, name))

    assert foreign == []


def _history(seed: int) -> list[Any]:
    clock = Clock()
    world = World(seed=seed, now=clock)
    for platform in PLATFORMS:
        store = world.add_store(platform)
        if isinstance(store, WooStore):
            store.subscribe(name="n", topic="order.updated", delivery_url="http://g.test/h", secret="s")
        order = store.place()
        clock.move(3)
        store.change(order.id)
    return world.collect()


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert _history(11) == _history(11)
    assert _history(11) != _history(12)


def test_collecting_sends_nothing_and_empties_the_queue(shopify: Shopify, world: World) -> None:
    shopify.store.place()

    assert len(world.collect()) == 2
    assert world.collect() == []


@pytest.mark.parametrize("platform", sorted(PLATFORMS))
def test_every_kind_of_change_happens_or_says_why_not(platform: str, world: World) -> None:
    store = world.add_store(platform)
    done = set()
    for kind in KINDS:
        order = store.place(lines=2, paid=kind != "pay")
        for before in {"deliver": ["ship"], "refund_delete": ["refund"], "restore": ["trash"]}.get(kind, []):
            if before in store.kinds:
                store.change(order.id, before)
        if kind in store.kinds:
            store.change(order.id, kind)
            done.add(kind)
            continue
        if (platform, kind) != ("woocommerce", "delete"):  # which is its trash
            with pytest.raises(ChangeRefused, match=f"{platform} knows no change"):
                store.change(order.id, kind)

    assert done == store.kinds
    json.dumps(store.truth())


def test_the_truth_knows_what_is_gone(woo: Woo) -> None:
    kept, trashed, gone = (woo.store.place() for _ in range(3))
    woo.store.change(trashed.id, "trash")
    woo.store.change(gone.id, "force_delete")

    truth = {each["id"]: (each["exists"], each["trashed"]) for each in woo.store.truth()}

    assert truth == {kept.id: (True, False), trashed.id: (True, True), gone.id: (False, False)}


def test_a_store_lives_by_its_own_clock(world: World, clock: Clock) -> None:
    store = world.add_store("shopify", skew_seconds=-120)

    order = store.place()

    assert store.seconds_offset == -120
    assert datetime.fromtimestamp(order.updated, UTC) == clock() - timedelta(seconds=120)


def test_two_changes_within_one_second_have_one_time(shopify: Shopify, clock: Clock) -> None:
    order = shopify.store.place()
    clock.move(0.4)
    shopify.store.change(order.id, "note")

    assert order.updated == order.created


def test_a_source_can_go_back(woo: Woo, clock: Clock) -> None:
    order = woo.store.place(note="first")
    before = woo.get(f"/orders/{order.id}").data
    snapshot = woo.store.snapshot()
    clock.move(100)
    woo.store.change(order.id, "note")
    later = woo.store.place()
    assert woo.get(f"/orders/{order.id}").data != before

    woo.store.go_back(snapshot)

    assert woo.get(f"/orders/{order.id}").data == before
    assert woo.get(f"/orders/{later.id}").status_code == 404


def test_an_unknown_feature_is_refused(woo: Woo) -> None:
    with pytest.raises(ValueError, match="an order has no feature colour"):
        woo.store.place(colour="red")


def test_a_shipping_line_can_be_edited_out(shopify: Shopify) -> None:
    order = shopify.store.place(lines=1)
    order.shipping_title, order.shipping_price = "Tracked", 350
    shopify.store.change(order.id, "edit", shipping=True)

    (line,) = shopify.store.render(order)["shipping_lines"]

    assert (line["is_removed"], line["price"]) == (True, "3.50")
    assert shopify.data("{orders(first:1){nodes{shippingLine{title}}}}")["orders"]["nodes"][0]["shippingLine"] is None


def test_a_lost_webhook_never_leaves(shopify: Shopify, world: World) -> None:
    shopify.store.faults.set({"lose": 1})
    shopify.store.place()

    (left,) = world.collect()

    assert left.topic == "orders/updated"
    assert shopify.store.counts["lost"] == 1


def test_a_duplicate_is_the_same_request_twice(shopify: Shopify, world: World) -> None:
    shopify.store.faults.set({"duplicate": 1})
    shopify.store.place()

    first, second, third = world.collect()

    assert first == second
    assert third.topic == "orders/updated"


def test_reordered_webhooks_wait_for_each_other(shopify: Shopify, world: World, clock: Clock) -> None:
    shopify.store.faults.set({"reorder": 3})
    order = shopify.store.place()
    assert world.collect() == []
    shopify.store.change(order.id, "note")
    assert [each.topic for each in world.collect()] == ["orders/updated", "orders/updated", "orders/create"]

    shopify.store.faults.set({"reorder": 5})
    shopify.store.change(order.id, "note")
    assert world.collect() == []
    clock.move(31)
    assert len(world.collect()) == 1


def test_a_delayed_webhook_comes_later(shopify: Shopify, world: World, clock: Clock) -> None:
    shopify.store.faults.set({"delay": 3})
    shopify.store.place()

    assert world.collect() == []
    clock.move(3)
    assert len(world.collect()) == 2


def test_api_faults_are_used_up_one_by_one(woo: Woo, shopify: Shopify) -> None:
    woo.store.faults.set({"5xx": 1, "429": 1})
    shopify.store.faults.set({"429": 1})

    assert [woo.get("/orders").status_code for _ in range(3)] == [503, 429, 200]
    throttled = shopify.call("{shop{id}}")
    assert (throttled.status_code, throttled.json["errors"][0]["extensions"]["code"]) == (200, "THROTTLED")
    assert "errors" not in shopify.call("{shop{id}}").json


def test_a_cut_connection_is_an_error_for_the_caller(woo: Woo) -> None:
    woo.store.faults.set({"cut": 1})

    with pytest.raises(ConnectionAbortedError):
        woo.get("/orders")
    assert woo.get("/orders").status_code == 200


def test_a_slow_answer_was_read_before_its_date(woo: Woo, world: World, clock: Clock) -> None:
    order = woo.store.place(note="before")
    woo.store.faults.set({"slow": 2})

    def meanwhile(seconds: float) -> None:
        clock.move(seconds)
        woo.store.change(order.id, "note", note="meanwhile")

    world.sleep = meanwhile
    answer = woo.get(f"/orders/{order.id}")

    assert answer.json["customer_note"] == "before"
    assert answer.headers["Date"] == "Tue, 24 Nov 2026 09:30:02 GMT"


def test_unknown_faults_are_refused(woo: Woo) -> None:
    with pytest.raises(ValueError, match="no fault called 'burn'"):
        woo.store.faults.set({"burn": 1})
    with pytest.raises(ValueError, match="negative"):
        woo.store.faults.set({"lose": -1})


def _small_world(clock: Clock) -> World:
    world = World(seed=3, now=clock)
    for platform in PLATFORMS:
        store = world.add_store(platform, skew_seconds=4)
        life.write_history(store, 25)
        if isinstance(store, WooStore):
            store.subscribe(name="n", topic="order.updated", delivery_url="http://g.test/h", secret="s")
        store.place()
    return world


def test_the_state_file_keeps_everything(clock: Clock, tmp_path: Path) -> None:
    world = _small_world(clock)
    path = tmp_path / "deep" / "state.json"
    sent = world.collect()[0]
    world.record(sent, 500)

    state.save(world, path)
    again = state.from_json(json.loads(path.read_text()), clock)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert state.to_json(again) == state.to_json(world)
    assert [store.truth() for store in again.stores.values()] == [store.truth() for store in world.stores.values()]
    assert [store.describe() for store in again.stores.values()] == [s.describe() for s in world.stores.values()]
    assert list(path.parent.iterdir()) == [path]


def test_what_was_on_its_way_is_sent_again_after_a_restart(clock: Clock) -> None:
    world = World(seed=3, now=clock)
    store = world.add_store("shopify")
    store.place()
    before = world.collect()

    again = state.from_json(json.loads(json.dumps(state.to_json(world))), clock)

    assert again.collect() == before


def test_orders_after_a_restart_are_new_ones(clock: Clock) -> None:
    world = _small_world(clock)
    again = state.from_json(state.to_json(world), clock)

    for store in again.stores.values():
        known = set(store.orders)
        assert store.place().id not in known


def test_a_file_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="another version"):
        state.from_json({"format": 0})


def _facts(store: Store) -> dict[str, bool]:
    orders = list(store.orders.values())
    oldest = min(order.created for order in orders)
    return {
        "older than 60 days": store.second() - oldest > 60 * 86400,
        "none from the future": all(order.updated <= store.second() for order in orders),
        "emoji": any("\U0001f98a" in order.billing.last_name for order in orders),
        "right to left": any(order.billing.first_name == "נועה" for order in orders),
        "guest": any(not order.billing.full_name and not order.email for order in orders),
        "refund": any(order.refunds for order in orders),
        "cancelled": any(order.cancelled for order in orders),
        "yen": any("JPY" in (order.currency, order.presentment_currency) for order in orders),
    }


def test_the_demo_opens_with_weeks_of_odd_orders(clock: Clock) -> None:
    world = World(seed=1, now=clock)
    life.open_demo_stores(world)

    for store in world.stores.values():
        assert 40 <= len(store.orders) <= 120
        assert _facts(store) == dict.fromkeys(_facts(store), True), store.platform
    shopify, woo = world.of("shopify")[0], world.of("woocommerce")[0]
    assert any(line.current == 0 for order in shopify.orders.values() for line in order.lines)
    assert any(order.source == "pos" for order in shopify.orders.values())
    assert {"awaiting-pickup", "trash"} <= {order.status for order in woo.orders.values()}
    assert world.collect() == []


def test_the_life_of_a_store_never_stops(clock: Clock) -> None:
    world = World(seed=2, now=clock)
    for platform in PLATFORMS:
        store = world.add_store(platform)
        for _ in range(60):
            clock.move(30)
            life.live_once(store, store.rng)
        assert len(store.orders) > 10


def test_a_page_of_100_whole_orders_is_quick(woo: Woo) -> None:
    """No time is asserted: rendering happens once for each version of an order, which is what makes it quick."""
    for _ in range(100):
        woo.store.place(quiet=True)
    woo.get("/orders", per_page=100)
    rendered: list[int] = []
    woo.store.render = lambda order: rendered.append(order.id) or {}  # type: ignore[method-assign,func-returns-value]

    assert len(woo.get("/orders", per_page=100).json) == 100
    assert rendered == []


def test_the_prose_of_the_modules_names_no_machine() -> None:
    """No host of a registry and no folder of the machine that made the files."""
    folder = Path(gateway.sandbox.__file__).parent
    bad = ("/" + "work/", "/" + "root/", "registry" + ".npmjs", "/tmp" + "/")
    found = [
        (path.name, word)
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in (".py", ".md", ".json", ".graphql", ".html", ".css")
        for word in bad
        if word in path.read_text()
    ]

    assert found == []
    assert sys.version_info >= (3, 11)
