"""The one composition root: `create_app()` for Flask's commands and tests, `app` for gunicorn.

Importing this module opens nothing and reads no setting; asking for `app` does.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import click
import structlog
from flask import Flask

from backfill import api as runs_api
from backfill import pages as runs_pages
from backfill import retention as _run_retention  # noqa: F401 - its job registers itself
from backfill import runner, schedule
from backfill.commands import sync
from config.logging import configure_logging
from config.settings import Settings, load_settings
from gateway import outbound, worker
from gateway.accounts.commands import user
from gateway.connections import (
    health,  # noqa: F401 - its job registers itself
    keys,
    model,
    privacy,
    subscriptions,
)
from gateway.connections.access import Access
from gateway.connections.commands import stores
from gateway.connections.privacy_commands import erase
from gateway.connections.shopify_commands import shopify
from gateway.connections.vault_commands import vault
from gateway.db import migrate
from gateway.db.engine import Database
from gateway.doctor import doctor
from gateway.domain.problems import NeedsOperator, describe
from gateway.mail import Mailer, sender_of
from gateway.orders import feed
from gateway.platforms import REGISTRY
from gateway.platforms.base import App as PlatformApp
from gateway.sandbox.commands import sandbox_commands
from gateway.vault import Vault
from gateway.web import (
    api,
    api_frame,
    connect_pages,
    frame,
    install_pages,
    pages,
    people_pages,
    privacy_pages,
    settings_pages,
    sign_up_pages,
)
from webhooks import api as deliveries_api
from webhooks import pages as deliveries_pages
from webhooks import rereads
from webhooks import retention as _retention  # noqa: F401 - its job registers itself
from webhooks.apply import Drainer
from webhooks.commands import deliveries
from webhooks.directory import Directory
from webhooks.receiver import Receiver
from webhooks.store import Writer

log = structlog.get_logger("gateway.app")

STORE_CONNECTIONS = 3 * worker.CONCURRENCY + 16
"""A run holds three at a time, a drain loop two; web processes open them only for what their pages ask of stores."""

SEQUENCE_SECONDS = 0.2

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
    access = _access(settings)
    app.extensions.update(access=access, settings=settings)
    _register_pages(app)
    _register_commands(app)
    _receive_webhooks(app, settings, access)
    return app


def _access(settings: Settings) -> Access:
    """How this process reaches stores: with connections of its own, none of them the pages'."""
    database = Database(settings.database_url, pool_size=STORE_CONNECTIONS, name="gateway stores")
    platforms = PlatformApp(
        shopify_client_id=settings.shopify_client_id,
        shopify_client_secret=settings.shopify_client_secret,
        shopify_client_secret_previous=settings.shopify_client_secret_previous,
        shopify_admin_url=settings.shopify_admin_url,
        shopify_api_webhooks=settings.shopify_api_webhooks,
        etsy_keystring=settings.etsy_keystring,
        etsy_shared_secret=settings.etsy_shared_secret,
        etsy_webhook_secrets=settings.etsy_webhook_secrets,
        etsy_api_url=settings.etsy_api_url,
        etsy_connect_url=settings.etsy_connect_url,
    )
    session = partial(
        outbound.session,
        allow_private=settings.allow_private_store_urls,
        trusted=(
            settings.etsy_api_url,
            *([settings.shopify_admin_url] if _one_host(settings.shopify_admin_url) else []),
        ),
    )
    return Access(database, Vault(settings.encryption_keys), platforms, settings.public_url, session,
                  settings.allow_private_store_urls)  # fmt: skip


def _one_host(url: str) -> bool:
    """Whether an operator's URL names its host by itself, without the shop's name in it."""
    return "{" not in (urlsplit(url).netloc)


def _receive_webhooks(app: Flask, settings: Settings, access: Access) -> None:
    """Put the receiver in front of Flask: nothing of Flask's touches a webhook."""
    look_ups = Database(settings.database_url, pool_size=2, statement_timeout_seconds=3, name="gateway look-ups")
    writer = Writer(settings.libpq_url)
    directory = Directory(look_ups, access.payloads, access.app)
    app.extensions["can_receive"] = lambda: [] if writer.is_ready() else ["the database does not answer"]
    app.wsgi_app = Receiver(  # type: ignore[method-assign]
        app.wsgi_app, writer=writer, directory=directory, max_body_bytes=settings.max_body_bytes
    )


