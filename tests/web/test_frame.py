"""What surrounds every page: health, hosts, errors, static files, limits."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

import app as composition
from gateway.web import frame
from tests.web.conftest import settings

WEB = Path(frame.__file__).parent


def test_the_process_is_up_without_asking_the_database(anonymous, monkeypatch):
    monkeypatch.setattr("gateway.db.engine.Database.transaction", None)

    assert anonymous.get("/healthz").status_code == 200


def test_ready_is_what_the_receiver_says(application, anonymous, monkeypatch):
    monkeypatch.setitem(application.extensions, "can_receive", lambda: ["the disk is full"])

    answer = anonymous.get("/readyz")

    assert answer.status_code == 503
    assert answer.json == {"ready": False, "reasons": ["the disk is full"]}


def test_a_dead_worker_shows_only_where_it_is_asked_for(application, anonymous, world, monkeypatch):
    monkeypatch.setitem(application.extensions, "can_receive", list)

    assert anonymous.get("/readyz").status_code == 200
    assert anonymous.get("/readyz?role=all").json["reasons"] == ["no worker is running"]
    world.sql("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '31 seconds')")
    assert "31 seconds old" in anonymous.get("/readyz?role=all").json["reasons"][0]
    world.sql("UPDATE procrastinate_workers SET last_heartbeat = now()")
    assert anonymous.get("/readyz?role=all").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 302), ("localhost", 302), ("[::1]:8000", 302), ("evil.example", 400),
        ("127.0.0.1.evil.example", 400), ("", 400),
    ],
)  # fmt: skip
def test_only_known_hosts_are_answered(anonymous, host, status):
    assert anonymous.get("/orders", headers={"Host": host}).status_code == status


def test_probes_may_name_any_host(anonymous):
    assert anonymous.get("/healthz", headers={"Host": "10.1.2.3:8000"}).status_code == 200


def test_behind_https_cookies_and_hosts_are_bound_to_it(database_url):
    made = composition.create_app(settings(database_url, "https://gateway.example"))
    try:
        answer = made.test_client().get("/login", base_url="https://gateway.example")

        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert "Secure" in answer.headers["Set-Cookie"]
        assert made.test_client().get("/login", base_url="https://other.example").status_code == 400
    finally:
        made.extensions["database"].close()
        made.extensions["access"].database.close()


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (PoolTimeoutError(), "Too busy for the moment"),
        (OperationalError("SELECT 1", {}, Exception("gone")), "The database can&#39;t be reached"),
    ],
)
def test_without_the_database_a_page_says_come_again(browser, monkeypatch, failure, words):
    def fail(*_args, **_kwargs):
        raise failure

    monkeypatch.setattr("gateway.connections.model.list_stores", fail)

    answer = browser.get("/orders")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert words in answer.text


def test_a_fault_of_ours_tells_no_detail(browser, monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError("secret detail")

    monkeypatch.setattr("gateway.connections.model.list_stores", fail)

    answer = browser.get("/orders")

    assert answer.status_code == 500
    assert "Something went wrong on our side" in answer.text
    assert "secret detail" not in answer.text


def test_a_wrong_method_names_the_right_ones(browser):
    answer = browser.put("/orders")

    assert answer.status_code in (400, 405)  # without a form's token it does not even come to the method
    assert browser.delete("/healthz", headers={"X-CSRFToken": "x"}).status_code in (400, 405)


def test_every_vendored_file_is_what_its_manifest_says():
    manifest = json.loads((WEB / "static/vendor/MANIFEST.json").read_text())["files"]

    for entry in manifest:
        content = (WEB / "static/vendor" / entry["name"]).resolve().read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], entry["name"]
        assert entry["version"]
        assert entry["licence"]
    named = {entry["name"] for entry in manifest}
    present = {path.name for path in (WEB / "static/vendor").glob("*.*")} - {"MANIFEST.json"}
    assert {name.removesuffix(".gz") for name in present} == {name for name in named if not name.startswith("..")}


def test_templates_name_only_files_that_are_there():
    for template in (WEB / "templates").glob("*.html"):
        text = template.read_text()
        assert "http://" not in text.replace("http://www.w3.org", ""), template.name
        assert "https://" not in text, template.name
        for name in re.findall(r"asset\('([^']+)'\)", text):
            assert (WEB / "static" / name).is_file(), name


def test_no_template_has_inline_style_or_script():
    for template in (WEB / "templates").glob("*.html"):
        text = template.read_text()
        assert not re.search(r"\sstyle=|<style|\son\w+=|<script(?! defer src)|javascript:", text), template.name


def test_static_files_live_for_ever_under_their_hash(anonymous):
    page = anonymous.get("/login").text
    addresses = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)

    assert len(addresses) == 5
    for address in addresses:
        answer = anonymous.get(address, headers={"Accept-Encoding": "gzip"})
        assert answer.status_code == 200
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert re.search(r"\?v=[0-9a-f]{16}$", address)
        answer.close()


def test_no_lock_file_names_a_host():
    assert "resolved" not in (WEB / "package-lock.json").read_text()
