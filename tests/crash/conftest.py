"""Crash tests have a PostgreSQL of their own with fsync on, and real processes that are killed by pid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.db.bundled import BundledServer
from tests.processes import System, running


@pytest.fixture
def system(durable_database_url: BundledServer, tmp_path: Path) -> Iterator[System]:
    """Sandbox without past orders, and web; the worker is the test's to start and to kill."""
    with running(durable_database_url.url, tmp_path, "--empty") as system:
        yield system


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real processes on a busy machine take their time; a test that hangs is still ended."""
    for item in items:
        if "tests/crash" in item.path.as_posix():
            item.add_marker(pytest.mark.timeout(300))
