"""The state file: the whole world as JSON, so that a demo that is started again keeps its stores and secrets."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from gateway.sandbox.deliveries import Delivery
from gateway.sandbox.etsy import EtsyApp
from gateway.sandbox.shopify import ShopifyApp
from gateway.sandbox.world import BASE_URL, GATEWAY_URL, World, utc_now

FORMAT = 1


def to_json(world: World) -> dict[str, Any]:
    """Everything but the logs; what is on its way counts as not sent yet."""
    with world.lock:
        waiting = [*world.in_flight.values(), *world.queue]
        return {
            "format": FORMAT,
            "seed": world.seed,
            "shopify_app": [world.shopify_app.client_id, world.shopify_app.client_secret],
            "etsy_app": world.etsy_app.to_json(),
            "last_delivery": world.last_delivery,
            "stores": [store.to_json() for store in world.stores.values()],
            "queue": [delivery.as_json() for delivery in waiting],
        }


def from_json(
    saved: dict[str, Any],
    now: Callable[[], datetime] | None = None,
    gateway_url: str = GATEWAY_URL,
    base_url: str = BASE_URL,
) -> World:
    """The world that `to_json` wrote; raises ValueError for a file of another format."""
    if saved.get("format") != FORMAT:
        raise ValueError("the state file was written by another version of the sandbox; delete it to start afresh")
    world = World(saved["seed"], now or utc_now, gateway_url=gateway_url, base_url=base_url)
    world.shopify_app = ShopifyApp(*saved["shopify_app"])
    world.etsy_app = EtsyApp(**saved["etsy_app"])
    world.last_delivery = saved["last_delivery"]
    for each in saved["stores"]:
        world.add_store(each["platform"], each["key"], **each["options"]).from_json(each)
    for each in saved["queue"]:
        world.put(Delivery(**each))
    return world


def save(world: World, path: Path) -> None:
    """Write the file whole or not at all, readable by its owner only: it holds secrets."""
    text = json.dumps(to_json(world), ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load(path: Path, gateway_url: str, base_url: str) -> World | None:
    """The saved world, None when there is no file yet."""
    if not path.exists():
        return None
    return from_json(json.loads(path.read_text(encoding="utf-8")), None, gateway_url=gateway_url, base_url=base_url)
