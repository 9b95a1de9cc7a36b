"""Walks the whole URL map: headers everywhere, nothing for strangers, nothing of another account's."""

from __future__ import annotations

import re

import pytest

from gateway.web.security import CONTENT_SECURITY_POLICY
from tests.web.conftest import csrf_of, log_in
from tests.web.world import NOON

SECRET = "Secretive Sam"
PUBLIC = {
    "/login", "/healthz", "/readyz", "/metrics", "/api/docs", "/api/docs/openapi.json", "/install/woocommerce/callback",
    "/install/shopify", "/install/shopify/callback", "/invitation", "/forgot", "/reset",
    "/sign-up", "/welcome",
}  # fmt: skip
LEADS_OUT = "/stores/connect/woocommerce"
"""Its form's answer leads to the merchant's shop."""


@pytest.fixture
def theirs(world):
    """Another account with one of everything: the ids by the names that routes use."""
    scope = world.user("zoe@example.com", "Other Ltd")
    world.token(scope, "gw_of_zoe")
    log_in(world_client := _client(world), "zoe@example.com")
    assert world_client.get("/orders").status_code == 200
    store = world.store(scope, "Their store")
    order = world.order(scope, store, "#9001", name=SECRET)
    delivery = world.delivery(scope, store, body=SECRET.encode(), order_external_id="id #9001")
    run = world.run(scope, store, state="finished", finished_at=NOON, failed=1)
    world.failed_item(scope, run, "9001", "payload.field", SECRET)
    return {
        "order_id": order,
        "delivery_id": delivery,
        "run_id": run,
        "session_id": world.sql("SELECT id FROM sessions WHERE account_id = :a", a=scope.account_id)[0]["id"],
        "token_id": world.sql("SELECT id FROM api_tokens WHERE account_id = :a", a=scope.account_id)[0]["id"],
        "store": store,
        "request_id": world.sql(
            "INSERT INTO privacy_requests (account_id, connection_id, kind, ledger_key, received_at, due_at,"
            " state, export)"
            " VALUES (:account, :store, 'data_request', 'k', now(), now(), 'done', :export) RETURNING id",
            account=scope.account_id,
            store=store,
            export=SECRET.encode(),
        )[0]["id"],
        "store_id": store,
        "user_id": scope.user_id,
        "link_id": world.sql(
            "INSERT INTO links (account_id, purpose, email, role, token_hash, expires_at) VALUES (:account,"
            " 'invitation', 'x@example.com', 'viewer', 'h', now() + interval '1 day') RETURNING id",
            account=scope.account_id,
        )[0]["id"],
    }


def _client(world):
    return world.application.test_client()


@pytest.fixture(autouse=True)
def _world_knows_the_application(world, application):
    world.application = application


def routes(application):
    """(method, rule, names of its ids) of every route."""
    for rule in application.url_map.iter_rules():
        for method in sorted(rule.methods - {"HEAD", "OPTIONS"}):
            yield method, rule.rule, sorted(rule.arguments)


def address(rule, ids):
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(ids[found[1]]), rule)


def test_the_walk_knows_every_kind_of_id(application, theirs):
    assert {name for _, _, names in routes(application) for name in names} <= set(theirs)


def test_strangers_are_sent_to_the_log_in_or_refused(application, anonymous, theirs):
    for method, rule, _ in routes(application):
        if rule in PUBLIC:
            continue
        data = None
        if method == "POST" and not rule.startswith("/api/"):
            data = {"csrf_token": csrf_of(anonymous.get("/login").text)}

        answer = anonymous.open(address(rule, theirs), method=method, data=data)

        if rule.startswith("/api/"):
            assert answer.status_code == 401, rule
        else:
            assert answer.status_code == 302, rule
            assert answer.headers["Location"].startswith("/login"), rule
        assert SECRET not in answer.text, rule


def test_another_accounts_ids_open_nothing(application, browser, theirs, world, api):
    before = _state(world)
    token = csrf_of(browser.get("/settings").text)
    for method, rule, names in routes(application):
        if not names:
            continue
        path = address(rule, theirs)

        if rule.startswith("/api/v1"):
            answer = api(path.removeprefix("/api/v1"), method=method)
        else:
            answer = browser.open(path, method=method, data={"csrf_token": token} if method == "POST" else None)

        assert answer.status_code in (403, 404), f"{method} {path}"
        assert SECRET not in answer.text, path
    assert _state(world) == before


def test_lists_hold_nothing_of_another_accounts(application, browser, theirs, api):
    for method, rule, names in routes(application):
        if names or method != "GET" or rule in PUBLIC:
            continue
        for query in ("", f"?store={theirs['store']}", f"?store_id={theirs['store']}", "?q=Secretive", "?q=9001",
                      f"?runs={theirs['run_id']}"):  # fmt: skip
            answer = (api(rule.removeprefix("/api/v1") + query) if rule.startswith("/api/v1")
                      else browser.get(rule + query))  # fmt: skip

            assert SECRET not in answer.text, rule + query
            assert "Their store" not in answer.text, rule + query
            assert "#9001" not in answer.text.replace('value="9001"', ""), rule + query


def test_nobody_starts_a_sync_of_another_accounts_store(send, api, theirs, world):
    before = _state(world)

    assert send("/orders/sync", store=theirs["store"], days=7).status_code == 404
    assert api("/sync-runs", "POST", json={"store_id": theirs["store"], "days": 7}).status_code == 404
    send("/orders/sync", store="all", days=7)
    assert api("/sync-runs/all-stores", "POST", json={"days": 7}).json == {"sync_runs": []}
    assert _state(world) == before


def test_every_answer_has_the_security_headers(application, browser, theirs):
    for method, rule, _ in routes(application):
        answer = browser.open(address(rule, theirs), method=method)

        policy = answer.headers["Content-Security-Policy"]
        if rule.startswith(LEADS_OUT):
            policy = policy.replace("form-action 'self' https:", "form-action 'self'")
        assert policy == CONTENT_SECURITY_POLICY, rule
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert "camera=()" in answer.headers["Permissions-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"


def test_a_viewer_changes_nothing(application, world, maya):
    viewer = world.user("vic@example.com", role="viewer")
    store = world.store(viewer)
    delivery = world.delivery(viewer, store, state="dead")
    client = application.test_client()
    log_in(client, "vic@example.com")
    token = csrf_of(client.get("/settings").text)

    for path, fields in ((f"/deliveries/{delivery}/replay", {}), ("/orders/sync", {"store": store, "days": 7})):
        answer = client.post(path, data={**fields, "csrf_token": token})
        assert answer.status_code == 403
        assert "Your role in this account is viewer." in answer.text
    assert world.sql("SELECT state FROM deliveries")[0]["state"] == "dead"
    assert world.sql("SELECT 1 FROM sync_runs") == []


def _state(world):
    return [
        world.sql("SELECT id, state, attempts FROM deliveries ORDER BY id"),
        world.sql("SELECT id, revoked_at FROM sessions ORDER BY id"),
        world.sql("SELECT id, revoked_at FROM api_tokens ORDER BY id"),
        world.sql("SELECT id, state FROM sync_runs ORDER BY id"),
        world.sql("SELECT id, role FROM users ORDER BY id"),
        world.sql("SELECT id FROM links ORDER BY id"),
    ]
