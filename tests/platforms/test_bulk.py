"""Orders that come by a bulk operation: the same as by pages, whatever the file's pieces, and never without a line."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backfill.runs import window_of_days
from gateway.connections.model import Connection
from gateway.domain.problems import PERMISSION_MISSING, NeedsMerchant, Refused
from gateway.domain.window import Window
from gateway.platforms import REGISTRY
from gateway.platforms.base import App, BulkImport, BulkLook, Found, Page, StoreAccess
from gateway.platforms.shopify import bulk
from gateway.sandbox.shopify import ShopifyStore
from gateway.sandbox.shopify_cost import Bucket
from tests.platforms.test_shapes import STATES
from tests.simulation import BEGINNING, Simulation

CREATED = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
WINDOW = Window(CREATED - timedelta(days=7), CREATED)
URL = "https://storage.test/file"


@pytest.fixture
def simulation(clean_database: str) -> Iterator[Simulation]:
    with Simulation(clean_database) as simulation:
        simulation.open_account()
        yield simulation


@pytest.fixture
def shop(simulation: Simulation) -> ShopifyStore:
    store = simulation.world.add_store("shopify", currency="GBP")
    assert isinstance(store, ShopifyStore)
    return store


@pytest.fixture
def access(simulation: Simulation, shop: ShopifyStore) -> StoreAccess:
    return simulation.access.store(_connection(simulation, shop))


def _connection(simulation: Simulation, shop: ShopifyStore) -> Connection:
    return simulation.connection(simulation.connect(shop))


def _able() -> BulkImport:
    able = REGISTRY["shopify"].bulk
    assert able is not None
    return able


def _ended(simulation: Simulation, access: StoreAccess, window: Window) -> BulkLook:
    operation = _able().begin(access, window)
    simulation.pass_time(60)
    return _able().look(access, operation)


def _all(pages: Iterator[Page]) -> list[Found]:
    return [order for page in pages for order in page.orders]


def _normal(orders: list[Found]) -> dict[str, Any]:
    normalise = REGISTRY["shopify"].normalise
    return {order.external_id: normalise(json.loads(order.raw), kind="api") for order in orders}


# --- against the simulated shop --------------------------------------------------------------------------------
def test_bulk_and_page_of_one_state_are_equal(simulation: Simulation, shop: ShopifyStore, access: StoreAccess) -> None:
    """Every state of the golden pairs, which page and webhook are held against too: so all three give one digest."""
    for make in STATES.values():
        make(shop)
    simulation.pass_time(60)
    window = window_of_days(7, simulation.now(), timedelta())

    brought = _all(bulk.rows(access, _ended(simulation, access, window), window, None))
    cursor, listed = None, []
    while True:
        page = REGISTRY["shopify"].list_page(access, window, cursor)
        listed += page.orders
        cursor = page.cursor
        if cursor is None:
            break

    assert _normal(brought) == _normal(listed)
    assert len(brought) == len(STATES)
    assert max(len(json.loads(order.raw)["lineItems"]["nodes"]) for order in brought) == 260


def test_what_is_read_is_dated_when_the_operation_began(
    simulation: Simulation, shop: ShopifyStore, access: StoreAccess
) -> None:
    """Its content is read at any moment from then on; the host of the file has another clock."""
    shop.skew = timedelta(hours=1)
    shop.issue_tokens()
    order = shop.place(quiet=True)
    changed = shop.place(quiet=True)
    simulation.pass_time(0.7)
    window = Window(BEGINNING, BEGINNING + timedelta(hours=2))
    operation = _able().begin(dataclasses.replace(access, credentials=_tokens(shop)), window)
    simulation.pass_time(0.5)
    shop.change(changed.id, "note", quiet=True)
    simulation.pass_time(60)

    look = _able().look(dataclasses.replace(access, credentials=_tokens(shop)), operation)
    found = {one.external_id: one for one in _all(bulk.rows(access, look, window, None))}

    began = BEGINNING + timedelta(hours=1)
    assert look.created_at == began
    assert {one.observed_at for one in found.values()} == {began}
    assert found[str(order.id)].updated_at == began
    assert found[str(changed.id)].updated_at == began + timedelta(seconds=1)


def _tokens(shop: ShopifyStore) -> dict[str, str]:
    return {"access_token": shop.access_tokens[-1].value}


def test_an_order_that_moves_on_meanwhile_has_left_the_window(
    simulation: Simulation, shop: ShopifyStore, access: StoreAccess
) -> None:
    stays, leaves = shop.place(quiet=True), shop.place(quiet=True)
    simulation.pass_time(10)
    window = window_of_days(7, simulation.now(), timedelta())
    operation = _able().begin(access, window)
    simulation.pass_time(0.5)
    shop.change(leaves.id, "note", quiet=True)
    simulation.pass_time(60)

    found = _all(bulk.rows(access, _able().look(access, operation), window, None))

    assert [order.external_id for order in found] == [str(stays.id)]


def test_an_empty_window_is_one_empty_page(simulation: Simulation, shop: ShopifyStore, access: StoreAccess) -> None:
    window = window_of_days(7, simulation.now(), timedelta())

    look = _ended(simulation, access, window)

    assert (look.state, look.url) == ("done", "")
    assert list(bulk.rows(access, look, window, None)) == [Page([], None, look.created_at)]


@pytest.mark.parametrize(
    ("fault", "state", "reason", "has_link"),
    [("bulk_fail", "failed", "INTERNAL_SERVER_ERROR", True), ("bulk_cancel", "failed", "CANCELED", False),
     ("bulk_expire", "failed", "EXPIRED", False)],
)  # fmt: skip
def test_each_bad_end_is_told(
    simulation: Simulation, shop: ShopifyStore, access: StoreAccess, fault: str, state: str, reason: str, has_link: bool
) -> None:
    for _ in range(4):
        shop.place(quiet=True, lines=2)
    shop.faults.set({fault: 1})

    look = _ended(simulation, access, window_of_days(7, simulation.now() + timedelta(hours=1), timedelta()))

    assert (look.state, look.reason, bool(look.url)) == (state, reason, has_link)


def test_how_long_pages_take_is_by_the_budget_that_the_store_shows(
    simulation: Simulation, shop: ShopifyStore, access: StoreAccess
) -> None:
    """An advanced plan's gets twice as much a second."""
    before = _able().in_pages(access, 20_000)
    shop.bucket = Bucket(4000.0, 200.0)

    REGISTRY["shopify"].shop(access)

    assert before == timedelta(minutes=37, seconds=28)
    assert _able().in_pages(access, 20_000) == before / 2


