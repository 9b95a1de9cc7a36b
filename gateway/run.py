"""`python3 -m gateway run`: everything on this machine, from nothing to a page with orders, until Ctrl-C.

What it makes and keeps (data, keys, the demo's password, logs) lies in one private folder, by default var/ of the
project, as root /var/lib/order-gateway/<twelve hex digits that stand for the project's path>.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from config.settings import Settings, SettingsError, load_settings
from gateway.db.bundled import MAJOR, BundledServer, BundledServerError, private_folder
from gateway.supervisor import Ended, Stopping, Supervisor, read_procfile

ROOT = Path(__file__).resolve().parent.parent
ACCOUNT = "Demo"
LOGIN = "demo@example.com"
READY_SECONDS = 90
SANDBOX_SECONDS = 30
_FLASK = ["flask", "--app", "app:create_app"]


class RunError(Exception):
    """The start cannot go on; the message is one sentence for people."""


@dataclass(frozen=True)
class _Demo:
    """What the demo is started with; the secrets lie in files of mode 0600."""

    folder: Path
    port: int
    sandbox_port: int
    password: str
    api_token: str

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def sandbox_address(self) -> str:
        return f"http://127.0.0.1:{self.sandbox_port}"


def main(arguments: list[str]) -> int:
    """Run until Ctrl-C or SIGTERM; 0 when stopped so, 1 with one sentence when the start failed."""
    if arguments:
        _tell("run takes no arguments; PORT, DATA_DIR and DATABASE_URL in the environment change what it does")
        return 2
    try:
        settings = load_settings()
        folder = data_folder(os.environ)
        with _only_one(folder):
            _run(settings, folder)
    except (RunError, BundledServerError, SettingsError) as error:
        _tell(str(error))
        return 1
    except Stopping:
        pass
    except KeyboardInterrupt:  # before the supervisor took over the signals
        pass
    _tell("Stopped.")
    return 0


def _run(settings: Settings, folder: Path) -> None:
    if settings.database_url:
        _check_database(settings)
    demo = _prepare(settings, folder)
    database = None if settings.database_url else BundledServer(folder)
    added = _additions(demo, os.environ)
    with Supervisor(os.environ | added, folder / "gateway.log", database=database, folder=ROOT) as supervisor:
        _tell(f"Starting; what the processes say is in {folder / 'gateway.log'}")
        supervisor.start("sandbox", _sandbox_command(demo))
        if database is not None:
            added["DATABASE_URL"] = supervisor.start_database()
        stores = _wait_for_sandbox(supervisor, demo)
        own = [name for name in stores["settings"] if _given(os.environ, name)]
        if own:
            _tell(f"{', '.join(own)}: yours is used, so the simulated stores that need the sandbox's will not connect.")
        added |= {name: value for name, value in stores["settings"].items() if name not in own}
        supervisor.environment |= added
        _private_file(folder / "sandbox-stores.json", json.dumps(stores))
        _private_file(folder / "running.json", json.dumps({"address": demo.address, "environment": added}))
        try:
            _bring_up(supervisor, demo)
            _show(demo)
            supervisor.run_for_ever()
            _tell("Stopping ...")
        finally:
            (folder / "running.json").unlink(missing_ok=True)


def _bring_up(supervisor: Supervisor, demo: _Demo) -> None:
    """Migrate, make the demo's user and stores, start web and worker, subscribe; returns when all is ready."""
    processes = read_procfile(ROOT / "Procfile")
    release = processes.pop("release")
    steps = [*_demo_steps(demo)]
    if release[: len(_FLASK)] == _FLASK:
        steps.insert(0, release[len(_FLASK) :])  # one Python start less
    else:
        _must(supervisor.run("release", release), "The database could not be migrated", demo)
    command = [sys.executable, "-m", "gateway.run", *map(json.dumps, steps)]
    _must(supervisor.run("setup", command), "The demo could not be set up", demo)
    for name, words in processes.items():
        supervisor.start(name, words)
    ready = supervisor.wait_until(
        lambda: _get(demo.port, "/readyz?role=all")[0] == 200, timeout_seconds=READY_SECONDS, every=0.1
    )
    if not ready:
        raise RunError(
            f"The gateway was not ready after {READY_SECONDS} s; what happened is in {demo.folder / 'gateway.log'}."
        )
    subscribed = supervisor.run("subscribe", [*_FLASK, "stores", "subscribe", "--account", ACCOUNT])
    if subscribed.code != 0:
        _tell("The simulated stores' webhooks could not be registered; orders arrive by Sync Order all the same.")


def _demo_steps(demo: _Demo) -> list[list[str]]:
    user = ["user", "create", LOGIN, "--account", ACCOUNT, "--role", "owner", "--exist-ok"]
    user += ["--password-file", str(demo.folder / "demo-password")]
    user += ["--api-token-file", str(demo.folder / "demo-api-token")]
    return [user, ["stores", "add", "--account", ACCOUNT, "--file", str(demo.folder / "sandbox-stores.json")]]


