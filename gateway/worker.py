"""The worker process: loops in threads, jobs on asyncio; nothing here is monkey-patched."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import procrastinate
import structlog
from procrastinate import exceptions
from procrastinate.jobs import DeleteJobCondition, Status

from gateway import jobs

log = structlog.get_logger("gateway.worker")

Loop = Callable[[threading.Event], None]
"""Runs until the event is set; whatever it raises is recorded, and it is started again."""

SWEEP_SECONDS = 10.0
RESTART_SECONDS = 1.0


def run(database_url: str, loops: Mapping[str, Loop], *, context: Mapping[str, Any], concurrency: int = 8) -> None:
    """Work until SIGTERM or SIGINT; jobs in hand get 15 s to end, and go on elsewhere if they don't."""
    # What was imported lives for ever, and orders make no cycles: fewer collections, a third more orders a second.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    stop = threading.Event()
    threads = [
        threading.Thread(target=_keep_running, args=(name, loop, stop), name=name, daemon=True)
        for name, loop in loops.items()
    ]
    for thread in threads:
        thread.start()
    try:
        asyncio.run(_work(database_url, context, concurrency))
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=10)


def _keep_running(name: str, loop: Loop, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            loop(stop)
        except Exception as error:
            log.error("worker.loop_failed", loop=name, error=f"{type(error).__name__}: {str(error)[:300]}")
            stop.wait(RESTART_SECONDS)


async def _work(database_url: str, context: Mapping[str, Any], concurrency: int) -> None:
    connector = procrastinate.PsycopgConnector(conninfo=database_url, min_size=1, max_size=4)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    while not stopping.is_set():
        try:
            async with _opened(connector) as app:
                worker = asyncio.create_task(
                    app.run_worker_async(
                        concurrency=concurrency,
                        install_signal_handlers=False,
                        additional_context=dict(context),
                        fetch_job_polling_interval=1.0,
                        delete_jobs=DeleteJobCondition.SUCCESSFUL,
                        shutdown_graceful_timeout=15.0,
                    )
                )
                sweeper = asyncio.create_task(_sweep(app))
                stopper = asyncio.create_task(stopping.wait())
                await asyncio.wait({worker, sweeper, stopper}, return_when=asyncio.FIRST_COMPLETED)
                for task in (sweeper, stopper, worker):
                    task.cancel()
                results = await asyncio.gather(worker, sweeper, stopper, return_exceptions=True)
                for result in results:
                    if isinstance(result, Exception):
                        log.error("worker.jobs_failed", error=f"{type(result).__name__}: {str(result)[:300]}")
        except Exception as error:
            log.error("worker.jobs_failed", error=f"{type(error).__name__}: {str(error)[:300]}")
        if not stopping.is_set():
            await asyncio.wait({asyncio.create_task(stopping.wait())}, timeout=RESTART_SECONDS)
        connector = procrastinate.PsycopgConnector(conninfo=database_url, min_size=1, max_size=4)


@asynccontextmanager
async def _opened(connector: procrastinate.PsycopgConnector) -> AsyncIterator[procrastinate.App]:
    """The app in which the tasks registered, on a connector that listens."""
    with jobs.app.replace_connector(connector) as app:
        async with app.open_async():
            yield app


async def _sweep(app: procrastinate.App) -> None:
    """Give back the jobs of workers that died: procrastinate leaves them `doing` until somebody asks."""
    while True:
        stalled = await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=jobs.STALLED_AFTER_SECONDS)
        for job in stalled:
            try:
                await app.job_manager.retry_job(job)
                log.warning("job.given_back", task=job.task_name, job=job.id)
            except exceptions.ConnectorException:
                # Another job of this name waits already: it will do the work.
                await app.job_manager.finish_job(job, status=Status.FAILED, delete_job=True)
        await asyncio.sleep(SWEEP_SECONDS)
