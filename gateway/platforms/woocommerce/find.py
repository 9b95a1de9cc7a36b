"""From what a merchant types to where the shop's REST API answers.

WordPress names its API on each page (a Link header and a link element, rel "https://api.w.org/"), whatever the
permalinks are; where a theme or a proxy removes that, the two usual places are tried.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import msgspec

from gateway.domain.problems import (
    STORE_ADDRESS_INVALID,
    STORE_ERROR,
    STORE_NOT_HTTPS,
    STORE_NOT_WORDPRESS,
    STORE_REDIRECTS,
    STORE_REST_CLOSED,
    STORE_THROTTLED,
    STORE_TIMED_OUT,
    STORE_WITHOUT_WOOCOMMERCE,
    NeedsMerchant,
    Refused,
    Retry,
)
from gateway.http import Answer, Http
from gateway.platforms.woocommerce import walls

MAX_TYPED = 500
MAX_REDIRECTS = 5
MAX_PARENTS = 3
SECONDS = 20
"""A person waits for what is found; a server that answers each call in drips does not hold them longer."""

PLAIN = "/?via=wp-json/wc/&rest_route="
"""Where the API is with plain permalinks. `via` means nothing to WordPress, but until 11.0 WooCommerce looked at keys
only when "wp-json/wc/" stood somewhere in the request's line (class-wc-rest-authentication.php; 11.1 reads rest_route).
"""

_NOT_THE_SHOP = re.compile(
    r"/(wp-admin|wp-login\.php|wp-json|wp-content|wp-includes|wc-auth|xmlrpc\.php|index\.php)(/.*)?$", re.IGNORECASE
)
_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_HOST = re.compile(r"^(?=.{1,253}$)[^\s/?#@\\%<>\"'`{}|^\[\]]+$")
_LINK = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?https://api\.w\.org/"?', re.IGNORECASE)
_ELEMENT = re.compile(r"<link\b[^>]*\brel=[\"']https://api\.w\.org/[\"'][^>]*>", re.IGNORECASE)
_HREF = re.compile(r"\bhref=[\"']([^\"']+)[\"']", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Site:
    """A WordPress with WooCommerce. `home`: its address without a slash at the end; `api`: the root that the paths of
    calls are put behind."""

    home: str
    api: str
    name: str
    time_zone: str

    @property
    def has_plain_permalinks(self) -> bool:
        return "rest_route=" in self.api

    @property
    def identity(self) -> str:
        return identity(self.home)


def identity(url: str) -> str:
    """What stays the same of a shop's address between http and https, with www or without it."""
    parts = urlsplit(url if "://" in url else f"https://{url}")
    path = parts.path.removesuffix("/").removesuffix("/wp-json").removesuffix("/index.php").removesuffix("/")
    port = "" if parts.port in (None, 80, 443) else f":{parts.port}"
    return f"{(parts.hostname or '').removeprefix('www.')}{port}{path}"


def home_of(api: str) -> str:
    """The shop's address, from the root of its API or from the address itself."""
    return api.split("/?", 1)[0].removesuffix("/wp-json").removesuffix("/index.php")


def typed_address(typed: str, *, allow_http: bool = False) -> str:
    """The shop's address in what a person typed: scheme added, credentials, query and the admin's paths taken off.

    Raises Refused when it can't be the address of a shop. Plain http is read as https unless `allow_http`.
    """
    text = typed.strip()
    if not text or len(text) > MAX_TYPED or any(ord(letter) < 33 or letter == "\x7f" for letter in text):
        raise _invalid("it is empty, too long, or has blanks in it")
    if not _SCHEME.match(text):
        text = "https://" + text.lstrip("/")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _invalid("its host or port can't be read") from None
    if parts.scheme not in ("http", "https"):
        raise _invalid("it does not begin with https://")
    if "@" in parts.netloc:
        raise _invalid("it has a user's name or a password in it")
    bare = host.strip("[]")
    if not (_HOST.match(bare) or ":" in bare) or ("." not in bare and ":" not in bare and not allow_http):
        raise _invalid("it names no host such as shop.example")
    scheme = parts.scheme if allow_http else "https"
    netloc = f"[{host}]" if ":" in host else host
    if port is not None and port != (443 if scheme == "https" else 80) and not (port == 80 and scheme == "https"):
        netloc += f":{port}"
    path = _NOT_THE_SHOP.sub("", re.sub(r"/{2,}", "/", parts.path)).rstrip("/")
    return f"{scheme}://{netloc}{path}"


