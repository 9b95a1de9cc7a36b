"""What each role may do and see, on pages and through the API."""

from __future__ import annotations

import pytest

from gateway.domain.scope import PERMISSIONS, AccountScope
from tests.web.conftest import csrf_of, log_in

MARKED = "Zebrafink"


@pytest.fixture
def by_role(application, world):
    """Someone of each role in one account, with a browser and a token; one order that names a person."""
    owner = world.user("olga@example.com")
    store = world.store(owner)
    order = world.order(owner, store, name=f"Ida {MARKED}", email="zebrafink@example.com", note=f"for {MARKED}")
    world.order(owner, store, name=f"Ada {MARKED}", email="zebrafink@example.com", note="later", title="Vase",
                updated_at=_later())  # fmt: skip
    delivery = world.delivery(owner, store, body=MARKED.encode(), order_external_id="id #1001")
    with world.database.transaction() as tx:
        from gateway.orders import feed

        feed.sequence(tx)
    run = world.run(owner, store, state="stopped", problem="sync.stopped")
    made = {"store": store, "order": order, "delivery": delivery, "run": run}
    for role in PERMISSIONS:
        email = f"{role}@example.com"
        scope = world.user(email, role=role)
        client = application.test_client()
        log_in(client, email)
        token = world.token(scope, f"gw_of_{role}")
        made[role] = client, {"Authorization": f"Bearer {token}"}
    return made


def _later():
    from datetime import timedelta

    from tests.web.world import NOON

    return NOON + timedelta(hours=1)


PAGES = ("/orders", "/orders?q=zebrafink", "/orders/{order}", "/deliveries/{delivery}", "/deliveries")
API = (
    "/api/v1/orders", "/api/v1/orders?q=zebrafink", "/api/v1/orders/{order}", "/api/v1/orders/{order}/changes",
    "/api/v1/changes", "/api/v1/deliveries/{delivery}", "/api/v1/deliveries",
)  # fmt: skip


@pytest.mark.parametrize("role", ["owner", "manager"])
def test_who_may_see_people_sees_them(by_role, role):
    client, headers = by_role[role]
    assert MARKED in client.get("/orders").text
    assert MARKED in client.get(f"/orders/{by_role['order']}").text
    assert MARKED in client.get(f"/deliveries/{by_role['delivery']}").text
    assert client.get("/api/v1/orders?q=zebrafink", headers=headers).json["orders"] != []
    for path in ("/api/v1/orders/{order}", "/api/v1/orders/{order}/changes", "/api/v1/changes"):
        assert MARKED in client.get(path.format(**by_role), headers=headers).text, path


def test_a_viewer_sees_orders_and_nobody_in_them(by_role):
    client, headers = by_role["viewer"]
    for path in PAGES:
        answer = client.get(path.format(**by_role))
        assert answer.status_code == 200, path
        assert MARKED not in answer.text.replace('value="zebrafink"', ""), path
    for path in API:
        answer = client.get(path.format(**by_role), headers=headers)
        assert answer.status_code == 200, path
        assert MARKED.lower() not in answer.text.lower(), path
    assert client.get("/api/v1/orders", headers=headers).json["orders"][0]["customer_name"] is None
    assert client.get("/api/v1/orders?q=1001", headers=headers).json["orders"] != []
    assert client.get("/api/v1/orders?q=zebrafink", headers=headers).json["orders"] == []


@pytest.mark.parametrize(
    ("path", "fields", "permission"),
    [
        ("/orders/sync", {"store": "{store}", "days": "7"}, "sync"),
        ("/orders/sync", {"store": "all", "days": "7"}, "sync"),
        ("/orders/sync/{run}/stop", {}, "sync"),
        ("/orders/sync/{run}/resume", {}, "sync"),
        ("/orders/sync/{run}/retry-failed", {}, "sync"),
        ("/deliveries/{delivery}/replay", {}, "sync"),
        ("/orders/{order}/read-again", {}, "sync"),
        ("/stores/connect/woocommerce", {"url": ""}, "connect_stores"),
        ("/stores/{store}/disconnect", {}, "connect_stores"),
        ("/install/claim", {}, "connect_stores"),
        ("/settings/privacy", {"store": "{store}", "kind": "redact"}, "erase"),
    ],
)
def test_what_a_role_may_not_do_is_refused_and_said(by_role, path, fields, permission):
    for role in PERMISSIONS:
        client, _ = by_role[role]
        token = csrf_of(client.get("/settings").text)
        form = {name: value.format(**by_role) for name, value in fields.items()}

        answer = client.post(path.format(**by_role), data={**form, "csrf_token": token})

        if AccountScope(1, 1, role).may(permission):
            assert answer.status_code != 403, (role, path)
        else:
            assert answer.status_code == 403, (role, path)
            assert f"Your role in this account is {role}." in answer.text


