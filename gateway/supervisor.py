"""Keeps the Procfile's processes alive and stops them in order; the database is stopped last.

One thread does everything: the kernel ends our children when the thread that made them ends, so there is only one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any

from gateway.db.bundled import BundledServer, BundledServerError, die_with_parent

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
HEALTHY_SECONDS = 30.0
STOP_SECONDS = 20.0
LOG_BYTES = 16 * 1024 * 1024
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopping(Exception):
    """The operator asked to stop while something was being waited for."""


def read_procfile(path: Path) -> dict[str, list[str]]:
    """The processes by name, each as a list of words."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (line.split(":", 1) for line in lines if line and not line.startswith("#"))
    return {name.strip(): shlex.split(command) for name, command in pairs}


@dataclass(frozen=True)
class Ended:
    """How a command ended, with its last lines."""

    code: int
    last_words: list[str]


@dataclass
class _BackOff:
    """When what died may start again: 0.5 s, doubling to 30 s, forgotten after 30 healthy seconds."""

    pause: float = FIRST_PAUSE_SECONDS
    started: float = 0.0
    due: float = 0.0

    def note_start(self) -> None:
        self.started = time.monotonic()

    def note_end(self) -> float:
        now = time.monotonic()
        if now - self.started >= HEALTHY_SECONDS:
            self.pause = FIRST_PAUSE_SECONDS
        pause, self.pause = self.pause, min(self.pause * 2, LONGEST_PAUSE_SECONDS)
        self.due = now + pause
        return pause


@dataclass
class _Child:
    """One process of ours; `command` starts it again, `keep` says whether it should be."""

    name: str
    command: list[str]
    keep: bool
    process: subprocess.Popen[bytes] | None = None
    rest: bytes = b""
    traceback: bool = False
    last_words: deque[str] = field(default_factory=lambda: deque(maxlen=40))
    back_off: _BackOff = field(default_factory=_BackOff)


