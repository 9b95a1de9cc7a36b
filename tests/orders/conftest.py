"""A gateway in one process, with one simulated store a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation import Simulation


@pytest.fixture
def simulation(clean_database: str) -> Iterator[Simulation]:
    with Simulation(clean_database) as simulation:
        simulation.open_account()
        yield simulation
