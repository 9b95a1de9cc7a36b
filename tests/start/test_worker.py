"""The worker process as a whole: as many jobs at once as it says."""

from __future__ import annotations

import subprocess
import sys

from gateway import worker
from tests.processes import ROOT

_PROGRAM = """
import os, signal, sys, threading
from gateway import jobs, worker
from gateway.db.engine import Database

together = threading.Barrier(worker.CONCURRENCY)


@jobs.app.task(name="test.wait")
def wait(number: int) -> None:
    together.wait(timeout=60)
    print("met", flush=True)
    if together.broken is False and together.n_waiting == 0:
        os.kill(os.getpid(), signal.SIGTERM)


with Database(sys.argv[1]).transaction() as tx:
    for number in range(worker.CONCURRENCY):
        jobs.defer(tx, "test.wait", once=f"test:{number}", number=number)
worker.run(sys.argv[1], {}, context={})
"""


def test_jobs_that_wait_for_slow_stores_leave_room_for_others(fresh_database_url: str) -> None:
    """Each waits for all the others: with fewer threads than jobs at once none would ever end."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, fresh_database_url],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip

    assert done.stdout.count("met") == worker.CONCURRENCY, done.stderr[-2000:]
