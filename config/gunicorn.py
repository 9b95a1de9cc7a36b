"""How gunicorn serves the gateway: gevent workers, nothing preloaded.

Only gunicorn's gevent worker patches the standard library, after the fork: so this file, which the master reads
before, imports no psycopg, ssl, requests or app (structlog's standard-library part brings ssl as well).
"""

from __future__ import annotations

import gc
import os
from typing import Any

from gunicorn.glogging import Logger

# BIND is an address, PORT the port; 0.0.0.0 only behind a proxy that ends TLS.
bind = f"{os.environ.get('BIND') or '127.0.0.1'}:{os.environ.get('PORT') or 8000}"
worker_class = "gevent"
workers = int(os.environ.get("WEB_CONCURRENCY") or 2)
worker_connections = 1000
preload_app = False

# gunicorn 27 would open a control socket under the home folder.
control_socket_disable = True

# Platforms and proxies reuse connections; a proxy's own keep-alive is usually 60 s and must be the shorter one.
keepalive = 75
# A worker whose loop stands still this long is replaced. Requests in hand get graceful_timeout at SIGTERM, which is
# less than the 20 s after which the supervisor kills.
timeout = 30
graceful_timeout = 15

# Etsy's and Shopify's OAuth callbacks fit well; webhooks carry some twenty short headers.
limit_request_line = 8190
limit_request_fields = 64
limit_request_field_size = 8190


class _Logger(Logger):  # type: ignore[misc]  # gunicorn ships no types
    """Without an access log: a path's query may hold a token, and each webhook's fate is in its own log line.

    Setting accesslog to None is not enough: beside a logconfig, gunicorn works out every field for nobody (5 % of a
    webhook's cost).
    """

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        pass


logger_class = _Logger
accesslog = None
errorlog = "-"
logconfig_dict: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "format": '{"event": "gunicorn", "level": "%(levelname)s", "pid": %(process)d, "message": "%(message)s"}'
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"level": "WARNING", "handlers": ["stderr"]},
    "loggers": {
        "gunicorn.error": {"level": "WARNING", "handlers": ["stderr"], "propagate": False},
        "gunicorn.access": {"level": "WARNING", "handlers": [], "propagate": False},
    },
}


def post_worker_init(worker: Any) -> None:  # noqa: ARG001 - gunicorn calls it so
    """Let the worker log as every other process of ours does, and collect no garbage among what lives for ever.

    A full collection walks everything that was imported, and every request of the process waits for it.
    """
    from config.logging import configure_logging

    configure_logging()
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
