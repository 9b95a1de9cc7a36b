"""The sandbox as the process that people start: real sockets on loopback, signals, and its state file."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests
from click.testing import CliRunner

from gateway.sandbox.commands import sandbox_commands

ROOT = Path(__file__).parents[2]


class Gateway(ThreadingHTTPServer):
    """Takes webhooks, and answers as it is told."""

    request_queue_size = 512
    daemon_threads = True

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        super().__init__(("127.0.0.1", 0), _Taker)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Taker(BaseHTTPRequestHandler):
    server: Gateway
    hold: ClassVar[threading.Event | None] = None

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers.items()), body))
        if _Taker.hold is not None:
            _Taker.hold.wait(10)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    server = Gateway()
    yield server
    server.shutdown()
    server.server_close()


def _until(fact: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Wait for a fact; fails when it does not come true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = fact()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not become true")


@contextmanager
def _sandbox(state: Path, gateway_url: str, *more: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gateway.sandbox", "--port", str(port), "--gateway-url", gateway_url]
    command += ["--state-file", str(state), "--quiet", "--no-life", *more]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ}
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _until(lambda: _answers(url) or process.poll() is not None)
        yield url, process
    finally:
        process.kill()
        with process:  # closes its pipe
            process.wait()


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/sandbox", timeout=1).status_code == 200
    except requests.RequestException:
        return False


def _stop(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    return output


def _stores(url: str) -> dict[str, Any]:
    told = requests.get(f"{url}/sandbox/api/stores", timeout=5).json()
    return {store["platform"]: store for store in told["stores"]}


def test_webhooks_arrive_and_a_restart_keeps_stores_secrets_and_orders(gateway: Gateway, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    with _sandbox(state, gateway.url) as (url, process):
        before = _stores(url)
        store = before["woocommerce"]
        keys = (store["credentials"]["consumer_key"], store["credentials"]["consumer_secret"])
        given = {"topic": "order.updated", "delivery_url": f"{gateway.url}/webhooks/woocommerce/k", "secret": "s"}
        made = requests.post(f"{store['url']}/wp-json/wc/v3/webhooks", json=given, auth=keys, timeout=5)
        assert made.status_code == 201
        assert gateway.seen[0][0::2] == ("/webhooks/woocommerce/k", b"webhook_id=1")  # during the create

        for platform, key in (
            ("woocommerce", "fernandclay"), ("shopify", store_key(before)), ("etsy", before["etsy"]["shop_id"]),
        ):  # fmt: skip
            base = f"{url}/sandbox/api/stores/{platform}/{key}"
            requests.post(f"{base}/orders", json={}, timeout=5)
            assert requests.post(f"{base}/flush", json={}, timeout=35).json()["failed"] == 0
        paths = sorted(path for path, _, _ in gateway.seen[1:])
        assert paths == [
            "/webhooks/etsy", "/webhooks/shopify", "/webhooks/shopify", "/webhooks/woocommerce/k",
        ]  # fmt: skip
        orders = requests.get(f"{store['url']}/wp-json/wc/v3/orders?per_page=1", auth=keys, timeout=5).headers
        assert _stop(process) == ""

    assert state.stat().st_mode & 0o777 == 0o600
    with _sandbox(state, gateway.url) as (url, process):
        after = _stores(url)
        store = after["woocommerce"]
        again = requests.get(f"{store['url']}/wp-json/wc/v3/orders?per_page=1", auth=keys, timeout=5).headers
        _stop(process)

    assert again["X-WP-Total"] == orders["X-WP-Total"]
    for platform in before:
        old, new = (dict(each[platform]["credentials"]) for each in (before, after))
        old.pop("expires_in", None)
        new.pop("expires_in", None)
        assert old == new


def store_key(stores: dict[str, Any]) -> str:
    return str(stores["shopify"]["domain"])


def test_more_than_200_webhooks_are_under_way_at_once(gateway: Gateway, tmp_path: Path) -> None:
    _Taker.hold = threading.Event()
    try:
        with _sandbox(tmp_path / "state.json", gateway.url, "--empty") as (url, _):
            base = f"{url}/sandbox/api/stores/etsy/41234567"
            requests.post(f"{base}/orders", json={"count": 220}, timeout=20)
            _until(lambda: len(gateway.seen) == 220)
            _Taker.hold.set()
            assert requests.post(f"{base}/flush", json={}, timeout=35).json()["sent"] == 220
    finally:
        _Taker.hold.set()
        _Taker.hold = None


def test_the_command_sets_faults_and_a_cut_connection_is_felt(gateway: Gateway, tmp_path: Path) -> None:
    with _sandbox(tmp_path / "state.json", gateway.url) as (url, _):
        store = _stores(url)["woocommerce"]
        keys = (store["credentials"]["consumer_key"], store["credentials"]["consumer_secret"])

        said = subprocess.run(
            [sys.executable, "-m", "gateway.sandbox", "faults", "--url", url, "--store", "woocommerce", "cut", "1",
             "429", "2", "lose"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

        name, _, told = said.partition(" ")
        faults = json.loads(told)
        assert name == "woocommerce/fernandclay"
        assert (faults["cut"], faults["throttle"], faults["lose"]) == (1, 2, 1)
        orders = f"{store['url']}/wp-json/wc/v3/orders"
        assert [requests.get(orders, auth=keys, timeout=5).status_code for _ in range(2)] == [429, 429]
        with pytest.raises(requests.RequestException):
            requests.get(orders, auth=keys, timeout=5)
        assert requests.get(orders, auth=keys, timeout=5).status_code == 200


def test_it_listens_on_loopback_only_and_refuses_a_taken_port(gateway: Gateway, tmp_path: Path) -> None:
    taken = gateway.server_address[1]

    done = subprocess.run(
        [sys.executable, "-m", "gateway.sandbox", "--port", str(taken), "--state-file", str(tmp_path / "s.json")],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip

    assert done.returncode == 1
    assert f"can't listen on port {taken}" in done.stderr


def _command(url: str, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(sandbox_commands(lambda _: ("", "")), words, env={"SANDBOX_URL": url})
    return done.exit_code, done.output


def test_faults_and_the_clock_are_set_by_a_command(gateway: Gateway, tmp_path: Path) -> None:
    with _sandbox(tmp_path / "state.json", gateway.url) as (url, _):
        code, said = _command(url, "faults", "woocommerce", "lose=2", "5xx=1")
        ahead = _command(url, "clock", "etsy", "90")
        shown = _command(url, "faults", "woocommerce")
        wrong = _command(url, "faults", "woocommerce", "mistake=1")

    assert code == 0
    assert {"lose\t2", "5xx\t1", "429\t0"} <= set(said.splitlines())
    assert shown == (0, said)
    assert ahead[0] == 0
    assert wrong[0] == 1
    assert "there is no fault called 'mistake'" in wrong[1]


def test_a_command_without_a_sandbox_says_how_to_start_one() -> None:
    code, said = _command("http://127.0.0.1:1", "faults", "etsy")

    assert (code, said) == (
        1, "Error: No sandbox answers at http://127.0.0.1:1. Start it with: python3 -m gateway run\n",
    )  # fmt: skip
