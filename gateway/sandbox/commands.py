"""`flask sandbox …`: what a terminal can do with the sandbox. It is told everything it needs to know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import requests
from flask.cli import AppGroup

from gateway.sandbox import captures
from gateway.sandbox.faults import ALIASES

_PLATFORM = click.argument("platform", type=click.Choice(["shopify", "woocommerce", "etsy"]))
_ADDRESS = click.option(
    "--url", "address", envvar="SANDBOX_URL", default="http://127.0.0.1:8001", show_envvar=True,
    help="where the sandbox is; known while it was started by: python3 -m gateway run",
)  # fmt: skip


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

    @group.command("faults", with_appcontext=False)
    @_PLATFORM
    @_ADDRESS
    @click.argument("faults", nargs=-1, metavar="[NAME=NUMBER]...")
    def set_faults(platform: str, address: str, faults: tuple[str, ...]) -> None:
        """Make things go wrong in a simulated store, and show what is set.

        NAME is lose, duplicate, reorder, 429, 5xx, cut (the next NUMBER of webhooks or answers), delay or slow
        (seconds, until set to 0). For example: faults woocommerce lose=3 5xx=2
        """
        wanted: dict[str, float] = {}
        for fault in faults:
            name, _, number = fault.partition("=")
            try:
                wanted[name] = float(number)
            except ValueError:
                raise click.UsageError(f"{fault!r} is not NAME=NUMBER, such as lose=1") from None
        typed = {name: alias for alias, name in ALIASES.items()}
        for name, left in _tell(address, platform, "faults", wanted).items():
            click.echo(f"{typed.get(name, name)}\t{left:g}")

    @group.command("clock", with_appcontext=False)
    @_PLATFORM
    @_ADDRESS
    @click.argument("seconds", type=float)
    def set_clock(platform: str, address: str, seconds: float) -> None:
        """Let a simulated store's clock run ahead of ours by SECONDS, or behind: clock etsy -- -90"""
        click.echo(_tell(address, platform, "clock", {"skew_seconds": seconds})["now"])

    return group


def _tell(address: str, platform: str, what: str, given: dict[str, Any]) -> dict[str, Any]:
    """One call of the sandbox's control API about the platform's first store."""
    api = f"{address.rstrip('/')}/sandbox/api/stores"
    try:
        stores = requests.get(api, timeout=10).json()["stores"]
        store = next(each for each in stores if each["platform"] == platform)
        key = store["domain"] if platform == "shopify" else store["shop_id"]
        answer = requests.post(f"{api}/{platform}/{key}/{what}", json=given, timeout=10)
    except requests.RequestException:
        raise click.ClickException(f"No sandbox answers at {address}. Start it with: python3 -m gateway run") from None
    except StopIteration:
        raise click.ClickException(f"The sandbox has no {platform} store.") from None
    told: dict[str, Any] = answer.json()
    if answer.status_code != requests.codes.ok:
        raise click.ClickException(str(told.get("error")))
    return told
