"""Sync Order from the simulator: a first run of whole orders, then the same window unchanged."""

from __future__ import annotations

import json
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psycopg

from tests.bench import place

ORDERS = 10_000


def _ask(address: str, given: dict[str, Any] | None = None) -> Any:
    data = None if given is None else json.dumps(given).encode()
    request = urllib.request.Request(address, data=data, headers={"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310 - a loopback address of ours
        return json.load(answer)


def main() -> None:
    port = place.free_port()
    sandbox = f"http://127.0.0.1:{port}/sandbox/api/stores"
    with tempfile.TemporaryDirectory() as folder, place.database() as url:
        words = ["gateway.sandbox", "--port", str(port), "--gateway-url", "http://127.0.0.1:1", "--no-life", "--empty",
                 "--state-file", str(Path(folder) / "state.json"), "--quiet"]  # fmt: skip
        with place.process(url, words):
            place.wait_for(sandbox)
            overview = _ask(sandbox)
            store = next(row for row in overview["stores"] if row["platform"] == "woocommerce")
            key = str(store["url"]).rstrip("/").rsplit("/", 1)[-1]
            for _ in range(ORDERS // 2_000):
                _ask(f"{sandbox}/woocommerce/{key}/orders", {"count": 2_000, "over_days": 6, "quiet": True})
            _run(url, overview, store, Path(folder))


def _run(url: str, overview: dict[str, Any], store: dict[str, Any], folder: Path) -> None:
    settings = {name: str(value) for name, value in overview["settings"].items()}
    password = folder / "password"
    password.write_text("a long enough password")
    (folder / "stores.json").write_text(json.dumps({"stores": [store]}))
    flask = ["flask", "--app", "app:create_app"]
    for words in (
        [*flask, "user", "create", "bench@example.com", "--account", "bench", "--role", "owner", "--password-file",
         str(password)],
        [*flask, "stores", "add", "--account", "bench", "--file", str(folder / "stores.json")],
    ):  # fmt: skip
        with place.process(url, words, **settings) as child:
            child.wait(60)
    with place.process(url, [*flask, "worker"], **settings), psycopg.connect(url, autocommit=True) as connection:
        seconds = []
        for name in ("first", "unchanged"):
            with place.process(url, [*flask, "sync", "start", "1", "--days", "7", "--no-wait"], **settings) as child:
                child.wait(60)
            row: Any = None
            while row is None:
                row = connection.execute(
                    "SELECT extract(epoch FROM finished_at - started_at), created, unchanged, verdict FROM sync_runs"
                    " WHERE kind = 'manual' AND state = 'finished' ORDER BY id DESC LIMIT 1"
                ).fetchone() if _finished(connection) > len(seconds) else None  # fmt: skip
                time.sleep(0.05)
            seconds.append(float(row[0]))
            print(f"{name:10} {ORDERS / seconds[-1]:8.0f} orders/s   created {row[1]}, unchanged {row[2]}, {row[3]}")
        print(f"unchanged / first: {seconds[0] / seconds[1]:.2f} × as fast (both read whole orders)")


def _finished(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT count(*) FROM sync_runs WHERE kind = 'manual' AND state = 'finished'").fetchone()
    assert row is not None
    return int(row[0])
