"""`flask sandbox …`: what a terminal can do with the sandbox. It is told everything it needs to know."""

from __future__ import annotations

from collections.abc import Callable

import click
from flask.cli import AppGroup

from gateway.sandbox import captures


def sandbox_commands(webhook_door: Callable[[int], tuple[str, str]]) -> AppGroup:
    """The group; `webhook_door` tells a WooCommerce store's webhook address and secret by the store's id."""
    group = AppGroup("sandbox", help="Simulated platforms and captured webhooks.")

    @group.command("replay-captures")
    @click.option("--store", "store_id", type=int, required=True, help="a WooCommerce store: flask stores list")
    def replay_captures(store_id: int) -> None:
        """Post what a real WooCommerce store sent to the running gateway, signed with STORE's secret.

        The orders appear on the Orders page. The store itself does not know them, so a Sync Order whose window covers
        them finds them gone and removes them again.
        """
        address, secret = webhook_door(store_id)
        statuses = []
        for capture, status in captures.replay(address, secret):
            topic = capture.headers.get("X-WC-Webhook-Topic", "ping")
            click.echo(f"{status}\t{capture.name}\t{topic}\t{len(capture.body)} bytes")
            statuses.append(status)
        if set(statuses) != {200}:
            raise click.ClickException("Not every capture was answered 200.")

    return group
