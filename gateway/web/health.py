"""/healthz: this process answers. /readyz: it can receive. /readyz?role=all: worker and database too.

A dead worker must not take the receiver out of rotation, so only role=all looks at it.
"""

from __future__ import annotations

from flask import Blueprint, Flask, Response, current_app, json, request
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from gateway.db.engine import Database
from gateway.web.request import transaction

HEARTBEAT_SECONDS = 30
"""procrastinate's workers beat every 10 s."""

health = Blueprint("health", __name__)


def register(app: Flask) -> None:
    database: Database = app.extensions["database"]
    app.extensions.setdefault("can_receive", lambda: [] if database.is_there() else ["the database does not answer"])
    for view in (healthz, readyz):
        view.is_public = view.asks_nobody = True
    app.register_blueprint(health)


@health.get("/healthz")
def healthz() -> Response:
    """The process is up; nothing else is asked."""
    return _said([])


@health.get("/readyz")
def readyz() -> Response:
    """200, or 503 with the reasons."""
    reasons: list[str] = list(current_app.extensions["can_receive"]())
    if request.args.get("role") == "all" and not reasons:  # whoever is asked what the database knows waits for it
        reasons += _worker_reasons()
    return _said(reasons)


def _worker_reasons() -> list[str]:
    try:
        with transaction() as tx:
            age = tx.execute(
                text("SELECT extract(epoch FROM now() - max(last_heartbeat)) FROM procrastinate_workers")
            ).scalar()
    except SQLAlchemyError:
        return ["the database does not answer"]
    if age is None:
        return ["no worker is running"]
    if age > HEARTBEAT_SECONDS:
        return [f"the last sign of life of a worker is {age:.0f} seconds old"]
    return []


def _said(reasons: list[str]) -> Response:
    body = {"ready": not reasons, "reasons": list(dict.fromkeys(reasons))}
    return Response(json.dumps(body), 503 if reasons else 200, content_type="application/json")
