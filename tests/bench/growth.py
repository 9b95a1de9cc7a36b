"""How writing and reading change from 10,000 to 1,000,000 stored orders."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import psycopg

from gateway.db.engine import Database
from gateway.orders.apply import apply
from gateway.orders.reading import Reading, read_order
from gateway.platforms import REGISTRY, fields
from tests.bench import load, place

STEPS = (10_000, 1_000_000)
MEASURED = 5_000

_COPIES = """
INSERT INTO orders (account_id, connection_id, external_id, core_epoch, core_updated_at, core_settled,
  core_observed_at, core_digest, core_shape, core, core_words, person_epoch, person_updated_at, person_settled,
  person_observed_at, person_digest, person_shape, person, person_words, raw, raw_kind, number, placed_at,
  payment_status, fulfilment_status, currency, total, item_count, customer_name)
SELECT account_id, connection_id, 'copy-' || n, core_epoch, core_updated_at, core_settled, core_observed_at,
  core_digest, core_shape, core, '#' || n || ' ' || n, person_epoch, person_updated_at, person_settled,
  person_observed_at, person_digest, person_shape, person, 'buyer' || n || '@example.com', left(raw::text, 100)::bytea,
  raw_kind, '#' || n, now() - n * interval '37 seconds', (ARRAY['paid','pending','refunded'])[1 + n % 3],
  (ARRAY['fulfilled','unfulfilled'])[1 + n % 2], currency, total, item_count, 'Buyer ' || n
FROM orders, generate_series(%s::int, %s::int) AS n WHERE external_id = '10000000'
"""


def _readings(first: int, count: int, shop: int) -> list[Reading]:
    now = datetime.now(UTC)
    readings = []
    for number in range(first, first + count):
        raw = load.order_body(number, 8_000)
        readings.append(
            read_order(
                REGISTRY["shopify"], fields.as_object(raw), raw, kind="webhook", observed_at=now, received_at=now,
                account_id=1, connection_id=shop, granted=("core", "person"),
            )
        )  # fmt: skip
    return readings


def _upsert(database: Database, readings: list[Reading], shop: int) -> float:
    start = time.perf_counter()
    for begin in range(0, len(readings), 250):
        with database.transaction() as tx:
            apply(tx, readings[begin : begin + 250], source="delivery", platforms={shop: "shopify"})
    return len(readings) / (time.perf_counter() - start)


def main() -> None:
    with place.database() as url:
        shop = place.a_shop(url)
        database = Database(url, pool_size=2)
        _upsert(database, _readings(0, 1, shop), shop)
        made, first, rates = 0, 1, []
        for step in STEPS:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(_COPIES, (made + 1, step))
                connection.execute("VACUUM ANALYZE orders")
            made = step
            _upsert(database, _readings(first, MEASURED, shop), shop)  # warm
            rates.append(_upsert(database, _readings(first + MEASURED, MEASURED, shop), shop))
            first += 2 * MEASURED
            print(f"{step:9} stored: {rates[-1]:8.0f} new orders/s written, one connection, batches of 250")
            _pages(url)
        print(f"cost at {STEPS[1]} / cost at {STEPS[0]}: {rates[0] / rates[1]:.2f}")
        database.close()


def _pages(url: str) -> None:
    """The statements behind the Orders page, each the median of seven."""
    live = "account_id = 1 AND removed_at IS NULL AND core_digest IS NOT NULL"
    order = "ORDER BY placed_at DESC, id DESC LIMIT 51"
    filters = {
        "newest": "true",
        "payment": "payment_status = 'refunded'",
        "both states": "payment_status = 'refunded' AND fulfilment_status = 'fulfilled'",
        "middle (keyset)": "(placed_at, id) < (now() - interval '200 days', 0)",
        "search, one hit": "search @@ to_tsquery('simple', 'buyer4711:*')",
        "search, none": "search @@ to_tsquery('simple', 'nobody:*')",
    }
    with psycopg.connect(url, autocommit=True) as connection:
        for name, condition in filters.items():
            times = []
            for _ in range(7):
                start = time.perf_counter()
                connection.execute(f"SELECT id FROM orders WHERE {live} AND {condition} {order}").fetchall()
                times.append((time.perf_counter() - start) * 1e3)
            print(f"            {name:18} {sorted(times)[3]:7.2f} ms")
