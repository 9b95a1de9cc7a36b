"""`run`'s refusals, each one sentence, and what it makes once and keeps."""

import base64
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import load_settings
from gateway import run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir(mode=0o700)
    (made / "lock").touch()
    return made


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def _run(monkeypatch: pytest.MonkeyPatch, **environ: object) -> int:
    for name in ("DATABASE_URL", "PORT", "DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, str(value))
    return run.main([])


def test_a_second_start_says_where_the_first_one_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "running.json").write_text('{"address": "http://127.0.0.1:8123", "environment": {}}')
    with open(folder / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        code = _run(monkeypatch, DATA_DIR=folder)

    assert code == 1
    assert capsys.readouterr().err == (
        f"The gateway already runs at http://127.0.0.1:8123, with its data in {folder};"
        " stop it there with Ctrl-C first.\n"
    )


def test_a_taken_port_is_told_with_one_that_is_free(
    folder: Path, taken_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = _run(monkeypatch, DATA_DIR=folder, PORT=taken_port)

    assert code == 1
    told = capsys.readouterr().err
    assert told.startswith(f"Port {taken_port} is taken; use PORT=")
    assert told.endswith(" python3 -m gateway run\n")


def test_a_folder_with_other_things_in_it_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "letters.txt").touch()

    code = _run(monkeypatch, DATA_DIR=tmp_path)

    assert code == 1
    assert "holds other things; set DATA_DIR to an empty or a new folder." in capsys.readouterr().err
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_file_in_the_folders_place_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()

    assert _run(monkeypatch, DATA_DIR=tmp_path / "file" / "data") == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_wrong_settings_are_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(monkeypatch, PORT="many", DATABASE_URL="mysql://x") == 1
    assert capsys.readouterr().err == (
        "The settings are wrong: DATABASE_URL must begin with postgresql://; PORT is not a valid integer.\n"
    )


def test_a_database_that_does_not_answer_is_one_sentence_without_its_password(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = _run(monkeypatch, DATA_DIR=folder, DATABASE_URL="postgresql://me:geheim@127.0.0.1:1/orders")

    assert code == 1
    told = capsys.readouterr().err
    assert told.startswith("The database that DATABASE_URL names cannot be used: ")
    assert told.count("\n") == 1
    assert "geheim" not in told


def test_keys_password_and_ports_are_made_once_in_files_for_us_alone(folder: Path) -> None:
    settings = load_settings({"PORT": str(_free_port())})

    first = run._prepare(settings, folder)
    second = run._prepare(settings, folder)

    assert first == second
    made = ("secret-key", "encryption-keys", "demo-password", "demo-api-token", "sandbox-port")
    assert {name: (folder / name).stat().st_mode & 0o777 for name in made} == dict.fromkeys(made, 0o600)
    assert first.password not in repr(first.address)


def test_made_keys_are_what_the_settings_accept() -> None:
    key = run._new_encryption_key()

    assert load_settings({"ENCRYPTION_KEYS": key}).encryption_keys == key
    key_id, _, fernet = key.partition(":")
    assert len(key_id) == 8
    assert len(base64.urlsafe_b64decode(fernet)) == 32


def test_what_the_operator_set_is_not_overridden(folder: Path) -> None:
    demo = run._prepare(load_settings({"PORT": str(_free_port())}), folder)

    added = run._additions(demo, {"PUBLIC_URL": "https://orders.example", "SECRET_KEY_FILE": "/run/key"})

    assert "PUBLIC_URL" not in added
    assert "SECRET_KEY_FILE" not in added
    assert added["ENCRYPTION_KEYS_FILE"] == str(folder / "encryption-keys")
    assert demo.password not in str(added)


def test_a_command_finds_the_running_gateway_and_nothing_when_none_runs(folder: Path) -> None:
    (folder / "running.json").write_text(
        '{"address": "http://127.0.0.1:8123", "environment": {"DATABASE_URL": "postgresql://x/y", "PORT": "8123"}}'
    )
    environ = {"DATA_DIR": str(folder), "PORT": "9000"}

    assert run.environment_of_running(environ) == {}
    with open(folder / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run.environment_of_running(environ) == {"DATABASE_URL": "postgresql://x/y"}


def test_the_data_folder_is_private_to_its_project(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run.data_folder({"DATA_DIR": "/somewhere"}) == Path("/somewhere")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run.data_folder({}) == run.ROOT / "var"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert run.data_folder({}).parent == Path("/var/lib/order-gateway")
    assert len(run.data_folder({}).name) == 12


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
