"""The simulated consent page, held against what a real shop's did (capture woocommerce-pairs/18-wc-auth)."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class App(ThreadingHTTPServer):
    """The app's server: takes keys, and answers as it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.status = 200
        super().__init__(("127.0.0.1", 0), _Taker)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


class _Taker(BaseHTTPRequestHandler):
    server: App

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((dict(self.headers.items()), json.loads(body)))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def app() -> Iterator[App]:
    server = App()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def ask(woo, client, app):
    """Open a route of the consent page: ask("authorize", scope="read")."""

    def open_route(route, method="GET", data=None, **changed):
        query = {
            "app_name": "Golden Gateway", "scope": "read_write", "user_id": "tenant-42",
            "return_url": "https://app.test/return", "callback_url": f"http://127.0.0.1:{app.server_port}/callback",
            **changed,
        }  # fmt: skip
        path = f"/woocommerce/{woo.store.key}/wc-auth/v1/{route}"
        query = {name: value for name, value in query.items() if value is not None}
        return client.open(path, method=method, query_string=query, data=data)

    return open_route


def consent(ask):
    assert ask("login", "POST", data={"login": "1"}).status_code == 302
    return ask("authorize")


def approve(client, page):
    link = re.search(r'href="([^"]+)"[^>]*wc-auth-approve', page.text)[1].replace("&amp;", "&")
    return client.get(link.removeprefix("http://sandbox.test"))


def test_who_is_not_logged_in_is_sent_to_the_log_in(ask, woo):
    answer = ask("authorize")

    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(f"{woo.store.url}/wc-auth/v1/login/?app_name=Golden%20Gateway&")


def test_approving_posts_the_keys_and_only_then_returns(ask, client, woo, app):
    page = consent(ask)
    answer = approve(client, page)

    [(headers, keys)] = app.seen
    assert "will allow it to" in page.text
    assert "<strong>127.0.0.1</strong>" in page.text
    assert headers["User-Agent"] == f"WordPress/7.0.4; {woo.store.url}"
    assert headers["Content-Type"] == "application/json;charset=UTF-8"
    assert set(keys) == {"key_id", "user_id", "consumer_key", "consumer_secret", "key_permissions"}
    assert (keys["user_id"], keys["key_permissions"]) == ("tenant-42", "read_write")
    assert answer.headers["Location"] == "https://app.test/return?success=1&user_id=tenant-42"
    assert woo.call("GET", "/orders", key=keys["consumer_key"], secret=keys["consumer_secret"]).status_code == 200


@pytest.mark.parametrize("status", [201, 202, 204, 302, 404, 500])
def test_any_answer_but_200_costs_the_keys_their_life(ask, client, woo, app, status):
    app.status = status

    answer = approve(client, consent(ask))

    assert answer.status_code == 401
    assert "unable to send the consumer data" in answer.text
    assert woo.store.keys == {}


def test_a_server_that_is_not_there_costs_the_keys_their_life(ask, client, woo, app):
    page = consent(ask)
    app.shutdown()
    app.server_close()

    assert approve(client, page).status_code == 401
    assert woo.store.keys == {}


def test_denying_returns_without_keys(ask, app):
    assert 'href="https://app.test/return?success=0&amp;user_id=tenant-42"' in consent(ask).text
    assert app.seen == []


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"callback_url": "http://app.test/callback"}, "The callback_url needs to be over SSL"),
        ({"scope": "everything"}, "Invalid scope everything"),
        ({"user_id": None}, "Missing parameter user_id"),
        ({"return_url": "https://"}, "is not a valid URL"),
    ],
)
def test_what_a_real_shop_refuses(ask, changed, says):
    answer = ask("authorize", **changed)

    assert answer.status_code == 401
    assert says in answer.text


def test_approving_needs_the_pages_own_nonce(ask, app):
    consent(ask)

    answer = ask("access_granted", wc_auth_nonce="guessed")

    assert answer.status_code == 401
    assert app.seen == []


def test_read_keys_can_not_write(ask, client, woo, app):
    ask("login", "POST", data={"login": "1"})
    approve(client, ask("authorize", scope="read"))

    [(_, keys)] = app.seen
    pair = {"key": keys["consumer_key"], "secret": keys["consumer_secret"]}
    assert woo.call("GET", "/orders", **pair).status_code == 200
    assert woo.call("POST", "/webhooks/batch", json={}, **pair).status_code == 401
    assert woo.call("POST", "/webhooks/batch", json={}).status_code == 200
