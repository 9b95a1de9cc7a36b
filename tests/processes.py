"""The product as people run it: real gunicorn, worker and sandbox processes over HTTP, which a test may kill."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import requests
from psycopg.rows import dict_row

from gateway.db.bundled import die_with_parent
from gateway.orders.reading import canonical
from gateway.platforms import REGISTRY

ROOT = Path(__file__).resolve().parents[1]
PASSWORD, TOKEN = "correct horse battery", "gw_" + "ab" * 24
LOGIN, ACCOUNT = "owner@example.com", "Process tests"
KEYS = "test:MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="
_FLASK = [sys.executable, "-m", "flask", "--app", "app:create_app"]
_WEB = [sys.executable, "-m", "gunicorn", "--config", "config/gunicorn.py", "app:app"]


def until(fact: Callable[[], Any], what: str, *, seconds: float = 60.0) -> Any:
    """Wait for a fact and give it back; fails, saying `what`, when it does not come true."""
    end = time.monotonic() + seconds
    while not (found := fact()):
        if time.monotonic() > end:
            raise AssertionError(f"after {seconds:.0f} s still not: {what}; last seen {found!r}")
        time.sleep(0.05)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class System:
    """One gateway with its simulated stores, each a process of its own; use as a context manager.

    `stores` maps a platform to (our connection's id, the sandbox's address of that store).
    """

    def __init__(self, database_url: str, folder: Path) -> None:
        self.database_url, self.folder = database_url, folder
        self.port, self.sandbox_port = free_port(), free_port()
        self.url, self.sandbox_url = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.sandbox_port}"
        self.stores: dict[str, tuple[int, str]] = {}
        self.api = requests.Session()
        self.api.headers["Authorization"] = f"Bearer {TOKEN}"
        self._running: list[subprocess.Popen[bytes]] = []
        self._environment = {
            **{name: value for name, value in os.environ.items() if name not in ("DIE_AT", "DIE_WITH")},
            "DATABASE_URL": database_url,
            "PORT": str(self.port),
            "PUBLIC_URL": self.url,
            "SECRET_KEY": "s" * 40,
            "ENCRYPTION_KEYS": KEYS,
            "ALLOW_PRIVATE_STORE_URLS": "true",
            "PYTHONUNBUFFERED": "1",
        }

    def __enter__(self) -> System:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    # --- processes ----------------------------------------------------------------------------------------------
    def start(self, name: str, words: list[str], **environment: str) -> subprocess.Popen[bytes]:
        """A child in a session of its own, as the supervisor starts it; what it says is in `said()`."""
        with (self.folder / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                words, cwd=ROOT, env=self._environment | environment, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent(signal.SIGKILL),
            )  # fmt: skip
        self._running.append(child)
        return child

    def start_sandbox(self, *flags: str) -> None:
        words = [sys.executable, "-m", "gateway.sandbox", "--port", str(self.sandbox_port), "--gateway-url", self.url]
        self.start("sandbox", [*words, "--seed", "7", "--quiet", "--no-life", *flags])
        address = f"{self.sandbox_url}/sandbox/api/stores"
        until(lambda: _answers(address), "the sandbox answers")
        found = requests.get(address, timeout=10).json()
        self._environment |= found["settings"]
        (self.folder / "stores.json").write_text(json.dumps(found))

    def start_web(self) -> None:
        """The web process and its workers: `web`."""
        self.web = self.start("web", _WEB)
        until(lambda: _answers(f"{self.url}/readyz"), "the web process can receive")

    def start_worker(self, **environment: str) -> subprocess.Popen[bytes]:
        """`DIE_AT` in its environment names the point at which it dies."""
        return self.start("worker", [*_FLASK, "worker"], **environment)

    def command(self, *steps: list[str]) -> str:
        """What our own commands say; they share one process."""
        done = subprocess.run(
            [sys.executable, "-m", "gateway.run", *map(json.dumps, steps)],
            cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def connect_stores(self) -> None:
        """A user, a token, and every store of the sandbox, through our own commands. The web process runs."""
        for name, value in (("password", PASSWORD), ("token", TOKEN)):
            (self.folder / name).write_text(value)
        user = ["user", "create", LOGIN, "--account", ACCOUNT, "--password-file", str(self.folder / "password")]
        self.command(
            [*user, "--api-token-file", str(self.folder / "token")],
            ["stores", "add", "--account", ACCOUNT, "--file", str(self.folder / "stores.json")],
            ["stores", "subscribe", "--account", ACCOUNT],
        )
        for row in self.rows("SELECT id, platform, domain, shop_id FROM connections"):
            key = row["domain"] if row["platform"] == "shopify" else row["shop_id"]
            self.stores[row["platform"]] = (row["id"], f"{self.sandbox_url}/sandbox/api/stores/{row['platform']}/{key}")

    def kill(self, child: subprocess.Popen[bytes]) -> None:
        """SIGKILL to a process and its children at once, as an out-of-memory killer or a power cut of its host."""
        os.killpg(child.pid, signal.SIGKILL)
        child.wait(10)

    def died(self, child: subprocess.Popen[bytes], *, seconds: float = 90.0) -> None:
        """Wait until a process that was told to kill itself did."""
        until(lambda: child.poll() is not None, "the process killed itself at its point", seconds=seconds)
        assert child.returncode == -signal.SIGKILL, self.said("worker")[-2000:]

    def said(self, *names: str) -> str:
        """All that processes of these names wrote, standard output and errors; of all when none is named."""
        logs = [self.folder / f"{name}.log" for name in names] or sorted(self.folder.glob("*.log"))
        return "".join(log.read_text(errors="replace") for log in logs if log.exists())

    # --- the platforms' side ------------------------------------------------------------------------------------
    def sandbox(self, platform: str, action: str, **given: Any) -> Any:
        """One call of the sandbox's control API about this platform's store."""
        answer = requests.post(f"{self.stores[platform][1]}/{action}", json=given, timeout=60)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def ask_sandbox(self, platform: str, what: str) -> Any:
        return requests.get(f"{self.stores[platform][1]}/{what}", timeout=60).json()

    def truth(self, platform: str) -> dict[str, tuple[str, str]]:
        """Live orders as the platform knows them: external id → canonical core and person."""
        found = {}
        for row in self.ask_sandbox(platform, "truth")["orders"]:
            if row["exists"] and not row["trashed"]:
                order = REGISTRY[platform].normalise(row["order"], kind="webhook" if platform == "shopify" else "api")
                assert order.person is not None
                found[order.external_id] = (canonical(order.core).decode(), canonical(order.person).decode())
        return found

    # --- our side -----------------------------------------------------------------------------------------------
    def rows(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.database_url, row_factory=dict_row, autocommit=True) as connection:
            return connection.execute(statement, values).fetchall()  # type: ignore[arg-type]

    def scalar(self, statement: str, **values: Any) -> Any:
        return next(iter(self.rows(statement, **values)[0].values()))

    def stored(self, platform: str) -> dict[str, tuple[str, str]]:
        rows = self.rows(
            "SELECT external_id, core::text AS core, person::text AS person FROM orders"
            " WHERE connection_id = %(id)s AND removed_at IS NULL AND core IS NOT NULL",
            id=self.stores[platform][0],
        )
        return {row["external_id"]: (row["core"], row["person"]) for row in rows}

    def is_ready(self) -> bool:
        """Whether web, a worker and the database all answer."""
        return _answers(f"{self.url}/readyz?role=all")

    def applied(self, *, seconds: float = 200.0) -> None:
        """Wait until nothing stored waits any more, neither a delivery nor an order to be read again."""
        end = time.monotonic() + seconds
        while waiting := self.not_applied():
            if time.monotonic() > end:
                raise AssertionError(
                    f"after {seconds:.0f} s these still wait: {waiting}\n{self.said('worker')[-3000:]}"
                )
            time.sleep(0.05)

    def not_applied(self) -> list[dict[str, Any]]:
        """What waits, by kind and problem."""
        return self.rows(
            "SELECT 'delivery' AS kind, platform, problem, count(*) FROM deliveries WHERE state = 'waiting'"
            " GROUP BY platform, problem UNION ALL"
            " SELECT reason, connection_id::text, problem, count(*) FROM rereads GROUP BY 1, 2, 3"
            " UNION ALL SELECT 'batch', '', '', count(*) FROM batches HAVING count(*) > 0"
        )

    def start_sync(self, platform: str, days: int = 7) -> int:
        answer = self.api.post(
            f"{self.url}/api/v1/sync-runs", json={"store_id": self.stores[platform][0], "days": days}, timeout=30
        )
        assert answer.status_code in (201, 202), answer.text
        return int(answer.json()["id"])

    def run(self, run_id: int) -> dict[str, Any]:
        return self.rows("SELECT * FROM sync_runs WHERE id = %(id)s", id=run_id)[0]

    def finished(self, run_id: int, *, seconds: float = 90.0) -> dict[str, Any]:
        """The run's row once it is finished."""
        until(lambda: self.run(run_id)["state"] == "finished", f"run {run_id} is finished", seconds=seconds)
        return self.run(run_id)

    def log_in(self) -> requests.Session:
        """A browser's session of the owner."""
        browser = requests.Session()
        page = browser.get(f"{self.url}/login", timeout=10).text
        field = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
        assert field is not None, page
        form = {"email": LOGIN, "password": PASSWORD, "csrf_token": field.group(1)}
        answer = browser.post(f"{self.url}/login", data=form, headers={"Referer": f"{self.url}/login"}, timeout=10)
        assert answer.status_code == 200, answer.status_code
        return browser


@contextmanager
def running(database_url: str, folder: Path, *flags: str) -> Iterator[System]:
    """Sandbox and web with all stores connected; workers are the test's own to start."""
    with System(database_url, folder) as system:
        system.start_sandbox(*flags)
        system.start_web()
        system.connect_stores()
        yield system


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).status_code == 200
    except requests.RequestException:
        return False
