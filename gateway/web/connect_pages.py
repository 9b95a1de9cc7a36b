"""Connect a store: choose the platform, leave for the shop's own consent page, come back connected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog
from flask import Blueprint, Response, abort, current_app, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from gateway.connections import check, connect_etsy, connect_woocommerce, disconnect, model
from gateway.connections.access import Access
from gateway.domain.problems import CONNECT_DENIED, CONNECT_STATE, GatewayError, NeedsMerchant, Retry, describe
from gateway.web.request import public, requires, scope, transaction
from gateway.web.security import CONTENT_SECURITY_POLICY

log = structlog.get_logger("gateway.connect")

connect = Blueprint("connect", __name__)
callbacks = Blueprint("callbacks", __name__)
"""What a shop's server calls: no log-in and no form token, a one-time state is the proof."""

MAX_CALLBACK_BYTES = 16 * 1024
ETSY_STATE = "gateway_etsy_state"
ETSY_EVENTS = ("order.paid", "order.canceled", "order.shipped", "order.delivered")


@connect.get("/stores/connect")
@requires("connect_stores")
def choose() -> str:
    """The platforms to choose from."""
    return render_template("connect.html")


# --- WooCommerce -------------------------------------------------------------------------------------------------
@connect.get("/stores/connect/woocommerce")
@requires("connect_stores")
def woocommerce() -> Response:
    return _form(request.args.get("url", "")[:500])


@connect.post("/stores/connect/woocommerce")
@requires("connect_stores")
def begin_woocommerce() -> AnyResponse:
    """Find the shop, then send its owner to its consent page."""
    url = request.form.get("url", "")
    return _or_form(lambda: redirect(connect_woocommerce.begin(_access(), scope(), url), 303), url)


@connect.post("/stores/connect/woocommerce/keys")
@requires("connect_stores")
def paste_keys() -> AnyResponse:
    """Connect with keys that the merchant made in the shop's admin."""
    url, key, secret = (request.form.get(name, "") for name in ("url", "consumer_key", "consumer_secret"))
    return _or_form(
        lambda: _connected(connect_woocommerce.connect_with_keys(_access(), scope(), url, key, secret)), url, by="keys"
    )


@connect.get(connect_woocommerce.RETURN_PATH)
@requires("connect_stores")
def back_from_woocommerce() -> AnyResponse:
    """The owner is back from the shop's consent page, with ?success= and our state as user_id."""
    state = request.args.get("user_id", "")
    if request.args.get("success") != "1":
        connect_woocommerce.give_up(_access(), scope(), state)
        raise NeedsMerchant(CONNECT_DENIED)
    return _connected(connect_woocommerce.finish(_access(), scope(), state))


@callbacks.post(connect_woocommerce.CALLBACK_PATH)
@public
def woocommerce_callback() -> Response:
    """The keys, from the shop's own server. 200 exactly when they were taken: at anything else it deletes them."""
    body = request.stream.read(MAX_CALLBACK_BYTES + 1) if not request.form else b""
    given = _fields(body) if len(body) <= MAX_CALLBACK_BYTES else {}
    if not connect_woocommerce.take_keys(_access(), given):
        log.warning("connect.callback_refused", platform="woocommerce", agent=request.user_agent.string[:100])
        raise NeedsMerchant(CONNECT_STATE)
    return Response(status=200)


def _fields(body: bytes) -> Mapping[str, Any]:
    """JSON, as WooCommerce sends it; a form where something on the way made one of it."""
    if request.form:
        return request.form
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


# --- Etsy --------------------------------------------------------------------------------------------------------
@connect.get("/stores/connect/etsy")
@requires("connect_stores")
def etsy() -> str:
    """What to enter at Etsy, then the way to its consent page."""
    access = _access()
    return render_template(
        "connect_etsy.html", app=access.app, redirect_uri=connect_etsy.redirect_uri(access),
        endpoint=f"{access.public_url}/webhooks/etsy", events=ETSY_EVENTS,
        secrets=len(access.app.etsy_webhook_secrets),
    )  # fmt: skip


@connect.get("/install/etsy")
@requires("connect_stores")
def begin_etsy() -> AnyResponse:
    """Send the seller to Etsy; their browser keeps the state meanwhile."""
    address, state = connect_etsy.begin(_access(), scope())
    answer = redirect(address, 303)
    answer.set_cookie(
        ETSY_STATE, state, max_age=3600, path="/install/etsy", httponly=True, samesite="Lax",
        secure=current_app.config["SESSION_COOKIE_SECURE"],
    )  # fmt: skip
    return answer


@connect.get(connect_etsy.CALLBACK_PATH)
@requires("connect_stores")
def back_from_etsy() -> AnyResponse:
    """The seller is back, with a code or a refusal."""
    given = {name: request.args.get(name, "")[:2000] for name in ("state", "code", "error")}
    store_id = connect_etsy.finish(_access(), scope(), kept_state=request.cookies.get(ETSY_STATE, ""), **given)
    answer = _connected(store_id)
    answer.delete_cookie(ETSY_STATE, path="/install/etsy")
    return answer


# --- is it all right? --------------------------------------------------------------------------------------------
@connect.get("/stores/<id:store_id>/test")
@requires("connect_stores")
def test(store_id: int) -> str:
    """What Test connection does, and its button."""
    return _tested(store_id, None)


@connect.post("/stores/<id:store_id>/test")
@requires("connect_stores")
def run_test(store_id: int) -> str:
    """Try the connection through, layer by layer."""
    steps = check.check(_access(), scope(), store_id)
    if steps is None:
        abort(404)
    return _tested(store_id, steps)


@connect.post("/stores/<id:store_id>/disconnect")
@requires("connect_stores")
def disconnect_store(store_id: int) -> AnyResponse:
    """Forget the store's keys and take its webhooks off."""
    if not disconnect.disconnect(_access(), scope(), store_id):
        abort(404)
    return redirect(url_for("web.stores", _anchor=f"store-{store_id}"), 303)


def _tested(store_id: int, steps: list[check.Step] | None) -> str:
    with transaction() as tx:
        store = model.get_store(tx, scope(), store_id)
    if store is None:
        abort(404)
    return render_template("connection_test.html", store=store, steps=steps)


# --- shared ------------------------------------------------------------------------------------------------------
def _access() -> Access:
    access: Access = current_app.extensions["access"]
    return access


def _connected(store_id: int) -> AnyResponse:
    return redirect(url_for("web.stores", connected=store_id, _anchor=f"store-{store_id}"), 303)


def _or_form(attempt: Callable[[], AnyResponse], url: str, *, by: str = "") -> AnyResponse:
    """What the attempt gives, or the form again with what was typed (never the keys) and why it did not work."""
    try:
        return attempt()
    except GatewayError as error:
        answer = _form(url[:500], error=error, by=by)
        answer.status_code = 503 if isinstance(error, Retry) else 422
        return answer


def _form(url: str, *, error: GatewayError | None = None, by: str = "") -> Response:
    problem = None if error is None else describe(error.problem, {"why": error.detail, **error.facts})
    answer = Response(render_template("connect_woocommerce.html", url=url, problem=problem, by=by))
    # The form's answer leads to the shop, and browsers hold a form's redirects against form-action too.
    schemes = "https: http:" if _access().allow_private else "https:"
    answer.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY.replace(
        "form-action 'self'", f"form-action 'self' {schemes}"
    )
    return answer
