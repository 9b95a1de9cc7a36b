"""A run's orders on their way into the one writer: read, and written so that a bad one fails alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import structlog
from sqlalchemy import Connection as Transaction

from backfill.items import Item
from backfill.runs import Taken
from config.logging import way_to
from gateway.connections.model import Connection
from gateway.db.engine import is_passing
from gateway.domain.order import PARTS
from gateway.domain.problems import UNEXPECTED, GatewayError
from gateway.orders.apply import apply, foresee
from gateway.orders.payloads import Payloads
from gateway.orders.reading import Reading, read_order
from gateway.platforms import REGISTRY, fields
from gateway.platforms.base import Found

log = structlog.get_logger("backfill.writing")


def read(
    connection: Connection, orders: Sequence[Found], received_at: datetime, run_id: int
) -> tuple[list[Reading], list[Item]]:
    """Each order once as a reading, or as a failed item with its reason: one bad payload stops no page."""
    platform = REGISTRY[connection.platform]
    readings: list[Reading] = []
    failed: list[Item] = []
    once: dict[str, Found] = {}
    for order in orders:
        once.setdefault(order.external_id, order)
    for order in once.values():
        try:
            readings.append(
                read_order(
                    platform, fields.as_object(order.raw), order.raw, kind="api", observed_at=order.observed_at,
                    received_at=received_at, account_id=connection.account_id, connection_id=connection.id,
                    granted=[part for part in PARTS if part not in order.denied], source_id=run_id,
                )
            )  # fmt: skip
        except GatewayError as error:
            failed.append(Item(order.external_id, "failed", order.updated_at, error.problem.code, error.detail[:500]))
    return readings, failed


def write(
    tx: Transaction, connection: Connection, taken: Taken, payloads: Payloads, readings: Sequence[Reading]
) -> list[Item]:
    """Write them, or what can be written of them: an order that PostgreSQL refuses fails alone. Previews only tell."""
    try:
        with tx.begin_nested():
            outcomes = _outcomes(tx, connection, taken, payloads, readings)
    except Exception as error:
        if is_passing(error) or isinstance(error, GatewayError):
            raise
        if len(readings) == 1:
            log.error("run.order_refused", run=taken.id, error=way_to(error))
            moment = readings[0].core.version.updated_at
            return [Item(readings[0].external_id, "failed", moment, UNEXPECTED.code, way_to(error)[:500])]
        half = len(readings) // 2
        return [
            *write(tx, connection, taken, payloads, readings[:half]),
            *write(tx, connection, taken, payloads, readings[half:]),
        ]
    return [
        Item(reading.external_id, outcome, reading.core.version.updated_at)
        for reading, outcome in zip(readings, outcomes, strict=True)
    ]


def _outcomes(
    tx: Transaction, connection: Connection, taken: Taken, payloads: Payloads, readings: Sequence[Reading]
) -> Sequence[str]:
    if taken.kind == "preview":
        return foresee(tx, readings)
    applied = apply(
        tx, readings, source="run", platforms={connection.id: connection.platform}, payloads=payloads,
        quiet=taken.quiet,
    )  # fmt: skip
    return [each.outcome for each in applied]
