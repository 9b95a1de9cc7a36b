"""Open an account, where whoever runs the gateway lets strangers do so (SIGN_UP)."""

from __future__ import annotations

from flask import Blueprint, Response, abort, current_app, redirect, render_template, request, url_for
from flask_babel import gettext
from werkzeug.wrappers import Response as AnyResponse

from gateway import mail
from gateway.accounts import links, passwords, sign_up, throttle, users
from gateway.domain.problems import MAIL_ADDRESS_WRONG, PASSWORD_SHORT, Problem
from gateway.web.people_pages import LINK_BY_ADDRESS, RESET_BY_ADDRESS, RESET_BY_EMAIL, one_line, slow_down, write_mail
from gateway.web.request import now, own_path, public, transaction

pages = Blueprint("sign_up", __name__)

SIGN_UP_BY_ADDRESS = throttle.Limit(burst=10, seconds_each=600)
"""By network: each try may send a mail to somebody."""


@pages.before_request
def _only_where_it_is_open() -> None:
    if not current_app.extensions["settings"].sign_up:
        abort(404)


@pages.get("/sign-up")
@public
def form() -> str:
    return _form(None, target=own_path(request.args.get("next")) or "")


def _form(problem: Problem | None, *, target: str, email: str = "", account: str = "", asked: bool = False) -> str:
    return render_template(
        "sign_up.html", problem=problem, next=target, email=email, account=account, asked=asked
    )  # fmt: skip


@pages.post("/sign-up")
@public
def ask() -> AnyResponse | str:
    """The same answer whether or not the address has a log-in; the mail tells its owner which."""
    email = users.plain_email(request.form.get("email", ""))[:300].replace("\x00", "")
    account = one_line(request.form.get("account", "").replace("\x00", ""))
    target = own_path(request.form.get("next")) or ""
    if not mail.is_address(email) or not account:
        return Response(_form(MAIL_ADDRESS_WRONG, target=target, email=email, account=account), 422)
    slow_down("sign-up-address", request.remote_addr or "", SIGN_UP_BY_ADDRESS)
    slow_down("reset-address", request.remote_addr or "", RESET_BY_ADDRESS)
    slow_down("reset-email", email, RESET_BY_EMAIL)
    with transaction() as tx:
        token = sign_up.ask(tx, email, account, target[:500], now=now())
        if token is None:
            write_mail(tx, None, email, gettext("You have a log-in already"),
                       gettext("Somebody, probably you, wanted to open an account with this address. It has a log-in"
                               " already; if you forgot the password, ask for a new one:"),
                       url_for("people.forgot"))  # fmt: skip
        else:
            write_mail(tx, None, email, gettext("Open your account"),
                       gettext("Somebody, probably you, wants to open an account with this address. The link works"
                               " once, for a day. If it was not you, nothing is to be done:"),
                       url_for("sign_up.welcome", token=token))  # fmt: skip
    return _form(None, target=target, asked=True)


@pages.get("/welcome")
@public
def welcome() -> str:
    token = request.args.get("token", "")
    with transaction() as tx:
        found = sign_up.find(tx, token, now=now())
    return render_template("welcome.html", found=found, token=token, problem=None, name="")


@pages.post("/welcome")
@public
def finish() -> AnyResponse | str:
    token, name = request.form.get("token", ""), request.form.get("name", "").replace("\x00", "").strip()[:200]
    password = request.form.get("password", "")
    slow_down("link-address", request.remote_addr or "", LINK_BY_ADDRESS)
    with transaction() as tx:
        found = sign_up.find(tx, token, now=now())
    if not links.is_long_enough(password):
        page = render_template("welcome.html", found=found, token=token, problem=PASSWORD_SHORT, name=name)
        return Response(page, 422)
    hashed = passwords.hash_password(password)
    with transaction() as tx:
        _, target = sign_up.finish(tx, token, hashed, name, now=now())
    return redirect(url_for("login.show", joined=1, next=own_path(target) or None), 303)
