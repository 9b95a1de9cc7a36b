"""Applying: a backlog of 20,000 deliveries of 8 KB, drained by one worker process."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import psycopg

from gateway.db.engine import Database
from gateway.orders.payloads import Payloads, place_of_delivery
from gateway.vault import Vault
from tests.bench import load, place

BACKLOG = 20_000
BODY_BYTES = 8_000


def fill(url: str, shop: int, count: int, *, first: int = 0) -> None:
    """Deliveries as the receiver stores them, each of another order."""
    received = datetime.now(UTC) - timedelta(minutes=1)
    headers = json.dumps([["x-shopify-topic", "orders/create"]]).encode()
    database = Database(url, pool_size=1)
    with database.transaction() as tx:
        key = Payloads(Vault(place.KEYS)).key_of(tx, shop)
    database.close()
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE backlog (k text, b bytea)")
        with cursor.copy("COPY backlog (k, b) FROM STDIN") as copy:
            for number in range(first, first + count):
                body = key.seal(load.order_body(number, BODY_BYTES), place_of_delivery(received))
                copy.write_row((f"bench:{number}", body))
        cursor.execute(
            "WITH made AS (INSERT INTO deliveries (platform, shop, account_id, connection_id, delivery_key, topic,"
            " received_at, observed_at, body_bytes, next_attempt_at) SELECT 'shopify', 'bench.myshopify.com', 1, %s, k,"
            " 'orders/create', %s, %s, %s, %s FROM backlog RETURNING id, delivery_key)"
            " INSERT INTO delivery_bodies SELECT made.id, %s, %s, backlog.b FROM made JOIN backlog"
            " ON backlog.k = made.delivery_key",
            (shop, received, received, BODY_BYTES, received, received, headers),
        )


def main() -> None:
    with place.database() as url:
        shop = place.a_shop(url)
        fill(url, shop, BACKLOG)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ANALYZE")
            with place.process(url, ["flask", "--app", "app:create_app", "worker"]):
                counts: list[tuple[float, int]] = []
                while not counts or counts[-1][1] < BACKLOG:
                    row = connection.execute("SELECT count(*) FROM deliveries WHERE state <> 'waiting'").fetchone()
                    assert row is not None
                    counts.append((time.monotonic(), int(row[0])))
                    time.sleep(0.05)
            done = connection.execute("SELECT count(*) FROM orders WHERE core_digest IS NOT NULL").fetchone()
        # From the first applied delivery on: the process's own start is not the drain's.
        begin = next(entry for entry in counts if entry[1] > 0)
        rate = (BACKLOG - begin[1]) / (counts[-1][0] - begin[0])
        print(f"{BACKLOG} deliveries of {BODY_BYTES} bytes, one worker process: {rate:.0f}/s; orders stored: {done[0]}")
