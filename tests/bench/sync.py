"""Sync Order: a first run of whole orders from a store that costs nothing, then the same window unchanged, by heads; a
gap of six hours; the worker's memory over a small and a large window."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
import requests

from tests.bench import place

SIZES = (10_000, 100_000)
LATER = 1_500
"""Orders of six hours whose webhooks were lost: 250 an hour."""

_FLASK = ["flask", "--app", "app:create_app"]


def main() -> None:
    for orders in SIZES:
        port = place.free_port()
        address = f"http://127.0.0.1:{port}"
        with (
            place.database() as url,
            tempfile.TemporaryDirectory() as folder,
            place.process(url, ["tests.bench.still_store", str(port), str(orders), str(LATER)]),
        ):
            place.wait_for(f"{address}/wp-json/", seconds=120)
            _connect(url, address, Path(folder))
            with place.process(url, [*_FLASK, "worker"]) as worker:
                _measure(url, address, worker, orders)


def _connect(url: str, address: str, folder: Path) -> None:
    store = {
        "platform": "woocommerce", "shop_id": address, "name": "Still", "domain": address.split("://")[1],
        "url": address, "currency": "USD", "time_zone": "UTC",
        "credentials": {"consumer_key": "ck", "consumer_secret": "cs"},
    }  # fmt: skip
    (folder / "password").write_text("a long enough password")
    (folder / "stores.json").write_text(json.dumps({"stores": [store]}))
    user = ["user", "create", "bench@example.com", "--account", "bench", "--password-file", str(folder / "password")]
    for words in (user, ["stores", "add", "--account", "bench", "--file", str(folder / "stores.json")]):
        with place.process(url, [*_FLASK, *words]) as child:
            assert child.wait(60) == 0, words


def _measure(url: str, address: str, worker: subprocess.Popen[bytes], orders: int) -> None:
    seconds: list[float] = []
    calls: list[int] = []
    with psycopg.connect(url, autocommit=True) as connection:
        for name in ("first", "unchanged"):
            before = _asked(address)
            with place.process(url, [*_FLASK, "sync", "start", "1", "--days", "7", "--no-wait"]) as child:
                assert child.wait(60) == 0
            while (row := _finished(connection, "manual", len(seconds))) is None:
                time.sleep(0.1)
            seconds.append(float(row[0]))
            calls.append(_asked(address) - before)
            print(
                f"{orders:7} orders, {name:9} {orders / seconds[-1]:7.0f}/s   created {row[1]}, unchanged {row[2]},"
                f" {row[3]}; {calls[-1]} requests; the worker's memory at its highest {_highest(worker.pid)} MB"
            )
        print(
            f"unchanged / first: {seconds[0] / seconds[1]:.1f} × as fast (heads, against whole orders and their rows)"
        )
        _close_a_gap(connection, address)


def _close_a_gap(connection: psycopg.Connection[Any], address: str) -> None:
    """The webhooks of six hours were lost: how long until the orders are here, from the wish to catch up on."""
    requests.get(f"{address}/later", timeout=30)
    connection.execute("UPDATE connections SET watermark = now() - interval '6 hours'")
    there = connection.execute("SELECT count(*) FROM sync_runs WHERE kind = 'catch_up' AND state = 'finished'")
    before = next(iter(there.fetchone() or (0,)))
    # Not more often than each minute; the last one may be younger.
    connection.execute("UPDATE sync_runs SET created_at = created_at - interval '2 minutes'")
    began = time.monotonic()
    connection.execute("UPDATE connections SET catch_up_wanted_at = now()")
    while (row := _finished(connection, "catch_up", before)) is None:
        time.sleep(0.05)
    print(
        f"a gap of 6 hours, {row[1]} orders, closed {time.monotonic() - began:.1f} s after it was wished for,"
        f" {float(row[0]):.1f} s of them the run's own"
    )


def _asked(address: str) -> int:
    return int(requests.get(f"{address}/asked", timeout=10).text)


def _finished(connection: psycopg.Connection[Any], kind: str, before: int) -> Any:
    """Seconds, created, unchanged and verdict of the newest run, once there are more than `before`."""
    rows = connection.execute(
        "SELECT extract(epoch FROM finished_at - started_at), created, unchanged, verdict FROM sync_runs"
        " WHERE kind = %s AND state = 'finished' ORDER BY id DESC",
        (kind,),
    ).fetchall()
    return rows[0] if len(rows) > before else None


def _highest(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024
