"""Etsy's consent page and codes: OAuth 2 with PKCE as section 2 of the sheet has it."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from jinja2 import Environment
from werkzeug.wrappers import Request, Response

from gateway.sandbox.etsy import EtsyStore

if TYPE_CHECKING:
    from gateway.sandbox.world import World

PATH = "/oauth/connect"
CODE_SECONDS = 60
SCOPES = frozenset(
    f"{thing}_{right}"
    for right, things in (
        ("r", "address billing cart email favorites feedback listings profile recommend shops transactions"),
        ("w", "address cart favorites listings profile recommend shops transactions"),
        ("d", "listings"),
    )
    for thing in things.split()
)
"""The twenty that exist."""

_VERIFIER = re.compile(r"\A[A-Za-z0-9._~-]{43,128}\Z")
_PAGE = Environment(autoescape=True).from_string("""<!DOCTYPE html>
<html lang="en"><head><meta name="viewport" content="width=device-width"><title>Etsy (simulated)</title></head><body>
{% if refused %}<h1>Sorry, something is wrong</h1><p class="refused">{{ refused }}</p>
{% else %}<h1>An application would like to connect to your account</h1><p>It asks for:</p>
<ul>{% for one in scopes %}<li>{{ one }}</li>{% endfor %}</ul>
<form method="post" action="{{ here }}"><label>Log in as the owner of
<select name="shop">{% for shop in shops %}<option value="{{ shop.key }}">{{ shop.name }}</option>{% endfor %}</select>
</label> <button name="do" value="grant">Grant access</button> <button name="do" value="deny">Deny</button></form>
{% endif %}</body></html>""")


@dataclass(frozen=True, slots=True)
class Grant:
    """A code that was given out, and what it is good for."""

    shop: str
    redirect_uri: str
    challenge: str
    expires: int


class _Refused(Exception):
    """A page at Etsy: the browser is never sent to an address that is not registered."""


def answer(world: World, request: Request) -> Response:
    """GET shows the page, POST its button; the browser goes back with a code, or with access_denied."""
    try:
        given = _checked(world, request)
    except _Refused as refused:
        return Response(_PAGE.render(refused=str(refused)), status=400, mimetype="text/html", headers=_HEADERS)
    if given["scope"] - SCOPES or not given["scope"] or given["code_challenge_method"] != "S256":
        return _back(given, error="invalid_request", error_description="scope or code_challenge_method is not valid")
    if request.method != "POST":
        text = _PAGE.render(scopes=sorted(given["scope"]), shops=world.of("etsy"), here=request.full_path)
        return Response(text, mimetype="text/html", headers=_HEADERS)
    store = world.store("etsy", request.form.get("shop", ""))
    if request.form.get("do") != "grant" or not isinstance(store, EtsyStore):
        return _back(given, error="access_denied", error_description="The user denied the request")
    code = store.token(86)
    expires = int(world.now().timestamp()) + CODE_SECONDS
    world.etsy_codes[code] = Grant(store.key, given["redirect_uri"], given["code_challenge"], expires)
    return _back(given, code=code)


_HEADERS = {"Content-Security-Policy": "default-src 'none'; base-uri 'none'", "Cache-Control": "no-store"}


def _checked(world: World, request: Request) -> dict[str, Any]:
    names = ("response_type", "client_id", "redirect_uri", "state", "code_challenge", "code_challenge_method")
    given: dict[str, Any] = {name: request.args.get(name, "") for name in names}
    if given["client_id"] != world.etsy_app.keystring:
        raise _Refused("The application that is requesting access is not recognised.")
    # Exact and case-sensitive, no extra slash or query (sheet section 2).
    if given["redirect_uri"] != f"{world.gateway_url}/install/etsy/callback":
        raise _Refused("The requested redirect URL is not permitted.")
    if given["response_type"] != "code" or not given["state"] or not given["code_challenge"]:
        raise _Refused("The request is missing a required parameter.")
    given["scope"] = frozenset(request.args.get("scope", "").split())
    return given


def _back(given: dict[str, Any], **values: str) -> Response:
    address = f"{given['redirect_uri']}?{urlencode({**values, 'state': given['state']})}"
    return Response(status=302, headers={"Location": address})


def exchange(world: World, given: Any) -> tuple[dict[str, Any], int]:
    """A code for tokens, once, within a minute, to whoever has the verifier."""
    grant = world.etsy_codes.pop(str(given.get("code", "")), None)
    if grant is None or grant.expires < world.now().timestamp():
        return {"error": "invalid_grant", "error_description": "code is invalid, expired or was used"}, 400
    verifier = str(given.get("code_verifier", ""))
    if not _VERIFIER.match(verifier):
        return {"error": "invalid_request", "error_description": "code_verifier is missing or malformed"}, 400
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    if digest != grant.challenge or given.get("redirect_uri") != grant.redirect_uri:
        return {"error": "invalid_grant", "error_description": "code_verifier or redirect_uri does not match"}, 400
    store = world.store("etsy", grant.shop)
    assert isinstance(store, EtsyStore)
    return store.new_tokens(), 200