def test_an_operation_that_is_not_known_has_failed(access: StoreAccess) -> None:
    assert _able().look(access, "gid://shopify/BulkOperation/1").state == "failed"


def test_the_sixth_at_once_is_refused(simulation: Simulation, shop: ShopifyStore, access: StoreAccess) -> None:
    window = window_of_days(7, simulation.now(), timedelta())
    for _ in range(5):
        _able().begin(access, window)

    with pytest.raises(Refused) as refused:
        _able().begin(access, window)

    assert "LIMIT_REACHED" in refused.value.detail


# --- what an answer may say ------------------------------------------------------------------------------------
class Api:
    """Answers one GraphQL body."""

    def __init__(self, **body: Any) -> None:
        self.body = body

    def call(self, *_: Any, **__: Any) -> Any:
        from gateway.http import Answer

        return Answer(200, {"date": "Tue, 24 Nov 2026 12:00:00 GMT"}, json.dumps(self.body).encode(), 0.1, CREATED)


def _store(http: Any) -> StoreAccess:
    return StoreAccess(
        shop_id="1", domain="a.myshopify.com", base_url="", currency="USD", time_zone="UTC",
        credentials={"access_token": "t"}, app=App(), http=http,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"data": {"bulkOperationRunQuery": {"bulkOperation": None, "userErrors": [{"message": "no"}]}}}, Refused),
        ({"data": {"bulkOperationRunQuery": {"bulkOperation": None, "userErrors": []}}}, Refused),
        ({"data": {"bulkOperationRunQuery": None}}, Refused),
        ({"errors": [{"message": "Field 'bulkOperationRunQuery' doesn't exist on type 'Mutation'"}]}, Refused),
        (
            {
                "data": {"bulkOperationRunQuery": None},
                "errors": [
                    {"message": "Access denied", "path": ["bulkOperationRunQuery"],
                     "extensions": {"code": "ACCESS_DENIED"}}
                ],
            },
            NeedsMerchant,
        ),
    ],
)  # fmt: skip
def test_an_operation_that_is_not_begun_is_refused(body: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind) as refused:
        bulk.begin(_store(Api(**body)), WINDOW)

    if kind is NeedsMerchant:
        assert refused.value.problem is PERMISSION_MISSING  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", ["CREATED", "RUNNING", "CANCELING", "A_STATUS_OF_NEXT_YEAR"])