def _must(ended: Ended, what: str, demo: _Demo) -> None:
    if ended.code != 0:
        raise RunError(f"{what}: {_reason(ended.last_words)} (more in {demo.folder / 'gateway.log'})")


def _reason(lines: list[str]) -> str:
    """The line that tells why: an error's own words rather than what a library adds below them."""
    telling = [line for line in lines if re.match(r"(Error: |[A-Za-z_.]+(Error|Refused|Needs\w+|Exception)\b)", line)]
    return (telling or lines or ["it said nothing"])[-1]


def _show(demo: _Demo) -> None:
    block = (
        f"Gateway    {demo.address}\n"
        f"Log in     {LOGIN} / {demo.password}\n"
        f"API token  {demo.api_token}\n"
        f"Sandbox    {demo.sandbox_address}/sandbox\n"
        f"Stop with Ctrl-C; data is kept in {demo.folder}"
    )
    print(block, flush=True)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# --- the data folder ------------------------------------------------------------------------------------------------
def data_folder(environ: Mapping[str, str]) -> Path:
    """DATA_DIR; else var/ of the project; as root, whose projects the database's user may not enter, /var/lib/…"""
    if environ.get("DATA_DIR"):
        return Path(environ["DATA_DIR"]).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/order-gateway") / hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:12]
    return ROOT / "var"


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the data folder for this process alone; RunError when another run has it, or it cannot be used."""
    try:
        foreign = folder.is_dir() and any(folder.iterdir()) and not (folder / "lock").exists()
        if foreign:
            raise RunError(f"The folder {folder} holds other things; set DATA_DIR to an empty or a new folder.")
        private_folder(folder)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise RunError(
            f"The data folder {folder} cannot be used ({error.strerror});"
            " set DATA_DIR to a folder of your own, for example: DATA_DIR=~/order-gateway python3 -m gateway run"
        ) from None
    try:
        if not _locked(lock):
            where = _running(folder).get("address")
            raise RunError(
                f"The gateway already runs at {where}, with its data in {folder}; stop it there with Ctrl-C first."
                if where
                else f"Another start is just using {folder}; wait for it, or stop it there with Ctrl-C."
            )
        yield
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    for _ in range(5):  # a command that only asks whether we run holds it for a moment
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def _running(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "running.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def environment_of_running(environ: Mapping[str, str]) -> dict[str, str]:
    """What a command needs to reach the gateway that runs here: its database's URL, keys and settings; else nothing."""
    folder = data_folder(environ)
    try:
        lock = os.open(folder / "lock", os.O_RDONLY)
    except OSError:
        return {}
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        found = _running(folder).get("environment", {})
        return {name: value for name, value in found.items() if not _given(environ, name)}
    except OSError:
        return {}
    finally:
        os.close(lock)
    return {}


def _private_file(path: Path, text: str) -> None:
    """Write a file of mode 0600, whole or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _kept(path: Path, make: Callable[[], str]) -> str:
    """The file's word, made at the first start and the same ever after."""
    if path.exists() and (word := path.read_text().strip()):
        return word
    _private_file(path, make() + "\n")
    return path.read_text().strip()


def _new_encryption_key() -> str:
    """`<key id>:<Fernet key>`: 32 random bytes, urlsafe base64; the id is the beginning of its sha256."""
    key = base64.urlsafe_b64encode(secrets.token_bytes(32))
    return f"{hashlib.sha256(key).hexdigest()[:8]}:{key.decode()}"


# --- settings of the demo -------------------------------------------------------------------------------------------
def _prepare(settings: Settings, folder: Path) -> _Demo:
    """Make or read the keys, the password and the ports; RunError when a port is taken."""
    patience = 3.0 if (folder / "running.json").exists() else 0.0  # a killed start's processes are just ending
    (folder / "running.json").unlink(missing_ok=True)
    _check_port(settings.port, patience)
    kept = folder / "sandbox-port"
    fresh = not kept.exists()
    sandbox_port = int(_kept(kept, lambda: str(_next_free_port(settings.port + 1))))
    if sandbox_port == settings.port:
        raise RunError(
            f"Port {settings.port} is the one that this data's simulated stores are known by;"
            f" use another: PORT={_next_free_port(settings.port + 1)} python3 -m gateway run"
        )
    if not fresh and not _wait_for_port(sandbox_port, patience):
        raise RunError(
            f"Port {sandbox_port}, which this data's simulated stores are known by, is taken;"
            " free it, or start with another DATA_DIR."
        )
    _kept(folder / "secret-key", lambda: secrets.token_hex(32))
    _kept(folder / "encryption-keys", _new_encryption_key)
    password = _kept(folder / "demo-password", lambda: secrets.token_urlsafe(12))
    token = _kept(folder / "demo-api-token", lambda: f"gw_{secrets.token_hex(24)}")
    return _Demo(folder, settings.port, sandbox_port, password, token)


