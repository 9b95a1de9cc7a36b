"""The one composition root: `create_app()` for Flask's commands and tests, `app` for gunicorn.

Importing this module opens nothing and reads no setting; asking for `app` does.
"""

from __future__ import annotations

from typing import Any

from flask import Flask

from config.settings import Settings, load_settings
from gateway.accounts.commands import user
from gateway.db.engine import Database
from gateway.web import frame

STATEMENT_TIMEOUT_SECONDS = 5
"""Of pages and the API; a page that asks for more is our fault, and must not hold a connection."""


def create_app(settings: Settings | None = None) -> Flask:
    """The whole application. Raises SettingsError, with one sentence, when a setting is missing or wrong."""
    settings = settings or load_settings()
    settings.check_for_serving()
    database = Database(
        settings.database_url, statement_timeout_seconds=STATEMENT_TIMEOUT_SECONDS, name="gateway pages"
    )
    app = frame.build(settings, database)
    _register_pages(app)
    _register_commands(app)
    return app


def _register_pages(app: Flask) -> None:
    from backfill import pages as runs_pages
    from gateway.web import pages, settings_pages
    from webhooks import pages as deliveries_pages

    for blueprint in (pages.web, settings_pages.settings, runs_pages.sync, deliveries_pages.deliveries):
        app.register_blueprint(blueprint)


def _register_commands(app: Flask) -> None:
    app.cli.add_command(user)


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    made = globals()["app"] = create_app()
    return made
