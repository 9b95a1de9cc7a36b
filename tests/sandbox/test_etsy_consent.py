"""The simulated consent page and code exchange of Etsy, held against section 2 of its sheet."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import parse_qs, urlsplit

import pytest

VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
CALLBACK = "http://gateway.test/install/etsy/callback"


@pytest.fixture
def page(etsy, client):
    """Open the consent page, or press its button: page(do="grant")."""

    def ask(do=None, **changed):
        query = {
            "response_type": "code", "client_id": etsy.store.world.etsy_app.keystring, "redirect_uri": CALLBACK,
            "scope": "transactions_r shops_r", "state": "superstate", "code_challenge": CHALLENGE,
            "code_challenge_method": "S256", **changed,
        }  # fmt: skip
        data = {"do": do, "shop": etsy.store.key} if do else None
        return client.open("/etsy/oauth/connect", method="POST" if do else "GET", query_string=query, data=data)

    return ask


@pytest.fixture
def exchange(etsy, client):
    def ask(code, **changed):
        form = {
            "grant_type": "authorization_code", "client_id": etsy.store.world.etsy_app.keystring,
            "redirect_uri": CALLBACK, "code": code, "code_verifier": VERIFIER, **changed,
        }  # fmt: skip
        return client.post("/etsy/v3/public/oauth/token", data=form)

    return ask


def code_of(answer):
    assert answer.status_code == 302
    given = {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}
    assert given["state"] == "superstate"
    return given.get("code") or given["error"]


def test_granting_gives_a_code_and_the_code_gives_tokens(page, exchange, etsy):
    assert "transactions_r" in page().text

    answer = exchange(code_of(page("grant")))

    assert answer.status_code == 200
    assert answer.json["token_type"] == "Bearer"
    assert answer.json["access_token"].startswith(f"{etsy.store.user_id}.")
    assert etsy.get("/users/me").json["shop_id"] == etsy.store.shop_id


def test_denying_comes_back_with_an_error(page):
    assert code_of(page("deny")) == "access_denied"


@pytest.mark.parametrize(
    "changed",
    [{"redirect_uri": CALLBACK + "/"}, {"redirect_uri": CALLBACK.upper()}, {"client_id": "other"}, {"state": ""},
     {"code_challenge": ""}, {"response_type": "token"}],
)  # fmt: skip
def test_what_is_not_registered_is_told_on_a_page_and_sends_nobody_away(page, changed):
    answer = page("grant", **changed)

    assert answer.status_code == 400
    assert "Location" not in answer.headers


@pytest.mark.parametrize("changed", [{"scope": "everything"}, {"scope": ""}, {"code_challenge_method": "plain"}])
def test_a_scope_or_method_that_does_not_exist_is_refused(page, changed):
    assert code_of(page(**changed)) == "invalid_request"


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"code_verifier": "w" * 64}, "invalid_grant"),
        ({"code_verifier": ""}, "invalid_request"),
        ({"code_verifier": "v" * 42}, "invalid_request"),
        ({"redirect_uri": "http://gateway.test/other"}, "invalid_grant"),
        ({"client_id": "other"}, "invalid_client"),
    ],
)
def test_a_code_is_worth_nothing_without_its_verifier(page, exchange, changed, error):
    answer = exchange(code_of(page("grant")), **changed)

    assert answer.status_code in (400, 401)
    assert answer.json["error"] == error


def test_a_code_works_once_and_for_a_minute(page, exchange, clock):
    once, late = code_of(page("grant")), code_of(page("grant"))

    assert exchange(once).status_code == 200
    assert exchange(once).json["error"] == "invalid_grant"
    clock.move(61)
    assert exchange(late).json["error"] == "invalid_grant"
