"""Webhooks that a store switched off, lost or changed are found and mended, and what was missed is caught up."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text

from gateway.connections import connect_woocommerce, subscriptions
from gateway.domain.scope import AccountScope
from gateway.sandbox.woocommerce import TOPICS


@pytest.fixture
def store(people, access, shop) -> int:
    """The connected shop's id, all quiet."""
    scope = people.user()
    pair = (shop.consumer_key, shop.consumer_secret)
    store_id = connect_woocommerce.connect_with_keys(access, scope, shop.url, *pair)
    people.sql("UPDATE connections SET catch_up_wanted_at = NULL, audit_wanted_at = NULL")
    return store_id


def hook(shop, topic):
    return next(each for each in shop.webhooks.values() if each.topic == topic)


def state(people):
    return people.sql("SELECT state, state_problem, catch_up_wanted_at IS NOT NULL AS wanted FROM connections")[0]


def four_active(shop, people):
    [row] = people.sql("SELECT key FROM connections")
    return sorted((h.topic, h.status) for h in shop.webhooks.values()) == sorted((t, "active") for t in TOPICS) and {
        h.delivery_url.rsplit("/", 1)[1] for h in shop.webhooks.values()
    } == {row["key"]}


def test_what_is_sound_is_left_alone(access, store, shop, people):
    before = {each.id: (each.modified, each.secret) for each in shop.webhooks.values()}

    assert subscriptions.audit(access, store) == "sound"

    assert {each.id: (each.modified, each.secret) for each in shop.webhooks.values()} == before
    assert not state(people)["wanted"], "no catch-up without a cause"
    assert people.sql("SELECT audited_at IS NOT NULL AS done FROM connections") == [{"done": True}]


def test_a_disabled_webhook_is_made_anew_because_its_count_of_failures_stays(access, store, shop, people):
    """Capture woocommerce-pairs/17: after PUT active one more failure disables it again."""
    broken = hook(shop, "order.updated")
    broken.status, broken.failure_count = "disabled", 6

    assert subscriptions.audit(access, store) == "repaired"

    assert four_active(shop, people)
    assert hook(shop, "order.updated").id != broken.id
    assert hook(shop, "order.updated").failure_count == 0
    assert state(people)["wanted"], "what was missed meanwhile is never sent again"


def test_a_paused_webhook_is_switched_on(access, store, shop, people):
    paused = hook(shop, "order.created")
    paused.status = "paused"

    assert subscriptions.audit(access, store) == "repaired"

    assert hook(shop, "order.created") is paused
    assert four_active(shop, people)


def test_a_deleted_webhook_is_made_again(access, store, shop, people):
    del shop.webhooks[hook(shop, "order.deleted").id]

    assert subscriptions.audit(access, store) == "repaired"

    assert four_active(shop, people)


def test_doubles_go_and_the_working_one_stays(access, store, shop, people):
    good = hook(shop, "order.updated")
    with shop.world.lock:
        double = shop._add_webhook("again", "order.updated", good.delivery_url, "other", "active")
        dead = shop._add_webhook("dead", "order.updated", good.delivery_url, "other", "disabled")

    assert subscriptions.audit(access, store) == "repaired"

    assert four_active(shop, people)
    assert good.id in shop.webhooks
    assert {double.id, dead.id}.isdisjoint(shop.webhooks)


def test_a_gateway_that_moved_finds_its_webhooks_under_the_old_address(access, store, shop, people):
    for each in shop.webhooks.values():
        each.delivery_url = each.delivery_url.replace("http://127.0.0.1", "https://old.gateway.example")

    assert subscriptions.audit(access, store) == "repaired"

    assert four_active(shop, people)
    assert all(each.delivery_url.startswith(access.public_url) for each in shop.webhooks.values())


def test_other_apps_webhooks_are_left_alone(access, store, shop, people):
    with shop.world.lock:
        others = [
            shop._add_webhook("erp", "order.updated", "https://erp.example/hook", "x", "disabled"),
            shop._add_webhook(
                "mail", "order.created", "https://mail.example/webhooks/woocommerce/other", "x", "paused"
            ),
            shop._add_webhook("bad", "order.created", "https://[bad", "x", "active"),
        ]
    hook(shop, "order.created").status = "disabled"
    before = [(each.id, each.status, each.delivery_url, each.secret) for each in others]

    assert subscriptions.audit(access, store) == "repaired"

    assert [(each.id, each.status, each.delivery_url, each.secret) for each in others] == before
    assert all(each.id in shop.webhooks for each in others)
    assert subscriptions.audit(access, store) == "sound"


def test_ours_are_found_behind_a_hundred_others(access, store, shop):
    with shop.world.lock:
        for n in range(120):
            shop._add_webhook(f"{n}", "order.updated", f"https://erp.example/{n}", "x", "active")

    assert subscriptions.audit(access, store) == "sound"
    assert len(shop.webhooks) == 124


