"""Users of an account: invitations, roles, new passwords; and the mails that carry their links."""

from __future__ import annotations

import math

from flask import Blueprint, Response, abort, current_app, redirect, render_template, request, url_for
from flask_babel import gettext
from sqlalchemy import Connection
from werkzeug.wrappers import Response as AnyResponse

from gateway import mail
from gateway.accounts import audit, links, passwords, throttle, users
from gateway.connections.access import Access
from gateway.domain.problems import LOGIN_THROTTLED, MAIL_ADDRESS_WRONG, PASSWORD_SHORT, Problem, Retry
from gateway.domain.scope import Role
from gateway.web.request import now, number, public, requires, scope, transaction

people = Blueprint("people", __name__)

AUDIT_PAGE = 100
RESET_BY_EMAIL = throttle.Limit(burst=3, seconds_each=600)
RESET_BY_ADDRESS = throttle.Limit(burst=20, seconds_each=60)
LINK_BY_ADDRESS = throttle.Limit(burst=30, seconds_each=10)


# --- the account's own --------------------------------------------------------------------------------------------
@people.get("/settings/users")
@requires("manage_users")
def index() -> str:
    return _users()


def _users(problem: Problem | None = None, email: str = "") -> str:
    with transaction() as tx:
        return render_template(
            "users.html", users=users.list_users(tx, scope()), problem=problem, email=email, roles=users.ROLES,
            invitations=links.list_invitations(tx, scope(), now=now()), has_mail=_sends(),
        )  # fmt: skip


@people.post("/settings/users/invite")
@requires("manage_users")
def invite() -> AnyResponse | str:
    """Send an invitation; the role is the one that it gives."""
    email, role = users.plain_email(request.form.get("email", "")), _role(request.form.get("role"))
    if not mail.is_address(email):
        return Response(_users(MAIL_ADDRESS_WRONG, email[:254]), 422)
    with transaction() as tx:
        token = links.invite(tx, scope(), email, role, now=now())
        account = users.get_account(tx, scope())["name"]
        write_mail(
            tx, scope().account_id, email, gettext("You are invited to %(account)s", account=one_line(account)),
            gettext("You can join %(account)s on this order gateway. The link works once, for seven days:",
                    account=one_line(account)),
            url_for("people.invitation", token=token),
        )  # fmt: skip
    return redirect(url_for("people.index", invited=1), 303)


@people.post("/settings/users/<id:user_id>/role")
@requires("manage_users")
def change_role(user_id: int) -> AnyResponse:
    with transaction() as tx:
        if not links.change_role(tx, scope(), user_id, _role(request.form.get("role"))):
            abort(404)
    return redirect(url_for("people.index"), 303)


@people.post("/settings/users/<id:user_id>/remove")
@requires("manage_users")
def remove(user_id: int) -> AnyResponse:
    """Their log-ins and API tokens end with them."""
    with transaction() as tx:
        if not links.remove_user(tx, scope(), user_id):
            abort(404)
    return redirect(url_for("people.index"), 303)


@people.post("/settings/invitations/<id:link_id>/revoke")
@requires("manage_users")
def revoke(link_id: int) -> AnyResponse:
    with transaction() as tx:
        if not links.revoke(tx, scope(), link_id):
            abort(404)
    return redirect(url_for("people.index"), 303)


@people.get("/settings/mails")
@requires("manage_users")
def mails() -> str:
    """Where no mail server is set, the account's owners read here what would have been sent."""
    access = _access()
    with transaction() as tx:
        rows = mail.list_unsent(tx, scope())
    opened = [{**row, "body": access.vault.open_mapping(bytes(row["body"]))["text"]} for row in rows]
    return render_template("mails.html", mails=[] if _sends() else opened, has_mail=_sends())


@people.get("/settings/audit")
@requires("manage_users")
def audit_log() -> str:
    """Who saw personal data."""
    with transaction() as tx:
        notes = audit.list_notes(tx, scope(), before=number("before"), limit=AUDIT_PAGE + 1)
    older = notes[AUDIT_PAGE - 1]["id"] if len(notes) > AUDIT_PAGE else None
    return render_template("audit.html", notes=notes[:AUDIT_PAGE], older=older)


