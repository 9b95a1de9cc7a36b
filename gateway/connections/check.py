"""Test connection: from the name to the webhooks, layer by layer, which one does not hold, and the mend.

Each layer stands on those before it, so the first that fails is the one to look at; what lies behind it is not tried.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import text

from gateway.connections import model, subscriptions
from gateway.connections.access import PAGE_SECONDS, Access
from gateway.connections.model import Connection
from gateway.domain import problems
from gateway.domain.problems import (
    CATALOGUE,
    KEYS_READ_ONLY,
    STORE_CACHED,
    UNEXPECTED,
    WEBHOOKS_BROKEN,
    GatewayError,
    NeedsMerchant,
    Problem,
    describe,
)
from gateway.domain.scope import AccountScope
from gateway.platforms import REGISTRY
from gateway.platforms.woocommerce import find as sites
from gateway.platforms.woocommerce import keys
from gateway.platforms.woocommerce.client import call

Layer = Literal["name", "connection", "encryption", "answer", "keys", "cache", "writing", "webhooks"]
LAYERS: tuple[Layer, ...] = ("name", "connection", "encryption", "answer", "keys", "cache", "writing", "webhooks")
_OF_PLATFORM: dict[str, tuple[Layer, ...]] = {
    "woocommerce": LAYERS,
    "shopify": ("name", "connection", "encryption", "answer", "keys", "webhooks"),
    "etsy": ("name", "connection", "encryption", "answer", "keys"),
}

_WHERE: dict[Layer, tuple[Problem, ...]] = {
    "name": (problems.STORE_ADDRESS_INVALID, problems.STORE_NAME_UNKNOWN, problems.STORE_ADDRESS_PRIVATE),
    "connection": (problems.STORE_UNREACHABLE, problems.STORE_TIMED_OUT),
    "encryption": (problems.STORE_TLS, problems.STORE_NOT_HTTPS),
    "keys": (problems.TOKEN_REVOKED, problems.KEYS_WRONG, problems.PERMISSION_MISSING, problems.KEY_MISSING),
    "cache": (STORE_CACHED,),
    "writing": (KEYS_READ_ONLY,),
    "webhooks": (WEBHOOKS_BROKEN,),
}
"""Which layer a Problem speaks of; any other one is about what answers in the shop's place."""

Note = Literal["", "plain", "keys_in_query", "fresh_query", "repaired", "unknown"]


@dataclass(frozen=True, slots=True)
class Step:
    """One layer: it holds, it does not (with its Problem), or it was not tried."""

    layer: Layer
    outcome: Literal["ok", "bad", "untried"]
    problem: Problem | None = None
    note: Note = ""


def check(access: Access, scope: AccountScope, store_id: int) -> list[Step] | None:
    """Try the account's store through; None when it has no such store. What is found mends the connection's state."""
    with access.database.transaction() as tx:
        if model.get_store(tx, scope, store_id) is None:
            return None
        connection = model.get(tx, store_id)
    assert connection is not None
    layers = _OF_PLATFORM[connection.platform]
    if connection.platform not in subscriptions.audited(access.app):
        layers = tuple(layer for layer in layers if layer != "webhooks")
    notes: dict[Layer, Note] = {}
    try:
        if connection.platform == "woocommerce":
            notes.update(_woocommerce(access, connection))
        else:
            REGISTRY[connection.platform].shop(access.store(connection, read_seconds=PAGE_SECONDS))
            if "webhooks" in layers:
                notes.update(_webhooks(access, connection))
    except GatewayError as error:
        _note_failure(access, connection, error)
        return list(_up_to(layers, _layer_of(error.problem), error))
    _note_success(access, connection)
    return [Step(layer, "ok", note=notes.get(layer, "")) for layer in layers]


def _woocommerce(access: Access, connection: Connection) -> Iterator[tuple[Layer, Note]]:
    home = sites.home_of(connection.base_url)
    site = sites.find(access.stranger(), home, allow_http=access.allow_private)
    store = dataclasses.replace(access.store(connection, read_seconds=PAGE_SECONDS), base_url=site.api)
    if site.api.startswith("http://"):
        yield "encryption", "plain"
    proof = keys.prove(store, call)
    yield "keys", "keys_in_query" if proof.strips_header else ""
    yield "cache", "fresh_query" if proof.caches else ""
    if not keys.may_write(dataclasses.replace(store, credentials=proof.credentials), call):
        raise NeedsMerchant(KEYS_READ_ONLY)
    with access.database.transaction() as tx:
        # Permalinks, the host's ways or a cache may have changed: the next call goes the way that was just proven.
        tx.execute(
            text("UPDATE connections SET base_url = :api, credentials = :credentials"
                 " WHERE id = :id AND generation = :g"),
            {"api": site.api, "credentials": access.vault.close(proof.credentials), "id": connection.id,
             "g": connection.generation},
        )  # fmt: skip
    yield from _webhooks(access, connection)


def _webhooks(access: Access, connection: Connection) -> Iterator[tuple[Layer, Note]]:
    if connection.state == "disconnected":
        yield "webhooks", "unknown"
        return
    match subscriptions.audit(access, connection.id):
        case "sound":
            yield "webhooks", ""
        case "repaired":
            yield "webhooks", "repaired"
        case "unknown":
            raise _why_unknown(access, connection.id)


def _why_unknown(access: Access, connection_id: int) -> GatewayError:
    with access.database.transaction() as tx:
        row = tx.execute(
            text("SELECT state_problem, state_detail FROM connections WHERE id = :id"), {"id": connection_id}
        ).one()
    return NeedsMerchant(CATALOGUE.get(row.state_problem or "", WEBHOOKS_BROKEN), row.state_detail)


def _layer_of(problem: Problem) -> Layer:
    for layer, known in _WHERE.items():
        if problem in known:
            return layer
    return "webhooks" if problem is UNEXPECTED else "answer"


def _up_to(layers: tuple[Layer, ...], failed: Layer, error: GatewayError) -> Iterator[Step]:
    at = layers.index(failed) if failed in layers else layers.index("answer")
    for place, layer in enumerate(layers):
        if place < at:
            yield Step(layer, "ok")
        elif place == at:
            yield Step(layer, "bad", describe(error.problem, {"why": error.detail, **error.facts}))
        else:
            yield Step(layer, "untried")


def _note_failure(access: Access, connection: Connection, error: GatewayError) -> None:
    """What needs the merchant is the store's state from now on; what may pass by itself is not."""
    if isinstance(error, NeedsMerchant) and connection.state != "disconnected":
        with access.database.transaction() as tx:
            model.set_state(tx, connection.id, "action_needed", error.problem.code, error.detail)


def _note_success(access: Access, connection: Connection) -> None:
    """What was missed while it did not work is caught up at once."""
    with access.database.transaction() as tx:
        model.works_again(tx, connection.id, webhooks=True)
        model.want_catch_up(tx, connection.id)
