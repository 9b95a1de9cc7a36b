"""The API: schemas, cursors, Problems, the feed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.orders.feed import sequence
from tests.web.world import NOON

ORDER_FIELDS = {"id", "store_id", "external_id", "number", "placed_at", "updated_at", "as_of", "changed_at",
                "payment_status", "fulfilment_status", "currency", "total", "item_count", "customer_name"}  # fmt: skip


def test_an_order_has_amounts_as_texts_and_times_with_a_z(api, world, maya):
    order = world.order(maya, world.store(maya), total="84.50")

    found = api("/orders").json["orders"]

    assert set(found[0]) == ORDER_FIELDS
    assert found[0]["total"] == "84.50"
    assert found[0]["placed_at"] == "2026-11-24T12:00:00Z"
    whole = api(f"/orders/{order}").json
    assert whole["core"]["lines"][0]["unit_price"] == "26.50"
    assert whole["person"]["email"] == "ines@example.com"
    assert whole["removed_at"] is None


def test_a_reader_gets_every_order_once(api, world, maya):
    store = world.store(maya)
    made = {world.order(maya, store, f"#{n}") for n in range(7)}

    seen, cursor = [], None
    while True:
        page = api("/orders", query_string={"limit": 3, **({"cursor": cursor} if cursor else {})}).json
        seen += [order["id"] for order in page["orders"]]
        if (cursor := page["next_cursor"]) is None:
            break

    assert len(seen) == 7
    assert set(seen) == made


def test_every_filter_narrows(api, world, maya):
    store = world.store(maya)
    world.order(maya, store, "#1", payment="paid", fulfilment="fulfilled")
    world.order(maya, store, "#2", payment="pending", at=NOON + timedelta(hours=1))

    def numbers(**query):
        return [order["number"] for order in api("/orders", query_string=query).json["orders"]]

    assert numbers(payment_status="paid") == ["#1"]
    assert numbers(fulfilment_status="unfulfilled") == ["#2"]
    assert numbers(store_id=store) == ["#2", "#1"]
    assert numbers(store_id=store + 1) == []
    assert numbers(placed_from="2026-11-24T13:00:00Z") == ["#2"]
    assert numbers(placed_until="2026-11-24T14:00:00+01:00") == ["#1"]
    assert numbers(updated_from="2026-11-24T12:30:00Z") == ["#2"]
    assert numbers(q="2") == ["#2"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/orders?limit=201", 422, "web.invalid"),
        ("/orders?limit=0", 422, "web.invalid"),
        ("/orders?payment_status=nonsense", 422, "web.invalid"),
        ("/orders?placed_from=2026-11-24T12:00:00", 422, "web.invalid"),
        ("/orders?store_id=99999999999999999999", 422, "web.invalid"),
        ("/orders?cursor=nonsense", 422, "web.bad_cursor"),
        ("/deliveries?cursor=-1", 422, "web.bad_cursor"),
        ("/changes?after=nonsense", 422, "web.bad_cursor"),
        ("/orders/1", 404, "web.not_found"),
        ("/nothing", 404, "web.not_found"),
    ],
)
def test_a_mistake_is_answered_with_its_problem(api, path, status, code):
    answer = api(path)

    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert answer.json["code"] == code
    assert answer.json["status"] == status
    assert {"type", "title", "detail", "cause", "fix", "retry"} <= set(answer.json)


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer nonsense", "Basic Z3dfb2ZfbWF5YQ==", "gw_of_maya"])
def test_without_a_valid_token_nothing_is_told(application, world, maya, header):
    world.token(maya)

    answer = application.test_client().get("/api/v1/orders", headers={"Authorization": header} if header else {})

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json["code"] == "api.unauthorized"


def test_a_revoked_token_and_a_browsers_cookie_open_nothing(api, browser, world):
    world.sql("UPDATE api_tokens SET revoked_at = now()")

    assert api("/orders").status_code == 401
    assert browser.get("/api/v1/orders").status_code == 401


def test_starting_a_sync_gives_the_run_and_again_the_same(api, world, maya):
    store = world.store(maya)

    first = api("/sync-runs", "POST", json={"store_id": store, "days": 7})
    second = api("/sync-runs", "POST", json={"store_id": store, "days": 7})
    third = api("/sync-runs", "POST", json={"store_id": store, "days": 14})

    assert (first.status_code, second.status_code, third.status_code) == (202, 200, 202)
    assert first.json["id"] == second.json["id"]
    assert first.json["state"] == "queued"
    assert first.json["requested_by"] == "maya@example.com"
    assert third.json["waits_for"] == first.json["id"]


@pytest.mark.parametrize("body", [{}, {"store_id": 1}, {"store_id": "1", "days": 7}, {"store_id": 1, "days": 8},
                                  {"store_id": 1, "days": 7, "more": 1}, [], "x", None])  # fmt: skip
def test_a_sync_that_is_asked_for_wrongly_names_what_is_wrong(api, world, maya, body):
    answer = api("/sync-runs", "POST", json=body)

    assert answer.status_code == 422
    assert answer.json["errors"]["json"]
    assert world.sql("SELECT 1 FROM sync_runs") == []


def test_a_disconnected_store_is_a_conflict_with_what_to_do(api, world, maya):
    store = world.store(maya, state="disconnected")

    answer = api("/sync-runs", "POST", json={"store_id": store, "days": 7})

    assert answer.status_code == 409
    assert answer.json["code"] == "store.not_connected"
    assert answer.json["retry"] == "after_fix"


def test_a_finished_run_has_its_line_counters_verdict_and_failures(api, world, maya):
    store = world.store(maya)
    run = world.run(maya, store, state="finished", finished_at=NOON, created=12, updated=3, failed=1, listed=16,
                    verdict="complete")  # fmt: skip
    world.failed_item(maya, run, "5512", "payload.not_an_order", "it is not a JSON object")

    found = api(f"/sync-runs/{run}").json

    assert found["result"] == (
        "Synchronize 2026-11-24 12:00 complete, Plan execution: Total additions 12, To update 3, fail 1"
    )
    assert found["counters"]["listed"] == 16
    assert found["verdict"] == "complete"
    assert found["failed_items"][0]["external_id"] == "5512"
    assert found["failed_items"][0]["code"] == "payload.not_an_order"
    assert [one["id"] for one in api("/sync-runs").json["sync_runs"]] == [run]


def test_a_run_is_asked_for_with_all_choices_and_shows_them(api, world, maya):
    store = world.store(maya)
    body = {"store_id": store, "days": 30, "deep": True, "quiet": False, "preview": True}

    found = api("/sync-runs", "POST", json=body).json

    assert {name: found[name] for name in ("kind", "days", "deep", "quiet", "parent_id", "stage")} == {
        "kind": "preview", "days": 30, "deep": True, "quiet": False, "parent_id": None, "stage": "listing"
    }  # fmt: skip
    assert api("/sync-runs", "POST", json={"store_id": store, "days": 30}).json["quiet"] is True


def test_all_stores_get_a_run_each(api, world, maya):
    stores = [world.store(maya, "Alder"), world.store(maya, "Birch")]
    world.store(maya, "Cedar", state="disconnected")

    first = api("/sync-runs/all-stores", "POST", json={"days": 14, "deep": True})
    second = api("/sync-runs/all-stores", "POST", json={"days": 14, "deep": True})

    assert first.status_code == 202
    assert [(run["store_id"], run["days"], run["deep"]) for run in first.json["sync_runs"]] == [
        (store, 14, True) for store in stores
    ]
    assert second.json == first.json
    assert api("/sync-runs/all-stores", "POST", json={"days": 14, "store_id": 1}).status_code == 422


def test_a_run_is_stopped_resumed_and_its_failed_orders_are_retried(api, world, maya):
    run = world.run(maya, world.store(maya), state="running", checkpoint="{}")

    stopped = [api(f"/sync-runs/{run}/stop", "POST") for _ in range(2)]
    resumed = [api(f"/sync-runs/{run}/resume", "POST") for _ in range(2)]

    assert [(one.status_code, one.json["state"], one.json["problem"]) for one in stopped] == [
        (200, "stopped", "sync.stopped")
    ] * 2
    assert [(one.status_code, one.json["state"], one.json["problem"]) for one in resumed] == [(202, "queued", None)] * 2
    world.sql("UPDATE sync_runs SET state = 'finished', finished_at = now(), failed = 1, verdict = 'incomplete',"
              " problem_detail = 'why'")  # fmt: skip
    assert api(f"/sync-runs/{run}/resume", "POST").json["code"] == "sync.not_resumed"
    first, second = (api(f"/sync-runs/{run}/retry-failed", "POST") for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 200)
    assert (first.json["kind"], first.json["parent_id"]) == ("retry", run)
    found = api(f"/sync-runs/{run}").json
    assert found["retries"] == [first.json["id"]] == [second.json["id"]]
    assert (found["verdict_detail"], found["problem_detail"]) == ("why", None)
    nothing = api(f"/sync-runs/{first.json['id']}/retry-failed", "POST")
    assert (nothing.status_code, nothing.json["code"]) == (409, "sync.nothing_failed")


def test_a_reader_gets_every_run_once(api, world, maya):
    store, other = world.store(maya), world.store(maya, "Other")
    made = [world.run(maya, store, state="finished", finished_at=NOON) for _ in range(5)]
    world.run(maya, other, kind="catch_up", days=None)

    seen, cursor = [], None
    while True:
        query = {"limit": 2, "store_id": store, **({"cursor": cursor} if cursor else {})}
        page = api("/sync-runs", query_string=query).json
        seen += [run["id"] for run in page["sync_runs"]]
        if (cursor := page["next_cursor"]) is None:
            break

    assert seen == made[::-1]
    assert [run["store_id"] for run in api("/sync-runs?kind=catch_up").json["sync_runs"]] == [other]
    assert api("/sync-runs?kind=nonsense").status_code == 422
    assert api("/sync-runs?cursor=nonsense").json["code"] == "web.bad_cursor"


def test_deliveries_are_listed_shown_and_replayed(api, world, maya):
    delivery = world.delivery(maya, world.store(maya), state="dead", problem="webhook.no_order_id")

    assert [one["id"] for one in api("/deliveries?state=dead").json["deliveries"]] == [delivery]
    assert api(f"/deliveries/{delivery}").json["headers"][1] == ["X-Shopify-Hmac-Sha256", "••••••••"]
    replayed = api(f"/deliveries/{delivery}/replay", "POST")
    assert (replayed.status_code, replayed.json["state"]) == (202, "waiting")


def test_stores_tell_their_state_and_no_secret(api, world, maya):
    world.store(maya, credentials=b"top secret")

    answer = api("/stores")

    assert answer.json["stores"][0]["state"] == "connected"
    assert "secret" not in answer.text
    assert "credentials" not in answer.json["stores"][0]


def test_an_orders_changes_name_both_sides(api, world, maya):
    store = world.store(maya)
    order = world.order(maya, store)
    world.order(maya, store, payment="refunded", updated_at=NOON + timedelta(hours=1))

    first = api(f"/orders/{order}/changes?limit=1").json
    second = api(f"/orders/{order}/changes?limit=1&cursor={first['next_cursor']}").json

    assert first["changes"][0]["fields"] == [{"field": "payment_status", "from": "paid", "to": "refunded"}]
    assert second["changes"][0]["kind"] == "created"
    assert second["next_cursor"] is None


def test_the_feed_gives_each_change_once_and_goes_on_where_it_ended(api, world, maya, database):
    store = world.store(maya)
    other = world.user("zoe@example.com", "Other Ltd")
    world.order(other, world.store(other, "Theirs"))
    for n in range(3):
        world.order(maya, store, f"#{n}")
    with database.transaction() as tx:
        sequence(tx)

    first = api("/changes?limit=2").json
    second = api(f"/changes?limit=2&after={first['cursor']}").json
    world.order(maya, store, "#late")
    with database.transaction() as tx:
        sequence(tx)
    third = api(f"/changes?after={second['cursor']}").json

    assert [change["number"] for page in (first, second, third) for change in page["changes"]] == [
        "#0", "#1", "#2", "#late"
    ]  # fmt: skip
    assert (first["has_more"], second["has_more"]) == (True, False)


def test_a_feed_that_started_over_says_so(api, world):
    cursor = api("/changes").json["cursor"]
    world.sql("UPDATE feed_state SET generation = 'another'")

    answer = api(f"/changes?after={cursor}")

    assert answer.status_code == 410
    assert answer.json["code"] == "feed.started_over"
    assert "Start over" in answer.json["fix"]


def test_the_description_is_openapi_3_1_and_names_every_route(anonymous, application):
    spec = anonymous.get("/api/docs/openapi.json").json

    assert spec["openapi"] == "3.1.0"
    described = {(path, method.upper()) for path, item in spec["paths"].items() for method in item}
    routed = {
        (rule.rule.replace("<id:", "{").replace(">", "}"), method)
        for rule in application.url_map.iter_rules()
        if rule.rule.startswith("/api/v1")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert routed <= described
    page = anonymous.get("/api/docs").text
    assert "POST /api/v1/sync-runs" in page
    assert 'id="feed.started_over"' in page
