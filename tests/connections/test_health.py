"""Health: what loses webhooks or falls silent is degraded, said, mailed once, and lifted when it is over."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from werkzeug.wrappers import Response

from gateway.connections import health, model

NOW = datetime.now(UTC)


@pytest.fixture
def maya_scope(people):
    return people.user()


@pytest.fixture
def store(people, maya_scope):
    return people.store(maya_scope, platform="woocommerce")


def judged(access, people):
    with access.database.transaction() as tx:
        health.judge(tx)
    return people.sql("SELECT state, state_problem FROM connections")[0]


def webhooks(people, scope, store, *ages_in_hours):
    for age in ages_in_hours:
        people.delivery(scope, store, received_at=NOW - timedelta(hours=age))


def run(people, scope, store, **values):
    people.run(scope, store, state="finished", finished_at=NOW, **values)


def test_a_store_whose_changes_only_syncs_find_is_degraded_until_it_is_over(access, people, maya_scope, store):
    webhooks(people, maya_scope, store, *[1] * 10)
    run(people, maya_scope, store, missed=4)
    assert judged(access, people)["state"] == "connected"  # a few are lost everywhere

    run(people, maya_scope, store, missed=3)
    assert judged(access, people) == {"state": "degraded", "state_problem": "connection.webhooks_missed"}

    people.sql("UPDATE sync_runs SET finished_at = finished_at - interval '2 days'")
    assert judged(access, people) == {"state": "connected", "state_problem": None}


def test_a_few_of_very_many_are_nothing(access, people, maya_scope, store):
    webhooks(people, maya_scope, store, *[2] * 200)
    run(people, maya_scope, store, missed=8)

    assert judged(access, people)["state"] == "connected"


def test_webhooks_that_contradict_what_the_store_shows_are_noticed(access, people, maya_scope, store):
    webhooks(people, maya_scope, store, *[1] * 40)
    people.sql(
        "INSERT INTO misses (account_id, connection_id, day, contradicted) VALUES (:account, :store, now(), 4)"
        " RETURNING 1",
        account=maya_scope.account_id, store=store,
    )  # fmt: skip
    assert judged(access, people)["state"] == "connected"

    people.sql("UPDATE misses SET contradicted = 5 RETURNING 1")
    assert judged(access, people) == {"state": "degraded", "state_problem": "connection.webhooks_contradict"}

    people.sql("UPDATE misses SET day = day - 3 RETURNING 1")
    assert judged(access, people) == {"state": "connected", "state_problem": None}


def test_etsy_tells_of_few_events_and_is_not_blamed(access, people, maya_scope):
    store = people.store(maya_scope, platform="etsy")
    run(people, maya_scope, store, missed=50)

    assert judged(access, people)["state"] == "connected"


def test_a_silence_far_beyond_the_stores_own_rhythm_is_noticed(access, people, maya_scope, store):
    webhooks(people, maya_scope, store, *[40 + hour for hour in range(30)])  # each hour, then 40 hours of nothing
    assert judged(access, people) == {"state": "degraded", "state_problem": "connection.webhooks_silent"}

    people.delivery(maya_scope, store, received_at=NOW)
    assert judged(access, people)["state"] == "connected"


def test_a_store_that_sells_now_and_then_may_be_quiet(access, people, maya_scope, store):
    webhooks(people, maya_scope, store, *[40 + 16 * pause for pause in range(18)], 300, 301, 302)

    assert judged(access, people)["state"] == "connected"


@pytest.mark.parametrize(
    ("platform", "days", "found"),
    [("shopify", 75, None), ("shopify", 77, "connection.access_runs_out"), ("etsy", 77, "connection.access_runs_out"),
     ("woocommerce", 77, None)],
)  # fmt: skip
def test_access_that_was_not_renewed_for_long_is_told_before_it_ends(access, people, maya_scope, platform, days, found):
    people.store(maya_scope, platform=platform)
    people.sql("UPDATE connections SET tokens_at = now() - :days * interval '1 day'", days=days)

    assert judged(access, people)["state_problem"] == found


def test_signatures_that_fail_while_nothing_else_arrives_are_told(access, people, maya_scope, store):
    people.sql(
        "INSERT INTO signature_failures (platform, connection_id, day, reason, count) VALUES"
        " ('woocommerce', :id, date_trunc('day', now()), 'webhook.signature_wrong', 5)", id=store,
    )  # fmt: skip
    assert judged(access, people)["state_problem"] == "connection.webhooks_missigned"

    people.delivery(maya_scope, store, received_at=NOW)  # a stranger's forgeries beside a store's webhooks are nothing
    assert judged(access, people)["state_problem"] is None


@pytest.mark.parametrize(("minutes", "found"), [(-4, None), (-6, "connection.clock_off"), (6, "connection.clock_off")])
def test_clocks_that_differ_are_told(access, people, maya_scope, store, minutes, found):
    people.sql("UPDATE connections SET skew_ms = :skew", skew=minutes * 60_000)

    assert judged(access, people)["state_problem"] == found


@pytest.mark.parametrize("problem", ["connection.webhooks_broken", "keys.read_only"])
def test_orders_that_can_be_read_say_nothing_of_webhooks(access, people, store, problem):
    with access.database.transaction() as tx:
        model.set_state(tx, store, "degraded", problem)
        model.works_again(tx, store)
    assert people.sql("SELECT state FROM connections")[0]["state"] == "degraded"

    with access.database.transaction() as tx:
        model.works_again(tx, store, webhooks=True)
    assert people.sql("SELECT state FROM connections")[0]["state"] == "connected"


@pytest.mark.parametrize("state", ["action_needed", "disconnected"])
def test_what_a_failed_call_said_is_not_overruled(access, people, maya_scope, store, state):
    people.sql("UPDATE connections SET state = :state, state_problem = 'connection.token_revoked'", state=state)
    webhooks(people, maya_scope, store, *[40 + hour for hour in range(30)])

    assert judged(access, people) == {"state": state, "state_problem": "connection.token_revoked"}


def test_a_call_that_works_lifts_what_a_failed_one_said_and_nothing_else(access, people, store):
    for problem, after in (("connection.token_revoked", "connected"), ("connection.webhooks_silent", "degraded")):
        with access.database.transaction() as tx:
            model.set_state(tx, store, "degraded", problem)
            model.works_again(tx, store)
        assert people.sql("SELECT state FROM connections")[0]["state"] == after


def told(access, people):
    with access.database.transaction() as tx:
        health.tell(tx, access)
    rows = people.sql("SELECT to_address, subject, body FROM mails ORDER BY id")
    return [
        (row["to_address"], row["subject"], access.vault.open_mapping(bytes(row["body"]))["text"]) for row in rows
    ]  # fmt: skip


def test_owners_are_told_once_when_it_lasts_and_once_when_it_is_over(access, people, maya_scope, store):
    people.user("ben@example.com", role="manager")
    with access.database.transaction() as tx:
        model.set_state(tx, store, "action_needed", "connection.token_revoked")
    assert told(access, people) == []  # a retry may end it

    people.sql("UPDATE connections SET state_since = now() - interval '1 hour'")
    ((to, subject, text),) = told(access, people)
    assert to == "maya@example.com"
    assert subject.startswith("Fern & Clay UK: ")
    assert "/stores" in text
    assert len(told(access, people)) == 1

    with access.database.transaction() as tx:
        model.works_again(tx, store)
    people.sql("UPDATE connections SET state_since = now() - interval '1 hour'")
    assert [mail[1] for mail in told(access, people)][1:] == ["Fern & Clay UK: works again"]


def test_a_store_that_somebody_takes_off_does_not_work_again(access, people, maya_scope, store):
    with access.database.transaction() as tx:
        model.set_state(tx, store, "action_needed", "connection.token_revoked")
    people.sql("UPDATE connections SET state_since = now() - interval '1 hour'")
    assert len(told(access, people)) == 1
    people.sql("UPDATE connections SET state = 'disconnected', state_problem = NULL")

    assert len(told(access, people)) == 1
    assert people.sql("SELECT told_problem FROM connections") == [{"told_problem": ""}]


@pytest.mark.parametrize(
    ("status", "state", "problem"),
    [
        (401, "disconnected", "connection.token_revoked"),
        (404, "disconnected", "connection.shop_gone"),
        (402, "action_needed", "connection.shop_frozen"),
        (423, "action_needed", "connection.shop_frozen"),
        (403, "action_needed", "connection.permission_missing"),
    ],
)
def test_only_a_refused_token_takes_a_store_off_and_the_rest_is_kept_trying(
    access, people, maya_scope, monkeypatch, serve, status, state, problem
):
    site = serve(lambda _: Response("{}", status, mimetype="application/json"), tls=False)
    monkeypatch.setattr(
        access, "app", dataclasses.replace(access.app, shopify_admin_url=f"http://127.0.0.1:{site.port}/admin")
    )
    store = people.store(maya_scope, platform="shopify")
    tokens = {"access_token": "a", "refresh_token": "r", "expires_at": "2099-01-01T00:00:00+00:00"}
    people.sql("UPDATE connections SET credentials = :tokens", tokens=access.vault.close(tokens))

    health.check(type("Context", (), {"additional_context": {"access": access}})(), store, uninstalled=True)

    assert people.sql("SELECT state, state_problem FROM connections") == [{"state": state, "state_problem": problem}]


def test_a_mail_tells_the_problem_with_its_facts(access, people, store):
    with access.database.transaction() as tx:
        model.set_state(tx, store, "action_needed", "store.tls", "shop.example: certificate has expired")
    people.sql("UPDATE connections SET state_since = now() - interval '1 hour'")

    ((_, subject, text),) = told(access, people)

    assert subject == "Fern & Clay UK: The store's certificate can't be trusted"
    assert "The secure connection to shop.example failed: certificate has expired." in text
    assert "—" not in text


def test_a_state_that_is_said_again_lasts_since_its_beginning(access, people, store):
    for _ in range(2):
        with access.database.transaction() as tx:
            model.set_state(tx, store, "action_needed", "connection.token_revoked", "again")
        since = people.sql("SELECT state_since FROM connections")[0]["state_since"]
        people.sql("UPDATE connections SET state_detail = ''")
    assert people.sql("SELECT state_since FROM connections")[0]["state_since"] == since
