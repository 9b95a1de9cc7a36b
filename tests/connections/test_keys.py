"""Stored secrets and their keys: rotated without a stop, and a start refused when one is missing."""

from __future__ import annotations

import dataclasses

import pytest

import app as composition
from gateway.connections import keys
from gateway.domain.problems import NeedsOperator
from gateway.vault import Vault, key_id
from tests.web.conftest import settings

OLD, NEW = "old:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "new:ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="


@pytest.fixture
def stores(people):
    """Three stores whose secrets the old key closed, one without any, and an export."""
    maya, old = people.user(), Vault(OLD)
    made = [
        people.store(
            maya, name, credentials=old.close({"access_token": name}), hook_secrets=old.close([f"hook of {name}"])
        )
        for name in ("a", "b", "c")
    ]
    people.store(maya, "empty")
    people.sql(
        "INSERT INTO privacy_requests (account_id, connection_id, kind, ledger_key, received_at, due_at, export)"
        " VALUES (:account, :store, 'data_request', 'k', now(), now(), :export)",
        account=maya.account_id, store=made[0], export=old.close({"export": "{}"}),
    )  # fmt: skip
    return made


def test_rotating_gives_every_secret_to_the_first_key(stores, access, people):
    both = Vault(f"{NEW},{OLD}")
    assert keys.in_use(access.database) == {"old": 7}

    assert keys.rotate(access.database, both) == 7
    assert keys.rotate(access.database, both) == 0

    assert keys.in_use(access.database) == {"new": 7}
    row = people.sql("SELECT credentials, hook_secrets FROM connections WHERE id = :id", id=stores[1])[0]
    only_new = Vault(NEW)
    assert only_new.open_mapping(bytes(row["credentials"])) == {"access_token": "b"}
    assert only_new.open_list(bytes(row["hook_secrets"])) == ["hook of b"]


def test_a_missing_key_is_named_before_anything_starts(stores, access, database_url):
    with pytest.raises(NeedsOperator) as refused:
        keys.require(access.database, Vault(NEW))
    assert refused.value.facts == {"key": "old"}

    made = composition.create_app(dataclasses.replace(settings(database_url), encryption_keys=NEW))
    try:
        for command in ("worker", "migrate"):
            said = made.test_cli_runner().invoke(args=[command])
            assert said.exit_code == 1
            assert "the key old, which is not among ENCRYPTION_KEYS" in said.output
        assert "old\tMISSING\t7" in made.test_cli_runner().invoke(args=["vault", "status"]).output
        assert made.test_cli_runner().invoke(args=["vault", "rotate"]).exit_code == 1
    finally:
        made.extensions["database"].close()
        made.extensions["access"].database.close()


def test_a_secret_that_changes_while_it_is_rotated_is_not_put_back(stores, access, people, monkeypatch):
    both = Vault(f"{NEW},{OLD}")
    renew = Vault.renew

    def meanwhile(self, closed):
        if closed != b"" and key_id(closed) == "old":
            people.sql("UPDATE connections SET credentials = :new WHERE id = :id AND credentials = :old",
                       new=both.close({"access_token": "refreshed"}), id=stores[0], old=closed)  # fmt: skip
        return renew(self, closed)

    monkeypatch.setattr(Vault, "renew", meanwhile)
    keys.rotate(access.database, both)

    row = people.sql("SELECT credentials FROM connections WHERE id = :id", id=stores[0])[0]
    assert both.open_mapping(bytes(row["credentials"])) == {"access_token": "refreshed"}


def test_every_closed_column_is_known(stores, access, people):
    """A column that is forgotten here would be lost with its old key."""
    found = people.sql(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        " AND data_type = 'bytea' ORDER BY 1, 2"
    )
    plain = {"digest", "core_digest", "person_digest", "raw", "person_raw", "headers", "password_hash"}
    columns = {(row["table_name"], row["column_name"]) for row in found}
    columns = {
        (table, column)
        for table, column in columns
        if column not in plain and not column.endswith(("_hash", "_digest")) and not table.startswith("delivery_bodies")
    }
    assert set(keys.SEALED) <= columns, columns
    assert columns - set(keys.SEALED) <= {("throttles", "bucket")}
