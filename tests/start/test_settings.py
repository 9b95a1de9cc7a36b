"""Settings: all errors at once, secrets from files, nothing secret in what is printed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.settings import MASKED, SettingsError, load_settings

ROOT = Path(__file__).parents[2]
KEY = "ab12cd34:" + "A" * 43 + "="


def test_without_an_environment_every_setting_has_its_default() -> None:
    settings = load_settings({})

    assert settings.port == 8000
    assert settings.public_url == "http://127.0.0.1:8000"
    assert settings.max_body_bytes == 10 * 1024 * 1024
    assert settings.allow_private_store_urls is False
    assert settings.etsy_webhook_secrets == ()


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_database_url_of_any_spelling_becomes_both_forms(scheme: str) -> None:
    settings = load_settings({"DATABASE_URL": f"{scheme}://me@host/orders?sslmode=require"})

    assert settings.sqlalchemy_url == "postgresql+psycopg://me@host/orders?sslmode=require"
    assert settings.libpq_url == "postgresql://me@host/orders?sslmode=require"


def test_a_secret_comes_from_a_file_without_its_newline(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("s3cret value \n")

    settings = load_settings({"SHOPIFY_CLIENT_SECRET_FILE": str(file)})

    assert settings.shopify_client_secret == "s3cret value "


def test_an_empty_variable_is_an_unset_one() -> None:
    assert load_settings({"PORT": "", "DATABASE_URL": ""}) == load_settings({})


def test_webhook_secrets_are_separated_by_commas() -> None:
    settings = load_settings({"ETSY_WEBHOOK_SECRETS": "one, two,"})

    assert settings.etsy_webhook_secrets == ("one", "two")


def test_every_wrong_setting_is_named_in_one_message_without_its_value() -> None:
    wrong = {
        "DATABASE_URL": "mysql://me:geheim@host/db",
        "PORT": "70000",
        "PUBLIC_URL": "ftp://geheim",
        "ENCRYPTION_KEYS": "geheim",
        "SECRET_KEY": "geheim",
        "MAX_BODY_BYTES": "many",
        "ALLOW_PRIVATE_STORE_URLS": "perhaps",
        "SHOPIFY_ADMIN_URL": "https://shop.example/admin",
        "SMTP_URL_FILE": "/nowhere/at/all",
    }

    with pytest.raises(SettingsError) as caught:
        load_settings(wrong)

    message = str(caught.value)
    assert [name for name in wrong if name not in message] == []
    assert "geheim" not in message
    assert "\n" not in message


def test_a_setting_given_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("x" * 32)

    with pytest.raises(SettingsError, match="SECRET_KEY is set twice, also as SECRET_KEY_FILE"):
        load_settings({"SECRET_KEY": "y" * 32, "SECRET_KEY_FILE": str(file)})


def test_no_secret_is_in_the_repr_or_in_what_doctor_prints() -> None:
    settings = load_settings(
        {"DATABASE_URL": "postgresql://me:geheim@host/db", "SECRET_KEY": "geheim" * 8, "ENCRYPTION_KEYS": KEY}
    )

    assert "geheim" not in repr(settings)
    assert KEY not in repr(settings)
    assert settings.in_force()["SECRET_KEY"] == MASKED
    assert "geheim" not in str(settings.in_force())


def test_shopifys_secret_signs_no_cookies() -> None:
    given = {"DATABASE_URL": "postgresql://h/d", "ENCRYPTION_KEYS": KEY, "SECRET_KEY": "s" * 40}

    with pytest.raises(SettingsError, match="SECRET_KEY is Shopify's client secret"):
        load_settings({**given, "SHOPIFY_CLIENT_SECRET": "s" * 40}).check_for_serving()
    load_settings({**given, "SHOPIFY_CLIENT_SECRET": "t" * 40}).check_for_serving()


def test_what_serving_needs_is_named_when_it_is_missing() -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL and ENCRYPTION_KEYS not set"):
        load_settings({"SECRET_KEY": "x" * 32}).check_for_serving()


@pytest.mark.parametrize("keys", ["noid", ":" + KEY[9:], KEY + "," + KEY, "id:short", KEY + ","])
def test_malformed_encryption_keys_are_refused(keys: str) -> None:
    with pytest.raises(SettingsError, match="ENCRYPTION_KEYS"):
        load_settings({"ENCRYPTION_KEYS": keys})


def test_a_command_without_settings_says_in_one_sentence_what_is_missing() -> None:
    environment = {"PATH": os.environ["PATH"]}
    words = [sys.executable, "-m", "flask", "--app", "app:create_app", "stores", "list"]
    done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: DATABASE_URL and SECRET_KEY and ENCRYPTION_KEYS not set; set them,"
        " or start everything with: python3 -m gateway run\n"
    )
