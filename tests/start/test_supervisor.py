"""The supervisor, with real processes: what dies starts again, what is stopped is gone."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from gateway.db.bundled import BundledServer
from gateway.supervisor import Stopping, Supervisor, read_procfile

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


@pytest.fixture
def terminal() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def supervisor(tmp_path: Path, terminal: io.StringIO) -> Iterator[Supervisor]:
    with Supervisor(os.environ, tmp_path / "log", terminal=terminal) as made:
        yield made


def _gone(pid: int) -> bool:
    """Whether no such process is at work (where nobody reaps, a zombie may remain)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_the_procfile_names_release_web_and_worker() -> None:
    processes = read_procfile(Path(__file__).parents[2] / "Procfile")

    assert list(processes) == ["release", "web", "worker"]
    assert processes["web"] == ["gunicorn", "--config", "config/gunicorn.py", "app:app"]


def test_a_killed_child_is_started_again(supervisor: Supervisor, terminal: io.StringIO) -> None:
    supervisor.start("worker", SLEEPER)
    first = supervisor.pid_of("worker")
    assert first is not None

    os.kill(first, signal.SIGKILL)

    assert supervisor.wait_until(lambda: supervisor.pid_of("worker") not in (None, first), timeout_seconds=10)
    assert terminal.getvalue() == "worker ended (signal SIGKILL); it starts again in 0.5 s\n"


def test_what_dies_again_and_again_is_started_less_and_less_often(
    supervisor: Supervisor, terminal: io.StringIO
) -> None:
    supervisor.start("worker", [sys.executable, "-c", "raise SystemExit(3)"])

    assert supervisor.wait_until(lambda: "in 2 s" in terminal.getvalue(), timeout_seconds=20)
    assert [line.rsplit(" in ", 1)[1] for line in terminal.getvalue().splitlines()] == ["0.5 s", "1 s", "2 s"]


def test_trouble_is_one_line_at_the_terminal_and_whole_in_the_file(
    supervisor: Supervisor, terminal: io.StringIO, tmp_path: Path
) -> None:
    line = '{"event": "it failed", "level": "error", "error": "no answer\\n\\tis it there?", "at": "now"}'
    supervisor.start("worker", [sys.executable, "-c", f"print({line!r}, flush=True); import time; time.sleep(60)"])

    assert supervisor.wait_until(lambda: "failed" in terminal.getvalue(), timeout_seconds=20)
    assert terminal.getvalue() == "worker | it failed level=error error=no answer\n"
    assert "is it there?" in (tmp_path / "log").read_text()


def test_a_missing_program_is_told_and_tried_again(supervisor: Supervisor, terminal: io.StringIO) -> None:
    supervisor.start("worker", ["no-such-program"])

    assert "worker cannot start" in terminal.getvalue()
    assert "next try in 0.5 s" in terminal.getvalue()


def test_leaving_stops_children_and_their_children(tmp_path: Path, terminal: io.StringIO) -> None:
    pids = tmp_path / "pids"
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pids)!r} + '.new', 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        f"os.replace({str(pids)!r} + '.new', {str(pids)!r})\n"
        "time.sleep(600)"
    )
    with Supervisor(os.environ, tmp_path / "log", terminal=terminal) as supervisor:
        supervisor.start("web", [sys.executable, "-c", code])
        assert supervisor.wait_until(pids.exists, timeout_seconds=10)

    leader, its_child = map(int, pids.read_text().split())
    assert _gone(leader)
    _wait(lambda: _gone(its_child))


def test_a_child_that_ignores_sigterm_is_killed_in_the_end(
    tmp_path: Path, terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.supervisor.STOP_SECONDS", 0.3)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    with Supervisor(os.environ, tmp_path / "log", terminal=terminal) as supervisor:
        supervisor.start("web", [sys.executable, "-c", code])
        assert supervisor.wait_until(lambda: "deaf" in (tmp_path / "log").read_text(), timeout_seconds=10)
        pid = supervisor.pid_of("web")

    assert pid is not None
    assert _gone(pid)
    assert "web did not stop in time and is killed" in terminal.getvalue()


def test_a_signal_ends_the_waiting(supervisor: Supervisor) -> None:
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()

    with pytest.raises(Stopping):
        supervisor.wait_until(lambda: False, timeout_seconds=10)
    timer.join()


def test_output_is_kept_and_only_trouble_is_shown(
    supervisor: Supervisor, terminal: io.StringIO, tmp_path: Path
) -> None:
    code = (
        "import time\n"
        'print(\'{"event": "one.thing", "level": "info"}\')\n'
        'print(\'{"event": "bad.thing", "level": "error", "at": "now", "store": 3}\')\n'
        "print('no newline at the end', end='', flush=True)\n"
        "time.sleep(600)"
    )
    supervisor.start("web", [sys.executable, "-uc", code])
    log = tmp_path / "log"

    assert supervisor.wait_until(lambda: "bad.thing" in log.read_text(), timeout_seconds=10)
    assert "web | " in log.read_text()
    assert "one.thing" in log.read_text()
    assert terminal.getvalue() == "web | bad.thing level=error store=3\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_command_is_run_to_its_end_with_its_last_words(supervisor: Supervisor) -> None:
    ended = supervisor.run("setup", [sys.executable, "-c", "print('one'); print('two'); raise SystemExit(4)"])

    assert (ended.code, ended.last_words) == (4, ["one", "two"])


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = (
        "import os, pathlib, sys\n"
        "from gateway.supervisor import Supervisor\n"
        f"with Supervisor(os.environ, pathlib.Path({str(tmp_path / 'log')!r})) as s:\n"
        "    s.start('web', [sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"    pathlib.Path({str(pids)!r} + '.new').write_text(str(s.pid_of('web')))\n"
        f"    os.replace({str(pids)!r} + '.new', {str(pids)!r})\n"
        "    s.run_for_ever()"
    )
    outer = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    try:
        _wait(pids.exists)
        child = int(pids.read_text())
    finally:
        outer.kill()
        outer.wait()

    if sys.platform == "linux":
        _wait(lambda: _gone(child))


def test_a_database_that_dies_is_started_again_with_what_was_committed(
    tmp_path: Path, terminal: io.StringIO, durable_server: BundledServer
) -> None:
    durable_server.stop()
    with Supervisor(os.environ, tmp_path / "log", terminal=terminal, database=durable_server) as supervisor:
        url = supervisor.start_database()
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")

        durable_server.kill9()

        assert supervisor.wait_until(durable_server.running, timeout_seconds=20)
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    assert not durable_server.running()


def _wait(fact: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not fact():
        assert time.monotonic() < until, "not in 10 s"
        time.sleep(0.01)
