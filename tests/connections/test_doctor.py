"""`flask doctor`: each check says ok while all is well, and what to do when it is not."""

from __future__ import annotations

import dataclasses
import json
import socketserver
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import event
from werkzeug.wrappers import Response

from gateway import doctor
from gateway.db import migrate
from gateway.db.engine import Database
from gateway.platforms import REGISTRY
from gateway.vault import Vault
from tests.web.conftest import settings

OTHER_KEY_SAME_ID = "k1:ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
GIB = 1024**3


@pytest.fixture
def healthy(people, tmp_path: Path, gateway: str, access):
    """An installation with which nothing is wrong: its settings."""
    people.sql("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now())")
    people.store(
        people.user(), watermark=datetime.now(UTC), credentials=access.vault.close({"access_token": "shpat_hush"})
    )
    given = settings(access.database.url, gateway)
    return dataclasses.replace(given, data_dir=tmp_path, erasure_ledger=tmp_path / "erasures.jsonl")


@pytest.fixture
def look(access, application, healthy, monkeypatch):
    """What the check of a name finds, with some settings changed."""
    room = SimpleNamespace(total=100 * GIB, free=50 * GIB)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _folder: room)

    def findings(name: str, *, database: Database | None = None, vault: Vault | None = None, **changed):
        used = dataclasses.replace(access, vault=vault) if vault else access
        given = dataclasses.replace(healthy, **changed)
        found = doctor.examine(given, database or application.extensions["database"], used)
        return [finding for finding in found if finding.check.startswith(name)]

    findings.room = room
    return findings


@pytest.fixture
def sessions(access):
    """The same database, by sessions that begin with a statement."""

    def begun_with(statement: str) -> Database:
        made = Database(access.database.url, pool_size=0)
        event.listen(made.engine, "connect", lambda connection, _: connection.execute(statement).connection.commit())
        return made

    return begun_with


def test_all_is_well(look):
    states = {finding.check: finding.state for finding in look("")}

    assert {name for name, state in states.items() if state != "ok"} == {"mail", "durability"}  # no SMTP_URL; no fsync
    assert len(states) == 14


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"public_url": "https://gw.invalid", "allow_private_store_urls": True}, "ALLOW_PRIVATE_STORE_URLS is on"),
        ({"shopify_client_id": "id"}, "Of SHOPIFY_CLIENT_ID and SHOPIFY_CLIENT_SECRET only one is set."),
        ({"etsy_keystring": "k", "etsy_webhook_secrets": ("s",)}, "Of ETSY_KEYSTRING and ETSY_SHARED_SECRET only one"),
        ({"etsy_keystring": "k", "etsy_shared_secret": "s"}, "ETSY_WEBHOOK_SECRETS is not"),
        ({"erasure_ledger": None, "data_dir": None}, "would bring erased customers back"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together(look, changed, said):
    (found,) = look("settings", **changed)

    assert found.state == "problem"
    assert said in found.said
    assert found.fix


@pytest.mark.parametrize(("total", "free"), [(10 * GIB, GIB - 1), (100 * GIB, 4 * GIB)])
def test_a_disk_that_is_almost_full(look, total, free):
    look.room.total, look.room.free = total, free

    (found,) = look("disk")

    assert (found.state, found.said.partition(":")[0]) == ("problem", "The disk of DATA_DIR is almost full")


def test_a_data_folder_that_is_not_there(look, monkeypatch, tmp_path):
    monkeypatch.undo()

    (found,) = look("disk", data_dir=tmp_path / "nowhere")

    assert found.said == "DATA_DIR can't be looked at: No such file or directory."


def test_an_address_without_tls(look):
    (found,) = look("public url", public_url="http://gw.example.com")

    assert (found.state, found.said.startswith("http://gw.example.com is not https")) == ("problem", True)


def test_an_address_where_nobody_answers(look):
    (found,) = look("public url", public_url="http://127.0.0.1:9")

    assert found.said == "http://127.0.0.1:9 can't be reached from here (ConnectionError)."


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (lambda _request: Response("<h1>Welcome to nginx</h1>", 200), 200),
        (lambda _request: Response("[]", 200, content_type="application/json"), 200),
        (lambda _request: Response("", 301, {"Location": "https://www.example.com/healthz"}), 301),
        (lambda _request: Response("", 502), 502),
    ],
)
def test_an_address_where_something_else_answers(look, serve, answer, status):
    url = f"http://127.0.0.1:{serve(answer, tls=False).port}"

    (found,) = look("public url", public_url=url)

    assert (found.state, found.said.startswith(f"{url}/healthz answers {status}, but not as this")) == ("problem", True)


