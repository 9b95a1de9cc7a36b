"""/metrics for Prometheus: figures of the whole installation, told from its tables, so that any web process tells all.

Only with METRICS_TOKEN set, and to whoever brings it: the figures name stores by their ids, and nobody's people.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence

from flask import Blueprint, Flask, Response, abort, current_app, request
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import text

from gateway.web.request import transaction

metrics = Blueprint("metrics", __name__)

_FIGURES: Sequence[tuple[type[CounterMetricFamily | GaugeMetricFamily], str, str, tuple[str, ...], str]] = (
    (
        CounterMetricFamily, "gateway_missed_changes", "Changes that only a run found: no webhook had brought them",
        ("store", "platform"),
        "SELECT m.connection_id, c.platform, sum(m.missed) FROM misses m JOIN connections c ON c.id = m.connection_id"
        " GROUP BY 1, 2",
    ),
    (
        CounterMetricFamily, "gateway_contradicted_webhooks",
        "Webhooks that said else than a settled read of their very second", ("store", "platform"),
        "SELECT m.connection_id, c.platform, sum(m.contradicted) FROM misses m"
        " JOIN connections c ON c.id = m.connection_id GROUP BY 1, 2",
    ),
    (
        CounterMetricFamily, "gateway_refused_signatures", "Webhooks answered 401", ("platform", "reason"),
        "SELECT platform, reason, sum(count) FROM signature_failures GROUP BY 1, 2",
    ),
    (
        GaugeMetricFamily, "gateway_connections", "Stores by the state of their connection", ("platform", "state"),
        "SELECT platform, state, count(*) FROM connections GROUP BY 1, 2",
    ),
    (
        GaugeMetricFamily, "gateway_seconds_behind", "How long ago a store was last known to be in step",
        ("store", "platform"),
        "SELECT id, platform, extract(epoch FROM now() - skew_ms * interval '1 millisecond' - watermark)"
        " FROM connections WHERE state <> 'disconnected' AND watermark IS NOT NULL",
    ),
    (
        GaugeMetricFamily, "gateway_open_runs", "Sync runs that are not over", ("kind", "state"),
        "SELECT kind, state, count(*) FROM sync_runs WHERE state IN ('queued', 'running') GROUP BY 1, 2",
    ),
    (
        GaugeMetricFamily, "gateway_waiting_deliveries", "Webhooks that are stored and not applied yet", ("platform",),
        "SELECT platform, count(*) FROM deliveries WHERE state = 'waiting' GROUP BY 1",
    ),
    (
        GaugeMetricFamily, "gateway_oldest_waiting_seconds", "Since when the oldest of them waits", (),
        "SELECT coalesce(extract(epoch FROM now() - min(received_at)), 0) FROM deliveries WHERE state = 'waiting'",
    ),
    (
        GaugeMetricFamily, "gateway_waiting_rereads", "Orders to be read again", (),
        "SELECT count(*) FROM rereads",
    ),
)  # fmt: skip
"""Kind, name, help, labels, and the statement whose last column is the figure."""


def register(app: Flask) -> None:
    metrics_view.asks_nobody = metrics_view.is_public = True
    app.register_blueprint(metrics)


@metrics.get("/metrics", endpoint="metrics")
def metrics_view() -> Response:
    """All figures, in Prometheus' text format."""
    wanted: str = current_app.config["METRICS_TOKEN"]
    if not wanted:
        abort(404)
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(given.encode(), wanted.encode()):
        abort(401)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Tables())
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _Tables(Collector):
    def collect(self) -> Iterator[Metric]:
        with transaction() as tx:
            for kind, name, about, labels, statement in _FIGURES:
                family = kind(name, about, labels=labels)
                for *names, figure in tx.execute(text(statement)):
                    family.add_metric([str(each) for each in names], float(figure))
                yield family
