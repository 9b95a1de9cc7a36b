"""Log-in, log-out, and what nobody gets past."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine

from gateway.web import login
from tests.web.conftest import csrf_of, log_in
from tests.web.world import PASSWORD

WRONG = "not the password"


def test_the_right_password_opens_the_orders(anonymous, maya):
    answer = log_in(anonymous)

    assert (answer.status_code, answer.headers["Location"]) == (302, "/orders")
    assert anonymous.get("/orders").status_code == 200


def test_the_address_is_compared_without_case(anonymous, maya):
    assert log_in(anonymous, email=" Maya@Example.com ").status_code == 302


def test_a_wrong_password_and_an_unknown_address_are_answered_alike(anonymous, maya):
    wrong, unknown = log_in(anonymous, password=WRONG), log_in(anonymous, email="nobody@example.com")

    assert wrong.status_code == unknown.status_code == 401
    assert "The e-mail address or the password is not right." in wrong.text
    assert "The e-mail address or the password is not right." in unknown.text
    assert anonymous.get("/orders").status_code == 302


def test_the_cookie_is_hidden_from_scripts_and_other_sites(anonymous, maya):
    cookie = log_in(anonymous).headers["Set-Cookie"]

    assert cookie.startswith(f"{login.COOKIE}=")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Max-Age=1209600" in cookie


def test_only_the_hash_of_the_token_is_stored(browser, world):
    token = browser.get_cookie(login.COOKIE).value

    row = world.sql("SELECT token_hash FROM sessions")[0]

    assert token.encode() not in bytes(row["token_hash"])
    assert len(row["token_hash"]) == 32


def test_a_cookie_from_before_the_log_in_is_not_taken_over(anonymous, maya):
    anonymous.set_cookie(login.COOKIE, "planted")

    log_in(anonymous)

    assert anonymous.get_cookie(login.COOKIE).value != "planted"


def test_the_form_token_from_before_the_log_in_is_worth_nothing_after(anonymous, maya):
    before = csrf_of(anonymous.get("/login").text)
    log_in(anonymous)

    answer = anonymous.post("/settings/sessions/revoke-all", data={"csrf_token": before})

    assert answer.status_code == 400
    assert "This form is no longer valid" in answer.text


def test_a_form_without_its_token_is_refused(browser, world):
    answer = browser.post("/logout")

    assert answer.status_code == 400
    assert world.sql("SELECT 1 FROM sessions WHERE revoked_at IS NOT NULL") == []


def test_after_the_log_out_the_cookie_opens_nothing(browser, send):
    token = browser.get_cookie(login.COOKIE).value

    answer = send("/logout")

    assert answer.headers["Location"] == "/login"
    browser.set_cookie(login.COOKIE, token)
    assert browser.get("/orders").headers["Location"] == "/login?next=/orders"


def test_another_log_in_can_be_ended_from_here(application, browser, send, world):
    other = application.test_client()
    log_in(other)
    newest = world.sql("SELECT max(id) AS id FROM sessions")[0]["id"]

    send(f"/settings/sessions/{newest}/revoke")

    assert other.get("/orders").status_code == 302
    assert browser.get("/orders").status_code == 200


def test_log_out_everywhere_ends_every_log_in(application, browser, send):
    other = application.test_client()
    log_in(other)

    send("/settings/sessions/revoke-all")

    assert other.get("/orders").status_code == 302
    assert browser.get("/orders").status_code == 302


def test_a_session_ends_after_fourteen_days(browser, world):
    row = world.sql("SELECT expires_at - created_at AS lifetime FROM sessions")[0]
    assert row["lifetime"] >= timedelta(days=13, hours=23)

    world.sql("UPDATE sessions SET expires_at = now() - interval '1 second'")

    assert browser.get("/orders").status_code == 302


def test_the_sixth_try_in_a_row_has_to_wait(anonymous, maya):
    for _ in range(5):
        assert log_in(anonymous, password=WRONG).status_code == 401

    answer = log_in(anonymous)

    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert "Too many tries" in answer.text


def test_tries_come_back_with_time_and_a_log_in_gives_back_all(anonymous, maya, world):
    for _ in range(6):
        log_in(anonymous, password=WRONG)
    world.sql("UPDATE throttles SET refilled_at = refilled_at - interval '61 seconds'")

    assert log_in(anonymous).status_code == 302
    assert world.sql("SELECT 1 FROM throttles WHERE bucket LIKE 'login-email:%'") == []


@time_machine.travel("2026-11-24 12:00:30 +0000", tick=False)  # the allowance grows with time
def test_many_addresses_from_one_place_are_slowed_down_too(anonymous, maya):
    answers = [log_in(anonymous, email=f"user{n}@example.com", password=WRONG).status_code for n in range(31)]

    assert answers == [401] * 30 + [429]


def test_the_throttles_name_nobody(anonymous, maya, world):
    log_in(anonymous, password=WRONG)

    assert all("maya" not in row["bucket"] and "127" not in row["bucket"]
               for row in world.sql("SELECT bucket FROM throttles"))  # fmt: skip


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)",
                                    "/\t/evil.example", "evil", "/%0d%0a", " //evil.example"])  # fmt: skip
def test_the_log_in_leads_to_no_other_site(anonymous, maya, target):
    location = log_in(anonymous, next=target).headers["Location"]

    assert location in ("/orders", "/%0d%0a")


def test_the_log_in_leads_back_to_the_page_that_asked_for_it(anonymous, maya):
    asked = anonymous.get("/orders?payment=paid&q=mug").headers["Location"]

    page = anonymous.get(asked).text

    assert 'name="next" value="/orders?payment=paid&amp;q=mug"' in page
    assert log_in(anonymous, next="/orders?payment=paid&q=mug").headers["Location"] == "/orders?payment=paid&q=mug"


def test_a_password_of_a_megabyte_is_refused_unread(anonymous, maya):
    token = csrf_of(anonymous.get("/login").text)

    answer = anonymous.post("/login", data={"email": "maya@example.com", "password": "x" * 10**6, "csrf_token": token})

    assert answer.status_code == 413


def test_nul_and_strange_letters_in_the_form_are_just_wrong(anonymous, maya):
    assert log_in(anonymous, email="\x00\ud7ff@ٱ", password=PASSWORD + "\x00").status_code == 401
