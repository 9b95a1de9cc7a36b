"""`flask user create` and `flask user list`."""

from __future__ import annotations

import pytest

from tests.web.conftest import log_in


@pytest.fixture
def command(application, database, tmp_path):
    def run(*words: str, password: str = "a long password", token: str = "gw_one"):
        (tmp_path / "password").write_text(f"{password}\n")
        (tmp_path / "token").write_text(f"{token}\n")
        named = [word.replace("PASSWORD", str(tmp_path / "password")).replace("TOKEN", str(tmp_path / "token"))
                 for word in words]  # fmt: skip
        return application.test_cli_runner().invoke(args=["user", *named])

    return run


CREATE = ("create", "Demo@example.com", "--account", "Demo", "--role", "owner", "--password-file", "PASSWORD",
          "--api-token-file", "TOKEN", "--exist-ok")  # fmt: skip


def works(application, token):
    headers = {"Authorization": f"Bearer {token}"}
    return application.test_client().get("/api/v1/stores", headers=headers).status_code == 200


def test_the_user_can_log_in_and_the_token_works(application, command, anonymous):
    assert command(*CREATE).exit_code == 0

    assert log_in(anonymous, "demo@example.com", "a long password").status_code == 302
    assert works(application, "gw_one")


def test_again_it_changes_nothing(command, world, application):
    command(*CREATE)
    before = world.sql("SELECT id, password_hash FROM users")

    assert command(*CREATE).exit_code == 0

    assert world.sql("SELECT id, password_hash FROM users") == before
    assert works(application, "gw_one")
    assert len(world.sql("SELECT 1 FROM api_tokens")) == 1


def test_new_files_win_and_what_was_before_ends(application, command, anonymous):
    command(*CREATE)
    log_in(anonymous, "demo@example.com", "a long password")

    command(*CREATE, password="another password", token="gw_two")

    assert anonymous.get("/orders").status_code == 302
    assert log_in(anonymous, "demo@example.com", "another password").status_code == 302
    assert works(application, "gw_two")
    assert not works(application, "gw_one")


def test_without_exist_ok_a_second_one_is_refused(command):
    command(*CREATE)

    answer = command(*CREATE[:-1])

    assert answer.exit_code == 1
    assert "There is a user Demo@example.com already" in answer.output


def test_a_user_of_another_account_is_not_moved(command):
    command(*CREATE)

    answer = command(*["Other" if word == "Demo" else word for word in CREATE])

    assert answer.exit_code == 1
    assert "belongs to another account" in answer.output


def test_a_short_password_and_no_address_are_refused(command, world):
    assert "at least 10 characters" in command(*CREATE, password="short").output
    assert "is not an e-mail address" in command(*["demo" if "@" in word else word for word in CREATE]).output
    assert world.sql("SELECT 1 FROM users") == []


def test_the_list_names_everybody(command):
    command(*CREATE)

    assert "demo@example.com\tDemo\towner" in command("list").output
