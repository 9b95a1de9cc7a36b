"""`flask sync …`: everything that the page can, from a terminal."""

from __future__ import annotations

import json

import pytest

from tests.web.world import NOON


@pytest.fixture
def command(application, world):
    def run(*words):
        return application.test_cli_runner().invoke(args=["sync", *(str(word) for word in words)])

    return run


def _runs(world):
    return world.sql("SELECT connection_id, kind, days, deep, quiet FROM sync_runs ORDER BY connection_id, id")


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ([], {"kind": "manual", "days": 7, "deep": False, "quiet": True}),
        (["--deep", "--announce"], {"kind": "manual", "days": 7, "deep": True, "quiet": False}),
        (["--preview", "--days", 30], {"kind": "preview", "days": 30, "deep": False, "quiet": True}),
        (["--quiet"], {"kind": "manual", "days": 7, "deep": False, "quiet": True}),
    ],
)
def test_a_run_is_asked_for_with_the_same_choices(command, world, maya, words, asked):
    store = world.store(maya)

    said = command("start", store, "--no-wait", *words)

    assert (said.exit_code, said.output) == (0, "run 1\n")
    assert _runs(world) == [{"connection_id": store, **asked}]


def test_all_stores_of_the_one_account_or_of_the_named_one(command, world, maya):
    stores = [world.store(maya, "Alder"), world.store(maya, "Birch")]
    assert command("start", "--all", "--no-wait").output == "run 1\nrun 2\n"
    assert [row["connection_id"] for row in _runs(world)] == stores
    other = world.user("zoe@example.com", "Other Ltd")
    theirs = world.store(other, "Theirs")

    assert "There are several accounts" in command("start", "--all", "--no-wait").output
    assert command("start", "--all", "--account", "Other Ltd", "--no-wait").output == "run 3\n"
    assert _runs(world)[-1]["connection_id"] == theirs
    assert "There is no account Nobody." in command("start", "--all", "--account", "Nobody").output


def test_either_a_store_or_all_of_them(command, world, maya):
    store = world.store(maya)
    for words in (["start"], ["start", store, "--all"]):
        assert (command(*words).exit_code, "Name a store, or --all." in command(*words).output) == (2, True)
    assert _runs(world) == []


def test_a_run_is_stopped_resumed_and_retried(command, world, maya):
    run = world.run(maya, world.store(maya), state="running")

    assert command("stop", run).output == f"Run {run} is stopped. Go on with: flask sync resume {run}\n"
    assert command("stop", run).output == f"Run {run} was over already.\n"
    assert "Stopped. This sync was stopped." in command("status", run).output
    assert command("resume", run, "--no-wait").output == f"run {run}\n"
    refused = command("resume", run, "--no-wait")
    assert (refused.exit_code, "This sync can't go on." in refused.output) == (1, True)
    world.sql("UPDATE sync_runs SET state = 'finished', finished_at = :at, failed = 1", at=NOON)
    assert command("retry", run, "--no-wait").output == f"run {run + 1}\n"
    assert world.sql("SELECT parent_id FROM sync_runs WHERE kind = 'retry'")[0]["parent_id"] == run
    assert "There is no run 999." in command("stop", 999).output


def test_a_finished_run_says_its_line_and_what_it_could_not_prove(command, world, maya):
    store = world.store(maya)
    run = world.run(maya, store, state="finished", finished_at=NOON, verdict="incomplete", created=2, expected=3,
                    problem_detail="the platform counts 3 orders, 2 were listed")  # fmt: skip
    preview = world.run(maya, store, state="finished", finished_at=NOON, verdict="complete", kind="preview", created=2)

    said = command("status", run).output

    assert said.startswith(
        "Synchronize 2026-11-24 12:00 incomplete, Plan execution: Total additions 2, To update 0, fail 0\n"
        "unchanged 0, newer here 0, removed 0, hidden 0\n"
    )
    assert "It counts 3 orders, 2 were listed: 1 is missing." in said
    assert command("status", preview).output == (
        "Preview: 2 would be added, 0 updated, 0 left as they are. Nothing was written.\n"
    )


def test_the_report_goes_to_the_terminal_or_to_a_file(command, world, maya, tmp_path):
    run = world.run(maya, world.store(maya))
    world.failed_item(maya, run, "5512", "payload.field", "total: broken")

    said = command("report", run)
    command("report", run, "--format", "json", "--output", tmp_path / "report.json")

    assert said.output.splitlines()[1] == (
        "5512,,failed,,payload.field,A field of the order can't be read,total: broken"
    )
    assert json.loads((tmp_path / "report.json").read_text())["orders"][0]["reason_code"] == "payload.field"


def test_a_disconnected_store_is_told_with_what_to_do(command, world, maya):
    store = world.store(maya, state="disconnected", state_problem="connection.token_revoked")

    said = command("start", store)

    assert said.exit_code == 1
    assert "Check your connection via Store → Integrations, then retry." in said.output
