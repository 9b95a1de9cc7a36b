"""What every answer says to browsers, and which host names this gateway answers to."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, request
from werkzeug.datastructures import Headers

from gateway.domain.problems import HOST_UNKNOWN, Refused

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",  # Tabler's stylesheet draws arrows and ticks as data
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HSTS = "max-age=31536000"
_LOOPBACK = re.compile(r"^(localhost|127(\.\d{1,3}){3}|\[::1\])$")


def register(app: Flask, *, is_https: bool) -> None:
    """Set the headers on every answer of Flask's, and refuse requests that name another host."""
    app.before_request(_check_host)

    @app.after_request
    def add_headers(answer: Response) -> Response:
        for name, value in _HEADERS.items():
            answer.headers.setdefault(name, value)
        if is_https:
            answer.headers.setdefault("Strict-Transport-Security", _HSTS)
        # Pages hold people's data: no cache keeps them, and "back" after the log-out shows nothing.
        answer.headers.setdefault("Cache-Control", "no-store")
        return answer


def add_static_headers(headers: Headers, path: str, url: str) -> None:  # noqa: ARG001 - WhiteNoise calls it so
    """The same protection for files."""
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"


def _check_host() -> None:
    """Refuse a request that another site's name led here (DNS rebinding); probes of health may use any."""
    if request.path in {"/healthz", "/readyz"}:
        return
    host = re.sub(r":\d+$", "", request.headers.get("Host", "")).lower()
    known = urlsplit(current_app.config["PUBLIC_URL"]).hostname or ""
    if host not in {known, f"[{known}]"} and not _LOOPBACK.match(host):
        raise Refused(HOST_UNKNOWN)
