"""Invitations, roles, new passwords: by links that work once, for the right person, and tell strangers nothing."""

from __future__ import annotations

import re
import socketserver
import threading

import pytest
import time_machine

from gateway import mail
from gateway.accounts import links
from gateway.domain.problems import NeedsMerchant, Retry
from gateway.mail import Mailer
from gateway.vault import Vault
from tests.web.conftest import csrf_of, log_in

NEW = "another long password"


def texts(world, application):
    """The mails of the outbox: (to, subject, text)."""
    vault: Vault = application.extensions["access"].vault
    rows = world.sql("SELECT to_address, subject, body FROM mails ORDER BY id")
    return [(row["to_address"], row["subject"], vault.open_mapping(bytes(row["body"]))["text"]) for row in rows]


def link_in(text):
    found = re.search(r"http://127\.0\.0\.1:8000(/\S+)", text)
    assert found, text
    return found[1]


def post(client, path, **fields):
    return client.post(path, data={**fields, "csrf_token": csrf_of(client.get("/forgot").text)})


@pytest.fixture
def invited(application, send, world):
    """Maya invites Ben as a manager: the path of his link."""
    assert send("/settings/users/invite", email="Ben@Example.com", role="manager").status_code == 303
    ((to, subject, text),) = texts(world, application)
    assert (to, subject) == ("ben@example.com", "You are invited to Fern & Clay")
    return link_in(text)


def test_whoever_invites_is_told_where_the_mail_is(send, browser):
    answer = send("/settings/users/invite", email="ben@example.com", role="manager")

    page = browser.get(answer.headers["Location"]).text
    assert "No mail server is set, so hand its link over yourself:" in page


def test_somebody_joins_by_a_link_that_works_once(application, world, invited, anonymous):
    token = invited.partition("token=")[2]
    assert "Join Fern &amp; Clay" in anonymous.get(invited).text

    short = post(anonymous, "/invitation", token=token, name="Ben", password="short")
    assert (short.status_code, "too short" in short.text) == (422, True)
    assert post(anonymous, "/invitation", token=token, name="Ben", password=NEW).status_code == 303

    (ben,) = world.sql("SELECT role, name, account_id FROM users WHERE email = 'ben@example.com'")
    assert (ben["role"], ben["name"]) == ("manager", "Ben")
    assert log_in(anonymous, "ben@example.com", NEW).status_code == 302
    other = application.test_client()
    assert post(other, "/invitation", token=token, name="Eve", password=NEW).status_code == 409
    assert other.get(invited).status_code == 409


