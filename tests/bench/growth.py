"""How writing and reading change from 10,000 to 1,000,000 stored orders."""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime, timedelta

import psycopg

from gateway.db.engine import Database
from gateway.domain.scope import AccountScope
from gateway.orders.apply import apply
from gateway.orders.payloads import Payloads
from gateway.orders.queries import Cursor, OrderFilter, count_orders, list_orders
from gateway.orders.reading import Reading, read_order
from gateway.platforms import REGISTRY, fields
from gateway.vault import Vault
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
  raw_kind, '#' || n, now() - n * interval '37 seconds', (ARRAY['paid','pending','refunded'])[1 + n %% 3],
  (ARRAY['fulfilled','unfulfilled'])[1 + n %% 2], currency, total, item_count, 'Buyer ' || n
FROM orders, generate_series(%s::int, %s::int) AS n WHERE external_id = '10000000'
"""


_PAYLOADS = Payloads(Vault(place.KEYS))


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
            apply(tx, readings[begin : begin + 250], source="delivery", platforms={shop: "shopify"}, payloads=_PAYLOADS)
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
            _pages(database, shop)
        print(f"cost at {STEPS[1]} / cost at {STEPS[0]}: {rates[0] / rates[1]:.2f}")
        database.close()


def _pages(database: Database, shop: int) -> None:
    """What the Orders page asks the database for, by its own functions; each the median of seven."""
    scope, now = AccountScope(1), datetime.now(UTC)
    deep = Cursor("older", now - timedelta(days=200), 0)
    asked = {
        "newest": (OrderFilter(), None),
        "200 days down": (OrderFilter(), deep),
        "one payment state": (OrderFilter(payment_status="refunded"), None),
        "both states": (OrderFilter(payment_status="refunded", fulfilment_status="fulfilled"), None),
        "a state nobody has": (OrderFilter(payment_status="voided"), None),
        "store and dates": (OrderFilter(store_id=shop, placed_until=now - timedelta(days=100)), None),
        "number": (OrderFilter(q="#4711"), None),
        "e-mail": (OrderFilter(q="buyer4711@example.com"), None),
        "begin of a word": (OrderFilter(q="buyer47"), None),
        "word of all": (OrderFilter(q="buyer"), None),
        "word of none": (OrderFilter(q="nobody"), None),
        "word and state": (OrderFilter(q="buyer47", payment_status="refunded"), None),
    }
    for name, (wanted, cursor) in asked.items():
        times = []
        for _ in range(7):
            with database.transaction() as tx:
                start = time.perf_counter()
                list_orders(tx, scope, wanted, limit=50, cursor=cursor)
                times.append((time.perf_counter() - start) * 1e3)
        print(f"            {name:18} {statistics.median(times):7.2f} ms")
    with database.transaction() as tx:
        start = time.perf_counter()
        count_orders(tx, scope)
        print(f"            {'count':18} {(time.perf_counter() - start) * 1e3:7.2f} ms")
