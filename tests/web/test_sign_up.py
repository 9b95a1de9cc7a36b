"""Sign-up: off by default; an account exists once its owner's address is proven, and nobody learns who has one."""

from __future__ import annotations

import dataclasses
import re

import pytest

import app as composition
from config.settings import SettingsError
from tests.web.conftest import csrf_of, log_in, settings
from tests.web.test_people import link_in, texts
from tests.web.world import World

PASSWORD = "another long password"


@pytest.fixture(scope="module")
def open_application(database_url):
    given = dataclasses.replace(settings(database_url), sign_up=True, smtp_url="smtp://127.0.0.1:9")
    made = composition.create_app(given)
    yield made
    made.extensions["database"].close()
    made.extensions["access"].database.close()


@pytest.fixture
def stranger(open_application, clean_database):
    return open_application.test_client()


@pytest.fixture
def world(open_application, clean_database):
    return World(open_application.extensions["database"], open_application.extensions["access"].payloads)


def post(client, path, **fields):
    token = csrf_of(client.get("/login").text)
    return client.post(path, data={**fields, "csrf_token": token})


def asked(client, world, application, email="ida@example.com", account="Ida's Shop", **more):
    assert "on its way" in post(client, "/sign-up", email=email, account=account, **more).text
    return link_in(texts(world, application)[-1][2])


def test_an_account_is_opened_with_a_mailed_link(open_application, stranger, world):
    path = asked(stranger, world, open_application, next="/install/claim")
    assert world.sql("SELECT 1 FROM accounts") == world.sql("SELECT 1 FROM users") == []
    token = path.partition("token=")[2]
    assert "Ida&#39;s Shop" in stranger.get(path).text

    done = post(stranger, "/welcome", token=token, name="Ida", password=PASSWORD)

    assert done.status_code == 303
    assert done.headers["Location"] == "/login?joined=1&next=/install/claim"
    (row,) = world.sql("SELECT u.role, u.name, a.name AS account FROM users u JOIN accounts a ON a.id = u.account_id")
    assert (row["role"], row["name"], row["account"]) == ("owner", "Ida", "Ida's Shop")
    assert log_in(stranger, "ida@example.com", PASSWORD).status_code == 302
    assert post(open_application.test_client(), "/welcome", token=token, password=PASSWORD).status_code == 409


def test_a_taken_name_gets_a_number_and_tells_nobody_whose_it_is(open_application, stranger, world):
    world.user("eve@example.com", account="Ida's Shop")

    path = asked(stranger, world, open_application)
    post(stranger, "/welcome", token=path.partition("token=")[2], password=PASSWORD)

    assert sorted(row["name"] for row in world.sql("SELECT name FROM accounts")) == ["Ida's Shop", "Ida's Shop 2"]


def test_nobody_learns_who_has_a_log_in(open_application, stranger, world):
    world.user("eve@example.com", account="Eve's")

    known = post(stranger, "/sign-up", email="eve@example.com", account="X")
    unknown = post(stranger, "/sign-up", email="new@example.com", account="X")

    plain = [re.sub(r'value="[^"]+"', "", answer.text) for answer in (known, unknown)]
    assert plain[0] == plain[1]
    assert [subject for _, subject, _ in texts(world, open_application)] == [
        "You have a log-in already", "Open your account",
    ]  # fmt: skip


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/\\evil.example"])
def test_it_leads_to_no_other_site(open_application, stranger, world, target):
    path = asked(stranger, world, open_application, next=target)

    done = post(stranger, "/welcome", token=path.partition("token=")[2], password=PASSWORD)

    assert done.headers["Location"] == "/login?joined=1"


@pytest.mark.parametrize(("email", "account"), [("no address", "Shop"), ("a@b.cc", ""), ("a@b.c\r\nBcc: x@y.zz", "S")])
def test_what_can_not_be_is_refused(stranger, world, email, account):
    assert post(stranger, "/sign-up", email=email, account=account).status_code == 422
    assert world.sql("SELECT 1 FROM mails") == []


def test_it_is_closed_unless_it_was_opened(application, anonymous, database_url):
    for path in ("/sign-up", "/welcome"):
        assert anonymous.get(path).status_code == 404
    assert "Open an account" not in anonymous.get("/login").text
    with pytest.raises(SettingsError, match="SIGN_UP needs SMTP_URL"):
        composition.create_app(dataclasses.replace(settings(database_url), sign_up=True))


def test_the_log_in_leads_to_it_and_keeps_where_one_was_going(stranger):
    page = stranger.get("/login?next=/install/claim").text

    assert "/sign-up?next=/install/claim" in page
    assert 'value="/install/claim"' in stranger.get("/sign-up?next=/install/claim").text