def test_what_has_not_ended_runs(status: str) -> None:
    node = {"status": status, "createdAt": "2026-11-24T12:00:00Z", "url": None, "partialDataUrl": None}

    look = bulk.look(_store(Api(data={"bulkOperation": node})), "gid://shopify/BulkOperation/1")

    assert look == BulkLook("running", CREATED)


# --- the file --------------------------------------------------------------------------------------------------
class File:
    """Streams its content in pieces of one size, from the byte that is asked for."""

    def __init__(self, content: bytes, piece: int = 65_536) -> None:
        self.content, self.piece = content, piece

    def stream(self, url: str, *, after: int = 0) -> Iterator[bytes]:
        for begin in range(after, len(self.content), self.piece):
            yield self.content[begin : begin + self.piece]


def _order(number: int, lines: int) -> list[bytes]:
    order = {"id": f"gid://shopify/Order/{number}", "name": "ü" * (number % 7), "updatedAt": "2026-11-24T10:00:00Z"}
    rows = [
        {"id": f"gid://shopify/LineItem/{number * 1000 + each}", "__parentId": order["id"]} for each in range(lines)
    ]
    return [json.dumps(row, ensure_ascii=False).replace("/", "\\/").encode() + b"\n" for row in [order, *rows]]


def _file(sizes: list[int]) -> bytes:
    return b"".join(line for number, lines in enumerate(sizes) for line in _order(number + 1, lines))


def _done(content: bytes) -> BulkLook:
    return BulkLook("done", CREATED, URL, len(content))


def _shape(orders: list[Found]) -> list[tuple[str, int]]:
    return [(order.external_id, len(json.loads(order.raw)["lineItems"]["nodes"])) for order in orders]


SIZES = [0, 3, 260, 0, 0, 1, 12, 2]


@pytest.mark.parametrize("piece", [1, 2, 7, 64, 1000, 65_536])
@pytest.mark.parametrize("portion", [1, 2, 3, 250])
def test_lines_are_joined_to_their_order_whatever_the_pieces_and_portions(
    monkeypatch: pytest.MonkeyPatch, piece: int, portion: int
) -> None:
    monkeypatch.setattr(bulk, "PORTION", portion)
    content = _file(SIZES)

    pages = list(bulk.rows(_store(File(content, piece)), _done(content), WINDOW, None))

    assert _shape(_all(iter(pages))) == [(str(number + 1), lines) for number, lines in enumerate(SIZES)]
    assert [page.cursor is None for page in pages] == [*[False] * (len(pages) - 1), True]
    for order in _all(iter(pages)):
        for line in json.loads(order.raw)["lineItems"]["nodes"]:
            assert set(line) == {"id"}
            assert line["id"].split("/")[-1][:-3] == order.external_id


