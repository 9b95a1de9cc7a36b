"""From what a merchant types to the shop's API, over real sockets: every kind of site that people have."""

from __future__ import annotations

import json

import pytest
from werkzeug.wrappers import Response

from gateway import outbound
from gateway.domain.problems import (
    STORE_ADDRESS_INVALID,
    STORE_ADDRESS_PRIVATE,
    STORE_ERROR,
    STORE_FIREWALL,
    STORE_LOGIN_WALL,
    STORE_NOT_HTTPS,
    STORE_NOT_WORDPRESS,
    STORE_REDIRECTS,
    STORE_REST_CLOSED,
    STORE_THROTTLED,
    STORE_TIMED_OUT,
    STORE_WITHOUT_WOOCOMMERCE,
    GatewayError,
    NeedsMerchant,
    Refused,
    Retry,
)
from gateway.http import Http
from gateway.platforms.woocommerce.find import find, identity, typed_address
from tests.connections.conftest import PUBLIC, certificate, names, serve, trusted  # noqa: F401 - fixtures

WITH = ["oembed/1.0", "wp/v2", "wc/v3"]


class Blog:
    """A WordPress as the test wants it."""

    def __init__(self, *, folder="", plain=False, namespaces=WITH, link=True, element=False, home=None, rest=None):
        self.folder, self.plain, self.namespaces, self.link, self.element = folder, plain, namespaces, link, element
        self.home, self.rest = home, rest

    def __call__(self, request):
        base = request.host_url.rstrip("/") + self.folder
        root = f"{base}/index.php?rest_route=/" if self.plain else f"{base}/wp-json/"
        if not request.path.startswith(self.folder):
            return Response("<h1>Not found</h1>", status=404, mimetype="text/html")
        path = request.path[len(self.folder) :]
        asked = request.args.get("rest_route") if path in ("", "/") else (
            None if self.plain else path.removeprefix("/wp-json") if path.startswith("/wp-json") else None
        )  # fmt: skip
        if asked is not None:
            if self.rest is not None:
                return self.rest
            if asked not in ("", "/"):
                return Response('{"code":"rest_no_route"}', status=404, mimetype="application/json")
            index = {"name": "Tom &amp; Co", "home": self.home or base, "timezone_string": "Europe/Berlin",
                     "namespaces": self.namespaces, "routes": {}}  # fmt: skip
            return Response(json.dumps(index), mimetype="application/json")
        head = f'<link rel="https://api.w.org/" href="{root}" />' if self.element else ""
        page = Response(f"<html><head>{head}</head><body>Shop /wp-content/x.css</body></html>", mimetype="text/html")
        if path not in ("", "/"):
            page.status_code = 404
        if self.link:
            page.headers["Link"] = f'<{root}>; rel="https://api.w.org/", <{base}/>; rel=shortlink'
        return page


@pytest.fixture
def site(serve):  # noqa: F811
    """Find the shop of a site on this machine: site(answer, "/what/was/typed")."""

    def look(answer, typed="", **options):
        server = serve(answer, tls=False)
        here = f"http://127.0.0.1:{server.port}"
        return here, find(Http(outbound.session(allow_private=True)), here + typed, allow_http=True, **options)

    return look


def refusal(call):
    with pytest.raises(GatewayError) as told:
        call()
    return told.value


# --- what people type --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("shop.example", "https://shop.example"),
        ("  https://shop.example/  ", "https://shop.example"),
        ("HTTPS://Shop.Example", "https://shop.example"),
        ("http://shop.example", "https://shop.example"),
        ("http://shop.example:80", "https://shop.example"),
        ("https://shop.example:443/", "https://shop.example"),
        ("https://shop.example:8443", "https://shop.example:8443"),
        ("//shop.example/", "https://shop.example"),
        ("shop.example/wp-admin/admin.php?page=wc-settings&tab=advanced", "https://shop.example"),
        ("https://shop.example/blog/wp-login.php?redirect_to=x", "https://shop.example/blog"),
        ("https://shop.example/wp-json/wc/v3/orders", "https://shop.example"),
        ("https://shop.example/?rest_route=/wc/v3", "https://shop.example"),
        ("https://shop.example/index.php/shop/", "https://shop.example"),
        ("https://shop.example//shop//#top", "https://shop.example/shop"),
        ("https://bücher.example/laden", "https://bücher.example/laden"),
    ],
)
def test_the_address_in_what_was_typed(typed, meant):
    assert typed_address(typed) == meant


