"""Shopify's endpoints over HTTP: the Admin GraphQL API, the consent page and the access tokens."""

from __future__ import annotations

import json
import re
from typing import Any
from wsgiref.handlers import format_date_time

from werkzeug.wrappers import Request, Response

from gateway.sandbox import shopify_bulk, shopify_graphql, shopify_oauth
from gateway.sandbox.shopify import ShopifyStore

_GRAPHQL = re.compile(r"/admin/api/[^/]+/graphql\.json")  # any version: unsupported ones fall forward


def answer(store: ShopifyStore | None, request: Request, path: str) -> Response:
    """Answer one call below /shopify/{shop}; path is what follows."""
    if store is None:
        return _json(None, {"errors": "Not Found"}, 404)
    if path == shopify_oauth.AUTHORIZE:
        return shopify_oauth.authorize(store, request)
    if path == "/admin/oauth/access_token":
        return _token(store, request)
    if path.startswith(shopify_bulk.FILES):
        return _file(store, request, path)
    if not _GRAPHQL.fullmatch(path):
        return _json(store, {"errors": "Not Found"}, 404)
    if request.method != "POST":
        return _json(store, {"errors": "Not Acceptable"}, 406)
    if not store.token_is_valid(request.headers.get("X-Shopify-Access-Token", "")):
        message = "[API] Invalid API key or access token (unrecognized login or wrong password)"
        return _json(store, {"errors": message}, 401)
    try:
        asked = json.loads(request.get_data())
        query, variables = asked["query"], asked.get("variables") or {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return _json(store, {"errors": {"query": "Required parameter missing or invalid"}}, 400)
    return _json(store, shopify_graphql.run(store, query, variables, asked.get("operationName")), 200)


def _token(store: ShopifyStore, request: Request) -> Response:
    """A code, once and within its minute, or a refresh token, for a pair."""
    given = request.get_json(silent=True) if request.is_json else request.form
    given = given if given is not None and hasattr(given, "get") else {}
    app = store.world.shopify_app
    if given.get("client_id") != app.client_id or given.get("client_secret") != app.client_secret:
        return _refused(store, "application_cannot_be_found", "Client credentials are wrong")
    if given.get("code"):
        pair = store.redeem(str(given["code"]), expiring=str(given.get("expiring")) == "1")
        if pair is None:
            return _refused(store, "invalid_request", "The authorization code was not found or was already used")
        return _json(store, pair, 200)
    if given.get("grant_type") != "refresh_token":
        return _refused(store, "unsupported_grant_type", "The sandbox knows a code and the grant refresh_token")
    pair = store.refresh(str(given.get("refresh_token", "")))
    if pair is None:
        return _refused(store, "invalid_grant", "This request requires an active refresh_token")
    return _json(store, pair, 200)


def _file(store: ShopifyStore, request: Request, path: str) -> Response:
    """A bulk operation's answer. In truth it lies with another host, whose clock is its own and who takes the link
    for the only key: one that knows tokens was sent one by mistake."""
    headers = {"Content-Type": "application/jsonl", "Date": format_date_time(store.world.now().timestamp())}
    if "X-Shopify-Access-Token" in request.headers or "Authorization" in request.headers:
        return Response("a credential too many", status=400, mimetype="text/plain", headers=headers)
    content = shopify_bulk.file_at(store, path)
    if content is None:
        return Response("<Error><Code>ExpiredToken</Code></Error>", status=403, mimetype="text/xml", headers=headers)
    wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
    if wanted is None:
        return Response(content, headers=headers)
    begin = int(wanted.group(1))
    if begin >= len(content):
        return Response("", status=416, headers=headers)
    headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
    return Response(content[begin:], status=206, headers=headers)


def _refused(store: ShopifyStore, error: str, description: str) -> Response:
    return _json(store, {"error": error, "error_description": description}, 400)


def _json(store: ShopifyStore | None, value: dict[str, Any], status: int) -> Response:
    headers = {"Content-Type": "application/json; charset=utf-8", "X-Shopify-API-Version": "2026-10"}
    if store is not None:
        headers["Date"] = format_date_time(store.now().timestamp())
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Response(body, status=status, headers=headers)
