"""Settings: own log-ins, API tokens, the account and its users."""

from __future__ import annotations

from flask import Blueprint, abort, redirect, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from gateway.accounts import api_tokens, sessions, users
from gateway.web import login
from gateway.web.request import now, scope, session, transaction

settings = Blueprint("settings", __name__, url_prefix="/settings")


@settings.get("")
def index() -> str:
    with transaction() as tx:
        return render_template(
            "settings.html",
            account=users.get_account(tx, scope()),
            own_sessions=sessions.list_own(tx, scope(), now=now()),
            tokens=api_tokens.list_all(tx, scope()),
            users=users.list_users(tx, scope()),
        )


@settings.post("/sessions/<id:session_id>/revoke")
def revoke_session(session_id: int) -> AnyResponse:
    """End one of one's own log-ins."""
    with transaction() as tx:
        done = sessions.revoke(tx, scope(), session_id, now=now())
    if not done:
        abort(404)
    return login.logged_out() if session_id == session().id else redirect(url_for("settings.index"))


@settings.post("/sessions/revoke-all")
def log_out_everywhere() -> AnyResponse:
    """End all of one's own log-ins, this one too."""
    with transaction() as tx:
        sessions.revoke_all(tx, scope(), now=now())
    return login.logged_out()


@settings.post("/tokens/<id:token_id>/revoke")
def revoke_token(token_id: int) -> AnyResponse:
    """End an API token: an owner any of the account's, others their own."""
    with transaction() as tx:
        done = api_tokens.revoke(tx, scope(), token_id, now=now())
    if not done:
        abort(404)
    return redirect(url_for("settings.index"))
