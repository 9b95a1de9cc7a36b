"""The door: what is answered, what is stored, what is refused and why."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from werkzeug.test import EnvironBuilder

from gateway.domain.problems import CATALOGUE, DATABASE_AWAY, NeedsOperator
from gateway.orders.payloads import place_of_delivery
from tests.webhooks.conftest import Gateway
from webhooks.directory import Busy


def _stored(gateway: Gateway) -> int:
    return int(gateway.simulation.scalar("SELECT count(*) FROM deliveries"))


def test_a_signed_webhook_is_stored_byte_for_byte_before_it_is_answered(gateway: Gateway) -> None:
    body = b'{"id":1,  "note":"\xf0\x9f\x8c\xbf \\ud83d\\ude00"}\n'

    assert gateway.send(body, X_Extra="kept") == 200

    row = gateway.simulation.rows("SELECT headers FROM delivery_bodies")[0]
    assert gateway.simulation.bodies() == [body]
    assert ["x-extra", "kept"] in json.loads(bytes(row["headers"]))


def test_a_duplicate_is_answered_200_and_stored_once(gateway: Gateway) -> None:
    body = b'{"id":1}'
    headers = gateway.headers(body)

    assert [gateway.simulation.post(gateway.path, headers, body) for _ in range(3)] == [200, 200, 200]
    assert _stored(gateway) == 1


@pytest.mark.parametrize("signature", ["", "AAAA", "not base64!", "é", "x" * 44])
def test_a_bad_signature_is_answered_401_and_not_stored(gateway: Gateway, signature: str) -> None:
    body = b'{"id":1}'
    headers = {**gateway.headers(body), "X-WC-Webhook-Signature": signature}

    assert gateway.simulation.post(gateway.path, headers, body) == 401
    assert _stored(gateway) == 0


def test_an_altered_body_is_answered_401(gateway: Gateway) -> None:
    assert gateway.simulation.post(gateway.path, gateway.headers(b'{"id":1}'), b'{"id":2}') == 401


def test_refusals_are_counted_by_reason_and_followed_by_a_catch_up(gateway: Gateway) -> None:
    for signature in ("", "AAAA", "AAAA"):
        headers = {**gateway.headers(b"{}"), "X-WC-Webhook-Signature": signature}
        gateway.simulation.post(gateway.path, headers, b"{}")

    gateway.simulation.writer.close()  # writes what it has noted

    rows = gateway.simulation.rows("SELECT reason, count FROM signature_failures ORDER BY reason")
    assert [(row["reason"], row["count"]) for row in rows] == [
        ("webhook.signature_malformed", 2),
        ("webhook.signature_missing", 1),
    ]
    assert gateway.simulation.scalar("SELECT catch_up_wanted_at IS NOT NULL FROM connections") is True


def test_a_secret_that_is_new_is_read_before_anything_is_refused(gateway: Gateway) -> None:
    assert gateway.send(b'{"id":1}') == 200  # the old secret is cached now
    gateway.simulation.directory._entries.clear()
    gateway.send(b'{"id":2}')
    for name, entry in list(gateway.simulation.directory._entries.items()):
        gateway.simulation.directory._entries[name] = replace(entry, read_at=entry.read_at - 2)
    gateway.secret = "B" * 50
    with gateway.simulation.database.transaction() as tx:
        tx.execute(
            text("UPDATE connections SET hook_secrets = :secrets"),
            {"secrets": gateway.simulation.access.vault.close([gateway.secret])},
        )

    assert gateway.send(b'{"id":3}') == 200


def test_an_unknown_woocommerce_address_is_answered_404(gateway: Gateway) -> None:
    body = b'{"id":1}'

    assert gateway.simulation.post("/webhooks/woocommerce/stranger", gateway.headers(body), body) == 404
    assert gateway.simulation.post("/webhooks/nobody", gateway.headers(body), body) == 404
    status, _, told = _answer(gateway, _environ(gateway, body, PATH_INFO="/webhooks/woocommerce/stranger"))
    assert (status, json.loads(told)["type"]) == (404, "urn:problem:webhook.address_unknown")
    assert _stored(gateway) == 0


@pytest.mark.parametrize("key", ["\x00", "a\x00b", "é", "a b", "x" * 5000, "..", "%2e%2e", "'--"])
def test_a_strange_woocommerce_address_is_unknown_and_no_fault_of_ours(gateway: Gateway, key: str) -> None:
    headers = {"x-wc-webhook-topic": "order.created", "x-wc-webhook-signature": "AAAA"}

    assert gateway.simulation.post(f"/webhooks/woocommerce/{key}", headers, b"{}") == 404


@pytest.mark.parametrize("key", ["\x00", "\xff", "x" * 5000, ""])
def test_a_ping_to_a_strange_address_is_unknown_and_no_fault_of_ours(gateway: Gateway, key: str) -> None:
    assert gateway.simulation.post(f"/webhooks/woocommerce/{key}", {}, b"webhook_id=1") == 404


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "yesterday", "2026-09-01T12:00:00"]
)
def test_a_time_that_is_none_is_left_out_and_the_webhook_taken(gateway: Gateway, moment: str) -> None:
    shop = gateway.simulation.world.add_store("shopify")
    shop.place()
    request = gateway.simulation.collect()[0]
    headers = {**dict(request.headers), "X-Shopify-Triggered-At": moment}

    assert gateway.simulation.post(request.path, headers, request.body) == 200
    assert gateway.delivery()["observed_at"] is None


def test_a_mistake_of_ours_is_answered_503_and_never_4xx(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(*_: Any, **__: Any) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(type(gateway.simulation.directory), "look_up", mistaken)

    status, headers, body = _answer(gateway, _environ(gateway, b"{}"))

    assert (status, headers["Retry-After"]) == (503, "5")
    assert json.loads(body)["type"] == "urn:problem:internal.unexpected"


def _wished(gateway: Gateway) -> bool:
    gateway.simulation.writer.close()  # writes what it has noted
    return bool(gateway.simulation.scalar("SELECT catch_up_wanted_at IS NOT NULL FROM connections"))


def test_a_webhook_that_was_too_large_is_followed_by_a_catch_up(gateway: Gateway) -> None:
    gateway.send(b'{"id":1}')
    assert _answer(gateway, _environ(gateway, b"", CONTENT_LENGTH=str(10 * 2**20 + 1)))[0] == 413

    assert _wished(gateway)


def test_a_webhook_that_came_while_nothing_could_be_looked_up_is_followed_by_a_catch_up(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.send(b'{"id":1}')
    with monkeypatch.context() as patched:
        patched.setattr("webhooks.directory.LIVES_SECONDS", -1.0)  # the database was away for so long
        patched.setattr(type(gateway.simulation.directory), "_read", _away)
        assert gateway.send(b'{"id":2}') == 503

    assert _wished(gateway)


def _away(*_: Any) -> None:
    raise NeedsOperator(DATABASE_AWAY, "away")


def test_a_ping_is_answered_exactly_200_and_not_stored(gateway: Gateway) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}

    assert gateway.simulation.post(gateway.path, headers, b"webhook_id=1") == 200
    assert gateway.simulation.post("/webhooks/woocommerce/stranger", headers, b"webhook_id=1") == 404
    assert _stored(gateway) == 0


def test_head_is_answered_without_a_body(gateway: Gateway) -> None:
    status, headers, body = _answer(gateway, _environ(gateway, b"", REQUEST_METHOD="HEAD"))

    assert (status, headers["Allow"], body) == (405, "POST", b"")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "PATCH"])
def test_other_methods_are_answered_405(gateway: Gateway, method: str) -> None:
    assert gateway.simulation.post(gateway.path, {}, b"", method=method) == 405


def _answer(gateway: Gateway, environ: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    answered: dict[str, Any] = {}

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
        answered.update(status=int(status.split()[0]), headers=dict(headers))

    body = b"".join(gateway.simulation.receiver(environ, start_response))
    return answered["status"], answered["headers"], body


def _environ(gateway: Gateway, body: bytes, **changes: Any) -> dict[str, Any]:
    environ = EnvironBuilder(path=gateway.path, method="POST", headers=gateway.headers(body)).get_environ()
    return {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body)), **changes}


def test_a_body_over_the_limit_is_answered_413_without_being_read(gateway: Gateway) -> None:
    class Unread(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise AssertionError("the body was read")

    environ = _environ(gateway, b"", CONTENT_LENGTH=str(10 * 2**20 + 1))
    environ["wsgi.input"] = Unread()

    status, headers, body = _answer(gateway, environ)

    assert (status, headers["Connection"]) == (413, "close")
    assert json.loads(body)["fix"] == CATALOGUE["webhook.body_too_large"].fix


def test_a_chunked_body_over_the_limit_is_answered_413(gateway: Gateway) -> None:
    environ = _environ(gateway, b"x" * (10 * 2**20 + 1), HTTP_TRANSFER_ENCODING="chunked")
    del environ["CONTENT_LENGTH"]

    assert _answer(gateway, environ)[0] == 413


def test_a_chunked_body_is_taken_whole(gateway: Gateway) -> None:
    body = b'{"id":1,"note":"' + b"x" * 200_000 + b'"}'
    environ = _environ(gateway, body, HTTP_TRANSFER_ENCODING="chunked")
    del environ["CONTENT_LENGTH"]

    assert _answer(gateway, environ)[0] == 200
    assert gateway.simulation.bodies() == [body]


@pytest.mark.parametrize("length", ["10", "abc", "-1", "1e3"])
def test_a_body_shorter_than_declared_or_of_no_length_is_answered_400(gateway: Gateway, length: str) -> None:
    status, _, _ = _answer(gateway, _environ(gateway, b"{}", CONTENT_LENGTH=length))

    assert status == 400
    assert _stored(gateway) == 0


def test_a_body_without_any_length_is_empty(gateway: Gateway) -> None:
    environ = _environ(gateway, b"")
    del environ["CONTENT_LENGTH"]

    assert _answer(gateway, environ)[0] == 200  # a signed empty body: stored, and a dead letter with its reason
    gateway.simulation.drain()
    assert gateway.delivery()["problem"] == "webhook.body_not_json"


def test_too_many_bodies_in_hand_are_answered_503(gateway: Gateway) -> None:
    gateway.simulation.receiver._in_hand = 64 * 2**20

    status, headers, _ = _answer(gateway, _environ(gateway, b"{}"))

    assert status == 503
    assert int(headers["Retry-After"]) > 0


def test_when_the_database_is_away_the_answer_is_503_with_a_time_to_come_back(gateway: Gateway) -> None:
    gateway.send(b'{"id":1}')  # the connection's secrets are cached
    gateway.simulation.writer.url = "postgresql://nobody@127.0.0.1:1/none"
    gateway.simulation.writer._drop_connection()

    status, headers, body = _answer(gateway, _environ(gateway, b'{"id":2}'))

    assert status == 503
    assert int(headers["Retry-After"]) > 0
    assert json.loads(body)["type"] == "urn:problem:internal.database_away"
    assert _stored(gateway) == 1


def test_a_look_up_that_fails_is_answered_503_and_never_4xx(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: Any, **__: Any) -> None:
        raise Busy

    monkeypatch.setattr(type(gateway.simulation.directory), "look_up", busy)

    assert gateway.send(b'{"id":1}') == 503


def test_a_look_up_that_never_ends_is_given_up_in_time(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    stands_still = threading.Event()
    monkeypatch.setattr("webhooks.directory.LOOK_UP_SECONDS", 0.05)
    monkeypatch.setattr(type(gateway.simulation.directory), "_read", lambda *_: stands_still.wait(60))
    gateway.simulation.directory._entries.clear()

    status, headers, body = _answer(gateway, _environ(gateway, b"{}"))
    stands_still.set()

    assert (status, headers["Retry-After"]) == (503, "5")
    assert json.loads(body)["type"] == "urn:problem:internal.database_away"


def test_an_unknown_shopify_shop_is_stored_and_parked(gateway: Gateway) -> None:
    shop = gateway.simulation.world.add_store("shopify")
    shop.place()
    request = gateway.simulation.collect()[0]

    assert gateway.simulation.deliver(request) == 200

    gateway.simulation.drain()
    assert gateway.delivery()["state"] == "parked"


def test_other_paths_go_on_to_the_application(gateway: Gateway) -> None:
    assert gateway.simulation.post("/orders", {}, b"") == 404  # the application's own answer here
    assert gateway.simulation.post("/webhooks", {}, b"") == 404


def test_one_request_that_can_not_be_stored_fails_alone(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement that fails for one row is done again row by row."""
    writer = gateway.simulation.writer
    insert = type(writer)._insert

    def picky(self: Any, rows: list[Any]) -> None:
        opened = (
            gateway.simulation.directory.look_up("woocommerce", gateway.key).data_key.open(
                row.body, place_of_delivery(row.received_at)
            )
            for row in rows
        )
        if b'{"id":13}' in opened:
            raise ValueError("no such row")
        insert(self, rows)

    monkeypatch.setattr(type(writer), "_insert", picky)

    assert gateway.send(b'{"id":12}') == 200
    assert gateway.send(b'{"id":13}') == 503
    assert gateway.send(b'{"id":14}') == 200
    assert _stored(gateway) == 2
