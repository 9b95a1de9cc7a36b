"""Log-in and log-out."""

from __future__ import annotations

import math

from flask import Blueprint, Flask, Response, current_app, g, redirect, render_template, request, url_for
from flask import session as form_session
from werkzeug.wrappers import Response as AnyResponse

from gateway.accounts import passwords, sessions, throttle, users
from gateway.domain.problems import LOGIN_THROTTLED, LOGIN_WRONG, Retry
from gateway.web.request import now, own_path, public, session, transaction

COOKIE = "gateway_session"

login = Blueprint("login", __name__)


def register(app: Flask) -> None:
    app.register_blueprint(login)


@login.get("/login")
@public
def show() -> AnyResponse | str:
    """The form; whoever is logged in goes on at once."""
    if "session" in g:
        return redirect(own_path(request.args.get("next")) or url_for("web.orders"))
    return render_template("login.html", email="", problem=None, next=own_path(request.args.get("next")))


@login.post("/login")
@public
def log_in() -> AnyResponse:
    """Begin a session, or say that it did not work, equally for a wrong address and a wrong password."""
    email = users.plain_email(request.form.get("email", ""))[:320].replace("\x00", "")
    password = request.form.get("password", "")
    target = own_path(request.form.get("next"))
    key = str(current_app.config["SECRET_KEY"])
    by_email = throttle.bucket("login-email", email, key=key)
    by_address = throttle.bucket("login-address", request.remote_addr or "", key=key)
    # In a commit of its own: a try that fails counts.
    with transaction() as tx:
        wait = max(
            throttle.take(tx, by_address, throttle.LOGIN_BY_ADDRESS, now=now()),
            throttle.take(tx, by_email, throttle.LOGIN_BY_EMAIL, now=now()),
        )
        found = users.find_user(tx, email) if not wait else None
    if wait:
        raise Retry(LOGIN_THROTTLED, after_seconds=wait, wait=math.ceil(wait))
    # No connection is held while argon2 computes.
    if not passwords.is_right(password, found["password_hash"] if found else None) or found is None:
        page = render_template("login.html", email=email, problem=LOGIN_WRONG, next=target)
        return Response(page, 401)
    with transaction() as tx:
        scope = users.scope_of(found)
        throttle.forget(tx, by_email)
        if passwords.is_outdated(found["password_hash"]):
            users.set_password(tx, scope, found["id"], password)
        token = sessions.start(tx, scope, user_agent=request.headers.get("User-Agent", ""), now=now())
    # Nothing that was known before the log-in is worth anything after it.
    form_session.clear()
    answer = redirect(target or url_for("web.orders"))
    answer.set_cookie(
        COOKIE,
        token,
        max_age=int(sessions.LIFETIME.total_seconds()),
        httponly=True,
        secure=current_app.config["SESSION_COOKIE_SECURE"],
        samesite="Lax",
        path="/",
    )
    return answer


@login.post("/logout")
def log_out() -> AnyResponse:
    """End this session, here and in the database."""
    with transaction() as tx:
        sessions.revoke(tx, session().scope, session().id, now=now())
    return logged_out()


def logged_out() -> AnyResponse:
    """Back to the form, without cookies."""
    form_session.clear()
    answer = redirect(url_for("login.show"))
    answer.delete_cookie(
        COOKIE, path="/", httponly=True, samesite="Lax", secure=current_app.config["SESSION_COOKIE_SECURE"]
    )
    return answer
