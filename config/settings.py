"""Everything an operator can set: read once from the environment, checked as a whole, never changed afterwards."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from environs import EnvValidationError, FileAwareEnv
from marshmallow import ValidationError

MEBIBYTE = 1024 * 1024
MASKED = "********"
_SCHEMES = ("postgresql://", "postgres://", "postgresql+psycopg://")


class SettingsError(click.ClickException):
    """A setting is missing or wrong; the message names every one of them and is fit for an operator.

    click's, so that every command tells it in one sentence and not in a traceback.
    """


def _postgresql_url(value: str) -> None:
    if not value.startswith(_SCHEMES):
        raise ValidationError("must begin with postgresql://")


def _web_url(value: str) -> None:
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018 - reading the port is what checks it
    except ValueError:
        raise ValidationError("is not a URL") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValidationError("must begin with http:// or https:// and name a host")
    if parts.query or parts.fragment:
        raise ValidationError("must not have a query or a fragment")


def _smtp_url(value: str) -> None:
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018 - reading the port is what checks it
    except ValueError:
        raise ValidationError("is not a URL") from None
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname:
        raise ValidationError("must begin with smtp:// or smtps:// and name a host")


def _shop_url(value: str) -> None:
    if "{shop}" not in value:
        raise ValidationError("must contain {shop}, where the shop's domain belongs")
    _web_url(value.replace("{shop}", "shop.example"))


def _port(value: int) -> None:
    if not 1 <= value <= 65535:
        raise ValidationError("must be between 1 and 65535")


def _body_limit(value: int) -> None:
    # Below 64 KiB ordinary orders would be refused; a process holds at most 64 MiB of bodies at a time.
    if not 64 * 1024 <= value <= 64 * MEBIBYTE:
        raise ValidationError(f"must be between {64 * 1024} and {64 * MEBIBYTE}")


def _months(value: int) -> None:
    # What is parked or dead is kept for 14 days, and a platform retries for a day at most.
    if not 1 <= value <= 120:
        raise ValidationError("must be between 1 and 120")


def _days(value: int) -> None:
    if not 1 <= value <= 3650:
        raise ValidationError("must be between 1 and 3650")


def _long_enough(value: str) -> None:
    if len(value) < 32:
        raise ValidationError("must have at least 32 characters; make one with: openssl rand -hex 32")


def _encryption_keys(value: str) -> None:
    ids = []
    for entry in value.split(","):
        key_id, colon, key = entry.strip().partition(":")
        try:
            length = len(base64.urlsafe_b64decode(key.encode()))
        except (binascii.Error, UnicodeEncodeError):
            length = 0
        if not (key_id and colon and length == 32):
            raise ValidationError("must be <key id>:<Fernet key>, several separated by commas, the first one encrypts")
        ids.append(key_id)
    if len(set(ids)) != len(ids):
        raise ValidationError("names a key id twice")


def _setting(
    default: Any, about: str, *, secret: bool = False, check: Callable[[Any], None] | None = None
) -> Any:  # in truth a Field, as with dataclasses.field, which type checkers know to be special
    metadata = {"about": about, "secret": secret, "check": check}
    return dataclasses.field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is in force. A field's name in capitals is its variable; each can also come from a file as NAME_FILE."""

    database_url: str = _setting(
        "", "PostgreSQL 18 or newer; empty: the bundled server", secret=True, check=_postgresql_url
    )
    data_dir: Path | None = _setting(None, "where the bundled server's data, keys and logs are kept")  # noqa: RUF009 - a Field is no default
    port: int = _setting(8000, "the port that the gateway listens on", check=_port)
    secret_key: str = _setting("", "signs cookies and form tokens", secret=True, check=_long_enough)
    encryption_keys: str = _setting(
        "",
        "<key id>:<Fernet key>, comma-separated; the first one encrypts",
        secret=True,
        check=_encryption_keys,
    )
    public_url: str = _setting("", "where platforms and people reach the gateway", check=_web_url)
    shopify_client_id: str = _setting("", "the Shopify app's client id")
    shopify_client_secret: str = _setting("", "the Shopify app's client secret", secret=True)
    shopify_client_secret_previous: str = _setting("", "the secret before, while it is being rotated", secret=True)
    shopify_admin_url: str = _setting("https://{shop}/admin", "where a shop's Admin API is", check=_shop_url)
    shopify_api_webhooks: bool = _setting(
        False, "make webhooks in each shop by the Admin API, for an app without shopify.app.toml"
    )
    etsy_keystring: str = _setting("", "the Etsy app's keystring")
    etsy_shared_secret: str = _setting("", "the Etsy app's shared secret", secret=True)
    etsy_webhook_secrets: tuple[str, ...] = _setting(
        (), "signing secrets of Etsy's webhooks, comma-separated", secret=True
    )
    etsy_api_url: str = _setting("https://api.etsy.com/v3", "where Etsy's API is", check=_web_url)
    etsy_connect_url: str = _setting(
        "https://www.etsy.com/oauth/connect", "where a merchant grants access to Etsy", check=_web_url
    )
    allow_private_store_urls: bool = _setting(False, "let stores have private addresses (never on a public gateway)")
    max_body_bytes: int = _setting(10 * MEBIBYTE, "a longer webhook body is answered 413", check=_body_limit)
    body_months: int = _setting(
        3, "for how many months after the current one webhooks' raw bodies are kept; deliveries stay", check=_months
    )
    report_days: int = _setting(
        90, "for how many days a sync's report on single orders is kept; its line and counters stay", check=_days
    )
    erasure_ledger: Path | None = _setting(  # noqa: RUF009 - a Field is no default
        None, "where erasures are noted, so that they are done again after a restore; else DATA_DIR/erasures.jsonl"
    )
    metrics_token: str = _setting(
        "", "who brings it as a bearer token may read /metrics; empty: there is none", secret=True, check=_long_enough
    )
    sign_up: bool = _setting(False, "let strangers open accounts; their addresses are proven by mail (needs SMTP_URL)")
    smtp_url: str = _setting(
        "",
        "smtp://user:password@host:port, or smtps://; empty: mails can be read under Settings, Users",
        secret=True,
        check=_smtp_url,
    )
    test_database_url: str = _setting(
        "", "a server for the tests instead of a bundled one", secret=True, check=_postgresql_url
    )

    def __post_init__(self) -> None:
        public = self.public_url or f"http://127.0.0.1:{self.port}"
        object.__setattr__(self, "public_url", public.rstrip("/"))
        if self.erasure_ledger is None and self.data_dir is not None:
            object.__setattr__(self, "erasure_ledger", self.data_dir / "erasures.jsonl")

    @property
    def sqlalchemy_url(self) -> str:
        """DATABASE_URL as SQLAlchemy wants it, with psycopg 3 as the driver; SettingsError when it is not set."""
        return "postgresql+psycopg://" + self._after_scheme()

    @property
    def libpq_url(self) -> str:
        """DATABASE_URL as psycopg and PostgreSQL's tools want it; SettingsError when it is not set."""
        return "postgresql://" + self._after_scheme()

    def _after_scheme(self) -> str:
        if not self.database_url:
            raise SettingsError(
                "DATABASE_URL is not set; set it to a PostgreSQL 18 server,"
                " or start the bundled one with: python3 -m gateway run"
            )
        return self.database_url.split("://", 1)[1]

    def check_for_serving(self) -> None:
        """Return when a web or worker process has what it needs, else raise SettingsError that names all it lacks."""
        if self.sign_up and not self.smtp_url:
            raise SettingsError("SIGN_UP needs SMTP_URL: an account is opened with a link that is mailed")
        if self.secret_key and self.secret_key in (self.shopify_client_secret, self.shopify_client_secret_previous):
            # A cookie's signature could be handed in as a webhook's (Shopify sheet, section 7, trap 4).
            raise SettingsError("SECRET_KEY is Shopify's client secret; set it to a value of its own")
        needed = ("database_url", "secret_key", "encryption_keys")
        if missing := [name.upper() for name in needed if not getattr(self, name)]:
            raise SettingsError(
                f"{' and '.join(missing)} not set; set {'it' if len(missing) == 1 else 'them'},"
                " or start everything with: python3 -m gateway run"
            )

    def in_force(self) -> dict[str, str]:
        """Every variable with its value as text, secrets masked: safe to print."""
        return {field.name.upper(): self._printable(field) for field in dataclasses.fields(self)}

    def _printable(self, field: dataclasses.Field[Any]) -> str:
        value = getattr(self, field.name)
        if value in ("", (), None):
            return ""
        return MASKED if field.metadata["secret"] else str(value)


