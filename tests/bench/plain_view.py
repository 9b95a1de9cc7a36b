"""What the ingest is compared with: a Flask view that verifies and makes one prepared insert a request."""

from __future__ import annotations

import base64
import hmac
import os
import threading
from typing import Any

import psycopg
from flask import Flask, request

app = Flask(__name__)
_local = threading.local()


def _connection() -> psycopg.Connection[Any]:
    connection: psycopg.Connection[Any] | None = getattr(_local, "connection", None)
    if connection is None:
        url = os.environ["DATABASE_URL"]
        connection = _local.connection = psycopg.connect(url, autocommit=True, prepare_threshold=1)
    return connection


@app.post("/webhooks/shopify")
def receive() -> tuple[str, int]:
    body = request.get_data()
    expected = hmac.digest(os.environ["SHOPIFY_CLIENT_SECRET"].encode(), body, "sha256")
    given = base64.b64decode(request.headers["X-Shopify-Hmac-Sha256"])
    if not hmac.compare_digest(expected, given):
        return "", 401
    _connection().execute(
        "WITH made AS (INSERT INTO deliveries (platform, shop, delivery_key, topic, received_at, body_bytes,"
        " next_attempt_at) VALUES ('shopify', %s, %s, %s, now(), %s, now()) ON CONFLICT DO NOTHING"
        " RETURNING id, received_at) INSERT INTO delivery_bodies (delivery_id, received_at, headers, body)"
        " SELECT id, received_at, ''::bytea, %b FROM made",
        (request.headers["X-Shopify-Shop-Domain"], request.headers["X-Shopify-Webhook-Id"],
         request.headers["X-Shopify-Topic"], len(body), body),
    )  # fmt: skip
    return "", 200