def test_a_mail_server_that_does_not_answer(look):
    (found,) = look("mail", smtp_url="smtp://somebody:hush@127.0.0.1:9")

    assert (found.state, found.code) == ("problem", "mail.not_sent")
    assert found.said == "The server of SMTP_URL does not greet us (ConnectionRefusedError)."


class _Smtp(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            self.server.heard.append(line.split()[0])  # type: ignore[attr-defined]
            self.wfile.write(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 fine\r\n")


def test_a_mail_server_is_greeted_and_nothing_more(look):
    with socketserver.TCPServer(("127.0.0.1", 0), _Smtp) as server:
        server.heard = []
        thread = threading.Thread(target=server.handle_request)
        thread.start()

        (found,) = look("mail", smtp_url=f"smtp://somebody:hush@127.0.0.1:{server.server_address[1]}")

        thread.join()
    assert found.state == "ok"
    assert server.heard == [b"ehlo", b"QUIT"]


def test_a_database_that_does_not_answer_leaves_the_rest_unlooked_at(look):
    away = Database("postgresql://127.0.0.1:9/none", pool_size=0)

    (found,) = look("database", database=away)

    assert (found.state, found.code) == ("problem", "internal.database_away")
    assert found.said == "PostgreSQL can't be reached with DATABASE_URL (Connection refused)."
    assert {one.state for one in look("", database=away) if one.check in ("clock", "keys", "worker", "stores")} == {
        "skipped"
    }


def test_a_database_that_is_too_old(look, monkeypatch):
    monkeypatch.setattr(migrate, "MINIMUM_SERVER", 990_000)

    (found,) = look("database")

    assert (found.state, found.said.startswith("PostgreSQL 18 or newer is needed; this one is ")) == ("problem", True)


def test_a_database_that_takes_no_writes(look, sessions):
    (found,) = look("database", database=sessions("SET default_transaction_read_only = on"))

    assert found.said == "The database takes no writes: it is a standby, or set read-only."


def test_a_server_that_does_not_wait_for_its_disk(look):
    """The tests' own is one."""
    (found,) = look("durability")

    assert found.said.startswith("fsync and synchronous_commit and full_page_writes off: ")
    assert found.state == "problem"


def test_a_server_that_waits_for_its_disk(look, sessions, monkeypatch):
    monkeypatch.setattr(doctor, "DURABLE", ("synchronous_commit",))  # the others are the server's alone

    (found,) = look("durability", database=sessions("SET synchronous_commit = remote_apply"))

    assert found.state == "ok"


@pytest.mark.parametrize("ahead", [-60, 60])
def test_clocks_that_differ(look, monkeypatch, ahead):
    now = time.time
    monkeypatch.setattr(doctor.time, "time", lambda: now() + ahead)

    (found,) = look("clock")

    assert found.said == "This machine's clock and the database's are 60 s apart."


def test_tables_of_another_release_leave_what_rests_on_them_unlooked_at(look, people):
    (version,) = people.sql("SELECT version_num FROM alembic_version")
    people.sql("UPDATE alembic_version SET version_num = '0001'")
    try:
        found = {one.check: one for one in look("")}
    finally:
        people.sql("UPDATE alembic_version SET version_num = :is", **{"is": version["version_num"]})

    assert (found["migrations"].state, found["migrations"].fix) == (
        "problem", "Run: flask --app app:create_app migrate")  # fmt: skip
    assert [found[name].state for name in ("partitions", "keys", "worker", "stores")] == ["skipped"] * 4


def test_partitions_that_were_not_made_ahead(look, monkeypatch):
    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2040, 12, 5, tzinfo=tz)

    monkeypatch.setattr(doctor, "datetime", Later)

    (found,) = look("partitions")

    assert found.said.startswith("delivery_bodies_2040_12 and delivery_bodies_2041_01 not made")


@pytest.mark.parametrize("given", ["other:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", OTHER_KEY_SAME_ID])
def test_a_key_that_is_missing_or_another_one(look, given):
    (found,) = look("keys", vault=Vault(given))

    assert (found.state, found.code) == ("problem", "internal.key_missing")
    assert "with the key k1," in found.said


def test_no_worker(look, people):
    people.sql("DELETE FROM procrastinate_workers")

    (found,) = look("worker")

    assert found.said == "No worker is running: webhooks are stored, but not applied."


def test_a_worker_without_a_sign_of_life(look, people):
    people.sql("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '5 minutes'")

    (found,) = look("worker")

    assert found.said.startswith("The last sign of life of a worker is 5 min old")


def test_a_delivery_that_waits_too_long(look, people):
    people.delivery(None, None, state="waiting", received_at=datetime.now(UTC) - timedelta(hours=3))

    (found,) = look("deliveries")

    assert (found.state, found.said) == ("problem", "The oldest waiting webhook has been due for 3 h.")


def test_a_delivery_that_waits_for_its_next_try_is_not_late(look, people):
    now = datetime.now(UTC)
    people.delivery(None, None, state="waiting", received_at=now - timedelta(hours=3), next_attempt_at=now)

    (found,) = look("deliveries")

    assert found.state == "ok"


@pytest.mark.parametrize(("state", "told"), [("degraded", "problem"), ("action_needed", "ok")])
def test_an_order_that_waits_too_long_to_be_read_again(look, people, state, told):
    """Nothing is read from a store that refuses us: that store's own line tells why."""
    people.sql("UPDATE connections SET state = :state", state=state)
    people.sql(
        "INSERT INTO rereads (connection_id, external_id, account_id, reason, due_at, again_at)"
        " SELECT id, '7', account_id, 'thin', now() - interval '20 minutes', now() FROM connections"
    )

    (found,) = look("rereads")

    assert found.state == told


def test_a_store_that_refuses_us_says_its_sentence(look, people):
    people.sql("UPDATE connections SET state = 'action_needed', state_problem = 'connection.token_revoked'")

    (found,) = look("store ")

    assert (found.state, found.code) == ("problem", "connection.token_revoked")
    assert found.said.startswith("The store no longer accepts our key. ")
    assert found.fix


@pytest.mark.parametrize("platform", sorted(REGISTRY))
def test_a_store_that_is_far_behind(look, people, platform):
    people.sql("UPDATE connections SET platform = :platform, watermark = now() - interval '2 days'", platform=platform)

    (found,) = look("store ")

    assert found.said == "Catch-up does not get through: in step until 2 days ago."


def test_a_store_that_was_disconnected_is_nobodys_concern(look, people):
    people.sql("UPDATE connections SET state = 'disconnected', watermark = NULL")

    (found,) = look("store ")

    assert (found.state, found.said) == ("skipped", "disconnected")


def test_the_command_tells_a_line_a_check_and_fails(application, people, gateway):
    people.store(people.user(), "Maya Okafor's shop", domain="maya-okafor.example", state="action_needed",
                 state_problem="connection.token_revoked")  # fmt: skip

    done = application.test_cli_runner().invoke(args=["doctor"])

    lines = done.output.splitlines()
    assert done.exit_code == 1
    assert lines[-1] == f"{sum(line.startswith('problem ') for line in lines)} to mend."
    assert any(line.startswith("ok       clock: ") for line in lines)
    assert "okafor" not in done.output.lower()
    assert settings("postgresql:").secret_key not in done.output


def test_the_command_tells_machines(application, people, gateway):
    done = application.test_cli_runner().invoke(args=["doctor", "--json"])

    told = json.loads(done.output)
    worker = next(check for check in told["checks"] if check["check"] == "worker")
    assert (done.exit_code, told["ok"]) == (1, False)
    assert worker == {
        "check": "worker", "state": "problem", "code": "",
        "said": "No worker is running: webhooks are stored, but not applied.",
        "fix": "Start one: flask --app app:create_app worker",
    }  # fmt: skip


def test_the_command_succeeds_when_all_is_well(application, monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda *_: [doctor.Finding("clock", "ok", "as the database's")])

    done = application.test_cli_runner().invoke(args=["doctor"])

    assert (done.exit_code, done.output) == (
        0, "ok       clock: as the database's\nEverything is as it should be.\n")  # fmt: skip