def _invalid(why: str) -> Refused:
    return Refused(STORE_ADDRESS_INVALID, why, why=why)


def find(http: Http, typed: str, *, allow_http: bool = False) -> Site:
    """The shop behind what was typed. No key is sent anywhere.

    Raises Refused (no address), NeedsMerchant (the address leads elsewhere, is no WordPress, has no WooCommerce, is
    closed) or Retry (no answer, an error that may pass, SECONDS are over).
    """
    until = time.monotonic() + SECONDS
    base = typed_address(typed, allow_http=allow_http)
    url, page = _get(http, base + "/", until, allow_http=allow_http)
    told = _told_api(url, page)
    refusal = walls.wall(page)
    for api in _places(url, told):
        where, answer = _get(http, api + "/", until, allow_http=allow_http)
        index = _read_index(answer)
        if index is not None:
            return _site(where, api, index)
        if told == api and answer.status in (401, 403) and not walls.is_html(answer):
            raise NeedsMerchant(STORE_REST_CLOSED, f"status {answer.status}", status=answer.status)
        refusal = refusal or walls.wall(answer)
    if refusal is not None:
        raise walls.refused_by(refusal, page, url)
    if page.status >= 500 or page.status == 429:
        problem = STORE_THROTTLED if page.status == 429 else STORE_ERROR
        raise Retry(problem, f"status {page.status}", after_seconds=10, status=page.status)
    if told or b"/wp-content/" in page.body:
        raise NeedsMerchant(STORE_REST_CLOSED, f"status {page.status}", status=page.status)
    host = urlsplit(url).hostname or ""
    raise NeedsMerchant(STORE_NOT_WORDPRESS, host, host=host)


def _get(http: Http, url: str, until: float, *, allow_http: bool) -> tuple[str, Answer]:
    """One page, redirects followed as long as they stay with this shop; where it was found in the end."""
    for _ in range(MAX_REDIRECTS):
        if time.monotonic() > until:
            host = urlsplit(url).hostname or ""
            raise Retry(STORE_TIMED_OUT, f"{host}: {SECONDS} s", after_seconds=60, host=host, seconds=SECONDS)
        answer = http.call("GET", url, headers={"Accept": "text/html, application/json"})
        target = answer.headers.get("location")
        if answer.status not in (301, 302, 303, 307, 308) or not target:
            return url, answer
        if walls.wall(answer) is not STORE_REDIRECTS:
            return url, answer
        onward = _onward(urlsplit(url), urlsplit(urljoin(url, target)), allow_http=allow_http)
        if onward is None:
            raise walls.refused_by(STORE_REDIRECTS, answer, url)
        url = onward
    raise walls.refused_by(STORE_REDIRECTS, answer, url)


def _onward(here: SplitResult, there: SplitResult, *, allow_http: bool) -> str | None:
    """The next address when it is the same shop's: its host with www or without, never back from https to http."""
    try:
        same = (here.hostname or "").removeprefix("www.") == (there.hostname or "").removeprefix("www.")
        secured = here.scheme == "http" and there.scheme == "https"
        same_port = here.port == there.port or secured
    except ValueError:
        return None
    if not same or not same_port or "@" in there.netloc or there.scheme not in ("http", "https"):
        return None
    if there.scheme == "http" and here.scheme == "https":
        if not allow_http:
            raise NeedsMerchant(STORE_NOT_HTTPS, here.hostname or "", host=here.hostname)
        return None
    return there._replace(fragment="").geturl()


