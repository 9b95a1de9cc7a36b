"""The whole product in one process against simulated platforms: real adapters, real SQL, no sockets, one clock."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
import time_machine
from requests.adapters import BaseAdapter
from sqlalchemy import text
from werkzeug.test import EnvironBuilder

from backfill import runner, runs
from gateway import http
from gateway.connections import access, model
from gateway.connections.access import Access
from gateway.connections.install import NewStore, add_store, subscribe
from gateway.db.engine import Database
from gateway.domain.scope import AccountScope
from gateway.orders.payloads import place_of_delivery, place_of_order
from gateway.orders.reading import canonical
from gateway.platforms import REGISTRY
from gateway.platforms.base import App
from gateway.sandbox.server import create_app
from gateway.sandbox.stores import Store
from gateway.sandbox.world import WebhookRequest, World
from gateway.vault import Vault
from webhooks.apply import Drainer
from webhooks.directory import Directory
from webhooks.receiver import Receiver
from webhooks.rereads import reread_batch
from webhooks.store import Writer

SANDBOX, GATEWAY = "http://sandbox.test", "http://gateway.test"
KEYS = "test:MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="
BEGINNING = datetime(2026, 9, 1, 12, 0, 0, tzinfo=UTC)
"""In the past of any run, since PostgreSQL's own clock decides what is due."""


_COST = re.compile(rb'"actualQueryCost": ?([0-9.]+)')


