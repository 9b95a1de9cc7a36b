"""Pages against a real database: a world to fill, and browsers that are logged in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import app as composition
from config.settings import Settings
from gateway.accounts import passwords
from gateway.db.engine import Database
from gateway.domain.scope import AccountScope
from tests.web.world import PASSWORD, World

KEY = "0123456789abcdef" * 2


def settings(url: str, public_url: str = "http://127.0.0.1:8000") -> Settings:
    key = "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    return Settings(database_url=url, secret_key=KEY, encryption_keys=key, public_url=public_url)


@pytest.fixture(scope="session", autouse=True)
def _cheap_passwords() -> Iterator[None]:
    """Each test logs in; none is about how long argon2 takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
        yield


@pytest.fixture(scope="session")
def application(database_url: str) -> Iterator[Flask]:
    made = composition.create_app(settings(database_url))
    yield made
    made.extensions["database"].close()
    made.extensions["access"].database.close()


@pytest.fixture
def database(application: Flask, clean_database: str) -> Database:
    found: Database = application.extensions["database"]
    return found


@pytest.fixture
def world(application: Flask, database: Database) -> World:
    return World(database, application.extensions["access"].payloads)


@pytest.fixture
def maya(world: World) -> AccountScope:
    """An owner with an account."""
    return world.user()


@pytest.fixture
def anonymous(application: Flask, database: Database) -> FlaskClient:
    return application.test_client()


@pytest.fixture
def api(application: Flask, world: World, maya: AccountScope) -> Callable[..., TestResponse]:
    """Ask the API with Maya's token."""
    token = world.token(maya)
    client = application.test_client()

    def ask(path: str, method: str = "GET", **options: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {token}"}
        return client.open(f"/api/v1{path}", method=method, headers=headers, **options)

    return ask


def csrf_of(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found, "the page has no form"
    return found[1]


def log_in(
    client: FlaskClient, email: str = "maya@example.com", password: str = PASSWORD, **fields: str
) -> TestResponse:
    token = csrf_of(client.get("/login").text)
    return client.post("/login", data={"email": email, "password": password, "csrf_token": token, **fields})


@pytest.fixture
def browser(application: Flask, maya: AccountScope) -> FlaskClient:
    """Maya's browser, logged in."""
    client = application.test_client()
    assert log_in(client).status_code == 302
    return client


@pytest.fixture
def send(browser: FlaskClient) -> Callable[..., TestResponse]:
    """Post a form of a page as Maya, with that page's own token."""

    def post(path: str, **fields: object) -> TestResponse:
        token = csrf_of(browser.get("/settings").text)
        return browser.post(path, data={**fields, "csrf_token": token})

    return post
