"""Files behind links: read in pieces from any byte on, under the same guards as calls, and told nobody's keys."""

from __future__ import annotations

import socket
import threading

import pytest
from werkzeug.wrappers import Response

from gateway import http as http_module
from gateway import outbound
from gateway.domain.problems import (
    STORE_ADDRESS_PRIVATE,
    STORE_ERROR,
    STORE_NOT_HTTPS,
    STORE_REQUEST_REFUSED,
    STORE_TIMED_OUT,
    STORE_UNREACHABLE,
    NeedsMerchant,
    Refused,
    Retry,
)
from gateway.http import Http

CONTENT = b"".join(b"line %06d\n" % number for number in range(20_000))


def http(**options):
    return Http(outbound.session(allow_private=True), **options)


def whole(_request):
    return Response(CONTENT, mimetype="application/jsonl")


def ranged(request):
    begin = int(request.headers["Range"].removeprefix("bytes=").rstrip("-")) if "Range" in request.headers else 0
    headers = {"Content-Range": f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}"} if begin else {}
    return Response(CONTENT[begin:], status=206 if begin else 200, headers=headers)


@pytest.mark.parametrize("answer", [whole, ranged])
@pytest.mark.parametrize("after", [0, 1, 65_536, 70_000, len(CONTENT) - 1])
def test_a_file_is_read_from_any_byte_on_whether_or_not_its_host_knows_ranges(serve, answer, after):
    site = serve(answer, tls=False)

    pieces = list(http().stream(f"http://127.0.0.1:{site.port}/file", after=after))

    assert b"".join(pieces) == CONTENT[after:]
    assert max(map(len, pieces)) <= 65_536


def test_it_is_read_as_it_is_needed_and_a_reader_may_leave(serve):
    site = serve(whole, tls=False)
    pieces = http().stream(f"http://127.0.0.1:{site.port}/file")

    first = next(pieces)
    pieces.close()

    assert CONTENT.startswith(first)
    assert len(first) < len(CONTENT)


def test_neither_keys_nor_budget_nor_clock_are_the_stores(serve):
    site = serve(whole, tls=False)
    told = []
    caller = http(before=told.append, after=told.append)

    list(caller.stream(f"http://127.0.0.1:{site.port}/file?signature=x"))

    (request,) = site.requests
    assert told == []
    assert not {"X-Shopify-Access-Token", "Authorization", "Cookie"} & set(request.headers.keys())
    assert request.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("status", "kind", "problem"),
    [
        (302, Refused, STORE_REQUEST_REFUSED),
        (400, Refused, STORE_REQUEST_REFUSED),
        (403, Refused, STORE_REQUEST_REFUSED),
        (404, Refused, STORE_REQUEST_REFUSED),
        (416, Refused, STORE_REQUEST_REFUSED),
        (429, Retry, STORE_ERROR),
        (503, Retry, STORE_ERROR),
    ],
)
def test_what_is_no_file_is_told(serve, status, kind, problem):
    site = serve(lambda _: Response("<Error>", status=status, headers={"Location": "/elsewhere"}), tls=False)

    with pytest.raises(kind) as refused:
        list(http().stream(f"http://127.0.0.1:{site.port}/file?signature=secret"))

    assert refused.value.problem is problem
    assert "secret" not in str(refused.value)
    assert len(site.requests) == 1


def test_another_part_than_was_asked_for_is_refused(serve):
    headers = {"Content-Range": "bytes 5-9/10"}
    site = serve(lambda _: Response(b"56789", status=206, headers=headers), tls=False)

    with pytest.raises(Refused):
        list(http().stream(f"http://127.0.0.1:{site.port}/file", after=4))


@pytest.mark.parametrize("link", ["", "file:///etc/passwd", "no link", "http://", "https://[", "gopher://a.test/"])
def test_what_is_no_link_is_refused(link):
    with pytest.raises(Refused) as refused:
        list(http().stream(link))

    assert refused.value.problem is STORE_REQUEST_REFUSED


@pytest.mark.parametrize(
    ("link", "problem"),
    [("https://127.0.0.1/file", STORE_ADDRESS_PRIVATE), ("https://169.254.169.254/file", STORE_ADDRESS_PRIVATE),
     ("http://storage.test/file", STORE_NOT_HTTPS)],
)  # fmt: skip
def test_a_link_that_leads_inside_or_past_tls_is_not_followed(names, link, problem):
    with pytest.raises(NeedsMerchant) as refused:
        list(Http(outbound.session()).stream(link))

    assert refused.value.problem is problem
    assert names.connected == []


def test_a_file_that_breaks_off_is_told_after_what_came(serve):
    def broken(_request):
        return Response(iter([CONTENT[:100_000]]), headers={"Content-Length": str(len(CONTENT))})

    site = serve(broken, tls=False)
    pieces = http().stream(f"http://127.0.0.1:{site.port}/file")

    first = next(pieces)
    with pytest.raises(Retry) as told:
        list(pieces)

    assert CONTENT.startswith(first)
    assert told.value.problem is STORE_UNREACHABLE


def test_a_file_that_only_drips_is_given_up(monkeypatch):
    """Each piece comes in time, and the whole never would."""
    passed = 0.0

    class Clock:
        @staticmethod
        def monotonic() -> float:
            nonlocal passed
            passed += 10.0
            return passed

    monkeypatch.setattr(http_module, "time", Clock)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        thread = threading.Thread(target=_drip, args=(server,))
        thread.start()

        with pytest.raises(Retry) as told:
            list(http().stream(f"http://127.0.0.1:{server.getsockname()[1]}/file"))

        thread.join()
    assert told.value.problem is STORE_TIMED_OUT


def _drip(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(1000):
                connection.sendall(b"1\r\nx\r\n")
        except OSError:
            return


def test_a_file_without_an_end_is_given_up(serve, monkeypatch):
    monkeypatch.setattr(http_module, "MAX_FILE_BYTES", 100_000)
    site = serve(whole, tls=False)

    with pytest.raises(Refused):
        list(http().stream(f"http://127.0.0.1:{site.port}/file"))