@pytest.mark.parametrize(
    "typed",
    ["", " ", "shop", "http://", "https:///x", "ftp://shop.example", "javascript:alert(1)", "file:///etc/passwd",
     "https://user:pass@shop.example", "https://user@shop.example", "shop.example:99999", "shop.example:abc",
     "https://sh op.example", "https://shop.example/\r\nHost: x", "https://[::1", "a" * 600 + ".example",
     "https://shop.example\x00", "data:text/html,x", "https://shop.exam%2Fple"],
)  # fmt: skip
def test_what_can_be_no_address(typed):
    with pytest.raises(Refused) as refused:
        typed_address(typed)

    assert refused.value.problem is STORE_ADDRESS_INVALID


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://shop.example", "https://www.shop.example/", True),
        ("https://shop.example/wp-json", "shop.example", True),
        ("https://shop.example:443", "http://shop.example:80", True),
        ("https://shop.example/a", "https://shop.example/b", False),
        ("https://shop.example:8443", "https://shop.example", False),
        ("https://shop.example", "https://shop.example.evil.test", False),
    ],
)
def test_one_shop_under_its_spellings(one, other, same):
    assert (identity(one) == identity(other)) is same


# --- shops -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("typed", ["", "/", "/wp-admin/", "/shop/cart", "/wp-json/wc/v3/orders", "/?rest_route=/wc/v3"])
def test_a_shop_with_pretty_permalinks(site, typed):
    here, found = site(Blog(), typed)

    assert (found.home, found.api) == (here, here + "/wp-json")
    assert (found.name, found.time_zone) == ("Tom & Co", "Europe/Berlin")
    assert not found.has_plain_permalinks


@pytest.mark.parametrize("typed", ["", "/shop/"])
def test_a_shop_with_plain_permalinks(site, typed):
    here, found = site(Blog(plain=True), typed)

    assert found.api == here + "/?via=wp-json/wc/&rest_route="
    assert found.has_plain_permalinks


@pytest.mark.parametrize("typed", ["/en", "/en/product/42", "/en/wp-admin/index.php"])
def test_a_shop_in_a_folder(site, typed):
    here, found = site(Blog(folder="/en"), typed)

    assert (found.home, found.api) == (here + "/en", here + "/en/wp-json")


@pytest.mark.parametrize("blog", [Blog(link=False, element=True), Blog(link=False), Blog(link=False, plain=True)])
def test_a_shop_whose_theme_hides_where_the_api_is(site, blog):
    _, found = site(blog, "/shop")

    assert found.name == "Tom & Co"


@pytest.mark.parametrize(
    ("offset", "zone"),
    [
        ("2", "Etc/GMT-2"),
        (-5, "Etc/GMT+5"),
        ("13", "Etc/GMT-13"),
        ("0", "UTC"),
        ("5.5", "Asia/Kolkata"),
        (-9.5, "Pacific/Marquesas"),
        ("-3.5", "UTC"),
        (99, "UTC"),
        ([], "UTC"),
    ],
)
def test_a_zone_that_is_set_as_an_offset(site, offset, zone):
    index = {"namespaces": WITH, "timezone_string": "", "gmt_offset": offset}
    blog = Blog(rest=Response(json.dumps(index), mimetype="application/json"))

    assert site(blog)[1].time_zone == zone


def test_a_server_that_answers_in_drips_is_given_up(site, monkeypatch):
    monkeypatch.setattr("gateway.platforms.woocommerce.find.SECONDS", -1)

    assert refusal(lambda: site(Blog())).problem is STORE_TIMED_OUT


def test_a_shop_that_claims_another_host_is_known_by_the_one_that_answered(site):
    """Or a stranger's site could pass for a shop that is somebody else's."""
    here, found = site(Blog(home="https://victim.example"))

    assert found.home == here


def test_http_leads_to_https_and_to_www(names, serve, trusted):  # noqa: F811
    blog = Blog()

    def answer(request):
        if request.host.startswith("shop.test"):
            return Response(status=301, headers={"Location": f"https://www.{request.host}{request.full_path}"})
        return blog(request)

    server = serve(answer)
    names.answers |= {"shop.test": [[PUBLIC]], "www.shop.test": [[PUBLIC]]}

    found = find(Http(outbound.session()), f"http://shop.test:{server.port}/shop")

    assert found.home == f"https://www.shop.test:{server.port}"
    assert found.identity == identity(f"https://shop.test:{server.port}")