def _work(settings: Settings, access: Access) -> None:
    """What a worker process does: two drain loops, the feed's sequencer, and the jobs with who dispatches them."""
    database = access.database
    if settings.erasure_ledger is None:
        log.warning("privacy.no_ledger", mend="set ERASURE_LEDGER: a restored backup brings erased customers back")
    privacy.again(access, settings.erasure_ledger)

    def drain(stop: threading.Event) -> None:
        drainer = Drainer(database, access.payloads)
        try:
            drainer.run(stop)
        finally:
            drainer.close()

    def sequence(stop: threading.Event) -> None:
        while not stop.is_set():
            with database.transaction() as tx:
                appended = feed.sequence(tx)
            if not appended:
                stop.wait(SEQUENCE_SECONDS)

    worker.run(
        settings.libpq_url,
        {
            "drain-1": drain,
            "drain-2": drain,
            "feed": sequence,
            "rereads": lambda stop: rereads.dispatch(database, stop),
            "runs": lambda stop: runner.dispatch(database, stop),
            "schedule": lambda stop: schedule.watch(access, stop),
            "subscriptions": lambda stop: subscriptions.watch(access, stop),
        },
        context={
            "access": access,
            "ledger": settings.erasure_ledger,
            "body_months": settings.body_months,
            "report_days": settings.report_days,
            "mailer": Mailer(settings.smtp_url, sender_of(settings.public_url)),
        },
    )


def _register_pages(app: Flask) -> None:
    parts = (
        pages.web, connect_pages.connect, install_pages.install, settings_pages.settings, people_pages.people,
        sign_up_pages.pages, privacy_pages.pages, runs_pages.sync, deliveries_pages.deliveries,
    )  # fmt: skip
    for blueprint in (*parts, connect_pages.callbacks):
        app.register_blueprint(blueprint)
    app.extensions["csrf"].exempt(connect_pages.callbacks)
    api_frame.register(app, api.orders_api, runs_api.sync_runs_api, deliveries_api.deliveries_api)


def _register_commands(app: Flask) -> None:
    @click.command("migrate")
    def migrate_command() -> None:
        """Bring the database to this release's tables; safe to run again."""
        migrate.upgrade(app.extensions["settings"].database_url)
        _require_keys(app.extensions["access"])
        click.echo("The database is up to date.")

    @click.command("worker")
    def worker_command() -> None:
        """Apply deliveries and run jobs until stopped."""
        configure_logging()
        app.extensions["access"].database.wait()
        _require_keys(app.extensions["access"])
        _work(app.extensions["settings"], app.extensions["access"])

    def webhook_door(store_id: int) -> tuple[str, str]:
        access: Access = app.extensions["access"]
        with access.database.transaction() as tx:
            connection = model.get(tx, store_id)
        if connection is None or connection.platform != "woocommerce":
            raise click.ClickException(f"There is no WooCommerce store {store_id}. See: flask stores list")
        address = REGISTRY["woocommerce"].deliveries_address(access.public_url, connection.key)
        return address, access.vault.open_list(connection.hook_secrets)[0]

    sandbox = sandbox_commands(webhook_door)
    commands = (user, stores, sync, deliveries, erase, shopify, vault, doctor, sandbox, migrate_command, worker_command)
    for command in commands:
        app.cli.add_command(command)


def _require_keys(access: Access) -> None:
    """Refuse to start, with one sentence, when stored secrets need a key that is not among ENCRYPTION_KEYS."""
    try:
        keys.require(access.database, access.vault)
    except NeedsOperator as error:
        problem = describe(error.problem, dict(error.facts))
        raise click.ClickException(f"{problem.title}. {problem.cause} {problem.fix}") from None


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    made = globals()["app"] = create_app()
    return made
