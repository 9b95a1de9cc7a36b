"""The Flask application without its pages: settings, languages, log-ins, headers, errors, static files, health."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from flask import Flask, Response, current_app, g, redirect, request, url_for
from flask_babel import Babel, get_locale
from flask_wtf.csrf import CSRFProtect
from werkzeug.routing import IntegerConverter
from whitenoise import WhiteNoise

from config.settings import Settings
from gateway.accounts import sessions
from gateway.db.engine import Database
from gateway.web import errors, formats, health, login, metrics, security, wording
from gateway.web.request import is_fragment, now, transaction

STATIC = Path(__file__).parent / "static"
LANGUAGES = ("en_GB",)
MAX_REQUEST_BYTES = 256 * 1024
"""Of forms and API requests; webhooks have a limit of their own."""

_A_YEAR_SECONDS = 31_536_000


class IdConverter(IntegerConverter):
    """An id in a path: what does not fit PostgreSQL's bigint is no address of ours."""

    def __init__(self, map: Any) -> None:
        super().__init__(map, max=2**63 - 1)


def build(settings: Settings, database: Database) -> Flask:
    """The frame around all pages; whoever composes the application registers blueprints on it.

    `app.extensions["database"]` is the pages' pool. `app.extensions["can_receive"]` is asked by /readyz: a callable
    that gives the reasons why this process can take no webhook, an empty list when it can.
    """
    app = Flask("gateway.web", static_folder=None, root_path=str(Path(__file__).parent))
    is_https = settings.public_url.startswith("https://")
    app.config.update(
        SECRET_KEY=settings.secret_key,
        SIGN_UP=settings.sign_up,
        METRICS_TOKEN=settings.metrics_token,
        SESSION_COOKIE_NAME="gateway_form",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=is_https,
        PREFERRED_URL_SCHEME="https" if is_https else "http",
        MAX_CONTENT_LENGTH=MAX_REQUEST_BYTES,
        MAX_FORM_MEMORY_SIZE=MAX_REQUEST_BYTES,
        MAX_FORM_PARTS=200,
        # A form lives as long as the log-in: a page may stand open over lunch.
        WTF_CSRF_TIME_LIMIT=None,
        PUBLIC_URL=settings.public_url,
    )
    app.extensions["database"] = database
    app.url_map.converters["id"] = IdConverter
    Babel(app, default_locale=LANGUAGES[0], locale_selector=_language)
    app.extensions["csrf"] = CSRFProtect(app)
    security.register(app, is_https=is_https)
    app.before_request(_load_session)
    errors.register(app)
    health.register(app)
    metrics.register(app)
    login.register(app)
    _templates(app)
    app.wsgi_app = WhiteNoise(  # type: ignore[method-assign] # the documented way to wrap a Flask application
        app.wsgi_app,
        root=str(STATIC),
        prefix="static/",
        max_age=_A_YEAR_SECONDS,
        # Pages name each file with ?v=<its sha256>, so what is behind an address never changes.
        immutable_file_test=lambda _path, _url: True,
        add_headers_function=security.add_static_headers,
    )
    return app


def _language() -> str:
    return request.accept_languages.best_match(LANGUAGES) or LANGUAGES[0]


def _load_session() -> Response | None:
    """Find out who asks; a page that is not public sends everybody else to the log-in."""
    view: Any = None if request.endpoint is None else _view(request.endpoint)
    is_public = view is None or getattr(view, "is_public", False)
    if getattr(view, "asks_nobody", False):
        return None
    token = request.cookies.get(login.COOKIE, "")
    if token:
        with transaction() as tx:
            found = sessions.find(tx, token, now=now())
        if found is not None:
            g.session, g.scope = found, found.scope
            return None
    if is_public:
        return None
    target = url_for("login.show", next=request.full_path.rstrip("?") if request.method == "GET" else None)
    if is_fragment():
        answer = Response(status=401)
        answer.headers["HX-Redirect"] = url_for("login.show")
        return answer
    return redirect(target)  # type: ignore[return-value] # werkzeug's type for the same object


def _view(endpoint: str) -> Any:
    return current_app.view_functions[endpoint]


def _templates(app: Flask) -> None:
    versions = {
        str(path.relative_to(STATIC)): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in STATIC.rglob("*")
        if path.is_file()
    }

    def asset(name: str) -> str:
        return f"/static/{name}?v={versions[name]}"

    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals["asset"] = asset
    formats.register(app)
    wording.register(app)

    @app.context_processor
    def about_request() -> dict[str, Any]:
        locale = get_locale()
        return {
            "me": g.get("session"),
            "language": str(locale).replace("_", "-"),
            "direction": locale.text_direction if locale else "ltr",
        }
