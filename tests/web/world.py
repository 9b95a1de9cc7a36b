"""Accounts, stores, orders, deliveries and runs as rows, for tests of pages; orders go through the one writer."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import text

from gateway.accounts import api_tokens, users
from gateway.db.engine import Database
from gateway.domain.order import SHAPE, Address, Core, LineItem, Person, Refund, Shipment
from gateway.domain.scope import AccountScope, Role
from gateway.domain.version import Version
from gateway.orders.apply import apply
from gateway.orders.payloads import Payloads, place_of_delivery
from gateway.orders.reading import Listing, Part, Reading, canonical, core_words, digest, person_words

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PASSWORD = "correct horse battery"


class World:
    """What a test says is there."""

    def __init__(self, database: Database, payloads: Payloads) -> None:
        self.database = database
        self._payloads = payloads
        self._platforms: dict[int, str] = {}

    def sql(self, statement: str, **values: Any) -> Any:
        with self.database.transaction() as tx:
            done = tx.execute(text(statement), values)
            return done.mappings().all() if done.returns_rows else done.rowcount

    def user(self, email: str = "maya@example.com", account: str = "Fern & Clay", role: Role = "owner") -> AccountScope:
        with self.database.transaction() as tx:
            scope = AccountScope(users.make_account(tx, account))
            user_id = users.add_user(tx, scope, email, role, PASSWORD)
        return AccountScope(scope.account_id, user_id, role)

    def token(self, scope: AccountScope, token: str = "gw_of_maya") -> str:
        with self.database.transaction() as tx:
            api_tokens.add(tx, scope, "tests", token)
        return token

    def store(self, scope: AccountScope, name: str = "Fern & Clay UK", platform: str = "shopify", **values: Any) -> int:
        columns = {
            "account_id": scope.account_id,
            "platform": platform,
            "shop_id": name,
            "key": f"key of {scope.account_id} {name}",
            "name": name,
            "domain": "shop.example",
            "base_url": "https://shop.example",
            "currency": "GBP",
            "time_zone": "Europe/London",
            "credentials": b"",
            "hook_secrets": b"",
            "installed_at": NOON - timedelta(days=90),
            **values,
        }
        names = ", ".join(columns)
        marks = ", ".join(f":{one}" for one in columns)
        store_id = self.sql(f"INSERT INTO connections ({names}) VALUES ({marks}) RETURNING id", **columns)[0]["id"]
        self._platforms[store_id] = platform
        return int(store_id)

    def order(self, scope: AccountScope, store_id: int, number: str = "#1001", **values: Any) -> int:
        """Write one order, or a later state of it, and give its id. `at`: placed and updated then."""
        reading = _reading(scope.account_id, store_id, number, **values)
        with self.database.transaction() as tx:
            apply(
                tx,
                [reading],
                source=values.get("source", "delivery"),
                platforms=self._platforms,
                payloads=self._payloads,
            )
        external_id = reading.external_id
        statement = "SELECT id FROM orders WHERE connection_id = :store AND external_id = :external"
        return int(self.sql(statement, store=store_id, external=external_id)[0]["id"])

    def delivery(self, scope: AccountScope | None, store_id: int | None, **values: Any) -> int:
        body = values.pop("body", b'{"id": 1}')
        headers = values.pop("headers", [["X-Shopify-Topic", "orders/create"], ["X-Shopify-Hmac-Sha256", "c2VjcmV0"]])
        columns = {
            "account_id": scope.account_id if scope else None,
            "connection_id": store_id,
            "platform": "shopify",
            "delivery_key": f"key {len(self.sql('SELECT id FROM deliveries'))} of {store_id}",
            "topic": "orders/create",
            "received_at": datetime.now(UTC),
            "body_bytes": len(body),
            "state": "done",
            "attempts": 1,
            "next_attempt_at": NOON,
            **values,
        }
        names = ", ".join(columns)
        marks = ", ".join(f":{one}" for one in columns)
        made = self.sql(f"INSERT INTO deliveries ({names}) VALUES ({marks}) RETURNING id, received_at", **columns)[0]
        with self.database.transaction() as tx:
            sealed = self._payloads.key_of(tx, store_id).seal(body, place_of_delivery(made["received_at"]))
        self.sql(
            "INSERT INTO delivery_bodies (delivery_id, received_at, headers, body) VALUES (:id, :at, :headers, :body)",
            id=made["id"], at=made["received_at"], headers=json.dumps(headers).encode(), body=sealed,
        )  # fmt: skip
        return int(made["id"])

    def run(self, scope: AccountScope, store_id: int, **values: Any) -> int:
        columns = {
            "account_id": scope.account_id,
            "connection_id": store_id,
            "kind": "manual",
            "days": 7,
            "window_from": NOON - timedelta(days=7),
            "window_until": NOON,
            "requested_by": scope.user_id,
            **values,
        }
        names = ", ".join(columns)
        marks = ", ".join(f":{one}" for one in columns)
        statement = f"INSERT INTO sync_runs ({names}) VALUES ({marks}) RETURNING id"
        return int(self.sql(statement, **columns)[0]["id"])

    def failed_item(self, scope: AccountScope, run_id: int, external_id: str, problem: str, detail: str) -> None:
        self.item(scope, run_id, external_id, "failed", problem=problem, problem_detail=detail)

    def item(self, scope: AccountScope, run_id: int, external_id: str, outcome: str, **values: Any) -> None:
        """What a run did with one order."""
        columns = {"run_id": run_id, "external_id": external_id, "account_id": scope.account_id, "outcome": outcome,
                   "pass": 1, **values}  # fmt: skip
        names, marks = ", ".join(columns), ", ".join(f":{one}" for one in columns)
        self.sql(f"INSERT INTO run_items ({names}) VALUES ({marks})", **columns)


def _reading(account_id: int, store_id: int, number: str, **values: Any) -> Reading:
    at: datetime = values.get("at", NOON)
    updated_at: datetime = values.get("updated_at", at)
    core = _core(number, at, values)
    name = values.get("name", "Ines Moreau")
    address = Address(name, "", "1 Rue des Lilas", "", "Lyon", "", "69001", "FR", "+33 1 23 45 67 89")
    person = Person(
        customer_id="77", name=name, email=values.get("email", "ines@example.com"),
        phone="", billing=None, shipping=address, note=values.get("note", ""), personal_fields=(),
    )  # fmt: skip
    version = {"updated_at": updated_at, "settled": True, "observed_at": updated_at + timedelta(minutes=1)}

    def part(content: bytes, words: str) -> Part:
        made = Version(0, version["updated_at"], True, version["observed_at"], digest(content))
        return Part(made, SHAPE, content, words)

    return Reading(
        account_id=account_id, connection_id=store_id, external_id=values.get("external_id", f"id {number}"),
        core=part(canonical(core), core_words(core)), person=part(canonical(person), person_words(person)),
        listing=Listing(number, at, core.payment_status, core.fulfilment_status, core.currency, core.total,
                        sum(int(line.current_quantity) for line in core.lines)),
        customer_name=person.name, raw=b"{}", raw_kind="api", exists_at=version["observed_at"],
        source_id=values.get("source_id"), reread_at=updated_at,
    )  # fmt: skip


def _core(number: str, at: datetime, values: dict[str, Any]) -> Core:
    total = Decimal(values.get("total", "84.50"))
    line = LineItem("l1", values.get("title", "Stoneware mug"), "Moss", values.get("sku", "MUG-MOSS"), 3, 3,
                    Decimal("26.50"), Decimal("79.50"))  # fmt: skip
    return Core(
        number=number, placed_at=at, status="open", payment_status=values.get("payment", "paid"),
        fulfilment_status=values.get("fulfilment", "unfulfilled"), currency=values.get("currency", "GBP"), total=total,
        subtotal=Decimal("79.50"), discount_total=Decimal("0.00"), shipping_total=Decimal("5.00"),
        tax_total=Decimal("0.00"), refunded_total=Decimal("0.00"), current_total=total, taxes_included=True,
        paid_at=at, completed_at=None, cancelled_at=None, cancel_reason="", closed_at=None, test=False, source="web",
        payment_methods=("card",), shipping_methods=("Post",), discount_codes=(), tags=values.get("tags", ()),
        lines=(line,), refunds=values.get("refunds", (Refund("r1", Decimal("5.00"), "late"),)),
        shipments=(Shipment("s1", "in transit", "Royal Mail", "RM123456789GB"),),
    )  # fmt: skip