def test_two_who_accept_at_once_are_one(application, world, invited, database):
    token, outcomes, barrier = invited.partition("token=")[2], [], threading.Barrier(2)

    def accept():
        from datetime import UTC, datetime

        barrier.wait()
        try:
            with database.transaction() as tx:
                links.accept(tx, token, "hash", "Ben", now=datetime.now(UTC))
            outcomes.append("joined")
        except NeedsMerchant as error:
            outcomes.append(error.problem.code)

    threads = [threading.Thread(target=accept) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["joined", "people.link_over"]


def test_an_invitation_ends_after_a_week_and_when_it_is_taken_back(invited, anonymous, send, world):
    with time_machine.travel("2036-01-01"):
        assert anonymous.get(invited).status_code == 409
    (row,) = world.sql("SELECT id FROM links")
    assert send(f"/settings/invitations/{row['id']}/revoke").status_code == 303
    assert anonymous.get(invited).status_code == 409


def test_an_invitation_gives_the_role_that_was_meant_whatever_the_form_says(invited, anonymous, world):
    post(anonymous, "/invitation", token=invited.partition("token=")[2], password=NEW, role="owner", email="x@y.zz")

    assert [row["role"] for row in world.sql("SELECT role FROM users WHERE email = 'ben@example.com'")] == ["manager"]


@pytest.mark.parametrize(
    "email", ["", "ben", "ben@localhost", "a@b.c\r\nBcc: eve@example.com", "a@b.c, eve@example.com", "<a@b.c>",
              "a b@c.de", "@c.de", "a@.de", "x" * 250 + "@c.de"],
)  # fmt: skip
def test_what_is_no_address_is_refused(email, send, world):
    answer = send("/settings/users/invite", email=email, role="viewer")

    assert answer.status_code == 422
    assert world.sql("SELECT 1 FROM mails") == []


def test_the_link_is_at_our_own_address_whatever_host_the_request_named(browser, world, application):
    token = csrf_of(browser.get("/settings").text)
    browser.post("/settings/users/invite", data={"email": "ben@example.com", "role": "viewer", "csrf_token": token},
                 headers={"X-Forwarded-Host": "evil.example"})  # fmt: skip

    assert "evil" not in texts(world, application)[0][2]


def test_the_last_owner_stays_one(send, world, maya):
    assert send(f"/settings/users/{maya.user_id}/role", role="viewer").status_code == 409
    assert send(f"/settings/users/{maya.user_id}/remove").status_code == 409
    assert world.sql("SELECT role FROM users")[0]["role"] == "owner"


def test_whoever_is_removed_is_out_at_once(application, send, world):
    ben = world.user("ben@example.com", role="manager")
    client = application.test_client()
    log_in(client, "ben@example.com")
    token = world.token(ben, "gw_of_ben")
    assert client.get("/orders").status_code == 200

    assert send(f"/settings/users/{ben.user_id}/remove").status_code == 303

    assert client.get("/orders").status_code == 302
    assert client.get("/api/v1/orders", headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_a_changed_role_counts_at_once(application, send, world):
    ben = world.user("ben@example.com", role="owner")
    client = application.test_client()
    log_in(client, "ben@example.com")
    assert client.get("/settings/users").status_code == 200

    send(f"/settings/users/{ben.user_id}/role", role="viewer")

    assert client.get("/settings/users").status_code == 403


def test_a_new_password_ends_every_log_in_and_its_link(application, world, maya, browser, anonymous):
    assert "on its way" in post(anonymous, "/forgot", email="MAYA@example.com ").text
    ((to, _, text),) = texts(world, application)
    token = link_in(text).partition("token=")[2]
    assert to == "maya@example.com"

    assert post(anonymous, "/reset", token=token, password=NEW).status_code == 303

    assert browser.get("/orders").status_code == 302
    assert log_in(anonymous).status_code == 401
    assert log_in(anonymous, password=NEW).status_code == 302
    assert post(application.test_client(), "/reset", token=token, password="yet another one").status_code == 409


def test_asking_for_a_new_password_tells_nobody_who_has_one(anonymous, maya, world):
    known = post(anonymous, "/forgot", email="maya@example.com")
    unknown = post(anonymous, "/forgot", email="nobody@example.com")

    assert known.status_code == unknown.status_code == 200
    assert re.sub(r'value="[^"]+"', "", known.text) == re.sub(r'value="[^"]+"', "", unknown.text)
    assert len(world.sql("SELECT 1 FROM mails")) == 1


def test_a_link_of_one_kind_opens_no_other(application, invited, anonymous, maya, world):
    post(anonymous, "/forgot", email="maya@example.com")
    reset = link_in(texts(world, application)[1][2]).partition("token=")[2]

    assert post(anonymous, "/invitation", token=reset, password=NEW).status_code == 409
    assert post(anonymous, "/reset", token=invited.partition("token=")[2], password=NEW).status_code == 409


@time_machine.travel("2026-11-24 12:00:30 +0000", tick=False)
def test_asking_again_and_again_is_slowed_down(anonymous, maya):
    answers = [post(anonymous, "/forgot", email="maya@example.com").status_code for _ in range(4)]

    assert answers == [200, 200, 200, 429]


def test_without_a_mail_server_owners_read_their_own_accounts_mails(application, browser, invited, world):
    assert "/invitation?token=" in browser.get("/settings/mails").text
    world.user("eve@example.com", account="Eve's")
    eve = application.test_client()
    log_in(eve, "eve@example.com")
    assert "token=" not in eve.get("/settings/mails").text
    manager = application.test_client()
    world.user("max@example.com", role="manager")
    log_in(manager, "max@example.com")
    assert manager.get("/settings/mails").status_code == 403


def test_neither_token_nor_text_lies_open_in_the_database(world, invited):
    token = invited.partition("token=")[2]
    row = world.sql("SELECT l.token_hash, m.body FROM links l, mails m")[0]

    assert token.encode() not in bytes(row["body"])
    assert token.encode() not in bytes(row["token_hash"])


# --- sending -------------------------------------------------------------------------------------------------------
class _Server(socketserver.ThreadingTCPServer):
    """Takes mail as plainly as SMTP can: `taken` holds each message."""

    allow_reuse_address = daemon_threads = True
    taken: list[str]


class _Smtp(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.wfile.write(b"220 test\r\n")
        while line := self.rfile.readline():
            word = line[:4].upper()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = []
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    lines.append(line)
                self.server.taken.append(b"".join(lines).decode())
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
            if word == b"QUIT":
                return


def test_a_mail_goes_out_and_its_text_is_forgotten(application, invited, world):
    server = _Server(("127.0.0.1", 0), _Smtp)
    server.taken = []
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    access = application.extensions["access"]
    (row,) = world.sql("SELECT id FROM mails")
    mailer = Mailer(f"smtp://127.0.0.1:{server.server_address[1]}", mail.sender_of("https://gw.example.com"))
    try:
        mail.deliver(access.database.engine, access.vault, mailer, row["id"])
        mail.deliver(access.database.engine, access.vault, mailer, row["id"])
    finally:
        server.shutdown()
        server.server_close()

    (message,) = server.taken
    assert "To: ben@example.com" in message
    assert "gateway@gw.example.com" in message
    assert "/invitation?token=" in message.replace("=\r\n", "").replace("=3D", "=")
    (row,) = world.sql("SELECT body, sent_at IS NOT NULL AS sent FROM mails")
    assert (row["body"], row["sent"]) == (None, True)


def test_a_server_that_is_away_is_tried_again_and_told(application, invited, world):
    access = application.extensions["access"]
    (row,) = world.sql("SELECT id FROM mails")

    with pytest.raises(Retry):
        mail.deliver(access.database.engine, access.vault, Mailer("smtp://127.0.0.1:9", "x@y.zz"), row["id"])

    (row,) = world.sql("SELECT body IS NOT NULL AS kept, attempts, problem FROM mails")
    assert (row["kept"], row["attempts"], row["problem"]) == (True, 1, "mail.not_sent")


def test_a_password_is_never_sent_in_the_clear(application, invited, world):
    server = _Server(("127.0.0.1", 0), _Smtp)
    server.taken = []
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    access = application.extensions["access"]
    (row,) = world.sql("SELECT id FROM mails")
    mailer = Mailer(f"smtp://user:hush@127.0.0.1:{server.server_address[1]}", "x@y.zz")
    try:
        with pytest.raises(Retry):
            mail.deliver(access.database.engine, access.vault, mailer, row["id"])
    finally:
        server.shutdown()
        server.server_close()

    assert server.taken == []