class Supervisor:
    """Starts children, forwards what they say to one log file, restarts what dies, stops all.

    Use it as a context manager in the main thread: leaving it stops everything, the database last.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        log: Path,
        *,
        database: BundledServer | None = None,
        terminal: IO[str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.environment = dict(environment)
        self.stopping = False
        self._log_path = log
        self._database = database
        self._database_back_off = _BackOff()
        self._terminal = terminal or sys.stderr
        self._folder = folder
        self._children: dict[str, _Child] = {}
        self._selector = selectors.DefaultSelector()
        self._signals_asked = 0
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Supervisor:
        self._log = self._open_log()
        self._wake, self._woken = socket.socketpair()
        for end in (self._wake, self._woken):
            end.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ)
        for number in _SIGNALS:
            self._handlers[number] = signal.signal(number, self._asked_to_stop)
        self._handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        self._old_wakeup = signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._stop_children()
            if self._database is not None:
                self._database.stop()
        finally:
            signal.set_wakeup_fd(self._old_wakeup)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._selector.close()
            self._wake.close()
            self._woken.close()
            self._log.close()

    # --- what the start uses ------------------------------------------------------------------------------------
    def start_database(self) -> str:
        """Start the bundled server and return its URL; BundledServerError when it cannot."""
        assert self._database is not None, "a supervisor without a bundled server has none to start"
        url = self._database.start()
        self._database_back_off.note_start()
        return url

    def start(self, name: str, command: list[str]) -> None:
        """Start a process and keep it alive from now on."""
        child = self._children[name] = _Child(name, command, keep=True)
        self._spawn(child)

    def run(self, name: str, command: list[str]) -> Ended:
        """Run a command to its end while the others are looked after; how it ended. Raises Stopping."""
        child = self._children[name] = _Child(name, command, keep=False)
        self._spawn(child)
        process = child.process
        self.wait_until(lambda: process is None or process.poll() is not None)
        self._reap(child)
        del self._children[name]
        return Ended(1 if process is None else process.returncode, list(child.last_words))

    def wait_until(
        self, fact: Callable[[], bool], *, timeout_seconds: float | None = None, every: float = 0.05
    ) -> bool:
        """Look after the processes until the fact holds; False after the timeout. Raises Stopping when told to stop."""
        until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while not fact():
            if self.stopping:
                raise Stopping
            if until is not None and time.monotonic() > until:
                return False
            self._look_after(every)
        return True

    def run_for_ever(self) -> None:
        """Look after the processes until the operator asks to stop."""
        with contextlib.suppress(Stopping):
            self.wait_until(lambda: False, every=1.0)

    def pid_of(self, name: str) -> int | None:
        """The process id of a running child."""
        process = self._children[name].process if name in self._children else None
        return process.pid if process is not None and process.poll() is None else None

    # --- looking after ------------------------------------------------------------------------------------------
    def _look_after(self, timeout: float) -> None:
        for key, _ in self._selector.select(self._shortest_wait(timeout)):
            if key.fileobj is self._wake:
                with contextlib.suppress(BlockingIOError):
                    while self._wake.recv(4096):
                        pass
            else:
                self._forward(key.data, key.fd)
        for child in list(self._children.values()):
            self._check(child)
        self._check_database()

    def _shortest_wait(self, timeout: float) -> float:
        due = [child.back_off.due for child in self._children.values() if child.keep and child.process is None]
        return max(0.0, min([timeout, *(moment - time.monotonic() for moment in due)]))

    def _check(self, child: _Child) -> None:
        if child.process is not None and child.process.poll() is not None and child.keep:
            code = child.process.returncode
            self._reap(child)
            if not self.stopping:
                pause = child.back_off.note_end()
                self._say(f"{child.name} ended ({_ending(code)}); it starts again in {pause:g} s")
        if child.process is None and child.keep and not self.stopping and time.monotonic() >= child.back_off.due:
            self._spawn(child)

    def _check_database(self) -> None:
        server, back_off = self._database, self._database_back_off
        if server is None or self.stopping or not back_off.started or server.running():
            return
        if back_off.due <= back_off.started:
            self._say(f"PostgreSQL ended; it starts again in {back_off.note_end():g} s")
        if time.monotonic() < back_off.due:
            return
        try:
            server.start()
            back_off.note_start()
        except BundledServerError as error:
            self._say(f"{error} Trying again in {back_off.note_end():g} s.")

    def _spawn(self, child: _Child) -> None:
        child.back_off.note_start()
        command = list(child.command)
        command[0] = shutil.which(command[0], path=self.environment.get("PATH")) or command[0]
        try:
            child.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self._folder,
                # A session of its own keeps the terminal's Ctrl-C from reaching it before its time.
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
        except OSError as error:
            pause = child.back_off.note_end()
            self._say(f"{child.name} cannot start: {error}" + (f"; next try in {pause:g} s" if child.keep else ""))
            return
        assert child.process.stdout is not None
        os.set_blocking(child.process.stdout.fileno(), False)
        self._selector.register(child.process.stdout, selectors.EVENT_READ, child)

    def _reap(self, child: _Child) -> None:
        """Take the last words, and end what the process left in its group."""
        process, child.process = child.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(process.stdout)
            self._forward(child, process.stdout.fileno(), to_the_end=True)
            process.stdout.close()

    # --- stopping -----------------------------------------------------------------------------------------------
    def _asked_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True
        self._signals_asked += 1

    def _stop_children(self) -> None:
        """TERM to all, KILL after 20 s or at the second Ctrl-C."""
        self.stopping = True
        already = self._signals_asked
        for child in self._running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid(child), signal.SIGTERM)
        until = time.monotonic() + STOP_SECONDS
        while any(True for _ in self._running()):
            if time.monotonic() > until or self._signals_asked > max(already, 1):
                for child in self._running():
                    self._say(f"{child.name} did not stop in time and is killed")
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(self._pid(child), signal.SIGKILL)
            self._look_after(0.1)
        for child in list(self._children.values()):
            self._reap(child)

    def _running(self) -> Iterator[_Child]:
        return (child for child in self._children.values() if child.process and child.process.poll() is None)

    @staticmethod
    def _pid(child: _Child) -> int:
        return child.process.pid if child.process else 0

    # --- what they say --------------------------------------------------------------------------------------------
    def _forward(self, child: _Child, descriptor: int, *, to_the_end: bool = False) -> None:
        try:
            while chunk := os.read(descriptor, 65536):
                *lines, child.rest = (child.rest + chunk).split(b"\n")
                for line in lines:
                    self._write(child, line)
        except BlockingIOError:
            pass
        else:
            with contextlib.suppress(KeyError):
                self._selector.unregister(descriptor)
        if to_the_end and child.rest:
            self._write(child, child.rest)
            child.rest = b""

    def _write(self, child: _Child, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if not text:
            return
        child.last_words.append(text)
        self._to_log(f"{child.name} | {text}")
        # What a command of the start says, its failure's sentence tells.
        if _is_trouble(child, text) and child.keep:
            self._to_terminal(f"{child.name} | {_shown(text)}")

    def _say(self, text: str) -> None:
        self._to_log(f"supervisor | {text}")
        self._to_terminal(text)

    def _to_terminal(self, text: str) -> None:
        # A closed terminal must not end what it showed.
        with contextlib.suppress(OSError, ValueError):
            print(text, file=self._terminal, flush=True)

    def _to_log(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a full disk stops the log, not the gateway
            self._log.write(text.encode(errors="replace") + b"\n")
            if self._log.tell() > LOG_BYTES:
                self._log.close()
                self._log = self._open_log()

    def _open_log(self) -> IO[bytes]:
        path = self._log_path
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))
        return open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab", buffering=0)


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return f"signal {signal.Signals(-code).name}"


def _is_trouble(child: _Child, text: str) -> bool:
    """Whether a person at the terminal should see the line: a warning, an error, a traceback's last line."""
    if text.startswith("{"):
        child.traceback = False
        with contextlib.suppress(ValueError):
            return str(json.loads(text).get("level", "")).lower() in {"warning", "error", "critical"}
    if text.startswith("Traceback "):
        child.traceback = True
        return False
    if child.traceback:
        child.traceback = text.startswith(" ")
        return not child.traceback  # the line after the frames is the error itself
    return re.search(r"\b(WARNING|ERROR|CRITICAL|FATAL|PANIC)\b|^Error\b|\bError:", text) is not None


def _shown(text: str) -> str:
    """A JSON line in words: its event and ids, the first line of each; the file keeps the whole."""
    try:
        facts = json.loads(text)
        event = facts.pop("event")
    except (ValueError, KeyError, AttributeError, TypeError):
        return text
    rest = {name: value for name, value in facts.items() if name not in {"at", "logger", "exception", "stack"}}
    told = {name: str(value).strip().partition("\n")[0] for name, value in {"": event, **rest}.items()}
    return " ".join(f"{name}={value}" if name else value for name, value in told.items())
