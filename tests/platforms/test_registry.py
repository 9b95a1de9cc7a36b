"""What every platform in the registry must bring: a simulator, fixtures, queries that the real schema takes."""

from __future__ import annotations

from importlib.resources import files

import pytest
from graphql import build_schema, parse, validate

from gateway.domain.problems import CATALOGUE
from gateway.http import Answer
from gateway.platforms import REGISTRY
from gateway.platforms.shopify import queries
from gateway.sandbox.world import PLATFORMS
from tests.platforms.test_hooks import BODIES, SIGNED
from tests.platforms.test_shapes import READ
from tests.simulation import BEGINNING


def test_each_platform_has_a_simulator_and_fixtures() -> None:
    assert set(REGISTRY) == set(PLATFORMS) == set(SIGNED) == set(BODIES) == {platform for platform, _ in READ}


@pytest.mark.parametrize("name", sorted(queries.ALL))
def test_each_query_is_valid_by_shopifys_own_schema(name: str) -> None:
    text = files("gateway.sandbox").joinpath("data/shopify_admin_2026-10.graphql").read_text(encoding="utf-8")
    schema = build_schema(text, assume_valid=True)

    assert validate(schema, parse(queries.ALL[name])) == []


@pytest.mark.parametrize("platform", sorted(REGISTRY))
@pytest.mark.parametrize(
    ("status", "codes"),
    [
        (200, {None}),
        (401, {"connection.token_revoked"}),
        (403, {"connection.permission_missing", "store.firewall"}),  # the body is a web page
        (404, {"connection.shop_gone"}),
        (410, {"connection.shop_gone", "store.request_refused"}),
        (400, {"store.request_refused"}),
        (429, {"store.throttled"}),
        (302, {"store.error", "store.redirects"}),
        (500, {"store.error"}),
        (502, {"store.error"}),
        (503, {"store.error"}),
        (418, {"store.request_refused", "store.firewall"}),
    ],
)
def test_each_status_is_a_catalogued_problem(platform: str, status: int, codes: set[str | None]) -> None:
    problem = REGISTRY[platform].classify(Answer(status, {}, b"<html>", 0.1, BEGINNING))

    code = None if problem is None else problem.code
    assert code in codes
    assert code is None or code in CATALOGUE


@pytest.mark.parametrize(
    ("headers", "seconds", "observed"),
    [
        ({"date": "Tue, 01 Sep 2026 12:00:10 GMT"}, 0.0, 10),
        ({"date": "Tue, 01 Sep 2026 12:00:10 GMT"}, 0.2, 9),
        ({"date": "Tue, 01 Sep 2026 12:00:10 GMT"}, 4.0, 6),
        ({"date": "Tue, 01 Sep 2026 12:00:10 GMT", "age": "5"}, 0.0, 5),
        ({"date": "Tue, 01 Sep 2026 12:00:10 GMT", "age": "x"}, 0.0, 10),
    ],
)
def test_a_read_is_never_dated_later_than_its_content(headers: dict[str, str], seconds: float, observed: int) -> None:
    moment = Answer(200, headers, b"", seconds, BEGINNING).observed_at

    assert moment is not None
    assert (moment - BEGINNING).total_seconds() == observed


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_an_answer_without_a_date_tells_no_time(date: str | None) -> None:
    assert Answer(200, {} if date is None else {"date": date}, b"", 0.1, BEGINNING).observed_at is None
