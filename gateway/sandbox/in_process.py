"""The sandbox's HTTP interfaces for requests, without a socket: tests mount it under the world's base_url.

session.mount("http://sandbox.test", InProcessAdapter(create_app(world)))
"""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from werkzeug.test import EnvironBuilder, run_wsgi_app


class InProcessAdapter(BaseAdapter):
    """Answers each request by calling a WSGI application; a cut connection is requests' ConnectionError."""

    def __init__(self, app: Any) -> None:
        super().__init__()
        self._app = app

    def send(self, request: requests.PreparedRequest, *_arguments: Any, **_options: Any) -> requests.Response:
        body = request.body.encode() if isinstance(request.body, str) else request.body or b""
        builder = EnvironBuilder(
            method=request.method or "GET",
            base_url=None,
            headers=list(request.headers.items()),
            data=body,
            path=request.url or "/",
        )
        try:
            chunks, status, headers = run_wsgi_app(self._app, builder.get_environ(), buffered=True)
        except ConnectionError as error:
            raise requests.exceptions.ConnectionError(str(error), request=request) from error
        answer = requests.Response()
        answer.status_code, answer.reason = int(status[:3]), status[4:]
        answer.headers = CaseInsensitiveDict(headers)
        answer.encoding = requests.utils.get_encoding_from_headers(answer.headers)
        answer.raw = io.BytesIO(b"".join(chunks))
        answer.url = request.url or ""
        answer.request = request
        answer.elapsed = timedelta(0)
        return answer

    def close(self) -> None:
        return
