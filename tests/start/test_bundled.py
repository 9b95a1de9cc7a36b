"""The bundled PostgreSQL: recovers, refuses with one sentence, listens on a private socket only."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from gateway.db.bundled import BundledServer, BundledServerError


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short folder that the server's user may enter, with a space and an accent in its name."""
    top = Path(tempfile.mkdtemp(prefix="gateway-test-"))
    top.chmod(0o755)
    yield top / "données d'essai"
    shutil.rmtree(top, ignore_errors=True)


def test_it_listens_on_a_private_socket_only_and_keeps_fsync_on(durable_server: BundledServer) -> None:
    with psycopg.connect(durable_server.url) as connection:
        shown = {
            name: connection.execute("SELECT current_setting(%s)", [name]).fetchone()
            for name in ("listen_addresses", "fsync", "synchronous_commit", "full_page_writes", "server_encoding")
        }
        (socket_folder,) = connection.execute("SELECT current_setting('unix_socket_directories')").fetchone() or ("",)

    assert shown == {
        "listen_addresses": ("",),
        "fsync": ("on",),
        "synchronous_commit": ("on",),
        "full_page_writes": ("on",),
        "server_encoding": ("UTF8",),
    }
    assert Path(socket_folder).stat().st_mode & 0o777 == 0o700


def test_a_server_that_outlived_its_parent_is_ended_and_its_data_kept(folder: Path) -> None:
    code = (
        "import os, sys, pathlib\n"
        "from gateway.db import bundled\n"
        "bundled.die_with_parent = lambda number: None\n"
        "server = bundled.BundledServer(pathlib.Path(sys.argv[1]), durable=False)\n"
        "server.start()\n"
        "print(server.pid, flush=True)\n"
        "os._exit(9)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=root, capture_output=True, text=True, check=False
    )
    left = int(done.stdout)
    os.kill(left, 0)  # it is still there

    server = BundledServer(folder, durable=False)
    try:
        with psycopg.connect(server.start()) as connection:
            assert connection.execute("SELECT current_database()").fetchone() == ("gateway",)
        assert server.pid != left
    finally:
        server.stop(immediate=True)


def test_a_pid_file_of_a_killed_server_whose_number_is_another_process_now_is_no_obstacle(folder: Path) -> None:
    server = BundledServer(folder, durable=False)
    server.start()
    pid_file = server.data / "postmaster.pid"
    stale = pid_file.read_text().split("\n", 1)[1]
    server.kill9()
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    pid_file.write_text(f"{other.pid}\n{stale}")

    try:
        server.start()
        assert server.running()
        assert other.poll() is None
    finally:
        server.stop(immediate=True)
        other.kill()
        other.wait()


def test_data_of_another_major_is_refused_in_one_sentence(folder: Path) -> None:
    (folder / "postgres").mkdir(parents=True)
    (folder / "postgres" / "PG_VERSION").write_text("16\n")

    with pytest.raises(BundledServerError) as caught:
        BundledServer(folder).start()

    assert "was made by PostgreSQL 16 and this release brings 18" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_system_without_the_wheel_is_asked_for_a_database_url(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(BundledServerError, match="set DATABASE_URL to a PostgreSQL 18 server"):
        BundledServer(folder).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
def test_as_root_a_folder_that_the_servers_user_cannot_reach_is_refused(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    with pytest.raises(BundledServerError, match="may not pass through"):
        BundledServer(closed / "data").start()


def test_stopping_twice_is_fine_and_a_stopped_server_starts_again(folder: Path) -> None:
    server = BundledServer(folder, durable=False)
    first = server.start()
    server.stop()
    server.stop()

    assert not server.running()
    assert server.start().split("?")[0] == first.split("?")[0]
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
