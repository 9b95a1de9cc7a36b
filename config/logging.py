"""One line per fact: an event's name and ids, never a payload, a secret or a person's data.

JSON where a program reads (not a terminal), key=value where a person does. What libraries log through the standard
library comes out the same way, from WARNING on.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Mapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

MASKED = "[masked]"
OURS = ("app", "backfill", "config", "gateway", "webhooks")

_TELLING = re.compile(
    r"authorization|cookie|token|secret|passw|signature|hmac|credential|api_?key|access_?key|private_?key"
    r"|e_?mail|phone|customer|address|body|payload|headers|\braw",
    re.IGNORECASE,
)
_HARMLESS = re.compile(r"_(id|ids|count|bytes|digest|kind|ms|seconds)$|^(remote_)?address_family$", re.IGNORECASE)

# In free text (a library's message, a traceback) keys do not help; these are the shapes that secrets and people have.
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"[\w.+%-]+@[\w-]+(\.[\w-]+)+"), "[e-mail]"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), r"\1 [masked]"),
    (re.compile(r"\b(shp(at|ca|ss|ua|pa)|ck|cs)_[0-9a-zA-Z]{8,}"), MASKED),
    (re.compile(r"(://[^\s/:@]*):[^\s/@]+@"), r"\1:[masked]@"),
    (re.compile(r"(/[^\s?\"']*|://[^\s?\"']+)\?[^\s\"')]+"), r"\1?[masked]"),
    # PostgreSQL's DETAIL and SQLAlchemy's parameters repeat the row that failed.
    (re.compile(r"(?m)^(\s*(?:\S+: )?DETAIL:).*$"), r"\1 [masked]"),
    (re.compile(r"(?s)\[parameters: .*?\]\s*(?=\n\(Background|\n\S|\Z)"), "[parameters: [masked]]"),
)


def masked_text(text: str) -> str:
    """The text without e-mail addresses, bearer tokens, passwords in URLs, query strings and row values."""
    for shape, instead in _SHAPES:
        text = shape.sub(instead, text)
    return text


def way_to(error: BaseException) -> str:
    """What went wrong and the way there through our code; an error's own words may repeat what an order says."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    way = " > ".join(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in frames[-4:])
    return f"{type(error).__name__} at {way}"


def mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """structlog processor: hide the value of every telling key, at any depth, and clean free text."""
    return {key: _masked(key, value) for key, value in event.items()}


def _masked(key: str, value: Any) -> Any:
    if _TELLING.search(key) and not _HARMLESS.search(key) and value not in (None, "", True, False):
        return MASKED
    if isinstance(value, Mapping):
        return {str(inner): _masked(str(inner), one) for inner, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked("", one) for one in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if isinstance(value, str):
        return masked_text(value)
    return value


def configure_logging(*, stream: TextIO | None = None, json: bool | None = None) -> None:
    """Send all logging of this process to `stream` (stderr); safe to call again."""
    stream = stream or sys.stderr
    if json is None:
        json = not stream.isatty()
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(default=str)
        if json
        else structlog.processors.LogfmtRenderer(
            key_order=["at", "level", "event"], drop_missing=True, bool_as_flag=False
        )
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*before, structlog.stdlib.ExtraAdder()],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, mask, renderer],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    _route_everything_to(handler)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *before,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _route_everything_to(handler: logging.Handler) -> None:
    root = logging.getLogger()
    # What libraries derived (a test runner's recorder) stays; plain ones are ours of before, or gunicorn's.
    root.handlers[:] = [other for other in root.handlers if type(other) is not logging.StreamHandler]
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    for name in ("gunicorn.error", "gunicorn.access"):
        # gunicorn gives its loggers handlers of their own and cuts them off from the root.
        library = logging.getLogger(name)
        library.handlers[:] = []
        library.propagate = True
        library.setLevel(logging.WARNING)
    logging.captureWarnings(True)
