"""The sandbox as a process: `python -m gateway.sandbox --port 8001 …`, and its command to make things go wrong.

python -m gateway.sandbox faults --store woocommerce/fernandclay lose 1 delay 3
python -m gateway.sandbox faults clear
"""

from __future__ import annotations

import argparse
import json
import select
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

SAVE_SECONDS = 3.0
LOOPBACK = "127.0.0.1"


def main(arguments: list[str]) -> int:
    """Start the process, or run the command `faults` against a running one."""
    if arguments[:1] == ["faults"]:
        return _faults(arguments[1:])
    return _serve(_parse(arguments))


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m gateway.sandbox", description="Simulated Shopify, WooCommerce, Etsy."
    )
    parser.add_argument("--port", type=int, default=8001, help="on 127.0.0.1 only (default: 8001)")
    parser.add_argument("--gateway-url", default="http://127.0.0.1:8000", help="where the webhooks go")
    parser.add_argument("--state-file", type=Path, help="keeps stores, orders and secrets over a restart")
    parser.add_argument("--seed", type=int, help="the same stores and secrets each time, for tests")
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors (it says nothing else anyway)")
    parser.add_argument("--no-life", action="store_true", help="nothing happens by itself")
    parser.add_argument("--empty", action="store_true", help="stores without past orders")
    return parser.parse_args(arguments)


def _serve(options: argparse.Namespace) -> int:
    from werkzeug.serving import WSGIRequestHandler, make_server

    from gateway.sandbox import life, state
    from gateway.sandbox.sender import Sender
    from gateway.sandbox.server import create_app
    from gateway.sandbox.world import World

    addresses = {"gateway_url": options.gateway_url, "base_url": f"http://{LOOPBACK}:{options.port}"}
    try:
        world = state.load(options.state_file, **addresses) if options.state_file else None
    except (ValueError, KeyError, TypeError, OSError) as error:
        _complain(f"The sandbox can't read {options.state_file}: {error}")
        return 1
    if world is None:
        world = World(options.seed, **addresses)
        life.open_demo_stores(world) if not options.empty else life.open_empty_stores(world)

    class Handler(WSGIRequestHandler):
        """Keep-alive, and not a line for each request."""

        protocol_version = "HTTP/1.1"

        def log(self, type: str, message: str, *args: Any) -> None:
            if type == "error":
                _complain(message % args if args else message)

        def version_string(self) -> str:
            return "sandbox"

        def send_response(self, code: int, message: str | None = None) -> None:
            """Without a Date of this machine's clock: each store writes its own, and two would be one too many."""
            self.send_response_only(code, message)
            self.send_header("Server", self.version_string())

    try:
        server = make_server(LOOPBACK, options.port, create_app(world), threaded=True, request_handler=Handler)
    except (OSError, SystemExit) as error:
        _complain(f"The sandbox can't listen on port {options.port}: {error}")
        return 1
    # A pipe and not an Event: setting an Event in a signal handler can meet its own lock in the main thread.
    stop_here, signals = socket.socketpair()
    signals.setblocking(False)
    signal.set_wakeup_fd(signals.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    sender, living = Sender(world), life.Life(world)
    sender.start()
    if not options.no_life:
        living.start()
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    serving.start()
    pause, saved = 0.0, -1
    while not select.select([stop_here], [], [], pause)[0]:
        began = time.monotonic()
        if options.state_file and world.revision != saved:
            saved = world.revision
            state.save(world, options.state_file)
        # A big world takes longer to write; it should not be busy with nothing else.
        pause = max(SAVE_SECONDS, 20 * (time.monotonic() - began))
    server.shutdown()
    if not options.no_life:
        living.stop()
    sender.stop()
    if options.state_file:
        state.save(world, options.state_file)
    return 0


def _faults(arguments: list[str]) -> int:
    """Set faults on a running sandbox: names with numbers, `clear`, or nothing to see what is set."""
    parser = argparse.ArgumentParser(prog="python -m gateway.sandbox faults")
    parser.add_argument("--url", default=f"http://{LOOPBACK}:8001")
    parser.add_argument("--store", help="platform, or platform/key; all stores unless given")
    parser.add_argument(
        "wanted",
        nargs="*",
        help="lose N, duplicate N, reorder N, delay SECONDS, 429 N, 5xx N, slow SECONDS, cut N, bulk_fail N …, clear",
    )
    options = parser.parse_args(arguments)
    faults: dict[str, Any] = {}
    words = list(options.wanted)
    while words:
        name = words.pop(0)
        if name == "clear":
            faults["clear"] = True
        else:
            number = words.pop(0) if words and words[0].replace(".", "", 1).isdigit() and _is_count(words) else "1"
            faults[name] = float(number)
    base = f"{options.url.rstrip('/')}/sandbox/api/stores"
    try:
        for store in _call(base)["stores"]:
            name = f"{store['platform']}/{_key(store)}"
            if options.store in (None, store["platform"], name):
                sys.stdout.write(f"{name} {json.dumps(_call(f'{base}/{name}/faults', faults))}\n")
    except urllib.error.HTTPError as error:
        _complain(f"The sandbox refused: {error.read().decode()}")
        return 1
    except OSError as error:
        _complain(f"No sandbox answers at {options.url}: {error}")
        return 1
    return 0


def _complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _is_count(words: list[str]) -> bool:
    """`429 2` is the fault 429 twice, but in `lose 429 2` the 429 is the next fault's name."""
    return words[0] != "429" or len(words) == 1 or not words[1].replace(".", "", 1).isdigit()


def _key(store: dict[str, Any]) -> str:
    return str(store["domain"] if store["platform"] == "shopify" else store["shop_id"])


def _call(url: str, body: dict[str, Any] | None = None) -> Any:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 - the given url
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