def test_a_secret_that_somebody_changed_is_set_again(access, store, shop, people):
    [row] = people.sql("SELECT hook_secrets FROM connections")
    [secret] = access.vault.open_list(bytes(row["hook_secrets"]))
    hook(shop, "order.updated").secret = "changed by hand"
    people.sql(
        "INSERT INTO signature_failures (platform, connection_id, day, reason, count)"
        " SELECT 'woocommerce', id, date_trunc('day', now()), 'webhook.signature_wrong', 1 FROM connections"
    )
    people.sql("UPDATE connections SET audit_wanted_at = now()")

    assert subscriptions.audit(access, store) == "repaired"

    assert hook(shop, "order.updated").secret == secret
    assert subscriptions.audit(access, store) == "sound", "the count of the day does not repair each hour"


def test_keys_that_were_revoked_are_the_merchants_to_mend(access, store, shop, people):
    shop.consumer_key = "ck_" + "0" * 40

    assert subscriptions.audit(access, store) == "unknown"

    assert state(people)["state"] == "action_needed"
    assert state(people)["state_problem"] == "connection.token_revoked"


def test_a_state_that_a_failed_call_set_is_lifted_by_one_that_worked(access, store, shop, people):
    key = shop.consumer_key
    shop.consumer_key = "ck_" + "0" * 40
    subscriptions.audit(access, store)
    shop.consumer_key = key

    assert subscriptions.audit(access, store) == "sound"

    assert (state(people)["state"], state(people)["state_problem"]) == ("connected", None)


def test_a_store_that_is_down_for_a_moment_changes_nothing(access, store, shop, people):
    shop.faults.server_error = 5
    before = dict(shop.webhooks)

    assert subscriptions.audit(access, store) == "unknown"

    assert state(people)["state"] == "connected"
    assert shop.webhooks == before


def test_two_audits_at_once_make_nothing_twice(access, store, shop, people):
    shop.webhooks.clear()

    threads = [threading.Thread(target=subscriptions.audit, args=(access, store)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert four_active(shop, people)


# --- when --------------------------------------------------------------------------------------------------------
def waiting(people):
    return [
        row["args"]["connection_id"]
        for row in people.sql("SELECT args FROM procrastinate_jobs WHERE task_name = 'subscriptions.audit'")
    ]


def test_at_the_start_every_store_is_audited(access, store, people):
    people.store(
        AccountScope(people.sql("SELECT id FROM accounts")[0]["id"]), "gone", "woocommerce", state="disconnected"
    )
    people.store(AccountScope(people.sql("SELECT id FROM accounts")[0]["id"]), "etsy", "etsy")

    assert subscriptions.queue(access, wanted_only=False) == 1
    assert subscriptions.queue(access, wanted_only=False) == 0, "one waits already"
    assert waiting(people) == [store]


def test_an_answer_but_a_2xx_wishes_an_audit_and_a_catch_up(access, store, shop, people, application):
    """The seventh refusal disables the webhook; nobody waits for the hour."""
    hook(shop, "order.created").secret = "changed by hand"

    shop.place()
    for _ in range(100):
        if people.sql("SELECT 1 FROM connections WHERE audit_wanted_at IS NOT NULL AND catch_up_wanted_at IS NOT NULL"):
            break
        shop.world.wait(0.05)

    assert subscriptions.queue(access, wanted_only=True) == 1
    assert waiting(people) == [store]


def test_strangers_do_not_make_us_call_the_store_as_often_as_they_like(access, store, people):
    subscriptions.audit(access, store)
    people.sql("UPDATE connections SET audit_wanted_at = now()")

    assert subscriptions.queue(access, wanted_only=True) == 0

    people.sql("UPDATE connections SET audited_at = now() - interval '61 seconds'")
    assert subscriptions.queue(access, wanted_only=True) == 1


def test_the_audit_is_a_job_of_every_hour():
    periodic = {task.task.name: task.cron for task in subscriptions.jobs.app.periodic_registry.periodic_tasks.values()}

    assert periodic["subscriptions.audit_all"] == "7 * * * *"


def test_seven_refusals_disable_and_the_audit_mends_it(access, store, shop, people):
    """The whole story over real HTTP: the shop switches its webhook off, and it is on again with nothing missed."""
    updated = hook(shop, "order.updated")
    updated.secret = "changed by hand"
    order = shop.place(quiet=True)
    for _ in range(400):
        if updated.status == "disabled":
            break
        if not shop.world.waiting(shop):
            shop.change(order.id, "meta")
        shop.world.wait(0.05)
    assert updated.status == "disabled"

    assert subscriptions.audit(access, store) == "repaired"

    assert four_active(shop, people)
    assert state(people)["wanted"]
    with access.database.transaction() as tx:
        assert tx.execute(text("SELECT count(*) FROM subscriptions")).scalar() == 4
