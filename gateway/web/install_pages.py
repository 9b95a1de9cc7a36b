"""Where Shopify sends merchants: the App URL, OAuth's way back, and the claim that follows the log-in; and the way back
to the consent page of a store that is known here.

No page of ours comes before the OAuth, on install and on reinstall alike, and nowhere is a box for a shop's name.
"""

from __future__ import annotations

from flask import Blueprint, abort, current_app, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from gateway.connections import connect_shopify, model
from gateway.connections.access import Access
from gateway.domain.problems import CLAIM_OVER, NeedsMerchant
from gateway.platforms.shopify.install import APP_PATH, CALLBACK_PATH
from gateway.platforms.woocommerce.find import home_of
from gateway.web.request import public, requires, scope, transaction

install = Blueprint("install", __name__)

STATE, CLAIM = "gateway_shopify_state", "gateway_shopify_claim"
CLAIM_PATH = "/install/claim"


@install.get(APP_PATH)
@public
def begin_shopify() -> AnyResponse:
    """The App URL: straight to Shopify's consent page, which comes back at once where all is granted already."""
    return _to_consent(*connect_shopify.begin(_access(), _raw_query()))


@install.get("/stores/<id:store_id>/reconnect")
@requires("connect_stores")
def reconnect(store_id: int) -> AnyResponse:
    """To where this store's owner grants access again: its own consent page, or the form that leads to it."""
    with transaction() as tx:
        store = model.get_store(tx, scope(), store_id)
    if store is None:
        abort(404)
    match store["platform"]:
        case "shopify":
            return _to_consent(*connect_shopify.begin_again(_access(), store["domain"]))
        case "etsy":
            return redirect(url_for("connect.begin_etsy"), 302)
        case _:
            return redirect(url_for("connect.woocommerce", url=home_of(store["base_url"])), 302)


def _to_consent(address: str, state: str) -> AnyResponse:
    answer = redirect(address, 302)
    _keep(answer, STATE, state, path=APP_PATH, seconds=int(connect_shopify.STATE_LIFETIME.total_seconds()))
    return answer


@install.get(CALLBACK_PATH)
@public
def back_from_shopify() -> AnyResponse:
    """The merchant granted it: on to the store, or to log in and claim it."""
    done = connect_shopify.finish(_access(), _raw_query(), kept_state=request.cookies.get(STATE, ""))
    if done.store_id is not None:
        answer = redirect(url_for("web.stores", connected=done.store_id), 302)
    else:
        answer = redirect(CLAIM_PATH, 302)
        _keep(answer, CLAIM, done.claim, path=CLAIM_PATH, seconds=int(connect_shopify.CLAIM_LIFETIME.total_seconds()))
    answer.delete_cookie(STATE, path=APP_PATH)
    return answer


@install.get(CLAIM_PATH)
@requires("connect_stores")
def claim() -> str:
    """Into which account the shop goes, and the button."""
    shop = connect_shopify.to_claim(_access(), request.cookies.get(CLAIM, ""))
    if shop is None:
        raise NeedsMerchant(CLAIM_OVER)
    return render_template("claim.html", shop=shop)


@install.post(CLAIM_PATH)
@requires("connect_stores")
def claim_it() -> AnyResponse:
    store_id = connect_shopify.claim_store(_access(), scope(), request.cookies.get(CLAIM, ""))
    answer = redirect(url_for("web.stores", connected=store_id, _anchor=f"store-{store_id}"), 303)
    answer.delete_cookie(CLAIM, path=CLAIM_PATH)
    return answer


def _raw_query() -> str:
    """As it came: decoding and encoding again would lose what was signed."""
    return request.query_string.decode("ascii", "replace")


def _keep(answer: AnyResponse, name: str, value: str, *, path: str, seconds: int) -> None:
    answer.set_cookie(
        name, value, max_age=seconds, path=path, httponly=True, samesite="Lax",
        secure=current_app.config["SESSION_COOKIE_SECURE"],
    )  # fmt: skip


def _access() -> Access:
    access: Access = current_app.extensions["access"]
    return access
