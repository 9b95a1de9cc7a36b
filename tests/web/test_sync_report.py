"""A run's report: each order, its outcome and its reason, however many there are and however slow its reader is."""

from __future__ import annotations

import csv
import io
import json

import pytest

from backfill import report
from tests.web.world import NOON

HEAD = ["external_id", "order_number", "outcome", "updated_at", "reason_code", "reason_title", "reason_detail"]


@pytest.fixture
def run(world, maya):
    """A finished run with an order of each kind."""
    store = world.store(maya)
    world.order(maya, store, "#1001", name="Ines Moreau", email="ines@example.com", external_id="1001")
    made = world.run(maya, store, state="finished", finished_at=NOON, verdict="incomplete", created=1, failed=1,
                     hidden=1, listed=3, problem_detail="the platform counts 4 orders, 3 were listed")  # fmt: skip
    world.item(maya, made, "1001", "created", updated_at=NOON)
    world.item(maya, made, "1002", "failed", updated_at=NOON, problem="payload.field",
               problem_detail="total: =cmd|'/c calc'!A1")  # fmt: skip
    world.item(maya, made, "1003", "hidden", problem="order.hidden")
    return made


def test_the_report_as_csv_has_each_order_with_its_outcome_and_reason(browser, run):
    answer = browser.get(f"/orders/sync/{run}/report.csv")

    assert answer.content_type == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="sync-{run}.csv"'
    assert list(csv.reader(io.StringIO(answer.text))) == [
        HEAD,
        ["1001", "#1001", "created", "2026-11-24T12:00:00Z", "", "", ""],
        ["1002", "", "failed", "2026-11-24T12:00:00Z", "payload.field", "A field of the order can't be read",
         "total: =cmd|'/c calc'!A1"],
        ["1003", "", "hidden", "", "order.hidden", "The platform does not show this order to us", ""],
    ]  # fmt: skip
    assert "Moreau" not in answer.text
    assert "ines@" not in answer.text


def test_the_report_as_json_has_the_run_at_its_head(browser, api, run):
    answer = browser.get(f"/orders/sync/{run}/report.json")

    assert answer.content_type == "application/json"
    found = json.loads(answer.text)
    assert found["run"]["id"] == run
    assert found["run"]["verdict_detail"] == "the platform counts 4 orders, 3 were listed"
    assert found["run"]["counters"]["hidden"] == 1
    assert [(one["external_id"], one["outcome"], one["reason_code"]) for one in found["orders"]] == [
        ("1001", "created", None), ("1002", "failed", "payload.field"), ("1003", "hidden", "order.hidden")
    ]  # fmt: skip
    assert found["orders"][0]["order_number"] == "#1001"
    assert api(f"/sync-runs/{run}/report").json == found
    assert api(f"/sync-runs/{run}/report?format=csv").text == browser.get(f"/orders/sync/{run}/report.csv").text
    assert api(f"/sync-runs/{run}/report?format=xml").status_code == 422


def test_a_report_without_orders_is_whole_too(browser, world, maya):
    run = world.run(maya, world.store(maya), kind="preview")

    assert browser.get(f"/orders/sync/{run}/report.csv").text == ",".join(HEAD) + "\r\n"
    answer = browser.get(f"/orders/sync/{run}/report.json")
    assert json.loads(answer.text)["orders"] == []
    assert answer.headers["Content-Disposition"] == f'attachment; filename="sync-preview-{run}.json"'


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_a_spreadsheet_takes_no_cell_for_a_formula(browser, world, maya, begin):
    run = world.run(maya, world.store(maya))
    world.item(maya, run, f"{begin}1+1", "failed", problem="payload.field", problem_detail=f"{begin}HYPERLINK(1)")

    row = list(csv.reader(io.StringIO(browser.get(f"/orders/sync/{run}/report.csv").text, newline="")))[1]

    assert (row[0], row[6]) == (f"'{begin}1+1", f"'{begin}HYPERLINK(1)")


def test_a_slow_reader_holds_no_connection_and_never_more_than_a_page(application, database, world, maya, monkeypatch):
    monkeypatch.setattr(report, "PAGE", 100)
    run = world.run(maya, world.store(maya))
    world.sql("INSERT INTO run_items (run_id, external_id, account_id, outcome, pass)"
              " SELECT :run, n::text, :account, 'unchanged', 1 FROM generate_series(1, 950) AS n",
              run=run, account=maya.account_id)  # fmt: skip
    found = world.sql("SELECT * FROM sync_runs")[0]

    seen = []
    with application.test_request_context():
        for part in report.as_csv(database, maya, found):
            assert database.engine.pool.checkedout() == 0
            rows = list(csv.reader(io.StringIO(part)))
            assert len(rows) <= 100
            seen += [row[0] for row in rows]

    assert len(seen) == 951
    assert set(seen[1:]) == {str(n) for n in range(1, 951)}


def test_a_report_on_hand_is_not_all_written_before_its_first_line_leaves(browser, world, maya, monkeypatch):
    monkeypatch.setattr(report, "PAGE", 10)
    run = world.run(maya, world.store(maya))
    for n in range(25):
        world.item(maya, run, f"{n:03}", "unchanged")

    answer = browser.get(f"/orders/sync/{run}/report.csv", buffered=False)

    assert answer.is_streamed
    assert len(list(answer.iter_encoded())) == 4


def test_a_report_that_is_no_longer_kept_is_refused_and_the_page_says_so(browser, world, run):
    world.sql("UPDATE sync_runs SET items_dropped_at = now() RETURNING id")

    answer = browser.get(f"/orders/sync/{run}/report.csv")
    page = browser.get(f"/orders/sync/{run}").text

    assert (answer.status_code, "no longer kept" in answer.text) == (422, True)
    assert "report.csv" not in page
    assert "Its report on single orders is no longer kept." in page
