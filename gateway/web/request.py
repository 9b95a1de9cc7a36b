"""What a view needs of the request in hand: the database, who asks, and where they may go next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from flask import current_app, g, request
from sqlalchemy import Connection

from gateway.accounts.sessions import Session
from gateway.db.engine import Database
from gateway.domain.problems import NOT_ALLOWED, NeedsMerchant
from gateway.domain.scope import AccountScope, Permission
from gateway.orders.payloads import Payloads

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def transaction() -> Iterator[Connection]:
    """A transaction from the pages' own pool."""
    database: Database = current_app.extensions["database"]
    with database.transaction() as tx:
        yield tx


def payloads() -> Payloads:
    """What opens the stored payloads of platforms."""
    found: Payloads = current_app.extensions["access"].payloads
    return found


def scope() -> AccountScope:
    """Whose data this request may see: proven by a session or an API token."""
    found: AccountScope = g.scope
    return found


def session() -> Session:
    """The log-in behind this request; only for pages."""
    found: Session = g.session
    return found


def now() -> datetime:
    """The time of this request, the same however often it is asked for."""
    if "now" not in g:
        g.now = datetime.now(UTC)
    moment: datetime = g.now
    return moment


def public(view: Callable[P, R]) -> Callable[P, R]:
    """Mark a view that answers without a log-in; every other one needs it."""
    view.is_public = True  # type: ignore[attr-defined] # read by frame.py from the view function
    return view


def requires(permission: Permission) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Keep a view for those whose role allows it; the others are told so."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            if not scope().may(permission):
                raise NeedsMerchant(NOT_ALLOWED, role=scope().role)
            return view(*args, **kwargs)

        return checked

    return decorate


def is_fragment() -> bool:
    """Whether htmx asks for a part of a page."""
    return request.headers.get("HX-Request") == "true"


def own_path(target: str | None) -> str | None:
    """The path to go on to after the log-in, if it is one of ours: never another site's."""
    if not target or not target.startswith("/") or any(ord(letter) < 33 or letter == "\\" for letter in target):
        return None
    parts = urlsplit(target)
    if parts.scheme or parts.netloc or target.startswith("//"):
        return None
    return target


def number(name: str, *, form: bool = False) -> int | None:
    """A positive whole number from the query or the form that fits an id; None when it is absent or no such thing."""
    values: Any = request.form if form else request.args
    given = values.get(name, "")
    if not given.isascii() or not given.isdecimal() or len(given) > 18:
        return None
    return int(given)