class _InProcess(BaseAdapter):
    """Requests to the sandbox's WSGI app, without a socket; `slow` seconds pass between reading and answering."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self._simulation = simulation

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        simulation = self._simulation
        simulation.calls += 1
        body = request.body.encode() if isinstance(request.body, str) else request.body
        path, _, query = request.url.removeprefix(SANDBOX).partition("?")
        builder = EnvironBuilder(
            path=path, base_url=SANDBOX, query_string=query, method=request.method, headers=dict(request.headers),
            input_stream=io.BytesIO(body or b""),
        )  # fmt: skip
        environ = builder.get_environ()
        environ["CONTENT_LENGTH"] = str(len(body or b""))
        answered: dict[str, Any] = {}

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            answered.update(status=int(status.split()[0]), headers=headers)

        content = b"".join(simulation.sandbox(environ, start_response))
        if found := _COST.search(content):
            simulation.cost += float(found.group(1))
        if simulation.slow_seconds:
            simulation.pass_time(simulation.slow_seconds)
            http.time.elapsed += simulation.slow_seconds
            moved = [
                (name, _later(value, simulation.slow_seconds) if name.lower() == "date" else value)
                for name, value in answered["headers"]
            ]
            answered["headers"] = moved
        response = requests.Response()
        response.status_code = answered["status"]
        response.headers.update(dict(answered["headers"]))
        response.raw = io.BytesIO(content)
        response.url, response.request = request.url, request
        return response

    def close(self) -> None:
        pass


def _later(date: str, seconds: float) -> str:
    from email.utils import format_datetime, parsedate_to_datetime

    return format_datetime(parsedate_to_datetime(date) + timedelta(seconds=seconds), usegmt=True)


class _Stopwatch:
    """Stands for the `time` module in gateway.http: what a simulated slow answer takes, passes here too."""

    elapsed = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.elapsed


class _Unpaced:
    def reserve(self, *_: Any, **__: Any) -> float:
        return 0.0

    def blocked_for(self, *_: Any) -> float:
        return 0.0

    def correct(self, *_: Any, **__: Any) -> None:
        pass

    def block(self, *_: Any, **__: Any) -> None:
        pass


class Simulation:
    """One gateway and one world. Use as a context manager: the clock stands still but for `pass_time`."""

    def __init__(self, database_url: str, *, seed: int = 1) -> None:
        self._seed = seed
        self._url = database_url
        self.slow_seconds = 0.0
        self.calls = 0
        self.cost = 0.0
        """What Shopify's answers said that the queries cost."""
        self.stores: dict[int, Store] = {}

    def __enter__(self) -> Simulation:
        self._traveller = time_machine.travel(BEGINNING, tick=False)
        self._time = self._traveller.start()
        self._http_time, http.time = http.time, _Stopwatch()
        # Budgets refill by PostgreSQL's clock, which no test can move: pacing has tests of its own.
        self._pacing, access.pacing = access.pacing, _Unpaced()
        self.world = World(self._seed, gateway_url=GATEWAY, base_url=SANDBOX)
        self.sandbox = create_app(self.world)
        self.database = Database(self._url, pool_size=10)
        vault = Vault(KEYS)
        app = App(
            shopify_client_id=self.world.shopify_app.client_id,
            shopify_client_secret=self.world.shopify_app.client_secret,
            shopify_admin_url=SANDBOX + "/shopify/{shop}/admin",
            etsy_keystring=self.world.etsy_app.keystring,
            etsy_shared_secret=self.world.etsy_app.shared_secret,
            etsy_webhook_secrets=(self.world.etsy_app.webhook_secret,),
            etsy_api_url=SANDBOX + "/etsy/v3",
        )
        self.access = Access(self.database, vault, app, GATEWAY, session=self._session)
        self.writer = Writer(self._url)
        self.directory = Directory(self.database, self.access.payloads, app)
        self.receiver = Receiver(_nowhere, writer=self.writer, directory=self.directory, max_body_bytes=10 * 2**20)
        self.drainer = Drainer(self.database, self.access.payloads)
        return self

    def reset(self) -> None:
        """Begin with empty tables: a property runs many worlds in one database."""
        tables = "orders, changes, feed_pending, feed, rereads, deliveries, delivery_bodies, batches, sync_runs, " \
                 "run_items, subscriptions, rate_budgets, connections, accounts, procrastinate_jobs"  # fmt: skip
        with self.database.transaction() as tx:
            tx.execute(text(f"TRUNCATE {tables} CASCADE"))
        self.open_account()

    def open_account(self) -> None:
        with self.database.transaction() as tx:
            self.account_id = tx.execute(text("INSERT INTO accounts (name) VALUES ('A') RETURNING id")).scalar_one()
        self.scope = AccountScope(self.account_id)

    def __exit__(self, *_: object) -> None:
        self.drainer.close()
        self.writer.close()
        self.database.close()
        http.time, access.pacing = self._http_time, self._pacing
        self._traveller.stop()

    def _session(self) -> requests.Session:
        session = requests.Session()
        session.mount(SANDBOX, _InProcess(self))
        return session

    # --- the world ---------------------------------------------------------------------------------------------
    def pass_time(self, seconds: float) -> None:
        self._time.shift(timedelta(seconds=seconds))

    def now(self) -> datetime:
        return datetime.now(UTC)

    def connect(self, store: Store) -> int:
        """Connect a simulated store through the product's own door."""
        row = store.describe()
        credentials = {name: str(value) for name, value in row["credentials"].items()}
        connection_id = add_store(
            self.access,
            self.account_id,
            NewStore(
                platform=row["platform"], shop_id=str(row["shop_id"]), name=row["name"], domain=row["domain"],
                base_url=str(row["url"]).rstrip("/"), currency=row["currency"], time_zone=row["time_zone"],
                credentials=credentials,
            ),
        )  # fmt: skip
        subscribe(self.access, connection_id)
        self.stores[connection_id] = store
        self.deliver_all()
        return connection_id

    def collect(self) -> list[WebhookRequest]:
        """What the platforms would send now."""
        return self.world.collect(release_held=True)

    def deliver(self, request: WebhookRequest) -> int:
        """One webhook through the product's door; the status it is answered with."""
        return self.post(request.path, dict(request.headers), request.body)

    def deliver_all(self, requests_: Iterable[WebhookRequest] | None = None) -> None:
        for request in self.collect() if requests_ is None else requests_:
            status = self.deliver(request)
            self.world.record(request, status)

    def post(self, path: str, headers: Mapping[str, str], body: bytes, *, method: str = "POST") -> int:
        environ = EnvironBuilder(path=path, method=method, headers=dict(headers), data=body).get_environ()
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        answered: list[int] = []
        list(self.receiver(environ, lambda status, *_: answered.append(int(status.split()[0]))))
        return answered[0]

    # --- the product -------------------------------------------------------------------------------------------
    def drain(self) -> None:
        while self.drainer.drain_once():
            pass

    def reread(self) -> None:
        """Read again whatever was asked for, as long as it leads to anything."""
        for _ in range(10):
            with self.database.transaction() as tx:
                due = tx.execute(
                    text("SELECT DISTINCT connection_id FROM rereads WHERE due_at <= clock_timestamp()")
                ).scalars().all()  # fmt: skip
            if not due:
                return
            for connection_id in due:
                reread_batch(self.access, connection_id)

    def ask(self, connection_id: int, days: int = 7, **options: Any) -> runs.Opened:
        with self.database.transaction() as tx:
            return runs.open_run(tx, self.scope, connection_id, days, **options)

    def sync(self, connection_id: int, days: int = 7, **options: Any) -> dict[str, Any]:
        """A merchant's Sync Order, to its end."""
        opened = self.ask(connection_id, days, **options)
        self.work(connection_id)
        return self.run(opened.run_id)

    def work(self, connection_id: int) -> None:
        """What a worker does about a connection's runs, until none is open; waits pass at once."""
        for _ in range(20):
            runner.work_all(self.access, connection_id)
            if not self.scalar(
                "SELECT count(*) FROM sync_runs WHERE connection_id = :id AND state IN ('queued', 'running')",
                id=connection_id,
            ):
                return
            self.pass_time(700)

    def run(self, run_id: int) -> dict[str, Any]:
        with self.database.transaction() as tx:
            run = runs.get_run(tx, self.scope, run_id)
        assert run is not None
        return dict(run)

    # --- comparing ---------------------------------------------------------------------------------------------
    def stored(self, connection_id: int) -> dict[str, tuple[str, str]]:
        """Live orders: external id → canonical core and person."""
        with self.database.transaction() as tx:
            rows = tx.execute(
                text("SELECT external_id, core::text AS core, person::text AS person FROM orders"
                     " WHERE connection_id = :id AND removed_at IS NULL AND core IS NOT NULL"),
                {"id": connection_id},
            ).all()  # fmt: skip
        return {row.external_id: (row.core, row.person) for row in rows}

    def truth(self, connection_id: int) -> dict[str, tuple[str, str]]:
        """The same, as the simulated store knows it."""
        store = self.stores[connection_id]
        platform = REGISTRY[store.platform]
        result = {}
        for row in store.truth():
            if not row["exists"] or row["trashed"]:
                continue
            # The sandbox tells the truth of a Shopify order in its webhook form.
            order = platform.normalise(row["order"], kind="webhook" if store.platform == "shopify" else "api")
            assert order.person is not None
            result[order.external_id] = (canonical(order.core).decode(), canonical(order.person).decode())
        return result

    def scalar(self, statement: str, **values: Any) -> Any:
        with self.database.transaction() as tx:
            return tx.execute(text(statement), values).scalar()

    def rows(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        with self.database.transaction() as tx:
            return [dict(row) for row in tx.execute(text(statement), values).mappings()]

    def bodies(self) -> list[bytes]:
        """What was received, opened, in the order of the deliveries."""
        with self.database.transaction() as tx:
            rows = tx.execute(text("SELECT received_at, body FROM delivery_bodies ORDER BY delivery_id")).all()
            return [self.access.payloads.open(tx, bytes(r.body), place_of_delivery(r.received_at)) for r in rows]

    def payloads(self, column: str = "raw") -> list[bytes]:
        """The payloads kept beside orders, opened, in the order of their ids."""
        with self.database.transaction() as tx:
            rows = tx.execute(
                text(f"SELECT connection_id, external_id, {column} FROM orders WHERE {column} IS NOT NULL ORDER BY id")
            ).all()
            return [self.access.payloads.open(tx, bytes(r[2]), place_of_order(r[0], r[1])) for r in rows]

    def connection(self, connection_id: int) -> model.Connection:
        with self.database.transaction() as tx:
            connection = model.get(tx, connection_id)
        assert connection is not None
        return connection


def _nowhere(environ: Mapping[str, Any], start_response: Any) -> list[bytes]:
    start_response("404 Not Found", [])
    return [b""]
