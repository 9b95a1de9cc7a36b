"""What every test may ask for: a PostgreSQL of its own, migrated once; no network; strict properties."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import psycopg
import pytest
from psycopg import sql

from gateway.db.bundled import BundledServer, BundledServerError

_SERVER_URL, _TEMPLATE = "gateway_test_server_url", "gateway_test_template"
_ONE_AT_A_TIME = 4_242_777

hypothesis.settings.register_profile(
    "ci",
    deadline=None,  # two shared cores: time says nothing about a property
    print_blob=True,
    derandomize=True,  # a red run must be red again for the next reader
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.register_profile(
    "long", parent=hypothesis.settings.get_profile("ci"), derandomize=False, max_examples=2000
)
hypothesis.settings.register_profile(
    "sabotage",  # that a property is broken is enough; nobody reads the smallest case
    parent=hypothesis.settings.get_profile("ci"),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


# --- one PostgreSQL a run -------------------------------------------------------------------------------------
class _SharedServer:
    """The run's server: TEST_DATABASE_URL, or a bundled one without fsync that is started at first use."""

    def __init__(self) -> None:
        self._given = os.environ.get("TEST_DATABASE_URL", "")
        # A server of one's own may hold an older run's template, so each run's has a name of its own.
        self.template = f"gateway_test_template_{uuid.uuid4().hex[:12]}"
        self._bundled: BundledServer | None = None
        self._folder: Path | None = None

    def url(self) -> str:
        if self._given:
            return "postgresql://" + self._given.split("://", 1)[1]
        if self._bundled is None:
            self._folder = _temporary_folder()
            self._bundled = BundledServer(self._folder, durable=False)
            try:
                self._bundled.start()
            except BundledServerError as error:
                pytest.exit(f"{error} (for the tests: TEST_DATABASE_URL)", returncode=1)
        return self._bundled.url

    def stop(self) -> None:
        if self._given:
            _drop(self.url(), self.template)
        if self._bundled is not None:
            self._bundled.stop(immediate=True)
        if self._folder is not None:
            shutil.rmtree(self._folder.parent, ignore_errors=True)


_shared_server = _SharedServer()


def _temporary_folder() -> Path:
    """A folder that the server's user can reach also as root, where pytest's own are closed to it."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-test-"))
    folder.chmod(0o755)
    return folder / "data"


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """With xdist the controller owns the server, so that no worker's end takes it from the others."""
    node.workerinput[_SERVER_URL] = _shared_server.url()
    node.workerinput[_TEMPLATE] = _shared_server.template


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        _shared_server.stop()


@contextmanager
def _admin(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(_with_database(url, "postgres"), autocommit=True) as connection:
        yield connection


def _with_database(url: str, name: str) -> str:
    head, question, query = url.partition("?")
    server = head.removeprefix("postgresql://").split("/", 1)[0]
    return f"postgresql://{server}/{name}{question}{query}"


def _drop(server: str, name: str) -> None:
    with _admin(server) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _make_template(server: str, template: str) -> None:
    """Migrate one database; whoever comes first does it, the others wait."""
    from gateway.db import (
        migrate,
    )  # here, so that tests without a database run while the tables are being changed

    with _admin(server) as admin:
        admin.execute("SELECT pg_advisory_lock(%s)", [_ONE_AT_A_TIME])
        if admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [template]).fetchone():
            return
        making = f"{template}_making"
        _drop(server, making)
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(making)))
        migrate.upgrade(_with_database(server, making))
        admin.execute(
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(making), sql.Identifier(template))
        )


@pytest.fixture(scope="session")
def server_url(request: pytest.FixtureRequest) -> str:
    """The run's PostgreSQL, for tests that make databases of their own."""
    given = getattr(request.config, "workerinput", {}).get(_SERVER_URL)
    return str(given) if given else _shared_server.url()


@pytest.fixture(scope="session")
def template_name(request: pytest.FixtureRequest, server_url: str) -> str:
    """A migrated database to copy from: `CREATE DATABASE x TEMPLATE this`."""
    name = str(getattr(request.config, "workerinput", {}).get(_TEMPLATE) or _shared_server.template)
    _make_template(server_url, name)
    return name


@contextmanager
def _copy(server: str, template: str) -> Iterator[str]:
    name = f"gateway_test_{uuid.uuid4().hex[:12]}"
    with _admin(server) as admin:
        admin.execute("SELECT pg_advisory_lock(%s)", [_ONE_AT_A_TIME])  # a template takes one copy at a time
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield _with_database(server, name)
    finally:
        _drop(server, name)


@pytest.fixture(scope="session")
def database_url(server_url: str, template_name: str) -> Iterator[str]:
    """A migrated database for this session (each xdist worker has one); see `clean_database` for an empty one."""
    with _copy(server_url, template_name) as url:
        yield url


