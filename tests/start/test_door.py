"""`python3 -m gateway`: the stamp, the wrong Python, and what a person is told."""

import ast
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
LEVELS = ("requirements.txt", "requirements-demo.txt", "requirements-dev.txt")


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """gateway/__main__.py for a project that has pins and nothing else."""
    spec = importlib.util.spec_from_file_location("door", ROOT / "gateway" / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for level in LEVELS:
        (tmp_path / level).write_text(f"# {level}\n")
    venv = tmp_path / ".venv"
    for name, path in (
        ("ROOT", tmp_path),
        ("VENV", venv),
        ("STAMP", venv / "gateway-stamp.json"),
        ("MAKING", venv / "gateway-making"),
    ):
        monkeypatch.setattr(module, name, str(path))
    return module


def _made(door: ModuleType, level: str) -> None:
    python = Path(door.venv_python())
    python.parent.mkdir(parents=True, exist_ok=True)
    python.touch()
    Path(door.MAKING).touch()
    door._write_stamp(level)


def test_the_door_is_readable_for_an_old_python() -> None:
    ast.parse((ROOT / "gateway" / "__main__.py").read_text(), feature_version=(3, 6))


def test_the_door_imports_the_standard_library_only() -> None:
    tree = ast.parse((ROOT / "gateway" / "__main__.py").read_text())
    at_the_top = {
        alias.name.split(".")[0] for node in tree.body if isinstance(node, ast.Import) for alias in node.names
    }

    assert at_the_top <= sys.stdlib_module_names
    assert not [node for node in tree.body if isinstance(node, ast.ImportFrom)]


def test_nothing_is_ready_without_a_stamp(door: ModuleType) -> None:
    assert not door.is_ready("requirements.txt")


def test_a_larger_set_serves_the_smaller_ones_but_not_the_other_way(door: ModuleType) -> None:
    _made(door, "requirements-demo.txt")

    assert [door.is_ready(level) for level in LEVELS] == [True, True, False]


def test_a_changed_pin_asks_for_a_new_install(door: ModuleType) -> None:
    _made(door, "requirements-dev.txt")

    Path(door.ROOT, "requirements.txt").write_text("# changed\n")

    assert not door.is_ready("requirements.txt")


def test_another_python_or_folder_asks_for_a_new_venv(door: ModuleType) -> None:
    _made(door, "requirements.txt")
    stamp = json.loads(Path(door.STAMP).read_text())
    stamp["python"][0] = "cpython-39"
    Path(door.STAMP).write_text(json.dumps(stamp))

    assert not door.is_ready("requirements.txt")


def test_an_install_that_was_killed_is_not_ready(door: ModuleType) -> None:
    _made(door, "requirements.txt")

    Path(door.MAKING).touch()

    assert not door.is_ready("requirements.txt")


@pytest.mark.parametrize(
    ("command", "level"),
    [
        ("run", "requirements-demo.txt"),
        ("sandbox", "requirements-demo.txt"),
        ("test", "requirements-dev.txt"),
        ("bench", "requirements-dev.txt"),
        ("user", "requirements.txt"),
    ],
)
def test_a_command_installs_what_it_needs_and_no_more(door: ModuleType, command: str, level: str) -> None:
    assert door.level_of(command) == level


def test_an_old_python_gets_one_sentence(
    door: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(door.shutil, "which", lambda name: None)
    stand_in = SimpleNamespace(version_info=(3, 9, 2), executable="/usr/bin/python3", stderr=sys.stderr)
    monkeypatch.setattr(door, "sys", stand_in)

    assert door.main(["run"]) == 1
    assert capsys.readouterr().err == (
        "The gateway needs Python 3.11 or newer and this is 3.9.2 (/usr/bin/python3);"
        " install one, for example: apt install python3.11\n"
    )


def test_a_python_without_ensurepip_gets_the_line_that_installs_it_and_no_half_venv(
    door: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(door.importlib.util, "find_spec", lambda name: None)

    assert door.main(["run"]) == 1
    assert "venv" in capsys.readouterr().err
    assert not os.path.exists(door.VENV)


def test_without_a_command_the_help_names_the_commands(door: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert door.main([]) == 0
    assert "python3 -m gateway run " in capsys.readouterr().out
