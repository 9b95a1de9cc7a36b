"""What stands between us and a store: answers that are not WooCommerce's own, told apart as far as they can be."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from gateway.domain.problems import (
    STORE_FIREWALL,
    STORE_LOGIN_WALL,
    STORE_REDIRECTS,
    GatewayError,
    NeedsMerchant,
    Problem,
    Retry,
)
from gateway.http import Answer

_CHALLENGES = (b"cf-chl", b"challenge-platform", b"_Incapsula_", b"sucuri", b"wordfence", b"captcha", b"imunify360")
"""What the pages of common firewalls have in them, in any language."""

_LOGINS = ("wp-login.php", "/login", "/my-account", "/password")


def is_html(answer: Answer) -> bool:
    kind = answer.headers.get("content-type", "").lower()
    return "html" in kind or answer.body.lstrip()[:1] == b"<"


def wall(answer: Answer) -> Problem | None:
    """The problem behind a refusal that is a web page rather than WordPress's JSON; None when it may be the store's."""
    if 300 <= answer.status < 400:
        return STORE_LOGIN_WALL if _to_login(answer) else STORE_REDIRECTS
    if answer.status == 401 and answer.headers.get("www-authenticate", "").lower().startswith(("basic", "digest")):
        # WooCommerce sends this header too (class-wc-rest-authentication.php), beside its JSON.
        return STORE_LOGIN_WALL if is_html(answer) else None
    if "cf-mitigated" in answer.headers:
        return STORE_FIREWALL
    if is_html(answer) and answer.status in (403, 405, 406, 409, 418, 429, 503):
        challenged = any(mark.lower() in answer.body[:65_536].lower() for mark in _CHALLENGES)
        return STORE_FIREWALL if challenged or answer.status in (403, 406, 418) else None
    return None


def _to_login(answer: Answer) -> bool:
    path = urlsplit(answer.headers.get("location", "")).path.lower()
    return any(path.endswith(login) or f"{login}/" in path for login in _LOGINS)


def refused_by(problem: Problem, answer: Answer, url: str) -> GatewayError:
    """The exception of a wall, with where a redirect leads: its host and path, never its query."""
    target = urlsplit(urljoin(url, answer.headers.get("location", "")))
    origin = f"{target.scheme}://{target.netloc.rpartition('@')[2]}" if target.netloc else ""
    to = (origin + target.path)[:200]
    detail = to if problem is STORE_REDIRECTS else f"status {answer.status}"
    if answer.status in (429, 503):
        # A firewall that is only busy, or a maintenance page that looks like one, lets us in again by itself.
        return Retry(problem, detail, after_seconds=60, to=to, status=answer.status)
    return NeedsMerchant(problem, detail, to=to, status=answer.status)
