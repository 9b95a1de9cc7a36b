"""wc-auth: the page on which a shop's owner gives an app its keys, step by step as captured (pairs 18).

authorize sends who is not logged in to login; it shows what is asked for; Approve makes keys, posts them to the app's
server and only then sends the browser back. A callback that does not answer exactly 200 costs the keys their life.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import json
import ssl
from urllib.parse import quote, unquote, urlencode, urlsplit

from jinja2 import Environment
from werkzeug.wrappers import Request, Response

from gateway.sandbox.woocommerce import WooStore

BASE = "/wc-auth/v1/"
COOKIE = "wordpress_logged_in"
CALLBACK_SECONDS = 60.0
_NEEDED = ("app_name", "user_id", "return_url", "callback_url", "scope")
_MAY = {
    "read": ("View coupons", "View customers", "View orders and sales reports", "View products"),
    "write": ("Create webhooks", "Create coupons", "Create customers", "Create orders", "Create products"),
    "read_write": ("Create webhooks", "View and manage coupons", "View and manage customers",
                   "View and manage orders and sales reports", "View and manage products"),
}  # fmt: skip
_NAMES = {"read": "Read", "write": "Write", "read_write": "Read/Write"}
_PAGE = Environment(autoescape=True).from_string("""<!DOCTYPE html>
<html lang="en-US"><head><meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">
<title>{{ title }}</title></head><body class="wc-auth wp-core-ui"><div class="wc-auth-content">
{% if page == "login" %}
<h1>{{ app_name }} would like to connect to your store</h1>
<p>To connect to {{ app_name }} you need to be logged in. Log in to your store below, or
<a href="{{ deny }}">cancel and return to {{ app_name }}</a></p>
<form method="post" action="{{ here }}"><label>Username <input name="username" value="owner"></label>
<button class="button button-large" name="login" value="1">Login</button></form>
{% elif page == "grant" %}
<h1>{{ app_name }} would like to connect to your store</h1>
<p>This will give "<strong>{{ app_name }}</strong>" <strong>{{ scope }}</strong> access which will allow it to:</p>
<ul class="wc-auth-permissions">{% for one in may %}<li>{{ one }}</li>{% endfor %}</ul>
<p>Approving will share credentials with <strong>{{ host }}</strong>. Do not proceed if this looks suspicious.</p>
<p class="wc-auth-actions"><a href="{{ approve }}" class="button button-primary wc-auth-approve">Approve</a>
<a href="{{ deny }}" class="button wc-auth-deny">Deny</a></p>
{% else %}<div class="wp-die-message">Error: {{ message }}.</div>{% endif %}
</div></body></html>""")


class _Die(Exception):
    """wp_die: a page "Access denied" with 401."""


def answer(store: WooStore, request: Request, path: str) -> Response:
    """Answer one request below /wc-auth/v1/. The world's lock is not held: the callback waits for the app."""
    try:
        given = _validated(request)
        route = path.removeprefix(BASE).strip("/").lower()
        logged_in = request.cookies.get(COOKIE) == _cookie(store)
        if route == "login" and request.method == "POST":
            back = Response(status=302, headers={"Location": _to(store, given, "authorize")})
            back.set_cookie(COOKIE, _cookie(store), path=f"/woocommerce/{store.key}/", httponly=True, samesite="Lax")
            return back
        if route == "login" and not logged_in:
            return _page("login", "Log in", app_name=given["app_name"], deny=_return(given, 0), here=request.full_path)
        if route in ("login", "authorize") and route != ("authorize" if logged_in else ""):
            return Response(status=302, headers={"Location": _to(store, given, "authorize" if logged_in else "login")})
        if route == "authorize":
            nonce = urlencode({"wc_auth_nonce": _nonce(store)})
            return _page(
                "grant", "Application authentication request", app_name=given["app_name"],
                scope=_NAMES[given["scope"]], may=_MAY[given["scope"]], host=urlsplit(given["callback_url"]).hostname,
                approve=f"{_to(store, given, 'access_granted')}&{nonce}", deny=_return(given, 0),
            )  # fmt: skip
        if route != "access_granted" or not logged_in:
            raise _Die("You do not have permission to access this page")
        if request.args.get("wc_auth_nonce") != _nonce(store):
            raise _Die("Invalid nonce verification")
        _grant(store, given)
        return Response(status=302, headers={"Location": _return(given, 1)})
    except _Die as died:
        return _page("died", "Access denied", status=401, message=str(died))


