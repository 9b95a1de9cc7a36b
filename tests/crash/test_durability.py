"""Acked means durable: what the settings and PostgreSQL's own counters say. kill -9 proves nothing about power loss,
and neither do these: they show that each answer waited for a flush to disk, no more."""

from __future__ import annotations

from pathlib import Path

import psycopg
import requests

from gateway.db.bundled import BundledServer
from gateway.db.engine import FROZEN_SECONDS, Database
from gateway.sandbox.captures import Capture, captures
from tests.processes import System, until
from webhooks.store import Writer


def test_the_servers_own_settings_keep_what_was_committed(durable_database_url: BundledServer) -> None:
    with psycopg.connect(durable_database_url.url) as connection:
        settings = dict(
            connection.execute(
                "SELECT name, setting FROM pg_settings"
                " WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'data_checksums')"
            ).fetchall()
        )
    assert settings["fsync"] == settings["synchronous_commit"] == settings["full_page_writes"] == "on"


def test_the_receiver_commits_durably_whatever_the_servers_default_is(durable_database_url: BundledServer) -> None:
    url = durable_database_url.url
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET synchronous_commit = off")
        admin.execute("SELECT pg_reload_conf()")
    writer = Writer(url)
    try:
        assert writer.is_ready()
        assert writer._open().execute("SHOW synchronous_commit").fetchone() == ("on",)
    finally:
        writer.close()


def test_an_answer_waits_for_a_flush_to_disk(system: System) -> None:
    """Each 200 comes after fsyncs of the log, and after its own record was flushed."""
    address, secret = _door(system)
    before = system.scalar("SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal'")
    answered = 0
    for capture in _orders():
        begun = system.scalar("SELECT pg_current_wal_insert_lsn()::text")
        status = requests.post(address, data=capture.body, headers=capture.signed(secret), timeout=10).status_code
        assert status == 200
        answered += 1
        # The log grew by this delivery, and all of that growth is on disk by now.
        stored = system.rows(
            "SELECT pg_current_wal_flush_lsn() > %(begun)s::pg_lsn AS grew, count(*) FROM deliveries", begun=begun
        )[0]
        assert stored == {"grew": True, "count": answered}
    until(
        lambda: system.scalar("SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal'") >= before + answered,
        "the log was synced at least once for each answer",
        seconds=20,
    )


def test_a_database_that_takes_no_writes_is_answered_503_and_keeps_what_it_has(
    system: System, durable_database_url: BundledServer
) -> None:
    address, secret = _door(system)
    one, two = _orders()[:2]
    assert requests.post(address, data=one.body, headers=one.signed(secret), timeout=10).status_code == 200
    with psycopg.connect(system.database_url, autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        admin.execute("SELECT pg_reload_conf()")
        until(lambda: _is_read_only(system), "the server takes no writes")
        refused = requests.post(address, data=two.body, headers=two.signed(secret), timeout=10)
        assert (refused.status_code, int(refused.headers["Retry-After"]) > 0) == (503, True)
        admin.execute("SET default_transaction_read_only = off")
        admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
        admin.execute("SELECT pg_reload_conf()")
    until(lambda: not _is_read_only(system), "the server takes writes again")
    taken = requests.post(address, data=two.body, headers=two.signed(secret), timeout=10)

    assert taken.status_code == 200
    assert system.scalar("SELECT count(*) FROM deliveries") == 2


def test_no_lock_of_a_frozen_process_is_held_for_ever(durable_database_url: BundledServer, tmp_path: Path) -> None:
    database = Database(durable_database_url.url)
    with database.transaction() as tx:
        limit = tx.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar()
    database.close()

    assert limit == f"{FROZEN_SECONDS // 60}min"


def _orders() -> list[Capture]:
    """What a real store sent, without its unsigned ping, which is not stored."""
    return [capture for capture in captures() if "X-WC-Webhook-Topic" in capture.headers]


def _door(system: System) -> tuple[str, str]:
    """Where the WooCommerce store's webhooks go, and its secret."""
    from gateway.vault import Vault
    from tests.processes import KEYS

    row = system.rows("SELECT key, hook_secrets FROM connections WHERE platform = 'woocommerce'")[0]
    secret = Vault(KEYS).open_list(bytes(row["hook_secrets"]))[0]
    return f"{system.url}/webhooks/woocommerce/{row['key']}", secret


def _is_read_only(system: System) -> bool:
    return bool(system.scalar("SHOW default_transaction_read_only") == "on")