def test_what_a_role_may_not_do_with_runs_is_refused_by_the_api_too(by_role, world):
    _, headers = by_role["viewer"]
    client = by_role["viewer"][0].application.test_client()
    body = {"store_id": by_role["store"], "days": 7}
    for path, sent in (("", body), ("/all-stores", {"days": 7}), (f"/{by_role['run']}/stop", None),
                       (f"/{by_role['run']}/resume", None), (f"/{by_role['run']}/retry-failed", None)):  # fmt: skip
        answer = client.post(f"/api/v1/sync-runs{path}", json=sent, headers=headers)
        assert (answer.status_code, answer.json["code"]) == (403, "web.not_allowed"), path
    assert [row["state"] for row in world.sql("SELECT state FROM sync_runs")] == ["stopped"]


def test_buttons_that_one_may_not_use_are_not_there(by_role):
    client, _ = by_role["viewer"]

    assert "Replay" not in client.get(f"/deliveries/{by_role['delivery']}").text
    assert "Resume</button>" not in client.get(f"/orders/sync/{by_role['run']}").text
    assert "Start Syncing Your Stores" not in client.get("/orders/sync").text
    assert "Connect a store" not in client.get("/stores").text
    assert "Test connection" not in client.get("/stores").text
    assert "Privacy" not in client.get("/settings").text
    assert "Privacy" not in by_role["manager"][0].get("/settings").text


def test_lists_that_name_people_are_noted_with_how_many(by_role, world):
    manager, headers = by_role["manager"]
    _, viewers = by_role["viewer"]
    owner, _ = by_role["owner"]
    for paths, by in (
        (("/api/v1/orders", f"/api/v1/orders/{by_role['order']}/changes", "/api/v1/changes"), headers),
        (("/api/v1/orders",), viewers),  # sees nobody
        (("/api/v1/orders?q=nobody",), headers),
    ):
        for path in paths:
            assert manager.get(path, headers=by).status_code == 200
    owner.get(f"/settings/privacy?store={by_role['store']}&q=1001")
    manager.get("/orders")
    manager.get("/orders?q=nobody")

    rows = world.sql(
        "SELECT u.email, a.action, a.subject_id, a.by_api FROM audit a JOIN users u ON u.id = a.user_id ORDER BY a.id"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("manager@example.com", "orders", 1, True),
        ("manager@example.com", "changes", by_role["order"], True),
        ("manager@example.com", "feed", 1, True),
        ("owner@example.com", "search", 1, False),
        ("manager@example.com", "orders", 1, False),
    ]
    page = owner.get("/settings/audit").text
    assert "1 order in a list" in page
    assert "1 order, looked for under Privacy" in page


def test_each_look_at_a_person_is_noted_with_who_and_how(by_role, world):
    manager, headers = by_role["manager"]
    viewer, _ = by_role["viewer"]
    manager.get(f"/orders/{by_role['order']}")
    manager.get(f"/api/v1/orders/{by_role['order']}", headers=headers)
    manager.get(f"/deliveries/{by_role['delivery']}")
    viewer.get(f"/orders/{by_role['order']}")  # sees nobody
    manager.get("/orders/999999")

    rows = world.sql(
        "SELECT u.email, a.action, a.subject_id, a.by_api FROM audit a JOIN users u ON u.id = a.user_id ORDER BY a.id"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("manager@example.com", "order", by_role["order"], False),
        ("manager@example.com", "order", by_role["order"], True),
        ("manager@example.com", "delivery", by_role["delivery"], False),
    ]
    owner, _ = by_role["owner"]
    page = owner.get("/settings/audit").text
    assert page.count("manager@example.com") == 3
    assert "#1001" in page
    assert manager.get("/settings/audit").status_code == 403