def _validated(request: Request) -> dict[str, str]:
    given = {name: request.values.get(name, "") for name in _NEEDED}
    for name, value in given.items():
        if not value:
            raise _Die(f"Missing parameter {name}")
    if given["scope"] not in _MAY:
        raise _Die(f"Invalid scope {given['scope']}")
    for name in ("return_url", "callback_url"):
        given[name] = _formatted(given[name])
        if not urlsplit(given[name]).hostname:
            raise _Die(f"The {given[name]} is not a valid URL")
    if not given["callback_url"].lower().startswith("https://") and not _on_this_machine(given["callback_url"]):
        raise _Die("The callback_url needs to be over SSL")
    return given


def _formatted(url: str) -> str:
    """get_formatted_url: decoded once more, which is how `%20` in a callback comes to grief (sheet fact 14)."""
    url = unquote(url)
    return url if "://" in url else f"https://{url}"


def _on_this_machine(url: str) -> bool:
    """A demo on loopback has no certificate: there, and only there, http is taken. A real shop takes none."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _to(store: WooStore, given: dict[str, str], route: str) -> str:
    return f"{store.url}{BASE}{route}/?{urlencode(given, quote_via=quote)}"


def _return(given: dict[str, str], success: int) -> str:
    url = given["return_url"]
    return f"{url}{'&' if '?' in url else '?'}{urlencode({'success': success, 'user_id': given['user_id']})}"


def _cookie(store: WooStore) -> str:
    return hmac.new(store.salt.encode(), b"owner", hashlib.sha256).hexdigest()


def _nonce(store: WooStore) -> str:
    return hmac.new(store.salt.encode(), b"wc_auth_grant_access", hashlib.sha256).hexdigest()[:10]


def _grant(store: WooStore, given: dict[str, str]) -> None:
    """Make keys and post them; they are deleted again unless the answer is exactly 200 (sheet fact 13)."""
    with store.world.lock:
        key, secret = store.make_keys(given["scope"])
    body = {
        "key_id": len(store.keys), "user_id": given["user_id"], "consumer_key": key, "consumer_secret": secret,
        "key_permissions": given["scope"],
    }  # fmt: skip
    try:
        status: int | str = _post(store, given["callback_url"], json.dumps(body).encode())
    except (OSError, http.client.HTTPException) as error:
        status = f"cURL error: {error}"
    if status == 200:
        return
    with store.world.lock:
        del store.keys[key]
    if isinstance(status, str):
        raise _Die(status)
    raise _Die("An error occurred in the request and at the time were unable to send the consumer data")


def _post(store: WooStore, url: str, body: bytes) -> int:
    target = urlsplit(url)
    connection: http.client.HTTPConnection
    if target.scheme == "https":
        trusting = ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            target.hostname or "", target.port, timeout=CALLBACK_SECONDS, context=trusting
        )
    else:
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=CALLBACK_SECONDS)
    try:
        headers = {
            "User-Agent": f"WordPress/7.0.4; {store.url}", "Accept": "*/*", "Connection": "close",
            "Content-Type": "application/json;charset=UTF-8",
        }  # fmt: skip
        path = (target.path or "/") + (f"?{target.query}" if target.query else "")
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read(65_536)
        return answer.status
    finally:
        connection.close()


def _page(page: str, title: str, *, status: int = 200, **values: object) -> Response:
    text = _PAGE.render(page=page, title=title, **values)
    headers = {"Content-Security-Policy": "default-src 'none'; base-uri 'none'", "Cache-Control": "no-store"}
    return Response(text, status=status, mimetype="text/html", headers=headers)
