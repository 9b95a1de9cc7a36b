"""A run's report: each order with its outcome and its reason, as CSV or JSON, however many there are."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import RowMapping, text

from backfill.schemas import RunSchema, as_shown
from gateway.db.engine import Database
from gateway.domain.problems import RUN_REPORT_NOT_KEPT, Refused
from gateway.domain.scope import AccountScope
from gateway.orders.queries import instant_text
from gateway.web.wording import problem_of

PAGE = 500
"""Orders read, written and forgotten at once. Between two pages neither a transaction nor a connection is held, so a
slow reader holds up nobody."""

COLUMNS = (
    "external_id", "order_number", "outcome", "updated_at", "reason_code", "reason_title", "reason_detail",
)  # fmt: skip
"""Ids and reasons: nothing in a report tells who ordered."""

_READ_AS_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def check_kept(run: Mapping[Any, Any]) -> None:
    """Raises Refused when what a run did with each order is no longer kept: an empty report would tell otherwise."""
    if run["items_dropped_at"] is not None:
        raise Refused(RUN_REPORT_NOT_KEPT, str(run["id"]))


def as_csv(database: Database, scope: AccountScope, run: Mapping[Any, Any]) -> Iterator[str]:
    """The report page by page; what a spreadsheet would take for a formula is made text by an apostrophe."""
    yield _csv([COLUMNS])
    for page in _pages(database, scope, run["id"]):
        yield _csv([[_harmless(line[column] or "") for column in COLUMNS] for line in page])


def as_json(database: Database, scope: AccountScope, run: Mapping[Any, Any]) -> Iterator[str]:
    """The same as one JSON object: the run as the API shows it, then its orders."""
    yield f'{{"run": {json.dumps(RunSchema().dump(as_shown(run)))},\n"orders": ['
    between = "\n"
    for page in _pages(database, scope, run["id"]):
        yield between + ",\n".join(json.dumps(line) for line in page)
        between = ",\n"
    yield "\n]}\n"


def file_name(run: Mapping[Any, Any], form: str) -> str:
    """What the file is called: a preview's says so."""
    return f"sync-{'preview-' if run['kind'] == 'preview' else ''}{run['id']}.{form}"


def _pages(database: Database, scope: AccountScope, run_id: int) -> Iterator[list[dict[str, str | None]]]:
    after = ""
    while True:
        with database.transaction() as tx:
            # run_items_pkey; the order by its unique (connection_id, external_id).
            rows = tx.execute(
                text(
                    "SELECT i.external_id, i.outcome, i.problem, i.problem_detail, i.updated_at, o.number FROM ("
                    " SELECT * FROM run_items WHERE account_id = :account AND run_id = :run AND external_id > :after"
                    " ORDER BY external_id LIMIT :limit) AS i JOIN sync_runs r ON r.id = i.run_id"
                    " LEFT JOIN orders o ON o.connection_id = r.connection_id AND o.external_id = i.external_id"
                    " ORDER BY i.external_id"
                ),
                {"account": scope.account_id, "run": run_id, "after": after, "limit": PAGE},
            ).mappings().all()  # fmt: skip
        if rows:
            yield [_line(row) for row in rows]
        if len(rows) < PAGE:
            return
        after = rows[-1]["external_id"]


def _line(row: RowMapping) -> dict[str, str | None]:
    why = problem_of(row["problem"], row["problem_detail"])
    return {
        "external_id": row["external_id"],
        "order_number": row["number"] or None,
        "outcome": row["outcome"],
        "updated_at": instant_text(row["updated_at"]) if row["updated_at"] else None,
        "reason_code": row["problem"],
        "reason_title": why.title if why else None,
        "reason_detail": row["problem_detail"] or None,
    }


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_READ_AS_FORMULA) else cell


def _csv(rows: Any) -> str:
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue()
