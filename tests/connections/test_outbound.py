"""A store's URL is a person's input: whatever it names, no call leaves for our own network."""

from __future__ import annotations

import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from werkzeug.wrappers import Response

from gateway import outbound
from gateway.domain.problems import (
    STORE_ADDRESS_PRIVATE,
    STORE_NAME_UNKNOWN,
    STORE_NOT_HTTPS,
    STORE_TIMED_OUT,
    STORE_TLS,
    STORE_UNREACHABLE,
    NeedsMerchant,
    Retry,
)
from gateway.http import Http
from tests.connections.conftest import PUBLIC


def ok(_request):
    return Response("{}", mimetype="application/json")


def http(**options):
    return Http(outbound.session(**options))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "100.64.0.1", "100.100.100.200", "169.254.169.254", "192.0.0.192", "198.18.0.1", "224.0.0.1",
        "255.255.255.255", "240.0.0.1", "192.88.99.1", "168.63.129.16", "192.0.2.1", "203.0.113.9",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1",
        "2002:7f00:1::", "2002:c0a8:101::", "2001:0:7f00:1::", "100::1", "not an address", "",
    ],
)  # fmt: skip
def test_addresses_that_are_nobodys_shop(address):
    assert not outbound.is_public(address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "169.253.0.1", "192.0.1.1", "223.255.255.1",
     "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"],
)  # fmt: skip
def test_addresses_of_the_public_internet(address):
    assert outbound.is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/", "https://localhost/", "https://127.1/", "https://2130706433/", "https://0x7f000001/",
        "https://0177.0.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://169.254.169.254/latest/",
        "https://0/", "https://user:pass@127.0.0.1/", "https://127.0.0.1.:443/",
    ],
)  # fmt: skip
def test_no_spelling_of_our_own_machine_is_called(url, names, serve):
    with pytest.raises((NeedsMerchant, Retry)) as refused:
        http().call("GET", url)

    assert refused.value.problem in (STORE_ADDRESS_PRIVATE, STORE_NAME_UNKNOWN)
    assert names.connected == []


def test_a_name_that_leads_inside_is_refused_before_anything_connects(names, serve):
    site = serve(ok)
    names.answers["shop.test"] = [["127.0.0.1"]]

    with pytest.raises(NeedsMerchant) as refused:
        http().call("GET", f"https://shop.test:{site.port}/")

    assert refused.value.problem is STORE_ADDRESS_PRIVATE
    assert names.connected == []
    assert site.requests == []


def test_a_name_with_one_public_and_one_private_address_is_refused_whole(names):
    names.answers["shop.test"] = [[PUBLIC, "10.0.0.8"]]

    with pytest.raises(NeedsMerchant):
        http().call("GET", "https://shop.test/")

    assert names.connected == []


def test_a_name_that_changes_between_check_and_connect_gains_nothing(names, serve, trusted):
    """DNS rebinding: the socket goes to the address that was checked, and the name is asked once."""
    site = serve(ok)
    names.answers["shop.test"] = [[PUBLIC], ["127.0.0.1"]]
    caller = http()

    assert caller.call("GET", f"https://shop.test:{site.port}/").status == 200

    assert names.asked == ["shop.test"]
    assert names.connected == [(PUBLIC, site.port)]


def test_each_new_connection_is_checked_again(names, serve, trusted):
    site = serve(lambda _: Response("{}", headers={"Connection": "close"}))
    names.answers["shop.test"] = [[PUBLIC], ["127.0.0.1"]]
    caller = http()
    caller.call("GET", f"https://shop.test:{site.port}/")

    with pytest.raises(NeedsMerchant):
        caller.call("GET", f"https://shop.test:{site.port}/")

    assert len(site.requests) == 1


def test_a_kept_connection_costs_no_second_look_up(names, certificate, trusted):
    class Keeping(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keeping)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    names.answers["shop.test"] = [[PUBLIC]]
    caller = http()

    for _ in range(5):
        assert caller.call("GET", f"https://shop.test:{server.server_port}/").status == 200

    assert names.asked == ["shop.test"]
    assert len(names.connected) == 1
    caller.session.close()
    server.shutdown()
    server.server_close()


def test_the_second_address_is_tried_when_the_first_one_is_dead(names, serve, trusted, monkeypatch):
    site = serve(ok)
    names.answers["shop.test"] = [["198.200.9.9", PUBLIC]]
    bridged = socket.socket.connect

    def dead_first(self, address):
        if address[0] == "198.200.9.9":
            raise ConnectionRefusedError
        bridged(self, address)

    monkeypatch.setattr(socket.socket, "connect", dead_first)

    assert http().call("GET", f"https://shop.test:{site.port}/").status == 200


