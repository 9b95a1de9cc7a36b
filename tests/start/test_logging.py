"""Logs: one line per fact, and no secret, person or payload in any of them."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from config.logging import MASKED, configure_logging


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Logging as a process of ours has it, into this text; as it was before afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    text = io.StringIO()
    configure_logging(stream=text, json=True)
    yield text
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def _only(text: io.StringIO) -> dict[str, object]:
    (line,) = text.getvalue().splitlines()
    found: dict[str, object] = json.loads(line)
    return found


def test_a_fact_is_one_json_line_with_its_event_and_ids(lines: io.StringIO) -> None:
    structlog.get_logger("webhooks.apply").info("delivery.applied", delivery=12, outcome="stale", ms=3)

    line = _only(lines)
    assert (line["event"], line["delivery"], line["outcome"], line["level"]) == (
        "delivery.applied",
        12,
        "stale",
        "info",
    )


@pytest.mark.parametrize(
    "key",
    ["authorization", "api_token", "client_secret", "password", "x_hmac_signature", "customer_email", "body", "raw",
     "request_headers", "shipping_address", "phone", "Cookie", "payload"],
)  # fmt: skip
def test_a_telling_key_is_masked_at_any_depth(lines: io.StringIO, key: str) -> None:
    log = structlog.get_logger("gateway.x")

    log.info("one.thing", **{key: "GEHEIM"}, inner={"list": [{key: "GEHEIM"}]})

    assert "GEHEIM" not in lines.getvalue()
    assert _only(lines)[key] == MASKED


def test_ids_and_counts_stay_readable(lines: io.StringIO) -> None:
    structlog.get_logger("gateway.x").info("one.thing", token_id=7, body_bytes=4096, draws=3)

    line = _only(lines)
    assert (line["token_id"], line["body_bytes"], line["draws"]) == (7, 4096, 3)


def test_free_text_of_a_library_is_cleaned(lines: io.StringIO) -> None:
    logging.getLogger("urllib3").warning(
        "Retrying /admin/orders.json?access=GEHEIM for anna@shop.example with Bearer GEHEIMGEHEIM at %s",
        "postgresql://me:GEHEIM@host/db",
    )

    assert "GEHEIM" not in lines.getvalue()
    assert "anna@" not in lines.getvalue()
    assert "/admin/orders.json?[masked]" in lines.getvalue()


def test_a_traceback_does_not_repeat_the_row_that_failed(lines: io.StringIO) -> None:
    try:
        raise ValueError(
            "duplicate key\nDETAIL:  Key (email)=(GEHEIM) exists.\n[SQL: INSERT]\n[parameters: {'name': 'GEHEIM'}]"
        )
    except ValueError:
        structlog.get_logger("gateway.x").exception("store.failed")

    assert "GEHEIM" not in str(_only(lines)["exception"]).split("ValueError", 1)[1]


def test_libraries_speak_from_warning_on(lines: io.StringIO) -> None:
    for name in ("urllib3", "procrastinate", "sqlalchemy.engine", "gunicorn.error", "alembic"):
        logging.getLogger(name).info("chatter")

    assert lines.getvalue() == ""


def test_a_terminal_gets_readable_lines() -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    text = io.StringIO()

    configure_logging(stream=text, json=False)
    structlog.get_logger("gateway.x").info("delivery.applied", delivery=12, token="GEHEIM")
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()

    assert "event=delivery.applied delivery=12 token=[masked]" in text.getvalue()
