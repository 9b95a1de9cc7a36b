"""Sync Order: a first run of whole orders from a store that costs nothing, then the same window unchanged; the worker's
memory over a small and a large window."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from tests.bench import place

SIZES = (10_000, 100_000)
_FLASK = ["flask", "--app", "app:create_app"]


def main() -> None:
    for orders in SIZES:
        port = place.free_port()
        address = f"http://127.0.0.1:{port}"
        with (
            place.database() as url,
            tempfile.TemporaryDirectory() as folder,
            place.process(url, ["tests.bench.still_store", str(port), str(orders)]),
        ):
            place.wait_for(f"{address}/wp-json/", seconds=120)
            _connect(url, address, Path(folder))
            with place.process(url, [*_FLASK, "worker"]) as worker:
                _measure(url, worker, orders)


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


def _measure(url: str, worker: subprocess.Popen[bytes], orders: int) -> None:
    seconds: list[float] = []
    with psycopg.connect(url, autocommit=True) as connection:
        for name in ("first", "unchanged"):
            with place.process(url, [*_FLASK, "sync", "start", "1", "--days", "7", "--no-wait"]) as child:
                assert child.wait(60) == 0
            while (row := _finished(connection, len(seconds))) is None:
                time.sleep(0.1)
            seconds.append(float(row[0]))
            print(
                f"{orders:7} orders, {name:9} {orders / seconds[-1]:6.0f}/s   created {row[1]}, unchanged {row[2]},"
                f" {row[3]}; the worker's memory at its highest {_highest(worker.pid)} MB"
            )
    print(f"unchanged / first: {seconds[0] / seconds[1]:.2f} × as fast (both read whole orders)")


def _finished(connection: psycopg.Connection[Any], before: int) -> Any:
    """Seconds, created, unchanged and verdict of the newest run, once there are more than `before`."""
    rows = connection.execute(
        "SELECT extract(epoch FROM finished_at - started_at), created, unchanged, verdict FROM sync_runs"
        " WHERE kind = 'manual' AND state = 'finished' ORDER BY id DESC"
    ).fetchall()
    return rows[0] if len(rows) > before else None


def _highest(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024
