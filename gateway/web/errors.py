"""What a person or a program reads when something does not work: one Problem, as a page or as RFC 9457 JSON."""

from __future__ import annotations

from typing import Any

import structlog
from flask import Flask, Response, g, json, render_template, request
from flask_babel import gettext
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import HTTPException

from gateway.domain import problems
from gateway.domain.problems import (
    DATABASE_AWAY,
    STORE_NOT_FOUND,
    UNEXPECTED,
    GatewayError,
    NeedsMerchant,
    NeedsOperator,
    Problem,
    Retry,
    describe,
)
from gateway.web.request import is_fragment

log = structlog.get_logger("gateway.web")

_BY_STATUS = {
    400: problems.BAD_REQUEST,
    401: problems.TOKEN_MISSING,
    403: problems.NOT_ALLOWED,
    404: problems.NOT_FOUND,
    405: problems.METHOD,
    413: problems.TOO_LARGE,
    415: problems.BAD_REQUEST,
    422: problems.INVALID,
}
_STATUS = {
    problems.NOT_FOUND.code: 404,
    STORE_NOT_FOUND.code: 404,
    problems.RUN_NOT_FOUND.code: 404,
    problems.RUN_NOT_RESUMED.code: 409,
    problems.NOTHING_FAILED.code: 409,
    problems.NOT_ALLOWED.code: 403,
    problems.TOKEN_MISSING.code: 401,
    problems.BAD_CURSOR.code: 422,
    problems.INVALID.code: 422,
    problems.LOGIN_THROTTLED.code: 429,
    problems.FEED_STARTED_OVER.code: 410,
    problems.HOST_UNKNOWN.code: 400,
    problems.INSTALL_NOT_VERIFIED.code: 401,
}
RETRY_AFTER_SECONDS = 5


def register(app: Flask) -> None:
    """Answer every failure with a Problem."""
    app.register_error_handler(GatewayError, _gateway_error)
    app.register_error_handler(CSRFError, lambda _: answer(problems.FORM_EXPIRED, 400))
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(SQLAlchemyError, _database_error)
    app.register_error_handler(Exception, _unexpected)


def answer(
    problem: Problem, status: int, *, facts: dict[str, object] | None = None, errors: Any = None, wait: float = 0
) -> Response:
    """The Problem as a page, as a part of one, or as problem+json for the API."""
    told = describe(problem, facts or {})
    if request.path.startswith("/api/"):
        body: dict[str, Any] = {
            "type": f"/api/docs#{told.code}",
            "title": gettext(told.title),
            "status": status,
            "detail": f"{gettext(told.cause)} {gettext(told.fix)}",
            "code": told.code,
            "cause": gettext(told.cause),
            "fix": gettext(told.fix),
            "retry": told.retry,
        }
        if errors:
            body["errors"] = errors
        made = Response(json.dumps(body), status, content_type="application/problem+json")
        if status == 401:
            made.headers["WWW-Authenticate"] = "Bearer"
    else:
        template = "problem_part.html" if is_fragment() else "problem.html"
        # A page that could not find out who asks shows no menu: its links would not work either.
        made = Response(render_template(template, problem=told, status=status, bare="session" not in g), status)
    if status in {429, 503}:
        made.headers["Retry-After"] = str(max(1, round(wait or RETRY_AFTER_SECONDS)))
    return made


def _gateway_error(error: GatewayError) -> Response:
    status = _STATUS.get(error.problem.code)
    if status is None:
        match error:
            case Retry():
                status = 503
            case NeedsMerchant():
                status = 409
            case NeedsOperator():
                status = 500
            case _:
                status = 422
    facts = {"why": error.detail, **error.facts}
    wait = error.after_seconds if isinstance(error, Retry) else 0
    return answer(error.problem, status, facts=facts, wait=wait, errors=error.facts.get("errors"))


def _http_error(error: HTTPException) -> Response:
    if error.response is not None or (error.code or 500) < 400:
        return error.get_response()  # type: ignore[return-value] # a redirect, or an answer made on purpose
    status = error.code or 500
    data = getattr(error, "data", None) or {}
    made = answer(_BY_STATUS.get(status, UNEXPECTED if status >= 500 else problems.BAD_REQUEST), status,
                  facts={"why": error.name}, errors=data.get("messages"))  # fmt: skip
    for name, value in error.get_headers():
        if name == "Allow":
            made.headers[name] = value
    return made


def _database_error(error: SQLAlchemyError) -> Response:
    """No connection in time, a statement cut off, a server that is gone: come again. Anything else is our fault."""
    if isinstance(error, PoolTimeoutError):
        log.warning("page.no_connection", endpoint=request.endpoint)
        return answer(problems.BUSY, 503)
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None)
        if state == "57014":
            log.warning("page.statement_timeout", endpoint=request.endpoint)
            return answer(problems.BUSY, 503)
        if error.connection_invalidated or state is None or state.startswith(("08", "57P", "53")):
            log.warning("page.database_away", endpoint=request.endpoint)
            return answer(DATABASE_AWAY, 503)
    return _unexpected(error)


def _unexpected(error: Exception) -> Response:
    log.error("page.failed", endpoint=request.endpoint, exc_info=error)
    return answer(UNEXPECTED, 500, facts={"why": type(error).__name__})