# --- what is no shop ---------------------------------------------------------------------------------------------
def test_html_that_is_no_wordpress(site):
    told = refusal(lambda: site(lambda _: Response("<h1>My pottery</h1>", mimetype="text/html")))

    assert isinstance(told, NeedsMerchant)
    assert told.problem is STORE_NOT_WORDPRESS


def test_json_that_is_no_wordpress(site):
    assert refusal(lambda: site(lambda _: Response("[1]", mimetype="application/json"))).problem is STORE_NOT_WORDPRESS


def test_a_200_with_an_error_page_is_no_api(site):
    blog = Blog(rest=Response("<h1>There has been a critical error</h1>", mimetype="text/html"))

    assert refusal(lambda: site(blog)).problem is STORE_REST_CLOSED


def test_a_wordpress_without_woocommerce(site):
    assert refusal(lambda: site(Blog(namespaces=["wp/v2"]))).problem is STORE_WITHOUT_WOOCOMMERCE


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_api_that_a_plugin_closed(site, status):
    closed = Response('{"code":"rest_cannot_access"}', status=status, mimetype="application/json")

    assert refusal(lambda: site(Blog(rest=closed))).problem is STORE_REST_CLOSED


def test_a_password_on_the_whole_site(site):
    wall = {"WWW-Authenticate": 'Basic realm="Staging"'}

    told = refusal(lambda: site(lambda _: Response("<h1>401</h1>", 401, headers=wall, mimetype="text/html")))

    assert told.problem is STORE_LOGIN_WALL


def test_a_site_that_sends_everyone_to_its_log_in(site):
    told = refusal(lambda: site(lambda _: Response(status=302, headers={"Location": "/wp-login.php?redirect_to=x"})))

    assert told.problem is STORE_LOGIN_WALL


@pytest.mark.parametrize(
    "page",
    [
        Response("<title>Just a moment...</title>", 403, headers={"cf-mitigated": "challenge"}, mimetype="text/html"),
        Response("<h1>Forbidden</h1>", 403, mimetype="text/html"),
        Response("<h1>Your access was blocked by Wordfence</h1>", 503, mimetype="text/html"),
    ],
)
def test_a_firewall_before_the_shop(site, page):
    assert refusal(lambda: site(lambda _: page)).problem is STORE_FIREWALL


@pytest.mark.parametrize(("status", "problem"), [(500, STORE_ERROR), (503, STORE_ERROR), (429, STORE_THROTTLED)])
def test_a_shop_that_is_down_may_come_back(site, status, problem):
    told = refusal(lambda: site(lambda _: Response("down", status, mimetype="text/plain")))

    assert isinstance(told, Retry)
    assert told.problem is problem


# --- redirects ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example/", "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/",
     "https://127.0.0.1.evil.example/", "https://127.0.0.1@evil.example/", "gopher://127.0.0.1/", "http://127.0.0.1:1/",
     "http://u:p@127.0.0.1/"],
)  # fmt: skip
def test_a_redirect_to_another_host_is_not_followed(site, names, target):  # noqa: F811
    told = refusal(lambda: site(lambda _: Response(status=302, headers={"Location": target})))

    assert told.problem is STORE_REDIRECTS
    assert len(names.connected) == 1
    assert "u:p" not in str(told.facts["to"])


def test_a_redirect_for_ever_ends(site, names):  # noqa: F811
    told = refusal(lambda: site(lambda request: Response(status=302, headers={"Location": request.path + "x"})))

    assert told.problem is STORE_REDIRECTS
    assert len(names.connected) == 5


def test_a_link_to_another_hosts_api_is_not_followed(site, names):  # noqa: F811
    def answer(request):
        page = Response("<h1>shop</h1>", mimetype="text/html")
        page.headers["Link"] = '<http://169.254.169.254/wp-json/>; rel="https://api.w.org/"'
        return page

    refusal(lambda: site(answer))

    assert {host for host, _ in names.connected} == {"127.0.0.1"}


def test_no_way_back_from_https_to_http(names, serve, trusted):  # noqa: F811
    server = serve(lambda r: Response(status=301, headers={"Location": f"http://shop.test:{r.host.split(':')[1]}/"}))
    names.answers["shop.test"] = [[PUBLIC]]

    told = refusal(lambda: find(Http(outbound.session()), f"https://shop.test:{server.port}"))

    assert told.problem is STORE_NOT_HTTPS


def test_an_address_inside_is_not_even_asked(names):  # noqa: F811
    names.answers["intern.example"] = [["192.168.0.10"]]

    assert refusal(lambda: find(Http(outbound.session()), "intern.example")).problem is STORE_ADDRESS_PRIVATE
    assert names.connected == []