def _check_database(settings: Settings) -> None:
    """The operator's own server must answer and be new enough; RunError otherwise."""
    import psycopg  # here, since most starts have a bundled server

    try:
        with psycopg.connect(settings.libpq_url, connect_timeout=5) as connection:
            version = connection.info.server_version
    except psycopg.Error as error:
        why = str(error).strip().splitlines()[0].removeprefix("connection failed: ")
        raise RunError(
            f"The database that DATABASE_URL names cannot be used: {why};"
            " mend that, or unset DATABASE_URL to use the bundled one."
        ) from None
    if version < MAJOR * 10_000:
        raise RunError(f"DATABASE_URL names PostgreSQL {version // 10_000}, and {MAJOR} or newer is needed.")


def _additions(demo: _Demo, environ: Mapping[str, str]) -> dict[str, str]:
    """What the children's environment gets beside the operator's own, which is never overridden."""
    added = {
        "PORT": str(demo.port),
        "DATA_DIR": str(demo.folder),
        "PUBLIC_URL": demo.address,
        "ALLOW_PRIVATE_STORE_URLS": "true",
        "SANDBOX_URL": demo.sandbox_address,
        "PYTHONUNBUFFERED": "1",
    }
    added = {name: value for name, value in added.items() if not _given(environ, name)}
    for name, file in (("SECRET_KEY", "secret-key"), ("ENCRYPTION_KEYS", "encryption-keys")):
        if not _given(environ, name):
            added[f"{name}_FILE"] = str(demo.folder / file)
    # Tools are found in .venv first; a proxy of the operator's cannot reach this machine's own loopback.
    added["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)])
    for name in ("NO_PROXY", "no_proxy"):
        added[name] = ",".join(filter(None, [environ.get(name), "127.0.0.1,localhost"]))
    return added


def _given(environ: Mapping[str, str], name: str) -> bool:
    return bool(environ.get(name) or environ.get(f"{name}_FILE"))


def _check_port(port: int, patience: float) -> None:
    try:
        free = _wait_for_port(port, patience)
    except PermissionError:
        raise RunError(
            f"Port {port} may not be used by this user; use PORT={_next_free_port(8000)} python3 -m gateway run"
        ) from None
    if not free:
        raise RunError(f"Port {port} is taken; use PORT={_next_free_port(port + 1)} python3 -m gateway run")


def _wait_for_port(port: int, patience: float) -> bool:
    until = time.monotonic() + patience
    while not _is_free(port):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            raise
        except OSError:
            return False
    return True


def _next_free_port(first: int) -> int:
    for port in chain(range(max(first, 1024), min(first + 50, 65536)), range(8000, 8100)):
        if _is_free(port):
            return port
    raise RunError(f"No port from {first} on is free; set PORT to one that is.")


# --- the sandbox and the product, as seen from outside --------------------------------------------------------------
def _sandbox_command(demo: _Demo) -> list[str]:
    command = [sys.executable, "-m", "gateway.sandbox", "--port", str(demo.sandbox_port)]
    return [*command, "--gateway-url", demo.address, "--state-file", str(demo.folder / "sandbox.json")]


def _wait_for_sandbox(supervisor: Supervisor, demo: _Demo) -> dict[str, Any]:
    """The simulated stores with the settings that they need: {"settings": {NAME: value}, "stores": […]}."""
    answers: list[bytes] = []

    def answered() -> bool:
        status, body = _get(demo.sandbox_port, "/sandbox/api/stores")
        if status == 200:
            answers.append(body)
        return status == 200

    if not supervisor.wait_until(answered, timeout_seconds=SANDBOX_SECONDS):
        raise RunError(
            f"The simulated stores did not start in {SANDBOX_SECONDS} s; why is in {demo.folder / 'gateway.log'}."
        )
    found: dict[str, Any] = json.loads(answers[0])
    return found


def _get(port: int, path: str) -> tuple[int, bytes]:
    """Status and body of a GET on loopback, (0, b"") when nothing answers; no proxy is asked."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return int(answer.status), answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def _flask_commands(steps: list[list[str]]) -> int:
    """Run several of the product's commands in this one process, in order; the first failure's exit code, else 0."""
    import click
    from flask.cli import FlaskGroup, ScriptInfo

    group, app = FlaskGroup(), ScriptInfo(app_import_path="app:create_app")
    for step in steps:
        try:
            code = group.main(args=step, prog_name="flask", obj=app, standalone_mode=False)
        except click.ClickException as error:
            error.show()
            return int(error.exit_code)
        if isinstance(code, int) and code != 0:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(_flask_commands([json.loads(argument) for argument in sys.argv[1:]]))
