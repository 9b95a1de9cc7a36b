"""A worker's hold on a run: its row, written only as long as its fencing number is the row's.

A frozen worker that wakes up finds another number there, and must not write; every write is checked.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import Connection as Transaction
from sqlalchemy import text

from backfill.runs import Taken
from backfill.verdict import OUTCOMES, Decision
from gateway.db.engine import Database
from gateway.domain.problems import RUN_SUPERSEDED, GatewayError, Retry
from gateway.domain.window import Window
from gateway.http import Answer

SIGN_SECONDS = 15.0
"""How often a run that waits for answers says that it lives; FROZEN_AFTER is eight times as long."""


class Superseded(Retry):
    """Another worker has this run now."""

    def __init__(self) -> None:
        super().__init__(RUN_SUPERSEDED)


@dataclass(slots=True)
class Hold:
    """The run's row in this worker's hands."""

    database: Database
    taken: Taken

    def check(self, tx: Transaction) -> None:
        """Lock the row if it is still ours; raises Superseded."""
        held = tx.execute(
            text("SELECT 1 FROM sync_runs WHERE id = :id AND fence = :fence AND state = 'running' FOR UPDATE"),
            self._ours(),
        ).first()
        if held is None:
            raise Superseded

    def freeze(self, window: Window, expected: int | None, state: Mapping[str, Any]) -> None:
        """Note the window and what the platform counts in it."""
        with self.database.transaction() as tx:
            self.check(tx)
            tx.execute(
                text(
                    "UPDATE sync_runs SET window_from = :from, window_until = :until, expected = :expected,"
                    " checkpoint = :checkpoint WHERE id = :id"
                ),
                {"from": window.from_, "until": window.until, "expected": expected, "checkpoint": Jsonb(state),
                 "id": self.taken.id},
            )  # fmt: skip

    def move_counters(self, tx: Transaction, counted: Counter[str], checkpoint: Mapping[str, Any]) -> None:
        """Move counters and checkpoint in the transaction of what they tell of; raises Superseded."""
        changed = tx.execute(
            text(
                "UPDATE sync_runs SET checkpoint = :checkpoint, seen_at = now(), problem = NULL,"
                " problem_detail = NULL, listed = listed + :listed, created = created + :created,"
                " updated = updated + :updated, unchanged = unchanged + :unchanged,"
                " newer_here = newer_here + :newer_here, failed = failed + :failed, removed = removed + :removed,"
                " hidden = hidden + :hidden, missed = missed + :missed, sampled = sampled + :sampled,"
                " drifted = drifted + :drifted"
                " WHERE id = :id AND fence = :fence AND state = 'running'"
            ),
            {
                "checkpoint": Jsonb(checkpoint), "missed": counted["missed"], "sampled": counted["sampled"],
                "drifted": counted["drifted"], "listed": sum(counted[name] for name in OUTCOMES),
                **{name: counted[name] for name in OUTCOMES}, **self._ours(),
            },
        ).rowcount  # fmt: skip
        if changed != 1:
            raise Superseded

    def stage(self) -> str:
        with self.database.transaction() as tx:
            row = tx.execute(text("SELECT stage FROM sync_runs WHERE id = :id"), {"id": self.taken.id}).scalar_one()
        return str(row)

    def set_stage(self, stage: str, state: Mapping[str, Any]) -> None:
        """Note where the run stands; raises Superseded."""
        with self.database.transaction() as tx:
            self.check(tx)
            tx.execute(
                text("UPDATE sync_runs SET stage = :stage, checkpoint = :checkpoint, seen_at = now() WHERE id = :id"),
                {"stage": stage, "checkpoint": Jsonb(state), "id": self.taken.id},
            )

    def finish(self, tx: Transaction, decision: Decision) -> None:
        """The verdict stands; raises Superseded."""
        self.check(tx)
        tx.execute(
            text(
                "UPDATE sync_runs SET state = 'finished', verdict = :verdict, expected = :expected,"
                " problem_detail = :detail, finished_at = now(), seen_at = now() WHERE id = :id"
            ),
            {"verdict": decision.verdict, "expected": decision.expected, "detail": decision.detail,
             "id": self.taken.id},
        )  # fmt: skip

    def leave(self, to: str, error: GatewayError | None, state: Mapping[str, Any], *, wait: timedelta) -> None:
        """Give the run back, queued or stopped: its checkpoint is kept, and whoever takes it goes on from there."""
        with self.database.transaction() as tx:
            tx.execute(
                text(
                    "UPDATE sync_runs SET state = CAST(:state AS text), problem = :problem, problem_detail = :detail,"
                    " checkpoint = :checkpoint, waiting_until = :until,"
                    " finished_at = CASE WHEN CAST(:state AS text) = 'stopped' THEN now() END"
                    " WHERE id = :id AND fence = :fence AND state = 'running'"
                ),
                {
                    "state": to, "problem": error.problem.code if error else None,
                    "detail": error.detail[:500] if error else None, "checkpoint": Jsonb(state),
                    "until": datetime.now(UTC) + wait if wait else None, **self._ours(),
                },
            )  # fmt: skip

    def signing(self, after: Callable[[Answer], None] | None) -> Callable[[Answer], None]:
        """With each answer a sign of life: a page of a slow store may take longer than a worker may be silent, and one
        that is overtaken for it would be overtaken for ever."""
        signed = time.monotonic()

        def sign(answer: Answer) -> None:
            nonlocal signed
            if after is not None:
                after(answer)
            if time.monotonic() - signed >= SIGN_SECONDS:
                signed = time.monotonic()
                with self.database.transaction() as tx:
                    tx.execute(
                        text("UPDATE sync_runs SET seen_at = now() WHERE id = :id AND fence = :fence"
                             " AND state = 'running'"),
                        self._ours(),
                    )  # fmt: skip

        return sign

    def _ours(self) -> dict[str, int]:
        return {"id": self.taken.id, "fence": self.taken.fence}
