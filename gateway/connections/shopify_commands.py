"""`flask shopify app-toml`: the app's configuration for Shopify, made from this gateway's own settings."""

from __future__ import annotations

import json

import click
from flask import current_app
from flask.cli import AppGroup

from gateway.connections.access import Access
from gateway.platforms.shopify import hooks, install, queries

shopify = AppGroup("shopify", help="The app at Shopify.")


@shopify.command("app-toml")
@click.option("--name", default="Order Gateway", show_default=True, help="the app's name at Shopify")
def app_toml(name: str) -> None:
    """Print shopify.app.toml: address, scopes, webhooks, compliance topics. Deploy it with: shopify app deploy"""
    access: Access = current_app.extensions["access"]
    if not access.app.shopify_client_id:
        raise click.ClickException("SHOPIFY_CLIENT_ID is not set; it is shown with the app in Shopify's Dev Dashboard.")
    click.echo(made(access, name), nl=False)


def made(access: Access, name: str) -> str:
    """The file's text. Webhooks declared here are never removed for failing, and only here can the compliance topics
    be declared (Shopify sheet, sections 1.3 and 2.1)."""
    public = access.public_url
    # JSON's strings and lists of strings are TOML's too.
    return "\n".join(
        [
            f"name = {json.dumps(name)}",
            f"client_id = {json.dumps(access.app.shopify_client_id)}",
            f"application_url = {json.dumps(public + install.APP_PATH)}",
            "embedded = false",
            "",
            "[access_scopes]",
            f"scopes = {json.dumps(','.join(install.SCOPES))}",
            "use_legacy_install_flow = true  # the scopes are asked for in OAuth's address",
            "",
            "[auth]",
            f"redirect_urls = {json.dumps([public + install.CALLBACK_PATH])}",
            "",
            "[webhooks]",
            f"api_version = {json.dumps(queries.API_VERSION)}",
            "",
            "[[webhooks.subscriptions]]",
            f"topics = {json.dumps(list(hooks.TOPICS))}",
            f"uri = {json.dumps(public + '/webhooks/shopify')}",
            "",
            "[[webhooks.subscriptions]]",
            f"compliance_topics = {json.dumps(list(hooks.COMPLIANCE_TOPICS))}",
            f"uri = {json.dumps(public + '/webhooks/shopify')}",
            "",
        ]
    )