class _Environment(FileAwareEnv):
    """environs over the given mapping; a file's trailing newline is not part of the value, empty means not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(eager=False)
        self._given = environ

    def _get_value(self, env_key: str, default: Any) -> Any:
        path = self._given.get(f"{env_key}{self.file_suffix}")
        if path and self._given.get(env_key):
            self._errors[env_key].append(f"is set twice, also as {env_key}_FILE")
        if path:
            try:
                return Path(path).read_text(encoding="utf-8").rstrip("\r\n") or default
            except (OSError, UnicodeDecodeError):
                self._errors[f"{env_key}_FILE"].append(f"names a file that cannot be read: {path}")
                return default
        return self._given.get(env_key) or default


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read and check every setting; raises one SettingsError that names all that is wrong, without their values."""
    env = _Environment(environ)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(Settings):
        match field.default:
            case bool():
                read: Callable[..., Any] = env.bool
            case int():
                read = env.int
            case tuple():
                read = env.list
            case None:
                read = env.path
            case _:
                read = env.str
        values[field.name] = read(field.name.upper(), field.default, validate=field.metadata["check"])
    try:
        env.seal()
    except EnvValidationError as error:
        raise SettingsError(_sentence(error.error_messages)) from None
    values["etsy_webhook_secrets"] = tuple(filter(None, (one.strip() for one in values["etsy_webhook_secrets"])))
    return Settings(**values)


def _sentence(errors: Any) -> str:
    """One message for all errors; never with a value, which may be a secret."""
    texts = [(name, text.rstrip(".")) for name in errors for text in errors[name]]
    wrong = [f"{name} {text.replace('Not a valid', 'is not a valid')}" for name, text in texts]
    return "The settings are wrong: " + "; ".join(wrong) + "."
