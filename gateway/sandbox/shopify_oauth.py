"""Shopify's side of an installation: the app is opened from the admin, the merchant consents, the app gets a code.

Facts: platform sheet shopify.md, section 4.2. What the robot of the review does is in section 4.6.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import quote, urlencode

from jinja2 import Environment
from werkzeug.wrappers import Request, Response

from gateway.sandbox.shopify import ShopifyStore

AUTHORIZE = "/admin/oauth/authorize"
CALLBACK = "/install/shopify/callback"
CODE_SECONDS = 60
_PAGE = Environment(autoescape=True).from_string("""<!DOCTYPE html>
<html lang="en"><head><meta name="viewport" content="width=device-width"><title>{{ title }}</title></head><body>
<main><h1>{{ title }}</h1>
{% if scopes %}<p>{{ shop }}: this app will be able to:</p>
<ul>{% for scope in scopes %}<li>{{ scope }}</li>{% endfor %}</ul>
<form method="post"><button name="do" value="install">Install app</button>
<button name="do" value="cancel">Cancel</button></form>
{% else %}<p>{{ message }}</p>{% endif %}</main></body></html>""")


def app_url(store: ShopifyStore) -> str:
    """Where the admin sends a merchant who opens (or installs) the app: the App URL with a signed query."""
    return f"{store.world.gateway_url}/install/shopify?{signed(store, {})}"


def signed(store: ShopifyStore, more: dict[str, str]) -> str:
    """A query with shop, host, timestamp and its HMAC, values written with %20."""
    host = base64.b64encode(f"admin.shopify.com/store/{store.key.partition('.')[0]}".encode()).decode().rstrip("=")
    given = {**more, "shop": store.key, "host": host, "timestamp": str(store.second())}
    pairs = sorted(urlencode(given, quote_via=quote).split("&"))
    secret = store.world.shopify_app.client_secret.encode()
    digest = hmac.new(secret, "&".join(pairs).encode(), hashlib.sha256).hexdigest()
    return "&".join([*pairs, f"hmac={digest}"])


def authorize(store: ShopifyStore, request: Request) -> Response:
    """The consent page; where the app is installed with these scopes, it is passed at once."""
    given = {name: request.args.get(name, "") for name in ("client_id", "scope", "redirect_uri", "state")}
    if given["client_id"] != store.world.shopify_app.client_id:
        return _page("Oauth error invalid_request: Could not find Shopify API application", 400)
    if given["redirect_uri"] != store.world.gateway_url + CALLBACK:
        return _page("Oauth error invalid_request: The redirect_uri is not whitelisted", 400)
    scopes = [word for word in given["scope"].split(",") if word]
    consented = request.method == "POST" and request.form.get("do") == "install"
    if request.method == "POST" and not consented:
        return _page("The installation was cancelled.", 200)
    if not consented and not (store.installed and set(scopes) <= set(store.scopes)):
        text = _PAGE.render(title="Install app", shop=store.name, scopes=scopes)
        return Response(text, mimetype="text/html", headers={"Cache-Control": "no-store"})
    if not store.installed:
        store.installed, store.scopes = True, scopes or store.scopes
    code = store.token(32)
    store.codes[code] = store.second() + CODE_SECONDS
    query = signed(store, {"code": code, "state": given["state"]})
    return Response(status=302, headers={"Location": f"{given['redirect_uri']}?{query}"})


def _page(message: str, status: int) -> Response:
    return Response(_PAGE.render(title="Shopify", message=message), status=status, mimetype="text/html")