def test_nothing_is_sent_without_tls(names, serve):
    site = serve(ok, tls=False)
    names.answers["shop.test"] = [[PUBLIC]]

    with pytest.raises(NeedsMerchant) as refused:
        http().call("GET", f"http://shop.test:{site.port}/", auth=("ck_1", "cs_1"))

    assert refused.value.problem is STORE_NOT_HTTPS
    assert site.requests == []


def test_redirects_are_not_followed(names, serve, trusted):
    """Not to another host, not inside: the keys of a request go where it was sent and nowhere else."""
    site = serve(lambda _: Response(status=302, headers={"Location": "http://169.254.169.254/latest/meta-data/"}))
    names.answers["shop.test"] = [[PUBLIC]]

    answer = http().call("GET", f"https://shop.test:{site.port}/", auth=("ck_1", "cs_1"))

    assert answer.status == 302
    assert len(names.connected) == 1


def test_the_operator_may_allow_private_stores(serve):
    site = serve(ok, tls=False)

    assert http(allow_private=True).call("GET", f"http://127.0.0.1:{site.port}/").status == 200


def test_the_operators_own_urls_may_lead_anywhere_and_open_nothing_else(serve):
    api, other = serve(ok, tls=False), serve(ok, tls=False)
    caller = http(trusted=[f"http://127.0.0.1:{api.port}/etsy/v3"])

    assert caller.call("GET", f"http://127.0.0.1:{api.port}/etsy/v3/x").status == 200
    for url in (f"http://127.0.0.1:{other.port}/", f"http://localhost:{api.port}/", f"https://127.0.0.1:{api.port}/"):
        with pytest.raises(NeedsMerchant):
            caller.call("GET", url)
    assert other.requests == []


def test_a_store_leaves_no_cookie_behind(serve):
    site = serve(lambda _: Response("{}", headers={"Set-Cookie": "wall=1; Path=/"}), tls=False)
    caller = http(allow_private=True)

    for _ in range(2):
        caller.call("GET", f"http://127.0.0.1:{site.port}/")

    assert [request.headers.get("Cookie") for request in site.requests] == [None, None]


def test_an_operators_proxy_is_not_asked_for_an_address_inside(names, serve, monkeypatch):
    proxy = serve(ok, tls=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    names.answers["shop.test"] = [["10.1.1.1"]]

    with pytest.raises(NeedsMerchant):
        http().call("GET", "https://shop.test/")

    assert proxy.requests == []


# --- why there was no answer -------------------------------------------------------------------------------------
def why(call):
    with pytest.raises(Retry) as told:
        call()
    return told.value


def test_an_unknown_name_a_closed_port_and_a_bad_certificate_are_told_apart(names, serve):
    site = serve(ok)
    names.answers["shop.test"] = [[PUBLIC]]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]

    assert why(lambda: http().call("GET", "https://no-such-shop.test/")).problem is STORE_NAME_UNKNOWN
    assert why(lambda: http().call("GET", f"https://shop.test:{closed}/")).problem is STORE_UNREACHABLE
    untrusted = why(lambda: http().call("GET", f"https://shop.test:{site.port}/"))
    assert untrusted.problem is STORE_TLS
    assert "self-signed" in str(untrusted.facts["why"]).replace("self signed", "self-signed")


def test_silence_is_told_as_silence(serve, monkeypatch):
    monkeypatch.setattr("gateway.http.READ_SECONDS", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()

        told = why(lambda: http(allow_private=True).call("GET", f"http://127.0.0.1:{silent.getsockname()[1]}/"))

    assert told.problem is STORE_TIMED_OUT


def test_the_reason_never_tells_the_keys_of_the_url():
    told = why(lambda: http().call("GET", "https://no-such-shop.test/", params={"consumer_secret": "cs_secret"}))

    assert "cs_secret" not in str(told)
    assert "cs_secret" not in str(told.facts)


def test_requests_library_still_names_its_errors_as_we_read_them():
    """`no_answer` reads how urllib3 wraps its reasons; another release of it may wrap otherwise."""
    with pytest.raises(requests.ConnectionError) as raised:
        requests.get("https://no-such-shop.test/", timeout=1)

    assert type(raised.value.args[0].reason).__name__ == "NameResolutionError"