# --- by a link ---------------------------------------------------------------------------------------------------
@people.get("/invitation")
@public
def invitation() -> str:
    """What one is invited to, and the form for name and password."""
    token = request.args.get("token", "")
    with transaction() as tx:
        link = links.find(tx, "invitation", token, now=now())
    return render_template("join.html", link=link, token=token, problem=None, name="")


@people.post("/invitation")
@public
def accept() -> AnyResponse | str:
    token, name = request.form.get("token", ""), request.form.get("name", "").replace("\x00", "").strip()[:200]
    password = request.form.get("password", "")
    slow_down("link-address", request.remote_addr or "", LINK_BY_ADDRESS)
    with transaction() as tx:
        link = links.find(tx, "invitation", token, now=now())
    if not links.is_long_enough(password):
        page = render_template("join.html", link=link, token=token, problem=PASSWORD_SHORT, name=name)
        return Response(page, 422)
    hashed = passwords.hash_password(password)  # before a connection is held
    with transaction() as tx:
        links.accept(tx, token, hashed, name, now=now())
    return redirect(url_for("login.show", joined=1), 303)


@people.get("/forgot")
@public
def forgot() -> str:
    return render_template("forgot.html", asked=False)


@people.post("/forgot")
@public
def send_reset() -> str:
    """The same answer whether or not there is such a user."""
    email = users.plain_email(request.form.get("email", ""))[:254].replace("\x00", "")
    slow_down("reset-address", request.remote_addr or "", RESET_BY_ADDRESS)
    slow_down("reset-email", email, RESET_BY_EMAIL)
    with transaction() as tx:
        made = links.ask_for_reset(tx, email, now=now())
        if made is not None:
            write_mail(
                tx, made[0], email, gettext("Your new password"),
                gettext("Somebody, probably you, asked for a new password. The link works once, for an hour. If it was"
                        " not you, nothing is to be done:"),
                url_for("people.reset", token=made[1]),
            )  # fmt: skip
    return render_template("forgot.html", asked=True)


@people.get("/reset")
@public
def reset() -> str:
    token = request.args.get("token", "")
    with transaction() as tx:
        link = links.find(tx, "reset", token, now=now())
    return render_template("reset.html", link=link, token=token, problem=None)


@people.post("/reset")
@public
def set_password() -> AnyResponse | str:
    token, password = request.form.get("token", ""), request.form.get("password", "")
    slow_down("link-address", request.remote_addr or "", LINK_BY_ADDRESS)
    with transaction() as tx:
        link = links.find(tx, "reset", token, now=now())
    if not links.is_long_enough(password):
        return Response(render_template("reset.html", link=link, token=token, problem=PASSWORD_SHORT), 422)
    hashed = passwords.hash_password(password)
    with transaction() as tx:
        links.reset(tx, token, hashed, now=now())
    return redirect(url_for("login.show", joined=1), 303)


# --- shared ------------------------------------------------------------------------------------------------------
def write_mail(tx: Connection, account_id: int | None, to: str, subject: str, sentence: str, path: str) -> None:
    """A plain mail with one link, at PUBLIC_URL: never at the host that a request named."""
    access = _access()
    body = f"{sentence}\n\n{access.public_url}{path}\n"
    mail.write(tx, access.vault, account_id, to, subject, body)


def one_line(value: str) -> str:
    return " ".join(value.split())[:100]


def _role(given: str | None) -> Role:
    return next((role for role in users.ROLES if role == given), "viewer")


def slow_down(kind: str, name: str, limit: throttle.Limit) -> None:
    bucket = throttle.bucket(kind, name, key=str(current_app.config["SECRET_KEY"]))
    with transaction() as tx:
        wait = throttle.take(tx, bucket, limit, now=now())
    if wait:
        raise Retry(LOGIN_THROTTLED, after_seconds=wait, wait=math.ceil(wait))


def _sends() -> bool:
    return bool(current_app.extensions["settings"].smtp_url)


def _access() -> Access:
    access: Access = current_app.extensions["access"]
    return access