def test_it_goes_on_from_any_cursor_with_the_order_that_begins_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PORTION", 2)
    content = _file(SIZES)
    pages = list(bulk.rows(_store(File(content, 100)), _done(content), WINDOW, None))

    for place, page in enumerate(pages[:-1]):
        rest = list(bulk.rows(_store(File(content, 100)), _done(content), WINDOW, page.cursor))
        assert rest == pages[place + 1 :]


def test_a_portion_ends_early_where_its_orders_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PORTION_BYTES", 10_000)
    content = _file([260, 260, 1, 1])

    pages = list(bulk.rows(_store(File(content)), _done(content), WINDOW, None))

    assert [len(page.orders) for page in pages] == [1, 1, 2]


@pytest.mark.parametrize("cut", range(1, 400, 3))
def test_of_a_file_that_broke_off_only_what_is_certain_is_taken(cut: int) -> None:
    """Wherever it ends, in a line, between lines or between orders: the last order may lack lines, so it waits."""
    content = _file([2, 3, 1])
    kept = content[: len(content) - cut]
    starts = [0, len(_file([2])), len(_file([2, 3]))]
    certain = max(sum(start < len(kept) for start in starts) - 1, 0)
    if certain and b"\n" not in kept[starts[certain] :]:
        certain -= 1  # the last order's first line can't be read: whether the one before is whole is not known

    for look in (_done(content), BulkLook("failed", CREATED, URL)):
        pages = list(bulk.rows(_store(File(kept)), look, WINDOW, None))
        assert _shape(_all(iter(pages))) == [("1", 2), ("2", 3)][:certain]
        assert all(page.cursor is not None for page in pages)


def test_partial_data_that_is_whole_by_its_looks_is_partial_all_the_same() -> None:
    content = _file([1, 1])

    pages = list(bulk.rows(_store(File(content)), BulkLook("failed", CREATED, URL), WINDOW, None))

    assert [(_shape(list(page.orders)), page.cursor) for page in pages] == [([("1", 1)], {"offset": len(_file([1]))})]


@pytest.mark.parametrize(
    "line",
    [b"<html>\n", b"[]\n", b"{}\n", b"\n", b'{"id":1,"__parentId":"gid://shopify/Order/1"}\n', b"\xff\n", b"null\n",
     b"[" * 100_000 + b"\n"],
)  # fmt: skip
def test_a_line_that_is_not_what_it_should_be_ends_the_file(line: bytes) -> None:
    """A line of an order that is not the one above it is never dropped: what follows is read in pages instead."""
    content = _file([1, 1, 1])
    begin = len(_file([1, 1]))
    spoilt = content[:begin] + line + content[begin:]

    pages = list(bulk.rows(_store(File(spoilt)), _done(spoilt), WINDOW, None))

    assert _shape(_all(iter(pages))) == [("1", 1)]
    assert all(page.cursor is not None for page in pages)


def test_a_line_without_an_end_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "MAX_LINE_BYTES", 1000)
    content = _file([1]) + b"x" * 5000

    with pytest.raises(Refused):
        list(bulk.rows(_store(File(content, 100)), _done(content), WINDOW, None))


def test_memory_is_flat_over_a_slice_of_the_largest_size() -> None:
    """What is held at once is a portion, however long the file is."""

    class Endless:
        def stream(self, url: str, *, after: int = 0) -> Iterator[bytes]:
            for number in range(1, 20_001):
                yield b"".join(_order(number, 3))

    def highest(orders: int) -> int:
        tracemalloc.reset_peak()
        seen = 0
        for page in bulk.rows(_store(Endless()), BulkLook("done", CREATED, URL), WINDOW, None):
            seen += len(page.orders)
            if seen >= orders:
                break
        assert seen >= orders
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        few, many = highest(1_000), highest(20_000)
    finally:
        tracemalloc.stop()

    assert many < 1.2 * few
    assert many < 4 * 1024 * 1024
