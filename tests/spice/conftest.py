"""The real ngspice, found once."""

from __future__ import annotations

import pytest

from analog_deq.spice.simulator import Simulator, find_simulator


@pytest.fixture(scope="session")
def simulator() -> Simulator:
    return find_simulator()
