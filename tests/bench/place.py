"""A place to measure in: a PostgreSQL of its own with fsync on, and real processes on free loopback ports."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from gateway.connections.install import hook_secret
from gateway.db import migrate
from gateway.db.bundled import BundledServer
from gateway.vault import Vault

ROOT = Path(__file__).resolve().parents[2]
KEYS = "bench:MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="
SHOPIFY_SECRET = "bench-client-secret"


@contextmanager
def database() -> Iterator[str]:
    """A migrated database on a server of its own, durable as in production; gives its URL."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-bench-"))
    folder.chmod(0o755)
    server = BundledServer(folder / "data")
    try:
        url = server.start()
        migrate.upgrade(url)
        _age(url)
        yield url
    finally:
        server.stop(immediate=True)
        shutil.rmtree(folder, ignore_errors=True)


def _age(url: str) -> None:
    """Bring the log's segments to where they are after a day: written over again, not made anew."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE filler (body bytea)")
        connection.execute("ALTER TABLE filler ALTER COLUMN body SET STORAGE EXTERNAL")
        for _ in range(2):
            connection.execute(
                "INSERT INTO filler SELECT decode(repeat('ab', 8000), 'hex') FROM generate_series(1, 30000)"
            )
            connection.execute("CHECKPOINT")
        connection.execute("DROP TABLE filler")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(url: str, words: list[str], **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child with the gateway's environment; ended by SIGTERM, its group and all."""
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "SECRET_KEY": "k" * 40,
        "ENCRYPTION_KEYS": KEYS,
        "SHOPIFY_CLIENT_SECRET": SHOPIFY_SECRET,
        "ALLOW_PRIVATE_STORE_URLS": "true",
        **more,
    }
    child = subprocess.Popen(
        [sys.executable, "-m", *words], env=environment, cwd=ROOT, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=None if os.environ.get("BENCH_VERBOSE") else subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def wait_for(address: str, seconds: float = 30) -> None:
    """Until an address answers below 500."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(address, timeout=2):  # noqa: S310 - a loopback address of ours
                return
        except OSError as error:
            if getattr(error, "code", 500) < 500:
                return
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def a_shop(url: str, domain: str = "bench.myshopify.com") -> int:
    """An account with one Shopify shop that needs no call to any platform; its id."""
    vault = Vault(KEYS)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO accounts (name) VALUES ('bench') ON CONFLICT DO NOTHING")
        row: Any = connection.execute(
            "INSERT INTO connections (account_id, platform, shop_id, key, name, domain, base_url, currency,"
            " credentials, hook_secrets, installed_at) SELECT id, 'shopify', '1', %s, 'bench', %s, '', 'USD', %s, %s,"
            " now() FROM accounts RETURNING id",
            (hook_secret(), domain, vault.close({"access_token": "none"}), vault.close([])),
        ).fetchone()
    return int(row[0])