def _told_api(url: str, page: Answer) -> str | None:
    """The root that WordPress itself names, if it is on the host that named it."""
    found = _LINK.search(page.headers.get("link", ""))
    href = found[1] if found else None
    if href is None and (element := _ELEMENT.search(page.body[:262_144].decode(errors="replace"))):
        match = _HREF.search(element[0])
        href = unescape(match[1]) if match else None
    if not href:
        return None
    here, there = urlsplit(url), urlsplit(urljoin(url, href))
    if (here.hostname or "").removeprefix("www.") != (there.hostname or "").removeprefix("www."):
        return None
    # A WordPress behind a proxy often believes that it is called over http.
    root = SplitResult(here.scheme, here.netloc, there.path, there.query, "")
    if "rest_route=" in root.query:
        return f"{root.scheme}://{root.netloc}{root.path.removesuffix('/').removesuffix('/index.php')}{PLAIN}"
    return root._replace(query="").geturl().rstrip("/")


def _places(url: str, told: str | None) -> Iterator[str]:
    """Where the API may be: where WordPress says, then the two usual places of the address and of those above it."""
    if told:
        yield told
    parts = urlsplit(url)
    path = _NOT_THE_SHOP.sub("", parts.path).rstrip("/")
    for _ in range(MAX_PARENTS):
        root = f"{parts.scheme}://{parts.netloc}{path}"
        for api in (root + "/wp-json", root + PLAIN):
            if api != told:
                yield api
        if not path:
            return
        path = path.rpartition("/")[0]


def _read_index(answer: Answer) -> dict[str, Any] | None:
    """WordPress's index of its API; None when this is something else."""
    if answer.status != 200:
        return None
    try:
        index = msgspec.json.decode(answer.body.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return index if isinstance(index, dict) and isinstance(index.get("namespaces"), list) else None


def _site(where: str, api: str, index: dict[str, Any]) -> Site:
    if "wc/v3" not in index["namespaces"]:
        raise NeedsMerchant(STORE_WITHOUT_WOOCOMMERCE, urlsplit(where).hostname or "")
    # The index may have been found behind one more redirect (www, a slash): that is where calls go.
    reached, before = urlsplit(where), urlsplit(api)
    api = before._replace(scheme=reached.scheme, netloc=reached.netloc).geturl()
    home = _home(api, index)
    return Site(home, api, _text(index.get("name")) or reached.netloc, time_zone(index))


_PART_HOURS = {
    3.5: "Asia/Tehran", 4.5: "Asia/Kabul", 5.5: "Asia/Kolkata", 5.75: "Asia/Kathmandu", 6.5: "Asia/Yangon",
    8.75: "Australia/Eucla", 9.5: "Australia/Darwin", -9.5: "Pacific/Marquesas",
}  # fmt: skip
"""Zones that always keep such an offset, since IANA has no names for offsets of parts of hours."""


def time_zone(index: dict[str, Any]) -> str:
    """The shop's zone; one that is set as a plain offset has no name, and IANA's names of those count westward."""
    named = _text(index.get("timezone_string"))
    if named:
        return named
    try:
        hours = float(index.get("gmt_offset") or 0)
    except (TypeError, ValueError):
        return "UTC"
    if hours in _PART_HOURS:
        return _PART_HOURS[hours]
    return f"Etc/GMT{-int(hours):+d}" if hours and hours == int(hours) and -14 <= -hours <= 12 else "UTC"


def _home(api: str, index: dict[str, Any]) -> str:
    """The shop's address as it was reached. What it says of itself counts for its path alone: a host that was not
    reached is not its own to claim."""
    reached = urlsplit(api)
    claimed = urlsplit(_text(index.get("home")) or _text(index.get("url")))
    if (claimed.hostname or "").removeprefix("www.") == (reached.hostname or "").removeprefix("www."):
        path = claimed.path.rstrip("/")
    else:
        path = reached.path.removesuffix("/").removesuffix("/wp-json").removesuffix("/index.php").rstrip("/")
    return f"{reached.scheme}://{reached.netloc}{path}"


def _text(value: object) -> str:
    return unescape(value)[:200] if isinstance(value, str) else ""
