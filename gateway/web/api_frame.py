"""What every part of the API shares: bearer tokens, the OpenAPI description, and how lists are asked for."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from flask import Flask, Response, current_app, g, json, render_template, request
from flask_smorest import Api, Blueprint

from gateway.accounts import api_tokens
from gateway.domain.problems import BAD_CURSOR, CATALOGUE, TOKEN_MISSING, NeedsMerchant, Refused
from gateway.orders.schemas import Instant
from gateway.web.request import now, public, transaction

PREFIX = "/api/v1"
MAX_LIMIT = 200
MAX_ID = 2**63 - 1


class ProblemSchema(ma.Schema):
    """RFC 9457, with what the catalogue knows beside."""

    type = ma.fields.String()
    title = ma.fields.String()
    status = ma.fields.Integer()
    detail = ma.fields.String()
    code = ma.fields.String(metadata={"description": "a stable word"})
    cause = ma.fields.String()
    fix = ma.fields.String()
    retry = ma.fields.String(metadata={"description": "now, later, after_fix or never"})
    errors = ma.fields.Dict()


class _Api(Api):  # type: ignore[misc] # flask-smorest ships no types
    ERROR_SCHEMA = ProblemSchema

    def _register_error_handlers(self) -> None:
        """None of flask-smorest's: errors.py answers all of them with a Problem."""


class PageArguments(ma.Schema):
    """How many, and where to go on."""

    class Meta:
        unknown = ma.EXCLUDE

    limit = ma.fields.Integer(load_default=50, validate=ma.validate.Range(1, MAX_LIMIT))
    cursor = ma.fields.String(load_default=None, metadata={"description": "next_cursor of the page before"})


def blueprint(name: str, about: str) -> Blueprint:
    """A part of the API: every route of it needs a token."""
    made = Blueprint(name, f"{__name__}.{name}", url_prefix=PREFIX, description=about)
    made.before_request(_load_token)
    return made


def register(app: Flask, *blueprints: Blueprint) -> None:
    """Put these parts and their description under /api."""
    app.config.update(
        API_TITLE="Order Gateway",
        API_VERSION="v1",
        OPENAPI_VERSION="3.1.0",
        OPENAPI_URL_PREFIX=None,
        API_SPEC_OPTIONS={
            "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
            "security": [{"token": []}],
        },
    )
    api = _Api(app)
    api.ma_plugin.map_to_openapi_type(Instant, "string", "date-time")
    for one in blueprints:
        for view in _register(app, api, one):
            view.is_public = view.asks_nobody = True
    app.extensions["api"] = api
    app.add_url_rule("/api/docs", view_func=docs)
    app.add_url_rule("/api/docs/openapi.json", view_func=openapi)


def _register(app: Flask, api: _Api, one: Blueprint) -> list[Any]:
    """Register one part and give its views; a cookie proves nothing here, so no form token is asked for either."""
    before = set(app.view_functions)
    api.register_blueprint(one)
    app.extensions["csrf"].exempt(one)
    return [app.view_functions[name] for name in set(app.view_functions) - before]


def _load_token() -> None:
    """Find out who asks, from the Authorization header alone."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    found = None
    if kind.lower() == "bearer" and token.strip():
        with transaction() as tx:
            found = api_tokens.find(tx, token.strip(), now=now())
    if found is None:
        raise NeedsMerchant(TOKEN_MISSING)
    g.scope = found


def number_cursor(opaque: str | None) -> int | None:
    """A cursor that is an id of ours. Raises Refused."""
    if opaque is None:
        return None
    if not (opaque.isascii() and opaque.isdecimal() and 0 < int(opaque[:20]) <= MAX_ID):
        raise Refused(BAD_CURSOR)
    return int(opaque)


@public
def docs() -> str:
    """What the API offers, as a plain page, and the catalogue of problems that it answers with."""
    spec = current_app.extensions["api"].spec.to_dict()
    return render_template("api_docs.html", spec=spec, catalogue=CATALOGUE)


@public
def openapi() -> Response:
    """The OpenAPI 3.1 description."""
    spec = current_app.extensions["api"].spec.to_dict()
    return Response(json.dumps(spec), content_type="application/json")