@pytest.fixture
def fresh_database_url(server_url: str, template_name: str) -> Iterator[str]:
    """A migrated database for this test alone (about 50 ms); for tests whose processes must not meet others."""
    with _copy(server_url, template_name) as url:
        yield url


@pytest.fixture(scope="session")
def _tables(database_url: str) -> tuple[list[str], list[str]]:
    """Every table but alembic's and the partitions', and those that the migrations filled, copied aside."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace"
            " AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> 'alembic_version' ORDER BY 1"
        )
        names = [str(row[0]) for row in rows]
        seeded = [name for name in names if _has_rows(connection, name)]
        connection.execute("CREATE SCHEMA IF NOT EXISTS as_migrated")
        for name in seeded:
            connection.execute(sql.SQL("CREATE TABLE as_migrated.{0} AS TABLE public.{0}").format(sql.Identifier(name)))
    return names, seeded


def _has_rows(connection: psycopg.Connection[Any], table: str) -> bool:
    found = connection.execute(sql.SQL("SELECT EXISTS (SELECT FROM public.{})").format(sql.Identifier(table)))
    row = found.fetchone()
    return bool(row and row[0])


@pytest.fixture
def clean_database(database_url: str, _tables: tuple[list[str], list[str]]) -> str:
    """The session's database with every table as the migrations left it; gives its URL."""
    names, seeded = _tables
    with psycopg.connect(database_url, autocommit=True) as connection:
        asked = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {} WHERE EXISTS (SELECT FROM public.{})").format(name, sql.Identifier(name))
            for name in names
        )
        dirty = [str(row[0]) for row in connection.execute(asked)]
        if dirty:
            _truncate(connection, dirty, seeded)
    return database_url


def _truncate(connection: psycopg.Connection[Any], dirty: list[str], seeded: list[str]) -> None:
    listed = sql.SQL(", ").join(sql.Identifier("public", name) for name in dirty)
    with connection.transaction():
        # A test's forgotten transaction would hold this for ever; say so instead.
        connection.execute("SET LOCAL lock_timeout = '10s'")
        connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(listed))
        for name in seeded:
            if not _has_rows(connection, name):
                connection.execute(
                    sql.SQL("INSERT INTO public.{0} OVERRIDING SYSTEM VALUE TABLE as_migrated.{0}").format(
                        sql.Identifier(name)
                    )
                )


# --- a server that may be killed ------------------------------------------------------------------------------
@pytest.fixture
def durable_server() -> Iterator[BundledServer]:
    """A migrated PostgreSQL of this test's own, with fsync on: .url, .pid, .kill9(), .stop(), .start()."""
    from gateway.db import migrate

    folder = _temporary_folder()
    server = BundledServer(folder)
    try:
        migrate.upgrade(server.start())
        yield server
    finally:
        server.stop(immediate=True)
        shutil.rmtree(folder.parent, ignore_errors=True)


@pytest.fixture
def durable_database_url(durable_server: BundledServer) -> BundledServer:
    """The same server under the name that crash tests ask for: an object with .url, .pid, .kill9() and so on."""
    return durable_server


# --- no network -----------------------------------------------------------------------------------------------
class NetworkIsClosed(AssertionError):
    """A test tried to reach something that is not this machine."""


def _is_local(host: object) -> bool:
    name = host.decode(errors="replace") if isinstance(host, bytes) else str(host)
    return name in {"", "localhost", "::1", "0.0.0.0", "::", "None"} or name.startswith(("127.", "::ffff:127."))


@pytest.fixture(autouse=True)
def _closed_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only loopback and unix sockets connect; names other than this machine's do not resolve."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def check(sock: socket.socket, address: Any) -> None:
        if sock.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            sock.close()  # its maker only closes it after an OSError
            raise NetworkIsClosed(f"a test tried to connect to {address[0]}:{address[1]}; tests have no network")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        check(self, address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        check(self, address)
        return connect_ex(self, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host is not None and not _is_local(host) and not str(host).replace(".", "").isdigit():
            raise socket.gaierror(socket.EAI_NONAME, f"tests have no network, {host} is not looked up")
        return getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)


# --- the last lines -------------------------------------------------------------------------------------------
def chromium() -> str | None:
    """The browser that the browser tests drive, if this machine has one."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The browser's path; skips the test, with its reason, where there is none."""
    path = chromium()
    if path is None:
        pytest.skip("chromium is absent")
    return path


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what this run did not prove."""
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if "chromium is absent" in str(r.longrepr)]
    if skipped:
        terminalreporter.write_line(
            f"NOT RUN: {len(skipped)} browser tests, since chromium is absent (on Debian: apt install chromium)."
        )
    if (Path(__file__).parent / "sabotage").is_dir():
        terminalreporter.write_line(
            "NOT RUN here: the sabotage patches, one for each promise; .ci/run does, or: python -m tests.sabotage"
        )
